package libqjm_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// leader waits until one of the nodes that run leads the catalog.
func (b *bed) leader() int {
	b.Helper()
	leader := -1
	b.Until(time.Minute, "a leader of the catalog", func() bool {
		for i, n := range b.Nodes {
			if n == nil {
				continue
			}
			if v, err := n.Catalog(b.ctx, rpc.Stale); err == nil && string(v.Leader) == b.ID(i) {
				leader = i
			}
		}
		return leader >= 0
	})
	return leader
}

// process is a client of its own, as another process would be; from is its end of the network.
func (b *bed) process(from string) *libqjm.Client {
	b.Helper()
	return b.ClientWith(libqjm.Options{Dialer: b.Net.Dialer(from)})
}

// cutOff takes a process off the network; the returned function puts it back.
func (b *bed) cutOff(from string) (back func()) {
	for i := range b.Nodes {
		b.Net.Partition(from, b.ID(i))
	}
	return func() {
		for i := range b.Nodes {
			b.Net.Heal(from, b.ID(i))
			b.Net.Heal(b.ID(i), from)
		}
	}
}

func (b *bed) acquire(cl *libqjm.Client, holder string, ttl time.Duration) *libqjm.Lease {
	b.Helper()
	l, err := cl.AcquireLease(b.ctx, "j", libqjm.LeaseOptions{Holder: holder, Addr: holder + ":1", TTL: ttl})
	require.NoError(b, err)
	require.True(b, l.Valid())
	require.NoError(b, l.Err())
	return l
}

func (b *bed) info() libqjm.LeaseInfo {
	b.Helper()
	l, err := b.cl.Lease(b.ctx, "j")
	require.NoError(b, err)
	return l
}

func isOpen(c <-chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		return true
	}
}

// A lease is acquired, seen, kept alive for long, and resigned; then it is free at once.
func TestLease_Life(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		require.Zero(b, b.info().Revision)
		for _, ttl := range []time.Duration{libqjm.MinLeaseTTL, 10 * time.Second} {
			l := b.acquire(b.cl, "w", ttl)
			require.Equal(b, "w", l.Holder())
			require.Equal(b, "j", l.Journal())
			for range 10 {
				pass(ttl)
				require.True(b, l.Valid())
			}
			got := b.info()
			require.Equal(b, libqjm.LeaseInfo{Journal: got.Journal, Index: got.Index, Revision: l.Revision(), Holder: "w", Addr: "w:1", TTL: ttl}, got)
			_, err := b.cl.AcquireLease(b.ctx, "j", libqjm.LeaseOptions{NoWait: true})
			require.ErrorIs(b, err, libqjm.ErrLeaseHeld)
			held, ok := errors.AsType[*libqjm.LeaseHeldError](err)
			require.True(b, ok)
			require.Equal(b, "w:1", held.Addr)

			require.NoError(b, l.Resign(b.ctx))
			require.False(b, l.Valid())
			require.False(b, isOpen(l.Done()))
			require.ErrorIs(b, l.Err(), libqjm.ErrClosed)
			require.NoError(b, l.Resign(b.ctx), "again")
			require.Zero(b, b.info().Revision)
		}
	})
}

// What no node would take is refused at once, and so is a journal that is not there.
func TestLease_BadOptions(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		for _, o := range []libqjm.LeaseOptions{
			{TTL: libqjm.MinLeaseTTL - time.Millisecond}, {TTL: libqjm.MaxLeaseTTL + time.Millisecond}, {TTL: time.Second + 1},
			{Holder: string(make([]byte, 129))}, {Holder: "a\n"}, {Holder: "\xff"}, {Addr: string(make([]byte, 300))}, {Addr: "\x00"},
		} {
			_, err := b.cl.AcquireLease(b.ctx, "j", o)
			require.ErrorIs(b, err, libqjm.ErrBadRequest, "%+v", o)
		}
		_, err := b.cl.AcquireLease(b.ctx, "none", libqjm.LeaseOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		_, err = b.cl.Lease(b.ctx, "none")
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		l := b.acquire(b.cl, "w", time.Second)
		require.ErrorIs(b, l.Transfer(b.ctx, ""), libqjm.ErrBadRequest)
		require.ErrorIs(b, l.Transfer(b.ctx, "w"), libqjm.ErrBadRequest)
		require.True(b, l.Valid(), "it is still held")
	})
}

