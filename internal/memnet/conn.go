package memnet

import (
	"context"
	"fmt"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// conn is an endpoint seen from another one.
type conn struct {
	net      *Network
	from, to string
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
}

var _ rpc.Node = (*conn)(nil)

// line is a way to the called side, for as long as both sides are up.
type line struct {
	svc     rpc.Service
	ctx     context.Context // ends with the caller's context, Close, or either side going down
	cancel  context.CancelFunc
	life    context.Context // ends only with the called side going down
	verdict Verdict
}

// judge counts a call and decides about it.
func (c *conn) judge(method string) Verdict {
	n := c.net
	n.mu.Lock()
	to := way{c.from, c.to}
	n.counts[to]++
	n.methods[Call{From: c.from, To: c.to, Method: method}]++
	call := Call{From: c.from, To: c.to, Method: method, N: n.counts[to]}
	fault, cut, deaf := n.fault, n.cutLocked(c.from, c.to), n.cutLocked(c.to, c.from)
	n.mu.Unlock()
	v := Deliver
	if fault != nil {
		v = fault(call)
	}
	switch {
	case cut && v != Hang:
		return Drop
	case deaf && v == Deliver:
		return LoseReply
	}
	return v
}

// begin finds the called side. The caller calls line.cancel when it is through.
func (c *conn) begin(ctx context.Context, method string) (line, error) {
	v := c.judge(method)
	switch v {
	case Drop:
		return line{}, unavailable(c.to, method+" was lost")
	case Hang:
		select {
		case <-ctx.Done():
		case <-c.ctx.Done():
		}
		return line{}, fmt.Errorf("%w: %s: %s: %w", rpc.ErrUnavailable, c.to, method, context.Cause(ctx))
	}
	if !c.net.arrive(c.net.due(c.from, c.to), c.from, c.to, ctx.Done(), c.ctx.Done()) && ctx.Err() == nil {
		return line{}, unavailable(c.to, "connection closed")
	}
	c.net.mu.Lock()
	ep, own := c.net.endpoints[c.to], c.net.endpoints[c.from]
	c.net.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return line{}, fmt.Errorf("%w: %s: %w", rpc.ErrUnavailable, c.to, context.Cause(ctx))
	case c.ctx.Err() != nil:
		return line{}, unavailable(c.to, "connection closed")
	case ep == nil || ep.svc == nil || ep.life.Err() != nil:
		return line{}, unavailable(c.to, "connection refused")
	case own != nil && own.life.Err() != nil:
		return line{}, unavailable(c.to, c.from+" is down")
	}
	l := line{svc: ep.svc, life: ep.life, verdict: v}
	var cancel context.CancelFunc
	l.ctx, cancel = context.WithCancel(ctx)
	stops := []func() bool{context.AfterFunc(ep.life, cancel), context.AfterFunc(c.ctx, cancel)}
	if own != nil {
		stops = append(stops, context.AfterFunc(own.life, cancel))
	}
	l.cancel = func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
	return l, nil
}

// unary is one call with one answer.
func unary[T any](ctx context.Context, c *conn, method string, f func(context.Context, rpc.Service) (T, error)) (T, error) {
	type answer struct {
		val T
		err error
	}
	var none T
	l, err := c.begin(ctx, method)
	if err != nil {
		return none, err
	}
	defer l.cancel()
	done := make(chan answer, 1)
	go func() {
		v, err := f(l.ctx, l.svc)
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		arrived := c.net.arrive(c.net.due(c.to, c.from), c.to, c.from, l.ctx.Done(), nil)
		switch {
		case l.verdict == LoseReply, arrived && c.net.isCut(c.to, c.from):
			return none, unavailable(c.to, "the reply to "+method+" was lost")
		case l.ctx.Err() != nil:
			return none, c.broken(ctx)
		case a.err != nil:
			return none, asReceived(c.to, a.err)
		}
		return a.val, nil
	case <-l.ctx.Done():
		return none, c.broken(ctx)
	}
}

func (c *conn) broken(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %s: %w", rpc.ErrUnavailable, c.to, context.Cause(ctx))
	}
	return unavailable(c.to, "connection lost")
}

// none is the answer of calls that have none.
type none struct{}

func (c *conn) Info(ctx context.Context) (rpc.NodeInfo, error) {
	return unary(ctx, c, "Info", func(ctx context.Context, s rpc.Service) (rpc.NodeInfo, error) { return s.Info(ctx) })
}

