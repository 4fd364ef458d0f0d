package libqjm_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/segments"
)

// driver changes a journal's members by hand, as the leader of the catalog does it.
type driver struct {
	*bed
	id      segments.JournalID
	name    string
	version uint64
	sets    [][]quorum.Member
}

func (b *bed) member(i int) quorum.Member {
	info, err := b.Nodes[i].Info(b.ctx)
	require.NoError(b, err)
	return quorum.Member{ID: info.ID, Incarnation: info.Incarnation, Addr: b.Endpoints()[i]}
}

func (b *bed) set(is ...int) []quorum.Member {
	var ms []quorum.Member
	for _, i := range is {
		ms = append(ms, b.member(i))
	}
	return quorum.NewConfig(1, ms...).Sets[0]
}

// journalOn makes a journal whose members are some of the nodes.
func (b *bed) journalOn(name string, is ...int) *driver {
	info, err := b.Nodes[0].Info(b.ctx)
	require.NoError(b, err)
	d := &driver{bed: b, id: rpc.JournalIDOf(info.Cluster, name), name: name}
	d.install(1, is, b.set(is...))
	return d
}

// install gives nodes a config.
func (d *driver) install(version uint64, on []int, sets ...[]quorum.Member) {
	d.Helper()
	d.version, d.sets = version, sets
	for _, i := range on {
		require.NoError(d, d.Nodes[i].InstallConfig(d.ctx, d.summary()))
	}
}

// learn has nodes copy what is finalized before they are members.
func (d *driver) learn(is ...int) {
	s := d.summary()
	s.Learner = true
	for _, i := range is {
		require.NoError(d, d.Nodes[i].InstallConfig(d.ctx, s))
	}
}

func (d *driver) summary() rpc.JournalSummary {
	return rpc.JournalSummary{ID: d.id, Name: d.name, Config: quorum.Config{Version: d.version, Sets: d.sets}}
}

// sealed reports what node i has heard of the seal.
func (d *driver) sealed(i int) rpc.Seal {
	st, err := d.Nodes[i].State(d.ctx, d.id)
	require.NoError(d, err)
	return st.Seal
}

// M3, M4, M7: a journal goes from n1,n2,n3 to n3,n4,n5 and back to one of the old with n4,n5, while a writer
// appends all the time: no append fails, the epoch stays, and in the end the new nodes hold everything, the
// old ones switched off.
func TestM3_LiveWriterMovesUnderLoad(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		d := b.journalOn("m", 0, 1, 2)
		w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		epoch := w.Epoch()

		stop := make(chan struct{})
		var load sync.WaitGroup
		for range 4 {
			load.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					_, err := w.Append(b.ctx, []byte("x"))
					require.NoError(b, err)
					pass(time.Millisecond)
				}
			})
		}
		change := func(oldSet, newSet []int) {
			d.learn(newSet...)
			d.install(d.version+1, oldSet, d.sets[0], b.set(newSet...))
			d.Until(time.Minute, "the joint config is sealed", func() bool { return d.sealed(newSet[0]).Version == d.version })
			s := d.sealed(newSet[0]).Segment
			d.Until(time.Minute, "new members hold all before the seal", func() bool { return d.holdsUpTo(s, newSet...) })
			d.install(d.version+1, newSet, b.set(newSet...))
			d.Until(time.Minute, "the final config is sealed", func() bool { return d.sealed(newSet[0]).Version == d.version })
		}
		pass(50 * time.Millisecond)
		change([]int{0, 1, 2}, []int{2, 3, 4})
		pass(50 * time.Millisecond)
		b.StopNode(1) // one of those that left
		change([]int{2, 3, 4}, []int{0, 3, 4})
		b.StopNode(2)
		pass(50 * time.Millisecond)
		close(stop)
		load.Wait()
		require.Equal(b, epoch, w.Epoch())
		last := w.Committed()
		require.NoError(b, w.Close(b.ctx))
		require.Greater(b, last, libqjm.TxID(300))

		r, err := b.cl.OpenReader(b.ctx, "m", libqjm.ReaderOptions{})
		require.NoError(b, err)
		defer func() { require.NoError(b, r.Close()) }()
		n := libqjm.TxID(0)
		for txn, err := range r.All(b.ctx) {
			require.NoError(b, err)
			n++
			require.Equal(b, n, txn.ID)
		}
		require.Equal(b, last, n)
	})
}

