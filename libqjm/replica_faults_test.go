package libqjm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// TestReplica_CloseFinishesWhatWasTaken: a drain answers every proposal that was taken, however slow Apply is.
func TestReplica_CloseFinishesWhatWasTaken(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		for round := range 10 { // what run hears first is chance
			p := b.replica(fmt.Sprint("p", round), func(o *libqjm.ReplicaOptions, s *tally) {
				o.Writer.FrameBytes = 1 // each proposal a frame
				o.Writer.FramesInFlight = 64
				s.hook = func(e libqjm.Entry) error {
					if len(e.Data) > 0 {
						pass(5 * time.Second)
					}
					return nil
				}
			})
			b.becomes(p, libqjm.RoleActive)
			var under []*libqjm.Pending
			for i := range 6 {
				x, err := p.ProposeAsync(b.ctx, libqjm.Proposal{Data: make([]byte, max(0, 1-i))})
				require.NoError(b, err)
				under = append(under, x)
				pass(time.Duration(max(0, 1-i)) * time.Second) // the first one is being applied when the others are committed
			}
			require.NoError(b, p.Close(b.within(time.Minute)))
			for i, x := range under {
				_, err := x.Wait(b.ctx)
				require.NoError(b, err, "round %d, proposal %d", round, i)
			}
		}
	})
}

// TestReplica_TransferWithoutALease: there is nothing to hand over, so the active stays active.
func TestReplica_TransferWithoutALease(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		l, err := b.cl.Lease(b.ctx, "j")
		require.NoError(b, err)
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.From == "p" && c.Method == "AcquireLease" {
				return memnet.Drop // it cannot get another one
			}
			return memnet.Deliver
		})
		require.NoError(b, b.cl.ResignLease(b.ctx, "j", l.Revision))
		pass(2 * time.Second)
		require.ErrorIs(b, p.Transfer(b.ctx, "q"), libqjm.ErrLeaseLost)
		require.Equal(b, libqjm.RoleActive, p.Status().Role)
		b.propose(p, "it goes on")
		b.Net.Fault(nil)
		b.closes(p)
	})
}

// TestReplica_SameNameTwice: two processes with one name. One of them is active; the other redirects to it, and
// follows when it is gone.
func TestReplica_SameNameTwice(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		var told told
		twin := rep{name: "twin", sm: &tally{}, told: &told}
		var err error
		twin.Replica, err = b.process("twin").OpenReplica("j", twin.sm, libqjm.ReplicaOptions{
			Name: "p", Addr: "twin:1", LeaseTTL: time.Second, Callbacks: told.callbacks(),
		})
		require.NoError(b, err)
		b.becomes(twin, libqjm.RoleStandby)
		pass(10 * time.Second)
		require.Equal(b, libqjm.RoleActive, p.Status().Role)
		last := b.propose(p, "a")
		_, err = twin.Propose(b.ctx, libqjm.Proposal{Data: []byte("x")})
		na, ok := errors.AsType[*libqjm.NotActiveError](err)
		require.True(b, ok, "%v", err)
		require.Equal(b, "p:1", na.Addr)
		at, err := twin.AwaitLinearizable(b.within(time.Minute))
		require.NoError(b, err)
		require.Equal(b, last.TxID, at)
		require.Contains(b, told.list(), "following p at p:1")
		back := b.cutOff("p")
		b.becomes(twin, libqjm.RoleActive)
		b.propose(twin, "b")
		_, err = p.AwaitLinearizable(b.within(2 * time.Second))
		require.Error(b, err)
		back()
		b.becomes(p, libqjm.RoleStandby)
		require.Equal(b, []string{"a", "b"}, twin.sm.list())
		b.closes(p, twin)
	})
}

// TestReplica_ReadsPassByANodeThatHangs: one that is stopped neither answers nor fails; no read waits for it.
func TestReplica_ReadsPassByANodeThatHangs(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		b.propose(p, "a")
		for i := range b.Nodes {
			b.Net.Fault(func(c memnet.Call) memnet.Verdict {
				if c.To == b.ID(i) && c.Method == "State" {
					return memnet.Hang
				}
				return memnet.Deliver
			})
			for _, r := range []rep{p, q} {
				began := time.Now()
				_, err := r.AwaitLinearizable(b.ctx)
				require.NoError(b, err)
				require.Less(b, time.Since(began), libqjm.DefaultRequestTimeout/2, "%s, without %s", r.name, b.ID(i))
			}
		}
		b.Net.Fault(nil)
		b.closes(q, p)
	})
}

