package memnet

import (
	"context"
	"net"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// RaftStream connects the two ends by pipes, which know deadlines, with a pump each way that loses what a
// Cut is to lose. A stream that lost bytes is broken (Y2).
func (c *conn) RaftStream(ctx context.Context) (rpc.RaftConn, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	l, err := c.begin(life, "RaftStream")
	stop()
	if err != nil {
		cancel()
		return nil, err
	}
	if l.verdict == LoseReply {
		l.cancel()
		cancel()
		return nil, unavailable(c.to, "the reply to RaftStream was lost")
	}
	near, nearFar := net.Pipe()
	served, servedFar := net.Pipe()
	hangUp := func() {
		_ = nearFar.Close()
		_ = servedFar.Close()
		l.cancel()
		cancel()
	}
	context.AfterFunc(l.ctx, hangUp)
	go c.pump(nearFar, servedFar, c.from, c.to, l.ctx.Done(), hangUp)
	go c.pump(servedFar, nearFar, c.to, c.from, l.ctx.Done(), hangUp)
	go func() {
		if l.svc.RaftStream(served) != nil {
			_ = served.Close()
		}
	}()
	return near, nil
}

func (c *conn) pump(src, dst net.Conn, from, to string, gone <-chan struct{}, hangUp func()) {
	defer hangUp()
	buf := make([]byte, rpc.RaftMessageBytes)
	for {
		n, err := src.Read(buf)
		if err != nil || !c.net.arrive(c.net.due(from, to), from, to, gone, nil) || c.net.isCut(from, to) {
			return
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (c *conn) ForwardCommand(ctx context.Context, command []byte) (rpc.CommandResult, error) {
	return unary(ctx, c, "ForwardCommand", func(ctx context.Context, s rpc.Service) (rpc.CommandResult, error) {
		return s.ForwardCommand(ctx, command)
	})
}

func (c *conn) ReadIndex(ctx context.Context) (uint64, error) {
	return unary(ctx, c, "ReadIndex", func(ctx context.Context, s rpc.Service) (uint64, error) { return s.ReadIndex(ctx) })
}

func (c *conn) Catalog(ctx context.Context, strength rpc.ReadStrength) (rpc.CatalogView, error) {
	return unary(ctx, c, "Catalog", func(ctx context.Context, s rpc.Service) (rpc.CatalogView, error) { return s.Catalog(ctx, strength) })
}

func (c *conn) FindJournal(ctx context.Context, name string) (rpc.JournalSummary, error) {
	return unary(ctx, c, "FindJournal", func(ctx context.Context, s rpc.Service) (rpc.JournalSummary, error) { return s.FindJournal(ctx, name) })
}

func (c *conn) PlaceJournal(ctx context.Context, req rpc.PlaceRequest) (quorum.Config, error) {
	return unary(ctx, c, "PlaceJournal", func(ctx context.Context, s rpc.Service) (quorum.Config, error) { return s.PlaceJournal(ctx, req) })
}

func (c *conn) DropJournal(ctx context.Context, req rpc.DropRequest) (segments.JournalID, error) {
	return unary(ctx, c, "DropJournal", func(ctx context.Context, s rpc.Service) (segments.JournalID, error) { return s.DropJournal(ctx, req) })
}

func (c *conn) ListSnapshot(ctx context.Context, req rpc.ListRequest) error {
	_, err := unary(ctx, c, "ListSnapshot", func(ctx context.Context, s rpc.Service) (none, error) { return none{}, s.ListSnapshot(ctx, req) })
	return err
}

func (c *conn) ConfigureJournal(ctx context.Context, req rpc.ConfigureRequest) error {
	_, err := unary(ctx, c, "ConfigureJournal", func(ctx context.Context, s rpc.Service) (none, error) { return none{}, s.ConfigureJournal(ctx, req) })
	return err
}

func (c *conn) ChangeMembers(ctx context.Context, req rpc.ChangeRequest) (rpc.ChangeReply, error) {
	return unary(ctx, c, "ChangeMembers", func(ctx context.Context, s rpc.Service) (rpc.ChangeReply, error) { return s.ChangeMembers(ctx, req) })
}

func (c *conn) AbortChange(ctx context.Context, req rpc.AbortRequest) (uint64, error) {
	return unary(ctx, c, "AbortChange", func(ctx context.Context, s rpc.Service) (uint64, error) { return s.AbortChange(ctx, req) })
}

func (c *conn) Readmit(ctx context.Context, req rpc.ReadmitRequest) (rpc.ReadmitReply, error) {
	return unary(ctx, c, "Readmit", func(ctx context.Context, s rpc.Service) (rpc.ReadmitReply, error) { return s.Readmit(ctx, req) })
}

func (c *conn) Join(ctx context.Context, req rpc.JoinRequest) (rpc.JoinReply, error) {
	return unary(ctx, c, "Join", func(ctx context.Context, s rpc.Service) (rpc.JoinReply, error) { return s.Join(ctx, req) })
}

func (c *conn) RemoveNode(ctx context.Context, req rpc.RemoveRequest) error {
	_, err := unary(ctx, c, "RemoveNode", func(ctx context.Context, s rpc.Service) (none, error) { return none{}, s.RemoveNode(ctx, req) })
	return err
}

func (c *conn) TransferLeader(ctx context.Context, req rpc.TransferRequest) (quorum.NodeID, error) {
	return unary(ctx, c, "TransferLeader", func(ctx context.Context, s rpc.Service) (quorum.NodeID, error) { return s.TransferLeader(ctx, req) })
}

func (c *conn) RaftSnapshot(ctx context.Context) (uint64, error) {
	return unary(ctx, c, "RaftSnapshot", func(ctx context.Context, s rpc.Service) (uint64, error) { return s.RaftSnapshot(ctx) })
}
