package journalnode_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/segments"
)

// desk is a catalog without a Raft group, and whoever drives changes on it.
type desk struct {
	*bed
	id segments.JournalID

	mu    sync.Mutex
	c     *catalog.Catalog
	index uint64
	fail  func(catalog.Command) error // a fail point before a command, or nil
}

func (d *desk) Barrier(context.Context) error { return nil }

func (d *desk) Journal(id segments.JournalID) (catalog.Journal, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.c.Journal(id)
}

func (d *desk) Propose(_ context.Context, cmd catalog.Command) (catalog.Result, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if err := d.fail(cmd); err != nil {
			return catalog.Result{}, err
		}
	}
	d.index++
	return d.c.Apply(d.index, cmd)
}

func (b *bed) memberOf(i int) quorum.Member {
	info, err := b.Nodes[i].Info(b.ctx)
	require.NoError(b, err)
	return quorum.Member{ID: info.ID, Incarnation: info.Incarnation, Addr: b.Endpoints()[i]}
}

func (b *bed) membersOf(is ...int) []quorum.Member {
	var ms []quorum.Member
	for _, i := range is {
		ms = append(ms, b.memberOf(i))
	}
	return ms
}

// newDesk makes a journal on some nodes of the cluster, in the catalog and on the nodes.
func (b *bed) newDesk(name string, is ...int) *desk {
	cluster := b.founded()
	d := &desk{bed: b, c: catalog.New(), id: rpc.JournalIDOf(cluster, name)}
	var nodes []catalog.Node
	for i := range b.Nodes {
		b.Nodes[i].SetCatalog(d.Journal)
		m := b.memberOf(i)
		nodes = append(nodes, catalog.Node{ID: m.ID, Incarnation: m.Incarnation, Addr: m.Addr, Level: catalog.LevelMax, Voter: true})
	}
	d.must(&catalog.Init{Cluster: catalog.ClusterID(cluster), Nodes: nodes})
	d.must(&catalog.CreateJournal{ID: d.id, Name: name, Members: b.membersOf(is...)})
	d.until("the journal is on its members", 0, func(j catalog.Journal) bool {
		for _, i := range is {
			if _, err := b.Nodes[i].State(b.ctx, d.id); err != nil {
				return false
			}
		}
		return true
	})
	return d
}

func (d *desk) must(cmd catalog.Command) catalog.Result {
	d.Helper()
	r, err := d.Propose(d.ctx, cmd)
	require.NoError(d, err)
	return r
}

func (d *desk) target() catalog.Target {
	j, _ := d.Journal(d.id)
	return catalog.Target{Journal: d.id, ExpectVersion: j.Config.Version}
}

func (d *desk) begin(is ...int) {
	d.must(&catalog.BeginChange{Target: d.target(), To: d.membersOf(is...)})
}

// until drives the change on a node until done, a round every 20 ms.
func (d *desk) until(what string, leader int, done func(catalog.Journal) bool) {
	d.Helper()
	round := d.Nodes[leader].Driver(d, d.id)
	var last error
	d.Until(5*time.Minute, what, func() bool {
		_, last = round(d.ctx)
		j, _ := d.Journal(d.id)
		return done(j)
	})
	_ = last // a round may fail; what counts is where it leads
}

// apply tells every node that has the journal what is listed, as its catalog would.
func (d *desk) apply() {
	j, _ := d.Journal(d.id)
	var listed []snapshot.Snapshot
	for _, s := range j.Snapshots {
		listed = append(listed, snapshot.Snapshot{TxID: s.TxID, At: s.FrameLast, Size: int64(s.Size), Checksum: s.Checksum, Epoch: s.Epoch})
	}
	for _, n := range d.Nodes {
		if n != nil {
			_ = n.SetListedSnapshots(d.id, listed) // one that does not have the journal yet is told again
		}
	}
}

// purgedAt saves a snapshot, has it listed, and waits until nodes have purged up to a txid.
func (d *desk) purgedAt(cl *libqjm.Client, txid, to segments.TxID, is ...int) {
	d.Helper()
	snap, err := cl.SaveSnapshot(d.ctx, "m", txid, strings.NewReader(fmt.Sprint("state at ", txid)))
	require.Error(d, err, "the nodes' own catalog does not know the journal")
	d.must(&catalog.ListSnapshot{Target: d.target(), Holders: d.membersOf(is...), Snapshot: catalog.Snapshot{
		TxID: snap.TxID, FrameLast: snap.At, Size: uint64(snap.Size), Checksum: snap.Checksum, Epoch: snap.Epoch,
	}})
	d.apply()
	for _, i := range is {
		d.Until(time.Minute, "purged", func() bool {
			l, err := d.Nodes[i].Snapshots(d.ctx, d.id)
			return err == nil && l.Purged.TxID == to
		})
	}
}