// TestReplica_SlowApply: user code that takes longer than the lease costs no failover; proposers wait, bounded by
// QueueBytes, and are answered.
func TestReplica_SlowApply(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p", func(o *libqjm.ReplicaOptions, s *tally) {
			o.Writer.FrameBytes, o.Writer.QueueBytes = 100, 1000
			s.hook = func(libqjm.Entry) error { pass(5 * time.Second); return nil }
		})
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				_, err := p.Propose(b.within(5*time.Minute), libqjm.Proposal{Data: make([]byte, 60+i)})
				require.NoError(b, err)
			})
		}
		pass(time.Second)
		short, cancel := context.WithTimeout(b.ctx, time.Second)
		_, err := p.Propose(short, libqjm.Proposal{Data: make([]byte, 60)})
		cancel()
		require.Error(b, err)
		require.False(b, libqjm.MayHaveCommitted(err), "it waited for room, and was not appended: %v", err)
		all.Wait()
		require.Equal(b, libqjm.RoleActive, p.Status().Role)
		require.NotContains(b, p.told.list(), "standby true")
		b.closes(q, p)
	})
}

// TestReplica_SnapshotThatDoesNotLoad stops the replica that cannot read it, and says so; the one that has the state goes on.
func TestReplica_SnapshotThatDoesNotLoad(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		often := func(o *libqjm.ReplicaOptions, _ *tally) { o.Snapshots = libqjm.SnapshotPolicy{Txns: 5} }
		p := b.replica("p", often)
		b.becomes(p, libqjm.RoleActive)
		for i := range 10 {
			b.propose(p, fmt.Sprint(i))
		}
		pass(5 * time.Second)
		q, err := b.process("q").OpenReplica("j", unreadable{&tally{}}, libqjm.ReplicaOptions{})
		require.NoError(b, err)
		<-q.Done()
		require.ErrorIs(b, q.Err(), libqjm.ErrStateMachine)
		require.ErrorIs(b, q.Err(), errUnreadable)
		require.Contains(b, q.Err().Error(), "snapshot at txid 1")
		require.Equal(b, libqjm.RoleStopped, q.Status().Role)
		_, err = q.AwaitLinearizable(b.ctx)
		require.ErrorIs(b, err, libqjm.ErrStateMachine)
		_, err = q.WaitApplied(b.ctx, 100)
		require.ErrorIs(b, err, libqjm.ErrStateMachine)
		b.propose(p, "on")
		b.closes(p)
	})
}

// unreadable loads no snapshot.
type unreadable struct{ libqjm.StateMachine }

var errUnreadable = errors.New("this is version 9")

func (unreadable) LoadSnapshot(io.Reader) error { return errUnreadable }

// TestReplica_SnapshotPolicies: each condition alone makes the active save one.
func TestReplica_SnapshotPolicies(t *testing.T) {
	for name, policy := range map[string]libqjm.SnapshotPolicy{
		"bytes":    {Bytes: 10_000},
		"txns":     {Txns: 20},
		"interval": {IntervalMillis: 3000},
		"growth":   {Growth: 200, Txns: 15},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) {
				p := b.replica("p", func(o *libqjm.ReplicaOptions, _ *tally) { o.Snapshots = policy })
				b.becomes(p, libqjm.RoleActive)
				newest := func() libqjm.TxID {
					all, err := b.cl.Snapshots(b.ctx, "j")
					require.NoError(b, err)
					if len(all) == 0 {
						return 0
					}
					return all[len(all)-1].TxID
				}
				before := libqjm.TxID(0)
				for range 3 {
					for range 25 {
						b.propose(p, string(make([]byte, 500)))
					}
					b.Until(time.Minute, "another snapshot", func() bool { return newest() > before })
					before = newest()
				}
				b.closes(p)
			})
		})
	}
}

