package libqjm_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// tally is a state machine: it sums up bytes, and says which proposals it has seen.
type tally struct {
	mu   sync.Mutex
	sum  uint64
	seen []string
	hook func(e libqjm.Entry) error
	odd  uint64 // added to digests
}

func (s *tally) Apply(batch []libqjm.Entry) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [][]byte
	for _, e := range batch {
		if s.hook != nil {
			if err := s.hook(e); err != nil {
				return nil, err
			}
		}
		for _, c := range e.Data {
			s.sum += uint64(c)
		}
		s.seen = append(s.seen, string(e.Data))
		out = append(out, fmt.Appendf(nil, "%d:%s", len(s.seen), e.Data))
	}
	return out, nil
}

func (s *tally) SaveSnapshot() (func(io.Writer) error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum, seen := s.sum, slices.Clone(s.seen)
	return func(w io.Writer) error {
		b := binary.LittleEndian.AppendUint64(nil, sum)
		for _, x := range seen {
			b = append(append(b, x...), '\n')
		}
		_, err := w.Write(b)
		return err
	}, nil
}

func (s *tally) LoadSnapshot(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum, s.seen = binary.LittleEndian.Uint64(b), nil
	for line := range bytesLines(b[8:]) {
		s.seen = append(s.seen, line)
	}
	return nil
}

func bytesLines(b []byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		start := 0
		for i, c := range b {
			if c == '\n' {
				if !yield(string(b[start:i])) {
					return
				}
				start = i + 1
			}
		}
	}
}

func (s *tally) Digest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum + s.odd
}

func (s *tally) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// told records callbacks.
type told struct {
	mu  sync.Mutex
	all []string
}

func (t *told) say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, fmt.Sprintf(format, args...))
}

func (t *told) list() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.all)
}

func (t *told) callbacks() libqjm.Callbacks {
	return libqjm.Callbacks{
		OnActive:    func(libqjm.Epoch) { t.say("active") },
		OnStandby:   func(err error) { t.say("standby %v", err != nil) },
		OnFollowing: func(name, addr string) { t.say("following %s at %s", name, addr) },
		OnShutdown:  func(err error) { t.say("shutdown %v", err) },
	}
}

type rep struct {
	*libqjm.Replica
	name string
	sm   *tally
	told *told
}

func (b *bed) replica(name string, more ...func(*libqjm.ReplicaOptions, *tally)) rep {
	b.Helper()
	r := rep{name: name, sm: &tally{}, told: &told{}}
	o := libqjm.ReplicaOptions{Name: name, Addr: name + ":1", LeaseTTL: time.Second, Callbacks: r.told.callbacks()}
	for _, f := range more {
		f(&o, r.sm)
	}
	var err error
	r.Replica, err = b.process(name).OpenReplica("j", r.sm, o)
	require.NoError(b, err)
	return r
}

// becomes waits until a replica has a role.
func (b *bed) becomes(r rep, role libqjm.Role) {
	b.Helper()
	for range 1200 {
		if r.Status().Role == role {
			return
		}
		pass(50 * time.Millisecond)
	}
	b.Fatalf("%s is %+v, and not %v; it was told %v", r.name, r.Status(), role, r.told.list())
}

func (b *bed) propose(r rep, data string) libqjm.Applied {
	b.Helper()
	a, err := r.Propose(b.within(time.Minute), libqjm.Proposal{Data: []byte(data)})
	require.NoError(b, err)
	return a
}

func (b *bed) closes(rs ...rep) {
	b.Helper()
	for _, r := range rs {
		require.NoError(b, r.Close(b.within(time.Minute)))
	}
	pass(time.Millisecond) // the last callbacks are called
}