// M4, C5: the members of a purged journal are changed, with a writer and without one. What the new ones lack of
// the log is in the newest listed snapshot, which they hold; with all of the old ones switched off nothing is
// gone.
func TestM4_PurgedJournal(t *testing.T) {
	for _, live := range []bool{true, false} {
		t.Run(fmt.Sprintf("live writer %v", live), func(t *testing.T) {
			run(t, testcluster.Options{Nodes: 6, Tune: noMargin}, func(b *bed) {
				d := b.newDesk("m", 0, 1, 2)
				cl := b.Client()
				w := d.segments(cl, 6)
				d.purgedAt(cl, 60, 50, 0, 1, 2)
				if !live {
					require.NoError(b, w.Close(b.ctx))
					b.wait(time.Minute) // no writer is heard any more
				}
				d.begin(3, 4, 5)
				d.until("members 3, 4, 5", 0, func(j catalog.Journal) bool { d.apply(); return over(j) })
				for i := range 3 {
					b.StopNode(i)
				}
				if live {
					_, err := w.Append(b.ctx, []byte("x"))
					require.NoError(b, err)
					require.NoError(b, w.Close(b.ctx))
				}
				b.StopNode(3) // any two of the new ones can go on
				again, err := cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
				require.NoError(b, err)
				require.GreaterOrEqual(b, again.FirstTxID(), libqjm.TxID(61))
				require.NoError(b, again.Close(b.ctx))
				r, err := cl.OpenSnapshot(b.ctx, "m", 60)
				require.NoError(b, err)
				content, err := io.ReadAll(r)
				require.NoError(b, err)
				require.Equal(b, "state at 60", string(content))
				require.NoError(b, r.Close())
			})
		})
	}
}

// M8, C5: nodes that left a purged journal keep nothing of it, its snapshot included, though they go on hearing
// what is listed; and come back as if they had never been there.
func TestM8_LeavesAPurgedJournalAndComesBack(t *testing.T) {
	run(t, testcluster.Options{Nodes: 6, Tune: noMargin}, func(b *bed) {
		d := b.newDesk("m", 0, 1, 2)
		cl := b.Client()
		w := d.segments(cl, 6)
		d.purgedAt(cl, 60, 50, 0, 1, 2)
		d.begin(3, 4, 5)
		d.until("members 3, 4, 5", 0, func(j catalog.Journal) bool { d.apply(); return over(j) })
		kept := func(i int) (n int) {
			l, err := d.Nodes[i].Snapshots(d.ctx, d.id)
			require.NoError(b, err)
			return len(l.Held)
		}
		gone := func(catalog.Journal) bool {
			d.apply()
			for i := range 3 {
				if d.bytesOn(i) > 0 || kept(i) > 0 {
					return false
				}
			}
			return true
		}
		d.until("clean-up", 3, gone)
		b.wait(10 * time.Second)
		require.True(b, gone(catalog.Journal{}), "what is listed is not fetched again")

		_, err := w.Append(b.ctx, []byte("x"))
		require.NoError(b, err)
		d.begin(0, 1, 2)
		d.until("members 0, 1, 2", 3, func(j catalog.Journal) bool { d.apply(); return over(j) })
		for i := 3; i < 6; i++ {
			b.StopNode(i)
		}
		_, err = w.Append(b.ctx, []byte("x"))
		require.NoError(b, err)
		for i := range 3 {
			require.Equal(b, 1, kept(i))
		}
		require.NoError(b, w.Close(b.ctx))
	})
}

// segments writes n finalized segments of ten txns, and one more that stays open.
func (d *desk) segments(cl *libqjm.Client, n int) *libqjm.Writer {
	d.Helper()
	w, err := cl.OpenWriter(d.ctx, "m", libqjm.WriterOptions{})
	require.NoError(d, err)
	for range n {
		for range 10 {
			_, err := w.Append(d.ctx, []byte("x"))
			require.NoError(d, err)
		}
		require.NoError(d, w.Roll(d.ctx))
	}
	return w
}

func noMargin(_ int, o *journalnode.Options) { o.Retain = snapshots.Margin{Txns: -1, Bytes: -1} }

func over(j catalog.Journal) bool { return j.Change == nil }

