package libqjm_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

func campaign(holder string, ttl time.Duration) libqjm.CampaignOptions {
	return libqjm.CampaignOptions{Lease: libqjm.LeaseOptions{Holder: holder, Addr: holder + ":1", TTL: ttl}}
}

// won is what a campaign that was begun came to.
type won struct {
	lead *libqjm.Leadership
	err  error
}

func (b *bed) begin(ctx context.Context, cl *libqjm.Client, o libqjm.CampaignOptions) <-chan won {
	out := make(chan won, 1)
	go func() {
		l, err := cl.Campaign(ctx, "j", o)
		out <- won{l, err}
	}()
	return out
}

func (b *bed) win(cl *libqjm.Client, o libqjm.CampaignOptions) *libqjm.Leadership {
	b.Helper()
	return b.wins(b.begin(b.ctx, cl, o))
}

func (b *bed) wins(c <-chan won) *libqjm.Leadership {
	b.Helper()
	select {
	case w := <-c:
		require.NoError(b, w.err)
		return w.lead
	case <-time.After(2 * time.Minute):
		b.Fatal("nobody won")
		return nil
	}
}

func (b *bed) appends(l *libqjm.Leadership, id libqjm.TxID) {
	b.Helper()
	b.write(l.Writer(), id, id)
}

// Of two campaigners one leads. When its process dies, the other one does, with all that was acknowledged, and
// the dead one's writer would be fenced.
func TestCampaign_Failover(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p, q := b.process("p"), b.process("q")
		first := b.win(p, campaign("p", time.Second))
		second := b.begin(b.ctx, q, campaign("q", time.Second))
		for id := range libqjm.TxID(10) {
			b.appends(first, id+1)
			pass(time.Second)
		}
		require.Empty(b, second)
		require.Equal(b, "p:1", b.info().Addr)
		begin := time.Now()
		back := b.cutOff("p")
		next := b.wins(second)
		require.Less(b, time.Since(begin), 10*time.Second)
		require.Equal(b, "q:1", b.info().Addr)
		require.Greater(b, next.Writer().Epoch(), first.Writer().Epoch())
		b.appends(next, 11)
		require.NoError(b, first.Err(), "it has heard nothing")
		require.False(b, first.Lease().Valid(), "and knows all the same")
		back()
		<-first.Done()
		require.ErrorIs(b, first.Err(), libqjm.ErrFenced)
		b.appends(next, 12)
		require.NoError(b, next.Resign(b.ctx))
		require.Equal(b, upTo(1, 12), b.read(libqjm.ReaderOptions{}))
	})
}

// L1: the end of the lease stops no active writer. It goes on, without one for a while, and gets the next one
// if nobody else wants it.
func TestL1_EndOfTheLeaseStopsNoWriter(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		l := b.win(b.process("p"), campaign("p", time.Second))
		b.appends(l, 1)
		for id := range libqjm.TxID(5) {
			lease := l.Lease()
			require.NoError(b, b.cl.ResignLease(b.ctx, "j", lease.Revision()))
			<-lease.Done()
			require.NoError(b, l.Err())
			b.appends(l, 2+2*id)
			b.Until(time.Minute, "the next lease", func() bool { return l.Lease() != nil && l.Lease() != lease })
			require.Greater(b, l.Lease().Revision(), lease.Revision())
			require.Equal(b, "p:1", b.info().Addr)
			b.appends(l, 3+2*id)
		}
		require.EqualValues(b, 1, l.Writer().Epoch(), "it is the same writer all the time")
	})
}

// L1: with no catalog the lease is over by the holder's own clock, and the writer goes on. When the catalog is
// back it is the same lease, for nobody else could get it.
func TestL1_WriterGoesOnWithoutTheCatalog(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		l := b.win(b.process("p"), campaign("p", 300*time.Millisecond))
		lease := l.Lease()
		for id := range libqjm.TxID(5) {
			b.splitCatalog()
			b.Until(time.Minute, "the lease is not trusted any more", func() bool { return !lease.Valid() })
			pass(10 * time.Second)
			b.appends(l, 1+2*id)
			b.Net.HealAll()
			b.Until(time.Minute, "the lease is trusted again", lease.Valid)
			b.appends(l, 2+2*id)
		}
		require.Same(b, lease, l.Lease())
		require.True(b, isOpen(lease.Done()))
		require.EqualValues(b, 1, l.Writer().Epoch())
	})
}

