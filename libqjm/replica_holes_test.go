package libqjm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// TestHole_L3_LeaseThatWasAnothersMeanwhile: the active lost its lease, and has not heard that somebody else became active
// under it. The lease that it gets back says nothing of its epoch.
func TestHole_L3_LeaseThatWasAnothersMeanwhile(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		b.propose(p, "a")
		b.Net.Partition("p", b.ID(0)) // it reaches the catalog, and no majority of the nodes
		b.Net.Partition("p", b.ID(1))
		_, err := p.ProposeAsync(b.ctx, libqjm.Proposal{Data: []byte("b")})
		require.NoError(b, err)
		b.becomes(q, libqjm.RoleActive)
		last := b.propose(q, "c")
		b.closes(q)
		b.Until(time.Minute, "p has a lease again", func() bool { return b.info().Holder == "p" })
		for range 50 {
			at, err := p.AwaitLease(b.within(time.Second))
			if err == nil {
				require.GreaterOrEqual(b, at, last.TxID, "%v", p.sm.list())
			}
			pass(100 * time.Millisecond)
		}
		b.Net.HealAll()
		b.Until(time.Minute, "p is active in another epoch", func() bool { return p.Status().Role == libqjm.RoleActive && p.Status().Epoch > 2 })
		at, err := p.AwaitLease(b.ctx)
		require.NoError(b, err)
		require.GreaterOrEqual(b, at, last.TxID)
		b.closes(p)
	})
}

// TestHole_DigestsWhileTheQueueIsFull: who applies never waits for room that only applying makes.
func TestHole_DigestsWhileTheQueueIsFull(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p", func(o *libqjm.ReplicaOptions, _ *tally) {
			o.CompareStates = true
			o.Writer.FrameBytes, o.Writer.QueueBytes = 1000, 1000
		})
		b.becomes(p, libqjm.RoleActive)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				for n := range 100 {
					_, err := p.Propose(b.within(time.Minute), libqjm.Proposal{Data: fmt.Append(nil, i, n)})
					require.NoError(b, err)
				}
			})
		}
		all.Wait()
		b.closes(p)
	})
}

// TestHole_CloseWhileASnapshotIsRead is no failure of the replica.
func TestHole_CloseWhileASnapshotIsRead(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p", func(o *libqjm.ReplicaOptions, _ *tally) { o.Snapshots = libqjm.SnapshotPolicy{Txns: 5} })
		b.becomes(p, libqjm.RoleActive)
		for i := range 10 {
			b.propose(p, fmt.Sprint(i))
		}
		pass(5 * time.Second)
		reading := make(chan struct{}, 100)
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.From == "q" && c.Method == "ReadSnapshot" {
				reading <- struct{}{}
				return memnet.Hang
			}
			return memnet.Deliver
		})
		q := b.replica("q")
		<-reading
		require.NoError(b, q.Close(b.ctx))
		require.NoError(b, q.Err())
		pass(time.Millisecond)
		require.Contains(b, q.told.list(), "shutdown <nil>")
		b.Net.Fault(nil)
		b.closes(p)
	})
}

// TestHole_SnapshotThatIsNotWrittenStopsTheReplica: user code that panics beside Apply fails like any other.
func TestHole_SnapshotThatIsNotWrittenStopsTheReplica(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{
		"error": func(io.Writer) error { return errors.New("no") },
		"panic": func(io.Writer) error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) {
				p, err := b.process("p").OpenReplica("j", unsaved{&tally{}, write}, libqjm.ReplicaOptions{Snapshots: libqjm.SnapshotPolicy{Txns: 5}})
				require.NoError(b, err)
				require.NoError(b, p.AwaitRole(b.ctx, libqjm.RoleActive))
				for i := range 10 {
					_, err := p.Propose(b.ctx, libqjm.Proposal{Data: fmt.Append(nil, i)})
					require.NoError(b, err)
				}
				select {
				case <-p.Done():
				case <-time.After(10 * time.Second):
				}
				require.ErrorIs(b, p.Err(), libqjm.ErrStateMachine)
				require.NoError(b, p.Close(b.ctx))
			})
		})
	}
}

// unsaved is a state machine whose snapshots are not written.
type unsaved struct {
	libqjm.StateMachine
	write func(io.Writer) error
}

func (u unsaved) SaveSnapshot() (func(io.Writer) error, error) { return u.write, nil }