// L2: leaders die again and again under a lease, for many times its time to live. It is the same lease all the
// time: each new leader counts from its own Barrier.
func TestL2_LeaderChangeShortensNoLease(t *testing.T) {
	for _, ttl := range []time.Duration{300 * time.Millisecond, time.Second} {
		t.Run(ttl.String(), func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) {
				l := b.acquire(b.cl, "w", ttl)
				for range 6 {
					old := b.leader()
					b.KillNode(old)
					b.leader()
					b.Until(time.Minute, "the lease to be valid again", l.Valid)
					pass(5 * time.Second)
					require.True(b, l.Valid())
					b.StartNode(old)
				}
				require.True(b, isOpen(l.Done()))
				require.Equal(b, l.Revision(), b.info().Revision)
			})
		})
	}
}

// L2: two of three renewals are lost, some on the way, some on the way back; the lease lives.
func TestL2_RenewalsMayBeLost(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		var mu sync.Mutex
		n := 0
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.Method != "KeepLeases" || c.From != "client" {
				return memnet.Deliver
			}
			mu.Lock()
			defer mu.Unlock()
			n++
			return []memnet.Verdict{memnet.Deliver, memnet.LoseReply, memnet.Hang}[n%3]
		})
		l := b.acquire(b.cl, "w", 900*time.Millisecond)
		pass(time.Minute)
		require.True(b, isOpen(l.Done()))
		require.Equal(b, l.Revision(), b.info().Revision)
	})
}

// slow answers renewals late.
type slow struct {
	rpc.Service
	mu    *sync.Mutex
	by    *time.Duration
	heard *time.Time // when the last renewal was
}

func (s slow) KeepLeases(ctx context.Context, r rpc.LeaseRenewal) ([]error, error) {
	if r.Forwarded {
		return s.Service.KeepLeases(ctx, r)
	}
	s.mu.Lock()
	*s.heard = time.Now()
	by := *s.by
	s.mu.Unlock()
	kept, err := s.Service.KeepLeases(ctx, r)
	pass(by)
	return kept, err
}

// L2: the holder counts from when it sent a renewal; when the answer came says nothing.
func TestL2_HolderCountsFromWhenItSent(t *testing.T) {
	s := slow{mu: &sync.Mutex{}, by: new(time.Duration), heard: new(time.Time)}
	wrap := func(_ int, svc rpc.Service) rpc.Service { return slow{svc, s.mu, s.by, s.heard} }
	run(t, testcluster.Options{Wrap: wrap}, func(b *bed) {
		l := b.acquire(b.cl, "w", 3*time.Second)
		s.mu.Lock()
		*s.by = 700 * time.Millisecond // it is sent each second
		s.mu.Unlock()
		pass(2 * time.Second)
		for range 5 {
			pass(time.Second)
			s.mu.Lock()
			heard := *s.heard
			s.mu.Unlock()
			require.LessOrEqual(b, l.Until().Sub(heard), 3*time.Second)
			require.Greater(b, l.Until().Sub(heard), time.Second)
		}
	})
}

// L2: a holder that is stopped, and one that is cut off, knows by its own clock alone that the lease may be
// another's. It does not think so before, and hears for certain when it is back.
func TestL2_PausedHolderKnowsByItsOwnClock(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		const ttl = time.Second
		p := b.process("p")
		l := b.acquire(p, "p", ttl)
		pass(10*ttl + ttl/5) // between two renewals
		back := b.cutOff("p")
		until := l.Until()
		require.LessOrEqual(b, time.Until(until), ttl)
		pass(time.Until(until) - time.Nanosecond)
		require.True(b, l.Valid())
		pass(time.Nanosecond)
		require.False(b, l.Valid())
		require.True(b, isOpen(l.Done()), "it has heard nothing")

		next := b.acquire(b.cl, "q", ttl)
		require.Greater(b, next.Revision(), l.Revision())
		require.False(b, l.Valid())
		back()
		<-l.Done()
		require.ErrorIs(b, l.Err(), libqjm.ErrLeaseLost)
		require.True(b, next.Valid())
	})
}