// TestReplica_SnapshotEndsWithTheReign: one that nodes do not take holds up nobody who has lost his place.
func TestReplica_SnapshotEndsWithTheReign(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p", func(o *libqjm.ReplicaOptions, _ *tally) { o.Snapshots = libqjm.SnapshotPolicy{Txns: 5} })
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		hung := make(chan struct{}, 100)
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.From == "p" && c.Method == "BeginSnapshot" {
				hung <- struct{}{}
				return memnet.Hang
			}
			return memnet.Deliver
		})
		for i := range 10 {
			b.propose(p, fmt.Sprint(i))
		}
		<-hung
		_, err := b.cl.Fence(b.ctx, "j")
		require.NoError(b, err)
		for range 200 {
			if s := p.Status(); s.Role == libqjm.RoleStandby || q.Status().Role == libqjm.RoleActive {
				break
			}
			pass(50 * time.Millisecond)
		}
		b.Until(20*time.Second, "p has another role", func() bool {
			return p.Status().Role == libqjm.RoleStandby || p.Status().Epoch > 1
		})
		b.Net.Fault(nil)
		b.closes(q, p)
	})
}

// TestReplica_Profiles: a profile fills in what is unset, and never what is set.
func TestReplica_Profiles(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		for _, profile := range []libqjm.Profile{libqjm.ProfileProduction, libqjm.ProfileThroughput, libqjm.ProfileAvailability} {
			r, err := b.process(profile.String()).OpenReplica("j", &tally{}, libqjm.ReplicaOptions{Name: "p", Profile: profile})
			require.NoError(b, err)
			p := rep{Replica: r, name: "p", told: &told{}}
			b.becomes(p, libqjm.RoleActive)
			b.propose(p, "x")
			b.closes(p)
		}
		_, err := b.cl.OpenReplica("j", &tally{}, libqjm.ReplicaOptions{Profile: 9})
		require.ErrorIs(b, err, libqjm.ErrBadRequest)
	})
}

// TestReplica_StartsBesideALivingLease: renewals of a lease go through the catalog all the time, and keep no node from telling
// that no snapshot is listed.
func TestReplica_StartsBesideALivingLease(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		pass(20 * time.Second)
		began := time.Now()
		_, err := b.cl.LatestSnapshot(b.ctx, "j")
		require.ErrorIs(b, err, libqjm.ErrNoSnapshot)
		require.Less(b, time.Since(began), time.Second)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		require.Less(b, time.Since(began), 2*time.Second)
		b.closes(q, p)
	})
}

// TestReplica_ProposalsWhileItIsFenced: whoever comes when a reign is just over is not told of writers that were closed or
// fenced. What is not appended goes to the active; what may be is in doubt.
func TestReplica_ProposalsWhileItIsFenced(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		var reps [2]rep
		forward := func(ctx context.Context, addr string, p libqjm.Proposal) (libqjm.Applied, error) {
			for ctx.Err() == nil {
				for _, r := range reps {
					if addr == r.name+":1" {
						a, err := r.Propose(ctx, p)
						na, ok := errors.AsType[*libqjm.NotActiveError](err)
						if !ok {
							return a, err
						}
						addr = na.Addr
					}
				}
				pass(time.Millisecond)
			}
			return libqjm.Applied{}, context.Cause(ctx)
		}
		for i, name := range []string{"p", "q"} {
			reps[i] = b.replica(name, func(o *libqjm.ReplicaOptions, _ *tally) { o.Forward = forward })
			b.becomes(reps[i], []libqjm.Role{libqjm.RoleActive, libqjm.RoleStandby}[i])
		}
		stop, all := make(chan struct{}), sync.WaitGroup{}
		for i := range 8 {
			all.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					_, err := reps[i%2].Propose(b.within(time.Minute), libqjm.Proposal{Data: fmt.Append(nil, i, n)})
					if err != nil {
						require.True(b, libqjm.MayHaveCommitted(err), "%v", err)
					}
					pass(time.Millisecond)
				}
			})
		}
		rounds := 6
		if testing.Short() {
			rounds = 2
		}
		for round := range rounds {
			pass(time.Second)
			if round%2 == 0 {
				_, err := b.cl.Fence(b.ctx, "j")
				require.NoError(b, err)
				continue
			}
			for i, r := range reps {
				if r.Status().Role == libqjm.RoleActive {
					require.NoError(b, r.Transfer(b.within(time.Minute), reps[1-i].name))
					break
				}
			}
		}
		pass(3 * time.Second)
		close(stop)
		all.Wait()
		b.closes(reps[0], reps[1])
	})
}