// holdsUpTo: a majority of the nodes hold all segments before s finalized.
func (d *driver) holdsUpTo(s segments.TxID, is ...int) bool {
	holders := 0
	for _, i := range is {
		infos, err := rpc.AllSegments(d.ctx, d.id, d.Nodes[i].Segments)
		if errors.Is(err, rpc.ErrNoJournal) {
			continue // it has not heard of it yet
		}
		require.NoError(d, err)
		next := segments.TxID(1)
		for _, in := range infos {
			if in.First == next && in.State.String() == "finalized" {
				next = in.Last.TxID + 1
			}
		}
		if next >= s {
			holders++
		}
	}
	return holders > len(is)/2
}

// M1, M7: who opens with an old config is refused, hears the newer one, and counts under that: also where it
// only knows of the old members.
func TestM7_OpenerHearsTheNewerConfig(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		d := b.journalOn("m", 0, 1, 2)
		w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		for i := range 10 {
			_, err := w.Append(b.ctx, fmt.Append(nil, i))
			require.NoError(b, err)
		}
		require.NoError(b, w.Close(b.ctx))
		// Idle: a mover does it, an ordinary writer under the joint config.
		d.install(2, []int{0, 1}, b.set(0, 1, 2), b.set(2, 3, 4))
		old := b.ClientWith(libqjm.Options{Endpoints: b.Endpoints()[:1]})
		_, err = old.Recover(b.ctx, "m")
		require.NoError(b, err)
		for _, i := range []int{0, 3} {
			b.Until(time.Minute, "the joint config is passed on", func() bool {
				st, err := b.Nodes[i].State(b.ctx, d.id)
				return err == nil && st.Summary.Config.Version == 2
			})
		}
		d.Until(time.Minute, "the new ones have it", func() bool { return d.holdsUpTo(11, 2, 3, 4) })
		d.install(3, []int{2, 3, 4}, b.set(2, 3, 4))
		b.StopNode(0)
		b.StopNode(1)
		again, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		id, err := again.Append(b.ctx, []byte("11"))
		require.NoError(b, err)
		require.EqualValues(b, 11, id)
		require.NoError(b, again.Close(b.ctx))
	})
}

// Finding 1 and 2 of the control plane's review, end to end: a writer that was cut off while its journal
// went over to other members can commit nothing when it comes back, and says so.
func TestM3_CutOffWriterIsDropped(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		d := b.journalOn("m", 0, 1, 2)
		far := b.ClientWith(libqjm.Options{Dialer: b.Net.Dialer("far")})
		w, err := far.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, err = w.Append(b.ctx, []byte("1"))
		require.NoError(b, err)
		for i := range 5 {
			b.Net.Partition("far", b.Endpoints()[i])
		}
		f, err := w.AppendAsync(b.ctx, []byte("in doubt"))
		require.NoError(b, err)
		d.install(2, []int{0, 1, 2}, b.set(0, 1, 2), b.set(2, 3, 4))
		_, err = b.cl.Recover(b.ctx, "m")
		require.NoError(b, err)
		d.Until(time.Minute, "the new ones have it", func() bool { return d.holdsUpTo(2, 2, 3, 4) })
		d.install(3, []int{2, 3, 4}, b.set(2, 3, 4))
		b.Net.HealAll()
		_, err = f.Wait(b.within(time.Minute))
		require.ErrorIs(b, err, libqjm.ErrFenced)
		require.True(b, libqjm.MayHaveCommitted(err))
		b.abandon(w)
	})
}

// M0: config versions are compared by content.
func TestM0_InstallConfig(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		d := b.journalOn("m", 0, 1, 2)
		d.install(3, []int{0}, b.set(0, 1, 2), b.set(2, 3, 4))
		d.install(3, []int{0}, b.set(0, 1, 2), b.set(2, 3, 4))
		other := d.summary()
		other.Config.Sets = other.Config.Sets[:1]
		require.ErrorIs(b, b.Nodes[0].InstallConfig(b.ctx, other), rpc.ErrConfigDiverges)
		other.Config.Version = 2
		require.ErrorIs(b, b.Nodes[0].InstallConfig(b.ctx, other), rpc.ErrConfig)
		b.StopNode(0)
		b.StartNode(0)
		b.Until(time.Minute, "it is back", func() bool { return b.Nodes[0].Ready() == nil })
		st, err := b.Nodes[0].State(context.Background(), d.id)
		require.NoError(b, err)
		require.EqualValues(b, 3, st.Summary.Config.Version, "installed is durable")
	})
}