// splitCatalog cuts the nodes off from one another, and from nobody else: there is no leader, and the data
// plane does not mind.
func (b *bed) splitCatalog() {
	for i := range b.Nodes {
		for k := range i {
			b.Net.Partition(b.ID(i), b.ID(k))
		}
	}
}

// L1: a leader of the catalog that dies ends no active writer, nor its lease.
func TestL1_LeaderChangeEndsNoWriter(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		l := b.win(b.process("p"), campaign("p", 300*time.Millisecond))
		lease := l.Lease()
		id := libqjm.TxID(0)
		for range 4 {
			old := b.leader()
			b.KillNode(old)
			for range 10 {
				id++
				b.appends(l, id)
				pass(500 * time.Millisecond)
			}
			b.StartNode(old)
			pass(2 * time.Second)
		}
		require.Same(b, lease, l.Lease())
		require.True(b, lease.Valid())
		require.NoError(b, l.Err())
	})
}

// A leadership that is transferred goes to that campaigner, with the writer closed in between.
func TestCampaign_Transfer(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		first := b.win(b.process("p"), campaign("p", 5*time.Second))
		second := b.begin(b.ctx, b.process("q"), campaign("q", 5*time.Second))
		third := b.begin(b.ctx, b.process("r"), campaign("r", 5*time.Second))
		b.appends(first, 1)
		require.ErrorIs(b, first.Transfer(b.ctx, "p"), libqjm.ErrBadRequest)
		b.appends(first, 2)
		pass(time.Second)
		begin := time.Now()
		require.NoError(b, first.Transfer(b.ctx, "r"))
		require.ErrorIs(b, first.Err(), libqjm.ErrClosed)
		l := b.wins(third)
		require.Less(b, time.Since(begin), 3*time.Second)
		b.appends(l, 3)
		pass(20 * time.Second)
		require.Empty(b, second)
		require.NoError(b, l.Resign(b.ctx))
		b.appends(b.wins(second), 4)
	})
}

// A fenced writer's lease is let go: it would keep others from campaigning for nothing.
func TestCampaign_FencedWriterLetsGo(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.process("p")
		first := b.win(p, campaign("p", time.Minute))
		b.appends(first, 1)
		_, err := b.cl.Fence(b.ctx, "j")
		require.NoError(b, err)
		_, err = first.Writer().Append(b.ctx, []byte("x"))
		require.ErrorIs(b, err, libqjm.ErrFenced)
		<-first.Done()
		begin := time.Now()
		second := b.win(b.process("q"), campaign("q", time.Minute))
		require.Less(b, time.Since(begin), 10*time.Second)
		next := second.Writer().FirstTxID() // the append that was fenced may be in the journal
		b.appends(second, next)
		require.ErrorIs(b, first.Resign(b.ctx), libqjm.ErrFenced)
		require.ErrorIs(b, first.Transfer(b.ctx, "q"), libqjm.ErrLeaseLost)
		b.appends(second, next+1)
	})
}

// A campaign that cannot open the writer resigns; one whose context ends is over.
func TestCampaign_ThatFailsResigns(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.Method == "NewEpoch" {
				return memnet.Drop
			}
			return memnet.Deliver
		})
		_, err := b.cl.Campaign(b.within(20*time.Second), "j", campaign("p", time.Minute))
		require.Error(b, err)
		require.Zero(b, b.info().Revision)
		b.Net.Fault(nil)
		l := b.win(b.cl, campaign("p", time.Minute))
		_, err = b.process("q").Campaign(b.within(5*time.Second), "j", campaign("q", time.Minute))
		require.ErrorIs(b, err, context.DeadlineExceeded)
		b.appends(l, 1)
	})
}