// TestHole_SnapshotThatIsWrittenForEver holds up neither Close nor following: what it writes to says no.
func TestHole_SnapshotThatIsWrittenForEver(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		for _, dir := range []string{"", b.TempDir()} {
			begun := make(chan struct{})
			write := func(w io.Writer) error {
				close(begun)
				for {
					if _, err := w.Write([]byte("x")); err != nil {
						return err
					}
					pass(time.Second)
				}
			}
			p, err := b.process("p").OpenReplica("j", unsaved{&tally{}, write}, libqjm.ReplicaOptions{SpoolDir: dir, Snapshots: libqjm.SnapshotPolicy{Txns: 5}})
			require.NoError(b, err)
			require.NoError(b, p.AwaitRole(b.ctx, libqjm.RoleActive))
			for i := range 10 {
				_, err := p.Propose(b.ctx, libqjm.Proposal{Data: fmt.Append(nil, i)})
				require.NoError(b, err)
			}
			<-begun
			if dir != "" {
				left, err := os.ReadDir(dir)
				require.NoError(b, err)
				require.Empty(b, left, "a process that is killed now leaves no file")
			}
			began := time.Now()
			require.NoError(b, p.Close(b.ctx))
			require.Less(b, time.Since(began), 10*time.Second)
			require.NoError(b, p.Err())
		}
	})
}

// TestHole_CallbackThatPanics stops its replica, loudly, and not the process.
func TestHole_CallbackThatPanics(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p", func(o *libqjm.ReplicaOptions, _ *tally) {
			o.Callbacks.OnActive = func(libqjm.Epoch) { panic("no") }
		})
		<-p.Done()
		require.ErrorIs(b, p.Err(), libqjm.ErrStateMachine)
		pass(time.Millisecond)
		require.Len(b, p.told.list(), 2, "and it is told that it was shut down")
		q := b.replica("q")
		b.becomes(q, libqjm.RoleActive)
		b.closes(q, p)
	})
}

// TestHole_CampaignThatFailsForGood stops the replica, and says why.
func TestHole_CampaignThatFailsForGood(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		cl := b.ClientWith(libqjm.Options{Dialer: leaseless{b.Net.Dialer("p")}})
		p, err := cl.OpenReplica("j", &tally{}, libqjm.ReplicaOptions{})
		require.NoError(b, err)
		select {
		case <-p.Done():
		case <-time.After(10 * time.Second):
		}
		require.ErrorIs(b, p.Err(), libqjm.ErrBadRequest)
		require.NoError(b, p.Close(b.ctx))
	})
}

// leaseless is a network with nodes that grant no lease.
type leaseless struct{ rpc.Dialer }

func (d leaseless) Dial(addr string) (rpc.Node, error) {
	n, err := d.Dialer.Dial(addr)
	return refusing{n}, err
}

type refusing struct{ rpc.Node }

func (refusing) AcquireLease(context.Context, rpc.LeaseRequest) (rpc.LeaseGrant, error) {
	return rpc.LeaseGrant{}, fmt.Errorf("%w: leases are of another kind here", rpc.ErrBadRequest)
}

// TestHole_CandidateWithoutAMajority: it gets the lease, and reaches too few nodes to open the writer. It stands in nobody's way.
func TestHole_CandidateWithoutAMajority(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		b.Net.Partition("q", b.ID(0))
		b.Net.Partition("q", b.ID(1))
		b.cutOff("p")
		b.Until(time.Minute, "q has the lease", func() bool { return b.info().Holder == "q" })
		z := b.replica("z")
		b.becomes(z, libqjm.RoleActive)
		b.propose(z, "x")
		b.Net.HealAll()
		b.becomes(q, libqjm.RoleStandby)
		b.becomes(p, libqjm.RoleStandby)
		b.closes(p, q, z)
	})
}

// TestHole_AllNodesAreReplaced under a replica that follows: it goes on with the new ones.
func TestHole_AllNodesAreReplaced(t *testing.T) {
	run(t, testcluster.Options{Nodes: 6}, func(b *bed) {
		_, err := b.cl.ChangeMembers(b.ctx, "j", []string{"n1", "n2", "n3"}, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "j", nil))
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		last := b.propose(p, "a")
		_, err = q.WaitApplied(b.within(time.Minute), last.TxID)
		require.NoError(b, err)
		_, err = b.cl.ChangeMembers(b.ctx, "j", []string{"n4", "n5", "n6"}, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "j", nil))
		for i := range 5 {
			last = b.propose(p, fmt.Sprint(i))
			_, err = q.WaitApplied(b.within(time.Minute), last.TxID)
			require.NoError(b, err)
			pass(20 * time.Second)
		}
		b.closes(q, p)
	})
}