func TestReplica_ProposeAndFollow(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		require.Equal(b, libqjm.Applied{TxID: 1, Result: []byte("1:a")}, b.propose(p, "a"))
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() { b.propose(p, fmt.Sprint(i)) })
		}
		all.Wait()
		last := b.propose(p, "z")
		require.Equal(b, "52:z", string(last.Result))
		_, err := q.WaitApplied(b.within(time.Minute), last.TxID)
		require.NoError(b, err)
		require.Equal(b, p.sm.list(), q.sm.list())

		_, err = q.Propose(b.ctx, libqjm.Proposal{Data: []byte("x")})
		na, ok := errors.AsType[*libqjm.NotActiveError](err)
		require.True(b, ok, err)
		require.Equal(b, "p:1", na.Addr)
		require.False(b, libqjm.MayHaveCommitted(err))
		_, err = p.Propose(b.ctx, libqjm.Proposal{Data: []byte("x"), Epoch: p.Status().Epoch + 1})
		require.ErrorIs(b, err, libqjm.ErrEpoch)
		_, err = p.Propose(b.ctx, libqjm.Proposal{Epoch: p.Status().Epoch})
		require.NoError(b, err, "and an empty one is fine")
		b.closes(q, p)
		require.Equal(b, []string{"standby false", "active", "shutdown <nil>"}, p.told.list())
		require.Contains(b, q.told.list(), "following p at p:1")
	})
}

func TestReplica_Failover(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		for i := range 20 {
			b.propose(p, fmt.Sprint(i))
		}
		back := b.cutOff("p")
		b.becomes(q, libqjm.RoleActive)
		require.Equal(b, p.sm.list(), q.sm.list(), "all that was acknowledged")
		b.propose(q, "after")
		_, err := p.AwaitLease(b.ctx)
		require.ErrorIs(b, err, libqjm.ErrLeaseLost, "who was cut off knows by its clock")
		_, err = p.AwaitLinearizable(b.within(3 * time.Second))
		require.Error(b, err)
		doubt, cancel := context.WithTimeout(b.ctx, time.Second)
		_, err = p.Propose(doubt, libqjm.Proposal{Data: []byte("lost")})
		cancel()
		require.True(b, libqjm.MayHaveCommitted(err), "%v", err)
		back()
		b.becomes(p, libqjm.RoleStandby)
		last := b.propose(q, "z")
		_, err = p.WaitApplied(b.within(time.Minute), last.TxID)
		require.NoError(b, err)
		require.Equal(b, q.sm.list(), p.sm.list())
		require.NotContains(b, q.sm.list(), "lost")
		require.Contains(b, p.told.list(), "standby true")
		b.closes(p, q)
	})
}

func TestReplica_Transfer(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		var q rep
		forward := func(ctx context.Context, addr string, x libqjm.Proposal) (libqjm.Applied, error) {
			for addr == "q:1" {
				a, err := q.Propose(ctx, x)
				if !errors.Is(err, libqjm.ErrNotActive) {
					return a, err
				}
				pass(time.Millisecond)
			}
			return libqjm.Applied{}, fmt.Errorf("forwarded to %s", addr)
		}
		b.closes(p)
		p = b.replica("p2", func(o *libqjm.ReplicaOptions, _ *tally) { o.Forward = forward })
		b.becomes(p, libqjm.RoleActive)
		q = b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		require.ErrorIs(b, p.Transfer(b.ctx, "p2"), libqjm.ErrBadRequest)
		require.ErrorIs(b, q.Transfer(b.ctx, "p2"), libqjm.ErrNotActive)
		stop, all := make(chan struct{}), sync.WaitGroup{}
		var done [4]int
		for i := range done {
			all.Go(func() {
				for ; ; done[i]++ {
					select {
					case <-stop:
						return
					default:
						b.propose(p, fmt.Sprintf("%d-%d", i, done[i]))
						pass(time.Millisecond) // else the clock stands still
					}
				}
			})
		}
		pass(300 * time.Millisecond)
		require.NoError(b, p.Transfer(b.within(time.Minute), "q"))
		b.becomes(q, libqjm.RoleActive)
		pass(300 * time.Millisecond)
		close(stop)
		all.Wait()
		seen := q.sm.list()
		for i := range done {
			for n := range done[i] {
				require.Contains(b, seen, fmt.Sprintf("%d-%d", i, n))
			}
		}
		require.Len(b, slices.Compact(slices.Sorted(slices.Values(seen))), len(seen), "each once")
		b.becomes(p, libqjm.RoleStandby)
		b.closes(q, p)
	})
}