// A short silence costs nothing: it is the same lease afterwards.
func TestLease_ShortSilence(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.process("p")
		l := b.acquire(p, "p", time.Second)
		for range 10 {
			back := b.cutOff("p")
			pass(600 * time.Millisecond)
			back()
			pass(time.Second)
			require.True(b, l.Valid())
		}
	})
}

// The answer to the request is lost: the lease is this process's all the same, and its time runs since then.
func TestLease_GrantWhoseAnswerIsLost(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		var mu sync.Mutex
		lost := 0
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			mu.Lock()
			defer mu.Unlock()
			if c.Method == "AcquireLease" && lost < 5 {
				lost++
				return memnet.LoseReply
			}
			return memnet.Deliver
		})
		l := b.acquire(b.cl, "w", time.Second)
		require.Equal(b, 5, lost)
		require.Equal(b, l.Revision(), b.info().Revision)
		pass(5 * time.Second)
		require.True(b, l.Valid())
	})
}

// L2: of several requests the first one was granted, unheard: the time runs since that one was sent.
func TestL2_TimeRunsSinceTheRequestThatWasGranted(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		var mu sync.Mutex
		var granted time.Time
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case c.Method == "KeepLeases":
				return memnet.Drop
			case c.Method != "AcquireLease":
				return memnet.Deliver
			case granted.IsZero():
				granted = time.Now()
				return memnet.LoseReply
			case time.Since(granted) < 2*time.Second:
				return memnet.Drop
			}
			return memnet.Deliver
		})
		const ttl = 10 * time.Second
		l := b.acquire(b.cl, "w", ttl)
		require.Greater(b, time.Since(granted), time.Second)
		require.Equal(b, granted.Add(ttl), l.Until())
		pass(time.Until(l.Until()))
		require.False(b, l.Valid())
	})
}

// A late message of a lease that is over touches no later one, of the same holder either (ABA).
func TestLease_LateMessagesNameTheRevision(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		first := b.acquire(b.cl, "w", time.Second)
		require.NoError(b, first.Resign(b.ctx))
		second := b.acquire(b.cl, "w", time.Second)
		require.ErrorIs(b, b.cl.ResignLease(b.ctx, "j", first.Revision()), libqjm.ErrLeaseLost)
		require.ErrorIs(b, b.cl.TransferLease(b.ctx, "j", first.Revision(), "x"), libqjm.ErrLeaseLost)
		require.NoError(b, first.Resign(b.ctx))
		require.ErrorIs(b, first.Transfer(b.ctx, "x"), libqjm.ErrLeaseLost)
		pass(5 * time.Second)
		require.True(b, second.Valid())
		require.NoError(b, b.cl.TransferLease(b.ctx, "j", second.Revision(), "x"))
		<-second.Done()
		require.ErrorIs(b, second.Err(), libqjm.ErrLeaseLost)
		require.Equal(b, "x", b.info().ReservedFor)
	})
}