// M3–M8 through the leader's own driver: a live writer keeps its epoch, nothing fails, and what left keeps
// config and promise and nothing else.
func TestM4_LiveWriterThroughTheDriver(t *testing.T) {
	run(t, testcluster.Options{Nodes: 6}, func(b *bed) {
		d := b.newDesk("m", 0, 1, 2)
		cl := b.Client()
		w, err := cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		epoch := w.Epoch()
		ctx, stop := context.WithCancel(b.ctx)
		var load sync.WaitGroup
		for range 4 {
			load.Go(func() {
				for ctx.Err() == nil {
					_, err := w.Append(b.ctx, []byte("x"))
					require.NoError(b, err)
					b.wait(time.Millisecond)
				}
			})
		}
		for _, to := range [][]int{{1, 2, 3}, {2, 3, 4}, {3, 4, 5}, {0, 3, 4, 5, 1}, {3, 4, 5}} {
			d.begin(to...)
			d.until(fmt.Sprint("members ", to), 0, over)
		}
		d.until("clean-up", 0, func(catalog.Journal) bool { return d.bytesOn(0)+d.bytesOn(1)+d.bytesOn(2) == 0 })
		for i := range 3 {
			b.StopNode(i)
		}
		stop()
		load.Wait()
		_, err = w.Append(b.ctx, []byte("x"))
		require.NoError(b, err)
		require.Equal(b, epoch, w.Epoch())
		last := w.Committed()
		require.NoError(b, w.Close(b.ctx))
		r, err := cl.OpenReader(b.ctx, "m", libqjm.ReaderOptions{})
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

func (d *desk) bytesOn(i int) (n int64) {
	list, err := rpc.AllSegments(d.ctx, d.id, d.Nodes[i].Segments)
	require.NoError(d, err)
	for _, s := range list {
		n += s.Bytes
	}
	return n
}

// An idle journal is moved by the leader, as an ordinary writer; and a leader that dies before or after each
// entry is followed by another one, which goes on.
func TestM6_LeaderDiesAtEachStep(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		d := b.newDesk("m", 0, 1, 2)
		cl := b.Client()
		w, err := cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		for range 20 {
			_, err := w.Append(b.ctx, []byte("x"))
			require.NoError(b, err)
		}
		require.NoError(b, w.Close(b.ctx))
		b.wait(time.Minute) // no writer is heard any more
		died := errors.New("the leader died")
		d.begin(2, 3, 4)
		seen := map[string]bool{}
		leader := 0
		for range 100 {
			j, _ := d.Journal(d.id)
			if over(j) {
				break
			}
			d.fail = func(cmd catalog.Command) error {
				if kind := fmt.Sprintf("%T", cmd); !seen[kind] {
					seen[kind] = true
					return died
				}
				return nil
			}
			leader = (leader + 1) % 5
			round := b.Nodes[leader].Driver(d, d.id) // a new leader remembers nothing
			for {
				if _, err := round(b.ctx); errors.Is(err, died) {
					break
				}
				if j, _ := d.Journal(d.id); over(j) {
					break
				}
				b.wait(20 * time.Millisecond)
			}
		}
		j, _ := d.Journal(d.id)
		require.True(b, over(j))
		for _, kind := range []string{"Joint", "Sealed", "Final", "Finish"} {
			require.True(b, seen["*catalog."+kind], kind)
		}
		b.StopNode(0)
		b.StopNode(1)
		again, err := cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		id, err := again.Append(b.ctx, []byte("21"))
		require.NoError(b, err)
		require.EqualValues(b, 21, id)
		require.NoError(b, again.Close(b.ctx))
	})
}

// Abort: the new members die after joint; the change gives itself up, and the writer goes on with the old
// ones, in its epoch.
func TestM6_GivesUpWhenNewMembersDie(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5, Tune: func(_ int, o *journalnode.Options) { o.ChangePatience = time.Minute }}, func(b *bed) {
		d := b.newDesk("m", 0, 1, 2)
		w, err := b.Client().OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, err = w.Append(b.ctx, []byte("1"))
		require.NoError(b, err)
		epoch := w.Epoch()
		d.begin(0, 3, 4)
		d.fail = func(cmd catalog.Command) error {
			if _, joint := cmd.(*catalog.Joint); joint {
				b.StopNode(3)
				b.StopNode(4)
			}
			return nil
		}
		d.until("given up", 0, over)
		j, _ := d.Journal(d.id)
		require.Equal(b, catalog.Aborted, j.History[len(j.History)-1].Kind)
		d.until("in force", 0, func(j catalog.Journal) bool { return j.InForce == j.Config.Version })
		_, err = w.Append(b.ctx, []byte("2"))
		require.NoError(b, err)
		require.Equal(b, epoch, w.Epoch())
		require.NoError(b, w.Close(b.ctx))
	})
}
