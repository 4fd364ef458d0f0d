package memnet

import (
	"context"
	"io"
	"sync"

	"github.com/quorumjournal/qjm/internal/rpc"
)

// chunkStream carries the chunks of ReadSegment and Tail.
type chunkStream struct {
	c        *conn
	caller   context.Context
	l        line
	chunks   chan sent[rpc.Chunk]
	finished chan struct{} // the handler returned; err is set
	err      error
}

func (c *conn) ReadSegment(ctx context.Context, req rpc.ReadRequest) (rpc.ChunkStream, error) {
	return c.chunks(ctx, "ReadSegment", func(ctx context.Context, s rpc.Service, send func(rpc.Chunk) error) error {
		return s.ReadSegment(ctx, req, send)
	})
}

func (c *conn) Tail(ctx context.Context, req rpc.TailRequest) (rpc.ChunkStream, error) {
	return c.chunks(ctx, "Tail", func(ctx context.Context, s rpc.Service, send func(rpc.Chunk) error) error {
		return s.Tail(ctx, req, send)
	})
}

func (c *conn) chunks(ctx context.Context, method string, f func(context.Context, rpc.Service, func(rpc.Chunk) error) error) (rpc.ChunkStream, error) {
	l, err := c.begin(ctx, method)
	if err != nil {
		return nil, err
	}
	s := &chunkStream{c: c, caller: ctx, l: l, chunks: make(chan sent[rpc.Chunk], buffer), finished: make(chan struct{})}
	if l.verdict == LoseReply {
		l.cancel()
		return nil, unavailable(c.to, "the reply to "+method+" was lost")
	}
	go func() {
		s.err = f(l.ctx, l.svc, func(ch rpc.Chunk) error {
			select {
			case s.chunks <- sent[rpc.Chunk]{ch, c.net.due(c.to, c.from)}:
				return nil
			case <-l.ctx.Done():
				return unavailable(c.from, "the caller is gone")
			}
		})
		if c.net.arrive(c.net.due(c.to, c.from), c.to, c.from, l.ctx.Done(), nil) && c.net.isCut(c.to, c.from) {
			s.err = unavailable(c.to, "the end was lost")
		}
		close(s.finished)
	}()
	return s, nil
}

// Recv implements rpc.ChunkStream.
func (s *chunkStream) Recv() (rpc.Chunk, error) {
	if s.l.ctx.Err() != nil {
		return rpc.Chunk{}, s.c.broken(s.caller)
	}
	select {
	case ch := <-s.chunks:
		return s.take(ch)
	case <-s.l.ctx.Done():
		return rpc.Chunk{}, s.c.broken(s.caller)
	case <-s.finished:
	}
	select {
	case ch := <-s.chunks: // sent before the handler returned
		return s.take(ch)
	default:
	}
	s.l.cancel()
	if s.err == nil {
		return rpc.Chunk{}, io.EOF
	}
	return rpc.Chunk{}, asReceived(s.c.to, s.err)
}

func (s *chunkStream) take(ch sent[rpc.Chunk]) (rpc.Chunk, error) {
	if !s.c.net.arrive(ch.due, s.c.to, s.c.from, s.l.ctx.Done(), nil) {
		return rpc.Chunk{}, s.c.broken(s.caller)
	}
	if s.c.net.isCut(s.c.to, s.c.from) {
		s.l.cancel()
		return rpc.Chunk{}, unavailable(s.c.to, "a chunk was lost")
	}
	return ch.msg, nil
}

// Close implements rpc.ChunkStream.
func (s *chunkStream) Close() { s.l.cancel() }

// writeStream is both ends of a write stream.
type writeStream struct {
	c      *conn
	caller context.Context
	l      line

	// The node's context follows the caller's until a message is lost: from then on the node does not
	// learn of the caller's end before it has taken what was sent (Y2).
	node   context.Context
	cancel context.CancelFunc
	follow func() bool // stops following

	in       chan sent[rpc.WriteRequest]
	out      chan sent[rpc.WriteReply]
	once     sync.Once
	broken   chan struct{} // a message was lost here: the caller hears nothing more, the node what is in in (Y2)
	finished chan struct{} // the handler returned, and the caller hears of it or is gone; err and heard are set
	err      error
	heard    bool
}

func (c *conn) Write(ctx context.Context, h rpc.Header) (rpc.WriteStream, error) {
	l, err := c.begin(ctx, "Write")
	if err != nil {
		return nil, err
	}
	s := &writeStream{
		c: c, caller: ctx, l: l, in: make(chan sent[rpc.WriteRequest], buffer), out: make(chan sent[rpc.WriteReply], buffer),
		broken: make(chan struct{}), finished: make(chan struct{}),
	}
	s.node, s.cancel = context.WithCancel(l.life)
	s.follow = context.AfterFunc(l.ctx, s.cancel)
	if l.verdict == LoseReply {
		s.lost()
	}
	go func() {
		err := l.svc.Write(h, (*serverEnd)(s))
		if err == nil {
			err = io.EOF
		}
		s.err = err
		s.cancel()
		s.heard = c.net.arrive(c.net.due(c.to, c.from), c.to, c.from, l.ctx.Done(), nil)
		switch {
		case !s.heard: // the connection was gone before
			s.err = c.broken(ctx)
		case c.net.isCut(c.to, c.from):
			s.lost()
		}
		close(s.finished)
		l.cancel()
	}()
	return s, nil
}