// A lease that is transferred goes to that holder, whoever else waits, and whatever answers are lost.
func TestLease_Transfer(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		l := b.acquire(b.cl, "a", 10*time.Second)
		got := make(chan *libqjm.Lease, 3)
		for _, name := range []string{"b", "c", "d"} {
			cl := b.process(name)
			go func() {
				l, err := cl.AcquireLease(b.ctx, "j", libqjm.LeaseOptions{Holder: name, TTL: time.Second})
				if err != nil {
					b.Errorf("%s: %v", name, err)
				}
				got <- l
			}()
		}
		pass(5 * time.Second)
		var mu sync.Mutex
		lost := 0
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			mu.Lock()
			defer mu.Unlock()
			if c.Method == "TransferLease" && lost < 2 {
				lost++
				return memnet.LoseReply
			}
			return memnet.Deliver
		})
		require.NoError(b, l.Transfer(b.ctx, "c"))
		c := <-got
		require.Equal(b, "c", c.Holder())
		require.NoError(b, c.Transfer(b.ctx, "b"))
		next := <-got
		require.Equal(b, "b", next.Holder())
		require.NoError(b, next.Transfer(b.ctx, "nobody"))
		begin := time.Now()
		d := <-got
		require.Equal(b, "d", d.Holder())
		require.GreaterOrEqual(b, time.Since(begin), time.Second, "the reservation had to expire")
	})
}

// A watch sees each lease that lasts, goes on when leaders die, and ends with the journal.
func TestWatchLease(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		seen := make(chan libqjm.LeaseInfo, 100)
		ended := make(chan error, 1)
		watcher := b.process("watcher")
		go func() {
			for l, err := range watcher.WatchLease(b.ctx, "j") {
				if err != nil {
					ended <- err
					return
				}
				seen <- l
			}
		}()
		first := <-seen
		require.Zero(b, first.Revision)
		index := first.Index
		next := func() libqjm.LeaseInfo {
			b.Helper()
			select {
			case l := <-seen:
				require.GreaterOrEqual(b, l.Index, index)
				index = l.Index
				return l
			case <-time.After(30 * time.Second):
				b.Fatal("the watch has seen nothing")
				return libqjm.LeaseInfo{}
			}
		}
		for range 3 {
			l := b.acquire(b.cl, "w", 10*time.Second)
			require.Equal(b, l.Revision(), next().Revision)
			old := b.leader()
			b.KillNode(old)
			b.leader()
			b.StartNode(old)
			pass(5 * time.Second)
			require.Empty(b, seen, "renewals and leaders are no news")
			require.NoError(b, l.Transfer(b.ctx, "x"))
			require.Equal(b, "x", next().ReservedFor)
			require.NoError(b, b.cl.ResignLease(b.ctx, "j", b.info().Revision))
			require.Zero(b, next().Revision)
		}
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
		err := <-ended
		require.Truef(b, errors.Is(err, libqjm.ErrJournalDeleted) || errors.Is(err, libqjm.ErrNoJournal), "%v", err)
	})
}

// A watch ends with its context, and with its client.
func TestWatchLease_Ends(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		watch := func(ctx context.Context, cl *libqjm.Client) chan error {
			ended := make(chan error, 1)
			go func() {
				for _, err := range cl.WatchLease(ctx, "j") {
					if err != nil {
						ended <- err
					}
				}
				close(ended)
			}()
			return ended
		}
		ctx, cancel := context.WithCancel(b.ctx)
		p := b.process("p")
		one, two := watch(ctx, b.cl), watch(b.ctx, p)
		pass(time.Second)
		cancel()
		require.ErrorIs(b, <-one, context.Canceled)
		require.NoError(b, p.Close())
		require.ErrorIs(b, <-two, libqjm.ErrClosed)
		for l, err := range b.cl.WatchLease(b.ctx, "j") {
			require.NoError(b, err)
			require.Zero(b, l.Revision)
			break
		}
	})
}

// L2, L3: whatever is lost, cut off or killed, at most one process at a time trusts its lease, as long as the
// clocks run at one rate. They need not show the same time: only differences are ever used.
func TestL3_AtMostOneHolderTrustsItsLease(t *testing.T) {
	for seed := range uint64(seedCount(6, 2)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) { b.race(newDice(seed)) })
		})
	}
}

func seedCount(all, short int) int {
	if testing.Short() {
		return short
	}
	return all
}