// TestReplica_ActiveThatHearsNothing: what it sends arrives, what comes to it does not. It does not keep the lease by
// renewals whose answers it never sees.
func TestReplica_ActiveThatHearsNothing(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		b.propose(p, "a")
		for i := range b.Nodes {
			b.Net.Cut(b.ID(i), "p")
		}
		began := time.Now()
		b.becomes(q, libqjm.RoleActive)
		require.Less(b, time.Since(began), 4*time.Second, "with a lease of 1 s")
		b.propose(q, "b")
		b.Net.HealAll()
		b.becomes(p, libqjm.RoleStandby)
		b.closes(p, q)
	})
}

// TestReplica_ActiveWithoutAMajority: it reaches the catalog through one node, and commits nothing. It lets the other one have
// the lease. Where nobody takes it, it goes on when nodes are back.
func TestReplica_ActiveWithoutAMajority(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		b.becomes(q, libqjm.RoleStandby)
		b.propose(p, "a")
		b.Net.Partition("p", b.ID(0))
		b.Net.Partition("p", b.ID(1))
		under, err := p.ProposeAsync(b.ctx, libqjm.Proposal{Data: []byte("b")})
		require.NoError(b, err)
		began := time.Now()
		b.becomes(q, libqjm.RoleActive)
		require.Less(b, time.Since(began), 8*time.Second)
		b.propose(q, "c")
		b.Net.HealAll()
		b.becomes(p, libqjm.RoleStandby)
		_, err = under.Wait(b.ctx)
		require.Error(b, err)
		b.closes(p)

		b.Net.Partition("q", b.ID(0)) // alone
		b.Net.Partition("q", b.ID(1))
		under, err = q.ProposeAsync(b.ctx, libqjm.Proposal{Data: []byte("d")})
		require.NoError(b, err)
		epoch := q.Status().Epoch
		pass(30 * time.Second)
		b.Net.HealAll()
		_, err = under.Wait(b.within(20 * time.Second))
		require.NoError(b, err)
		require.Equal(b, epoch, q.Status().Epoch)
		b.closes(q)
	})
}

// TestReplica_CloseWithoutTime ends it as a process that is killed ends: nobody is told, and what was acknowledged stays.
func TestReplica_CloseWithoutTime(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		q := b.replica("q")
		require.NoError(b, q.AwaitRole(b.ctx, libqjm.RoleStandby, libqjm.RoleActive))
		b.propose(p, "a")
		over, cancel := context.WithCancel(b.ctx)
		cancel()
		began := time.Now()
		require.NoError(b, p.Close(over))
		require.Less(b, time.Since(began), 10*time.Millisecond)
		require.NoError(b, q.AwaitRole(b.within(time.Minute), libqjm.RoleActive))
		require.Greater(b, time.Since(began), 600*time.Millisecond, "the lease had to expire")
		require.ErrorIs(b, p.AwaitRole(b.ctx, libqjm.RoleActive), libqjm.ErrClosed)
		require.Equal(b, []string{"a"}, q.sm.list())
		b.closes(q)
	})
}

func TestReplica_RedirectTo(t *testing.T) {
	addr, ok := libqjm.RedirectTo(fmt.Errorf("x: %w", &libqjm.NotActiveError{Role: libqjm.RoleStandby, Active: "p", Addr: "p:1"}))
	require.True(t, ok)
	require.Equal(t, "p:1", addr)
	for _, err := range []error{nil, io.EOF, &libqjm.NotActiveError{Role: libqjm.RoleStandby}} {
		_, ok = libqjm.RedirectTo(err)
		require.False(t, ok)
	}
	out, err := json.Marshal(libqjm.ReplicaStatus{Name: "p", Role: libqjm.RoleActive, Epoch: 3, Applied: 7})
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"p","role":"active","epoch":3,"applied":7}`, string(out))
}