func (c *conn) Journals(ctx context.Context) ([]rpc.JournalSummary, error) {
	return unary(ctx, c, "Journals", func(ctx context.Context, s rpc.Service) ([]rpc.JournalSummary, error) { return s.Journals(ctx) })
}

func (c *conn) InstallConfig(ctx context.Context, j rpc.JournalSummary) error {
	_, err := unary(ctx, c, "InstallConfig", func(ctx context.Context, s rpc.Service) (none, error) { return none{}, s.InstallConfig(ctx, j) })
	return err
}

func (c *conn) LeaveJournal(ctx context.Context, j rpc.JournalSummary) error {
	_, err := unary(ctx, c, "LeaveJournal", func(ctx context.Context, s rpc.Service) (none, error) { return none{}, s.LeaveJournal(ctx, j) })
	return err
}

func (c *conn) AskWriter(ctx context.Context, req rpc.AskWriterRequest) (rpc.WriterAnswer, error) {
	return unary(ctx, c, "AskWriter", func(ctx context.Context, s rpc.Service) (rpc.WriterAnswer, error) { return s.AskWriter(ctx, req) })
}

func (c *conn) State(ctx context.Context, id segments.JournalID) (rpc.JournalState, error) {
	return unary(ctx, c, "State", func(ctx context.Context, s rpc.Service) (rpc.JournalState, error) { return s.State(ctx, id) })
}

func (c *conn) NewEpoch(ctx context.Context, h rpc.Header) (rpc.PromiseReply, error) {
	return unary(ctx, c, "NewEpoch", func(ctx context.Context, s rpc.Service) (rpc.PromiseReply, error) { return s.NewEpoch(ctx, h) })
}

func (c *conn) Prepare(ctx context.Context, h rpc.Header, first segments.TxID, digests []segments.TxID) (recovery.Answer, error) {
	return unary(ctx, c, "Prepare", func(ctx context.Context, s rpc.Service) (recovery.Answer, error) {
		return s.Prepare(ctx, h, first, digests)
	})
}

func (c *conn) Accept(ctx context.Context, h rpc.Header, req recovery.AcceptRequest, relay rpc.ChunkStream) error {
	_, err := unary(ctx, c, "Accept", func(ctx context.Context, s rpc.Service) (none, error) { return none{}, s.Accept(ctx, h, req, relay) })
	return err
}

func (c *conn) Finalize(ctx context.Context, h rpc.Header, end segments.End) error {
	_, err := unary(ctx, c, "Finalize", func(ctx context.Context, s rpc.Service) (none, error) { return none{}, s.Finalize(ctx, h, end) })
	return err
}

func (c *conn) Segments(ctx context.Context, req rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
	return unary(ctx, c, "Segments", func(ctx context.Context, s rpc.Service) (rpc.SegmentsPage, error) { return s.Segments(ctx, req) })
}

// Close ends the connection; calls under way fail.
func (c *conn) Close() error {
	c.cancel()
	return nil
}

func (c *conn) BeginSnapshot(ctx context.Context, r rpc.SnapshotUpload) (int64, error) {
	return unary(ctx, c, "BeginSnapshot", func(ctx context.Context, s rpc.Service) (int64, error) { return s.BeginSnapshot(ctx, r) })
}

func (c *conn) PutSnapshot(ctx context.Context, p rpc.SnapshotPiece) (int64, error) {
	return unary(ctx, c, "PutSnapshot", func(ctx context.Context, s rpc.Service) (int64, error) { return s.PutSnapshot(ctx, p) })
}

func (c *conn) FinishSnapshot(ctx context.Context, r rpc.SnapshotEnd) error {
	_, err := unary(ctx, c, "FinishSnapshot", func(ctx context.Context, s rpc.Service) (none, error) { return none{}, s.FinishSnapshot(ctx, r) })
	return err
}

func (c *conn) Snapshots(ctx context.Context, id segments.JournalID) (rpc.SnapshotList, error) {
	return unary(ctx, c, "Snapshots", func(ctx context.Context, s rpc.Service) (rpc.SnapshotList, error) { return s.Snapshots(ctx, id) })
}

func (c *conn) ReadSnapshot(ctx context.Context, r rpc.SnapshotRead) (rpc.SnapshotChunk, error) {
	return unary(ctx, c, "ReadSnapshot", func(ctx context.Context, s rpc.Service) (rpc.SnapshotChunk, error) { return s.ReadSnapshot(ctx, r) })
}