func TestReplica_SnapshotAndRestart(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		often := func(o *libqjm.ReplicaOptions, _ *tally) { o.Snapshots = libqjm.SnapshotPolicy{Txns: 20} }
		p := b.replica("p", often)
		b.becomes(p, libqjm.RoleActive)
		id := libqjm.SessionID{1}
		require.NoError(b, p.OpenSession(b.ctx, id, time.Hour))
		once := libqjm.Proposal{Data: []byte("once"), Session: &libqjm.SessionRef{ID: id, Seq: 1, Awaited: 1}}
		first, err := p.Propose(b.ctx, once)
		require.NoError(b, err)
		for i := range 60 {
			b.propose(p, fmt.Sprint(i))
		}
		pass(5 * time.Second)
		snaps, err := b.cl.Snapshots(b.ctx, "j")
		require.NoError(b, err)
		require.NotEmpty(b, snaps)
		for i := range 5 {
			b.propose(p, fmt.Sprint("tail ", i))
		}
		want := p.sm.list()
		b.closes(p)

		applied := 0
		q := b.replica("q", often, func(_ *libqjm.ReplicaOptions, s *tally) {
			s.hook = func(libqjm.Entry) error { applied++; return nil }
		})
		b.becomes(q, libqjm.RoleActive)
		require.Equal(b, want, q.sm.list())
		require.Less(b, applied, 60, "the rest came with the snapshot")
		again, err := q.Propose(b.ctx, once)
		require.NoError(b, err)
		require.Equal(b, first.Result, again.Result, "a retry is answered, and not applied again")
		require.Equal(b, want, q.sm.list())
		b.closes(q)
	})
}

func TestReplica_UserCodeFails(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("no") },
		"panic": func() error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) {
				p := b.replica("p", func(o *libqjm.ReplicaOptions, s *tally) {
					o.Writer = libqjm.WriterOptions{FrameBytes: 1, FramesInFlight: 32} // each proposal a frame
					s.hook = func(e libqjm.Entry) error {
						if string(e.Data) == "bad" {
							return fail()
						}
						return nil
					}
				})
				b.becomes(p, libqjm.RoleActive)
				q := b.replica("q")
				b.becomes(q, libqjm.RoleStandby)
				b.propose(p, "good")
				var under []*libqjm.Pending
				for i := range 20 { // and those that are committed together with it are answered, too
					data := "bad"
					if i > 0 {
						data = fmt.Sprint("behind ", i)
					}
					x, err := p.ProposeAsync(b.ctx, libqjm.Proposal{Data: []byte(data)})
					if i > 0 && err != nil {
						require.False(b, libqjm.MayHaveCommitted(err))
						break // it has failed by now
					}
					require.NoError(b, err)
					under = append(under, x)
				}
				for _, x := range under {
					_, err := x.Wait(b.within(time.Minute))
					require.ErrorIs(b, err, libqjm.ErrNotApplied)
					require.True(b, libqjm.MayHaveCommitted(err))
					require.NotContains(b, err.Error(), "may have committed", "it is")
					require.ErrorIs(b, p.Err(), libqjm.ErrStateMachine, "whoever hears of it can ask why")
				}
				<-p.Done()
				require.ErrorIs(b, p.Err(), libqjm.ErrStateMachine)
				require.Contains(b, p.Err().Error(), "txids 2 to 2")
				_, err := p.Propose(b.ctx, libqjm.Proposal{Data: []byte("x")})
				require.ErrorIs(b, err, libqjm.ErrStateMachine)
				b.becomes(q, libqjm.RoleActive)
				require.Equal(b, []string{"good", "bad"}, q.sm.list()[:2], "the others go on")
				require.GreaterOrEqual(b, len(q.sm.list()), 1+len(under))
				b.closes(q)
				require.NoError(b, p.Close(b.ctx))
			})
		})
	}
}

