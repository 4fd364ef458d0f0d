package libqjm_test

import (
	"context"
	"path"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
)

func within(t *testing.T, d time.Duration, what string, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		t.Logf("%s: %v", what, err)
	case <-time.After(d):
		t.Errorf("%s hangs: no end after %v", what, d)
	}
}

func start(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// Several calls of Roll at once, and nothing is appended after them: all but the first wait for one more
// roll, which an empty segment never gets.
func TestHole_ConcurrentRollsHang(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	w, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	_, err = w.Append(ctx, []byte("one"))
	require.NoError(t, err)
	var all []<-chan error
	for range 8 {
		all = append(all, start(func() error { return w.Roll(ctx) }))
	}
	deadline := time.After(5 * time.Second)
	hang := 0
	for _, done := range all {
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-deadline:
			hang++
			deadline = time.After(0)
		}
	}
	require.Zero(t, hang, "calls of Roll that hang; all nodes are up, nothing is under way")
}

// W8, A1. 1: txn 1 is committed. 2: n2 and n3 go down. 3: Roll; n1 finalizes segment 1. 4: n2 and n3 come
// back, and pull segment 1 from n1 by anti-entropy before the writer has reconnected. 5: the writer sends
// Start(1) to them: "finalized here" is a breach, they are left out of this segment, and it never has its
// majority for Finalize. All three nodes are up, healthy and agree; the writer hangs for ever, without an
// error.
func TestHole_AntiEntropyOvertakesTheWritersFinalize(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	w, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	_, err = w.Append(ctx, []byte("one"))
	require.NoError(t, err)
	c.StopNode(1)
	c.StopNode(2)
	first := start(func() error { return w.Roll(ctx) })
	js, err := c.Nodes[0].Journals(ctx)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // n1 has finalized it, alone
		have, err := c.Nodes[0].Segments(ctx, rpc.SegmentsRequest{Journal: js[0].ID})
		return err == nil && have.Segments[0].State == recovery.Finalized
	}, 10*time.Second, 10*time.Millisecond)
	c.StartNode(1)
	c.StartNode(2)
	within(t, 15*time.Second, "Roll", first)
	t.Logf("%+v", w.Status())
}

// M0, N1: InstallConfig made whatever journal it was told of. A client that takes this cluster's nodes for
// those of its own, since their addresses were given anew, hears "no such journal", and sends its config: the
// node then held a journal of another cluster, under a name that is another journal's here, and took in
// where strangers listen. M8: the empty config comes with a delete, not without its promise.
func TestHole_M0ConfigOfAJournalThatIsNoneHere(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		d := b.journalOn("m", 0, 1, 2)
		node := b.Nodes[0]
		stranger := d.summary()
		stranger.ID = rpc.JournalIDOf(rpc.ClusterID{9}, "m")
		stranger.Config = quorum.NewConfig(1, quorum.Member{ID: quorum.NodeID(b.ID(0)), Incarnation: quorum.Incarnation{9}, Addr: "elsewhere:1"})
		require.ErrorIs(b, node.InstallConfig(b.ctx, stranger), rpc.ErrWrongNode)
		renamed := d.summary()
		renamed.Name = "other"
		require.ErrorIs(b, node.InstallConfig(b.ctx, renamed), rpc.ErrBadRequest)
		empty := d.summary()
		empty.Config = quorum.Config{Version: 2}
		require.ErrorIs(b, node.InstallConfig(b.ctx, empty), rpc.ErrNotInCatalog)
		all, err := node.Journals(b.ctx)
		require.NoError(b, err)
		require.Len(b, all, 2, "the bed's own, and m")
		for _, j := range all {
			require.NotEqual(b, stranger.ID, j.ID)
			require.False(b, j.Deleted)
		}
	})
}

// M0, M2, N5: a node crashed between a new journal's files and its line in the manifest. Given a newer config
// of that journal it took the files for what it had just made, and answered "installed" with the old one.
func TestHole_M0InstalledOverAnUnfinishedJournal(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		d := b.journalOn("m", 1, 2)
		d.version, d.sets = 3, [][]quorum.Member{b.set(0, 1, 2)}
		b.StopNode(0)
		dir := path.Join(b.NodeOptions(0).DataDir, "journals", d.id.String())
		require.NoError(b, journal.Create(b.Disks[0], dir, d.id, "m", quorum.Config{Version: 1, Sets: d.sets}))
		b.StartNode(0)
		b.Until(time.Minute, "it is back", func() bool { return b.Nodes[0].Ready() == nil })
		require.NoError(b, b.Nodes[0].InstallConfig(b.ctx, d.summary()))
		st, err := b.Nodes[0].State(b.ctx, d.id)
		require.NoError(b, err)
		require.EqualValues(b, 3, st.Summary.Config.Version)
	})
}