func (b *bed) race(d *dice) {
	b.Net.Fault(func(c memnet.Call) memnet.Verdict {
		switch {
		case c.Method == "RaftStream" || !d.roll(10):
			return memnet.Deliver
		}
		pass(time.Duration(d.intn(200)) * time.Millisecond)
		return []memnet.Verdict{memnet.Deliver, memnet.Drop, memnet.LoseReply, memnet.Hang}[d.intn(4)]
	})
	ctx, stop := context.WithCancel(b.ctx)
	var mu sync.Mutex
	var leases []*libqjm.Lease // guarded by mu
	var wg sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprintf("p%d", i)
		cl := b.process(name)
		wg.Go(func() {
			for ctx.Err() == nil {
				ttl := time.Duration(300+d.intn(700)) * time.Millisecond
				l, err := cl.AcquireLease(ctx, "j", libqjm.LeaseOptions{Holder: name, TTL: ttl})
				if err != nil {
					continue
				}
				mu.Lock()
				leases = append(leases, l)
				mu.Unlock()
				select {
				case <-l.Done():
				case <-time.After(time.Duration(d.intn(8000)) * time.Millisecond):
				case <-ctx.Done():
				}
				bounded, cancel := context.WithTimeout(ctx, time.Second)
				switch d.intn(3) {
				case 0:
					l.Close()
				case 1:
					_ = l.Resign(bounded) // it expires, if it could not be
				default:
					_ = l.Transfer(bounded, fmt.Sprintf("p%d", (i+1)%4))
				}
				cancel()
			}
		})
	}
	wg.Go(func() { b.trouble(ctx, d) })
	held := 0
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); pass(5 * time.Millisecond) {
		mu.Lock()
		var valid []uint64
		for _, l := range leases {
			if l.Valid() {
				valid = append(valid, l.Revision())
			}
		}
		mu.Unlock()
		require.LessOrEqual(b, len(valid), 1, "revisions %v", valid)
		held += len(valid)
	}
	stop()
	wg.Wait()
	require.Positive(b, held)
	mu.Lock()
	defer mu.Unlock()
	require.Greater(b, len(leases), 10, "enough went on to mean something")
	for _, l := range leases {
		l.Close()
	}
}

// trouble kills leaders and cuts off processes and nodes, one at a time.
func (b *bed) trouble(ctx context.Context, d *dice) {
	for ctx.Err() == nil {
		pass(time.Duration(1000+d.intn(6000)) * time.Millisecond)
		switch i := d.intn(3); d.intn(3) {
		case 0:
			b.KillNode(i)
			pass(time.Duration(d.intn(5000)) * time.Millisecond)
			b.StartNode(i)
		case 1:
			back := b.cutOff(fmt.Sprintf("p%d", d.intn(4)))
			pass(time.Duration(d.intn(3000)) * time.Millisecond)
			back()
		default:
			for k := range 3 {
				if k != i {
					b.Net.Partition(b.ID(i), b.ID(k))
				}
			}
			pass(time.Duration(d.intn(6000)) * time.Millisecond)
			for k := range 3 {
				b.Net.Heal(b.ID(i), b.ID(k))
				b.Net.Heal(b.ID(k), b.ID(i))
			}
		}
	}
}

// A node that was taken out of the cluster, and does not know it, goes on answering for the name of a journal that is gone. The call ends
// all the same: each question to the catalog is an entry of its log.
func TestLease_RemovedNodeHasNotHeardOfADeletion(t *testing.T) {
	run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
		stale := (b.leader() + 1) % len(b.Nodes)
		var members []string
		for i := range b.Nodes {
			if i != stale {
				members = append(members, b.ID(i))
			}
		}
		_, err := b.cl.ChangeMembers(b.ctx, "j", members, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "j", nil))
		for i := range b.Nodes {
			if i != stale {
				b.Net.Partition(b.ID(stale), b.ID(i))
			}
		}
		require.NoError(b, b.cl.RemoveNode(b.ctx, b.ID(stale), false))
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
		pass(time.Minute)
		ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
		defer cancel()
		_, err = b.process("late").Lease(ctx, "j")
		require.Truef(b, errors.Is(err, libqjm.ErrNoJournal) || errors.Is(err, libqjm.ErrJournalDeleted), "%v", err)
		require.NoError(b, ctx.Err())
	})
}