func (s *writeStream) lost() {
	s.once.Do(func() {
		s.follow()
		close(s.broken)
	})
}

func method(m rpc.WriteRequest) string {
	switch {
	case m.Start != nil:
		return "Write.Start"
	case len(m.Frames) > 0:
		return "Write.Frames"
	case m.Finalize != nil:
		return "Write.Finalize"
	case m.Fill != nil:
		return "Write.Fill"
	}
	return "Write.Heartbeat"
}

// Send implements rpc.WriteStream.
func (s *writeStream) Send(m rpc.WriteRequest) error {
	if err := s.over(); err != nil {
		return err
	}
	v := s.c.judge(method(m))
	switch v {
	case Drop:
		s.lost()
		return s.over()
	case Hang: // the connection is not known to be lost: nothing gets through
		select {
		case <-s.l.ctx.Done():
		case <-s.finished:
		}
		return s.over()
	}
	select {
	case s.in <- sent[rpc.WriteRequest]{m, s.c.net.due(s.c.from, s.c.to)}:
		if v != LoseReply {
			return nil
		}
		s.lost()
	case <-s.l.ctx.Done():
	case <-s.broken:
	case <-s.finished:
	}
	return s.over()
}

// Ready implements rpc.WriteStream: with a fault in the network, which may take its time, nobody may send who must
// not wait.
func (s *writeStream) Ready() bool {
	s.c.net.mu.Lock()
	defer s.c.net.mu.Unlock()
	return s.c.net.fault == nil && len(s.in) < cap(s.in)
}

// over is why the stream ended, or nil.
func (s *writeStream) over() error {
	select {
	case <-s.broken:
		return unavailable(s.c.to, "a message was lost")
	default:
	}
	select {
	case <-s.finished:
		return asReceived(s.c.to, s.err)
	default:
	}
	if s.l.ctx.Err() != nil {
		select {
		case <-s.finished: // the context ended because of it
			return asReceived(s.c.to, s.err)
		default:
			return s.c.broken(s.caller)
		}
	}
	return nil
}

// Recv implements rpc.WriteStream.
func (s *writeStream) Recv() (rpc.WriteReply, error) {
	select {
	case <-s.broken:
		return rpc.WriteReply{}, s.over()
	default:
	}
	select {
	case r := <-s.out:
		return s.take(r)
	case <-s.broken:
		return rpc.WriteReply{}, s.over()
	case <-s.l.ctx.Done():
	case <-s.finished:
	}
	select {
	case <-s.finished:
		select {
		case r := <-s.out: // sent before the handler returned
			return s.take(r)
		default:
		}
	default:
	}
	return rpc.WriteReply{}, s.over()
}

func (s *writeStream) take(r sent[rpc.WriteReply]) (rpc.WriteReply, error) {
	if !s.c.net.arrive(r.due, s.c.to, s.c.from, s.l.ctx.Done(), nil) && !s.ended() {
		return rpc.WriteReply{}, s.over()
	}
	if s.c.net.isCut(s.c.to, s.c.from) {
		s.lost()
		return rpc.WriteReply{}, s.over()
	}
	return r.msg, nil
}

// ended: the end of the handler has arrived, and so has all that it sent before.
func (s *writeStream) ended() bool {
	select {
	case <-s.finished:
		return s.heard
	default:
		return false
	}
}

// Close implements rpc.WriteStream.
func (s *writeStream) Close() { s.l.cancel() }

// serverEnd is the node's end of a writeStream.
type serverEnd writeStream

// Context implements rpc.ServerStream.
func (s *serverEnd) Context() context.Context { return s.node }

// Recv implements rpc.ServerStream.
func (s *serverEnd) Recv() (rpc.WriteRequest, error) {
	if s.node.Err() != nil {
		return rpc.WriteRequest{}, unavailable(s.c.from, "the caller is gone")
	}
	select {
	case m := <-s.in:
		return s.take(m)
	case <-s.broken:
		select {
		case m := <-s.in: // what was sent before the loss arrives
			return s.take(m)
		default:
		}
	case <-s.node.Done():
	}
	s.cancel()
	return rpc.WriteRequest{}, unavailable(s.c.from, "the caller is gone")
}

func (s *serverEnd) take(m sent[rpc.WriteRequest]) (rpc.WriteRequest, error) {
	if !s.c.net.arrive(m.due, s.c.from, s.c.to, s.node.Done(), nil) {
		return rpc.WriteRequest{}, unavailable(s.c.from, "the caller is gone")
	}
	return m.msg, nil
}

// Send implements rpc.ServerStream.
func (s *serverEnd) Send(r rpc.WriteReply) error {
	select {
	case s.out <- sent[rpc.WriteReply]{r, s.c.net.due(s.c.to, s.c.from)}:
		return nil
	case <-s.broken:
		return nil // it will notice
	case <-s.node.Done():
		return unavailable(s.c.from, "the caller is gone")
	}
}