// TestHole_MembersUnreachable: nodes that do not have the journal say so, and too few of those that have it are heard. That
// is no sign that there is none.
func TestHole_MembersUnreachable(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
			_, err := b.cl.CreateJournalWith(b.ctx, "k", libqjm.CreateOptions{Replicas: replicas})
			require.NoError(b, err)
			open := func(name string) *libqjm.Replica {
				r, err := b.process(name).OpenReplica("k", &tally{}, libqjm.ReplicaOptions{Name: name, LeaseTTL: time.Second})
				require.NoError(b, err)
				return r
			}
			p := open("p")
			require.NoError(b, p.AwaitRole(b.ctx, libqjm.RoleActive))
			q := open("q")
			require.NoError(b, q.AwaitRole(b.ctx, libqjm.RoleStandby))
			for _, member := range b.membersOf("k")[:(replicas+1)/2] {
				b.Net.Partition("q", member)
				b.Net.Partition("new", member)
			}
			fresh := open("new")
			pass(time.Minute)
			require.NoError(b, q.Err())
			require.NoError(b, fresh.Err())
			b.Net.HealAll()
			a, err := p.Propose(b.ctx, libqjm.Proposal{Data: []byte("x")})
			require.NoError(b, err)
			for _, r := range []*libqjm.Replica{q, fresh, p} {
				_, err = r.WaitApplied(b.within(time.Minute), a.TxID)
				require.NoError(b, err)
				require.NoError(b, r.Close(b.ctx))
			}
		})
	}
}

// TestHole_JournalMadeAnew under a replica that hears nothing of it: it does not go on with the new one.
func TestHole_JournalMadeAnew(t *testing.T) {
	for _, observer := range []bool{false, true} {
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.replica("w")
			b.becomes(w, libqjm.RoleActive)
			q := b.replica("q", func(o *libqjm.ReplicaOptions, _ *tally) { o.Observer = observer })
			b.becomes(q, libqjm.RoleStandby)
			for i := range 5 {
				b.propose(w, fmt.Sprint("old ", i))
			}
			b.closes(w)
			if !observer {
				b.becomes(q, libqjm.RoleActive)
			}
			_, err := q.WaitApplied(b.within(time.Minute), 5)
			require.NoError(b, err)
			b.cutOff("q")
			pass(5 * time.Second)
			require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
			b.Until(time.Minute, "the name is free", func() bool { return b.cl.CreateJournal(b.ctx, "j") == nil })
			p := b.replica("p")
			b.becomes(p, libqjm.RoleActive)
			for i := range 10 {
				b.propose(p, fmt.Sprint("new ", i))
			}
			b.Net.HealAll()
			select {
			case <-q.Done():
			case <-time.After(time.Minute):
			}
			require.NotContains(b, q.sm.list(), "new 9")
			require.ErrorIs(b, q.Err(), libqjm.ErrJournalDeleted)
			b.closes(p)
			require.NoError(b, q.Close(b.ctx))
		})
	}
}

// TestReplica_CloseInHasteAnswersAll: whatever was taken is answered, though not applied here.
func TestReplica_CloseInHasteAnswersAll(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		over, cancel := context.WithCancel(b.ctx)
		cancel()
		for round := range 10 { // what run hears first is chance
			p := b.replica(fmt.Sprint("p", round), slowFirst)
			b.becomes(p, libqjm.RoleActive)
			under := b.someUnder(p)
			require.NoError(b, p.Close(over))
			for i, x := range under {
				_, err := x.Wait(b.within(time.Minute))
				require.False(b, errors.Is(err, context.DeadlineExceeded), "round %d, proposal %d: %v", round, i, err)
				require.Equal(b, err != nil, libqjm.MayHaveCommitted(err), "%v", err)
			}
		}
	})
}