// A process that lost its lease while it opened the writer waits for the next one: it does not fence who got
// it meanwhile.
func TestCampaign_LeaseLostWhileOpening(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.process("p")
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.Method == "NewEpoch" && c.From == "p" {
				return memnet.Hang
			}
			return memnet.Deliver
		})
		late := b.begin(b.ctx, p, campaign("p", time.Second))
		b.Until(time.Minute, "p has the lease", func() bool { return b.info().Holder == "p" })
		require.NoError(b, b.cl.TransferLease(b.ctx, "j", b.info().Revision, "q"))
		l := b.win(b.process("q"), campaign("q", time.Second))
		b.Net.Fault(nil)
		b.appends(l, 1)
		pass(time.Minute)
		b.appends(l, 2)
		require.Empty(b, late)
		require.NoError(b, l.Resign(b.ctx))
		b.appends(b.wins(late), 3)
	})
}

func TestCampaign_BadOptions(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		for _, o := range []libqjm.CampaignOptions{
			{Lease: libqjm.LeaseOptions{NoWait: true}}, {Lease: libqjm.LeaseOptions{TTL: 1}},
			{Writer: libqjm.WriterOptions{ReopenWhenFenced: true}}, {Writer: libqjm.WriterOptions{MaxTxnBytes: -1}},
		} {
			_, err := b.cl.Campaign(b.ctx, "j", o)
			require.ErrorIs(b, err, libqjm.ErrBadRequest, "%+v", o)
		}
		require.Zero(b, b.info().Revision)
	})
}

// Without the catalog nobody takes over, unless the campaign says so, and then only when a majority of the
// nodes has not heard the writer for long enough.
func TestCampaign_WithoutTheCatalog(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		o := campaign("p", time.Second)
		first := b.win(b.process("p"), o)
		plain := b.begin(b.ctx, b.process("r"), campaign("r", time.Second))
		o.Lease.Holder, o.OpenWithoutCatalog = "q", true
		second := b.begin(b.ctx, b.process("q"), o)
		b.appends(first, 1)
		pass(time.Minute)
		require.Empty(b, second, "the catalog answers")
		b.splitCatalog()
		pass(2 * time.Minute)
		require.Empty(b, second, "the writer is heard")
		b.appends(first, 2)
		begin := time.Now()
		b.cutOff("p")
		l := b.wins(second)
		require.GreaterOrEqual(b, time.Since(begin), 3*time.Second)
		require.Less(b, time.Since(begin), 30*time.Second)
		require.Nil(b, l.Lease())
		b.appends(l, 3)
		require.Empty(b, plain)
		require.ErrorIs(b, l.Transfer(b.ctx, "r"), libqjm.ErrLeaseLost)
		b.appends(l, 4)

		b.Net.HealAll()
		<-first.Done()
		require.ErrorIs(b, first.Err(), libqjm.ErrFenced)
		// Whoever gets the lease now leads: it is q again, with the writer that it has, or r, who fences it.
		b.Until(time.Minute, "somebody with lease and writer", func() bool {
			return l.Lease() != nil && l.Lease().Valid() || len(plain) > 0
		})
		if len(plain) > 0 {
			b.appends(b.wins(plain), 5)
			<-l.Done()
			return
		}
		b.appends(l, 5)
	})
}

// A lease that is kept alive is respected while the catalog answers, however silent the writer is.
func TestCampaign_SilentWriterWithACatalog(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		lease := b.acquire(b.cl, "p", time.Second) // and no writer
		o := campaign("q", time.Second)
		o.OpenWithoutCatalog = true
		q := b.begin(b.ctx, b.process("q"), o)
		pass(2 * time.Minute)
		require.Empty(b, q)
		require.True(b, lease.Valid())
		require.NoError(b, lease.Resign(b.ctx))
		l := b.wins(q)
		require.NotNil(b, l.Lease())
		b.appends(l, 1)
	})
}