func TestReplica_DivergenceIsNamed(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		compare := func(o *libqjm.ReplicaOptions, _ *tally) { o.CompareStates = true }
		p := b.replica("p", compare)
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q", compare, func(_ *libqjm.ReplicaOptions, s *tally) {
			s.hook = func(e libqjm.Entry) error {
				if e.TxID == 700 {
					s.odd = 1
				}
				return nil
			}
		})
		b.becomes(q, libqjm.RoleStandby)
		for i := range 1300 {
			_, err := p.ProposeAsync(b.ctx, libqjm.Proposal{Data: fmt.Append(nil, i)})
			require.NoError(b, err)
		}
		<-q.Done()
		require.ErrorIs(b, q.Err(), libqjm.ErrStateDiverges)
		require.Contains(b, q.Err().Error(), "txid 700 is the first")
		require.NoError(b, p.Err())
		b.closes(p)
	})
}

func TestReplica_Reads(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		for i := range 10 {
			last := b.propose(p, fmt.Sprint(i))
			at, err := p.AwaitLinearizable(b.ctx)
			require.NoError(b, err)
			require.Equal(b, last.TxID, at)
			at, err = p.AwaitLease(b.ctx)
			require.NoError(b, err)
			require.Equal(b, last.TxID, at)
			at, err = q.AwaitLinearizable(b.within(time.Minute))
			require.NoError(b, err)
			require.Equal(b, last.TxID, at)
			require.Equal(b, p.sm.list(), q.sm.list())
		}
		_, err := q.AwaitLease(b.ctx)
		require.ErrorIs(b, err, libqjm.ErrNotActive)
		back := b.cutOff("q")
		pass(time.Millisecond) // else no time has passed at all since the last read
		_, err = q.AwaitFresh(b.ctx, time.Hour)
		require.NoError(b, err, "it was fresh lately")
		_, err = q.AwaitFresh(b.within(2*time.Second), time.Nanosecond)
		require.Error(b, err)
		back()
		b.closes(q, p)
	})
}

// TestReplica_CallbacksMayCall: a callback calls the replica, waits for it, and closes it.
func TestReplica_CallbacksMayCall(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		var p rep
		got, opened := make(chan error, 1), make(chan struct{})
		p = b.replica("p", func(o *libqjm.ReplicaOptions, _ *tally) {
			o.Callbacks.OnActive = func(libqjm.Epoch) {
				<-opened
				_, err := p.Propose(b.ctx, libqjm.Proposal{Data: []byte("from a callback")})
				got <- errors.Join(err, p.Close(b.ctx))
			}
		})
		close(opened)
		require.NoError(b, <-got)
		<-p.Done()
		require.Equal(b, []string{"from a callback"}, p.sm.list())
	})
}

func TestReplica_BadOptions(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		for name, o := range map[string]libqjm.ReplicaOptions{
			"ttl":     {LeaseTTL: time.Nanosecond},
			"writer":  {Writer: libqjm.WriterOptions{ReopenWhenFenced: true}},
			"due":     {Writer: libqjm.WriterOptions{OnSnapshotDue: func(libqjm.SnapshotReason) {}}},
			"addr":    {Addr: "\n"},
			"compare": {CompareStates: true},
			"digests": {CompareStates: true, Writer: libqjm.WriterOptions{MaxTxnBytes: 1000}},
			"limits":  {Sessions: libqjm.SessionLimits{Sessions: -1}},
			"results": {Sessions: libqjm.SessionLimits{ResultBytes: -1}},
		} {
			var sm libqjm.StateMachine = &tally{}
			if name == "compare" {
				sm = struct{ libqjm.StateMachine }{sm}
			}
			_, err := b.cl.OpenReplica("j", sm, o)
			require.ErrorIs(b, err, libqjm.ErrBadRequest, name)
		}
		_, err := b.cl.OpenReplica("j", nil, libqjm.ReplicaOptions{})
		require.ErrorIs(b, err, libqjm.ErrBadRequest)

		w := b.writer() // a journal with something else in it
		b.write(w, 1, 3)
		require.NoError(b, w.Close(b.ctx))
		p := b.replica("p")
		<-p.Done()
		require.ErrorIs(b, p.Err(), libqjm.ErrNotOurs)
	})
}