// TestReplica_CloseDuringATransfer finishes what was taken, too.
func TestReplica_CloseDuringATransfer(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p", slowFirst)
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		under := b.someUnder(p)
		handed := make(chan error, 1)
		go func() { handed <- p.Transfer(b.within(time.Minute), "q") }()
		pass(time.Second)
		require.Equal(b, libqjm.RoleDraining, p.Status().Role)
		_ = p.Close(b.within(time.Minute)) // whose lease it is by then is chance
		for i, x := range under {
			_, err := x.Wait(b.ctx)
			require.NoError(b, err, i)
		}
		<-handed
		b.becomes(q, libqjm.RoleActive)
		b.closes(q)
	})
}

// slowFirst: the first proposal takes long to apply, and each is a frame.
func slowFirst(o *libqjm.ReplicaOptions, s *tally) {
	o.Writer.FrameBytes, o.Writer.FramesInFlight = 1, 64
	s.hook = func(e libqjm.Entry) error {
		if string(e.Data) == "slow" {
			pass(5 * time.Second)
		}
		return nil
	}
}

// someUnder proposes a slow one, and some behind it that are committed while it is applied.
func (b *bed) someUnder(p rep) (under []*libqjm.Pending) {
	b.Helper()
	for _, data := range []string{"slow", "a", "b", "c"} {
		x, err := p.ProposeAsync(b.ctx, libqjm.Proposal{Data: []byte(data)})
		require.NoError(b, err)
		under = append(under, x)
		pass(300 * time.Millisecond)
	}
	return under
}

// TestHole_ApplyThatHangs: the program closes the replica, or hands it over, and another one becomes active, wherever the
// state machine was called from.
func TestHole_ApplyThatHangs(t *testing.T) {
	for name, end := range map[string]func(context.Context, rep) error{
		"close":    func(ctx context.Context, r rep) error { return r.Close(ctx) },
		"transfer": func(ctx context.Context, r rep) error { return r.Transfer(ctx, "q") },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) {
				hangs, hung := make(chan struct{}), make(chan struct{})
				release := sync.OnceFunc(func() { close(hung) })
				b.Cleanup(release)
				p := b.replica("p", func(_ *libqjm.ReplicaOptions, s *tally) {
					s.hook = func(e libqjm.Entry) error {
						if string(e.Data) == "hang" {
							close(hangs)
							<-hung
						}
						return nil
					}
				})
				b.becomes(p, libqjm.RoleActive)
				q := b.replica("q")
				b.becomes(q, libqjm.RoleStandby)
				for i := range 10 {
					b.propose(p, fmt.Sprint(i))
				}
				under, err := p.ProposeAsync(b.ctx, libqjm.Proposal{Data: []byte("hang")})
				require.NoError(b, err)
				<-hangs
				after, err := p.ProposeAsync(b.ctx, libqjm.Proposal{Data: []byte("after")})
				require.NoError(b, err)
				ended := make(chan error, 1)
				go func() { ended <- end(b.within(5*time.Second), p) }()
				b.becomes(q, libqjm.RoleActive)
				b.propose(q, "q")
				release()
				require.NoError(b, <-ended)
				for _, f := range []*libqjm.Pending{under, after} {
					_, err = f.Wait(b.within(time.Minute))
					require.NoError(b, err)
				}
				b.closes(p, q)
			})
		})
	}
}

// TestHole_StateMachineThatAsksTheReplica: its code may look at the replica, and leave proposals, whoever calls it.
func TestHole_StateMachineThatAsksTheReplica(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		var p rep
		p = b.replica("p", func(o *libqjm.ReplicaOptions, s *tally) {
			o.Snapshots = libqjm.SnapshotPolicy{Txns: 30}
			s.hook = func(e libqjm.Entry) error {
				if st := p.Status(); st.Role != libqjm.RoleActive || st.Applied >= e.TxID || p.Applied() >= e.TxID || p.Err() != nil {
					return fmt.Errorf("at %d: %+v", e.TxID, st)
				}
				if len(e.Data) == 1 {
					if _, err := p.ProposeAsync(b.ctx, libqjm.Proposal{Data: append(e.Data, '+')}); err != nil {
						return err
					}
				}
				return nil
			}
		})
		b.becomes(p, libqjm.RoleActive)
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				for range 20 {
					b.propose(p, "x")
				}
			})
		}
		all.Wait()
		_, err := p.WaitApplied(b.within(time.Minute), 200)
		require.NoError(b, err)
		b.closes(p)
	})
}
