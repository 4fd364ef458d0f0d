package journalnode

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// ownerBed is a node with one owner and nothing else.
func ownerBed(t *testing.T) (*Node, *owner, *memfs.FS) {
	disk, id, self := memfs.New(), segments.JournalID{1}, journal.Self{ID: "a", Incarnation: quorum.Incarnation{1}}
	cfg := quorum.NewConfig(1, quorum.Member{ID: "a", Incarnation: self.Incarnation})
	require.NoError(t, journal.Create(disk, "j", id, "j", cfg))
	j, err := journal.Open(disk, "j", self, id, journal.Options{})
	require.NoError(t, err)
	n := &Node{opts: Options{}.withDefaults(), stopping: make(chan struct{})}
	o := newOwner(j, n.opts, slog.New(slog.DiscardHandler), newMetrics(n), newSpare(n.opts.QuietAfter))
	t.Cleanup(o.close)
	return n, o, disk
}

func temporaries(t *testing.T, disk *memfs.FS) []string {
	names, err := disk.List("j/segments")
	require.NoError(t, err)
	return slices.DeleteFunc(names, func(s string) bool {
		n, ok := segments.ParseName(s)
		return !ok || n.Kind != segments.NameTemporary
	})
}

// settled waits until the owner has done what was left with it.
func settled(t *testing.T, o *owner) {
	require.NoError(t, o.do(context.Background(), func(*journal.Journal) error { return nil }))
}

func newCopy(j *journal.Journal) (*store.Incoming, error) { return j.NewIncoming(segments.End{}, 1) }

// R4: an accept whose caller goes away leaves no temporary, wherever it was.
func TestR4_AbandonedCopyIsRemoved(t *testing.T) {
	t.Run("while it is made", func(t *testing.T) {
		n, o, disk := ownerBed(t)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan struct{})
		_, err := n.begin(ctx, o, func(j *journal.Journal) (*store.Incoming, error) {
			inc, err := newCopy(j)
			require.Len(t, temporaries(t, disk), 1)
			cancel()
			<-gone // the caller hears nothing of it
			return inc, err
		})
		close(gone)
		settled(t, o)
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, temporaries(t, disk))
	})
	t.Run("while the owner is busy", func(t *testing.T) {
		n, o, disk := ownerBed(t)
		inc, err := n.begin(t.Context(), o, newCopy)
		require.NoError(t, err)
		require.Len(t, temporaries(t, disk), 1)
		busy := make(chan struct{})
		o.tasks <- task{do: func(*journal.Journal) { <-busy }}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = n.finish(ctx, o, inc, func(*journal.Journal) error { t.Error("nobody waits for it"); return nil })
		require.ErrorIs(t, err, context.Canceled)
		close(busy)
		settled(t, o)
		require.Empty(t, temporaries(t, disk))
	})
	t.Run("as the node stops", func(t *testing.T) {
		n, o, disk := ownerBed(t)
		inc, err := n.begin(t.Context(), o, newCopy)
		require.NoError(t, err)
		busy := make(chan struct{})
		o.tasks <- task{do: func(*journal.Journal) { <-busy }}
		n.abort(o, inc)
		close(busy)
		o.close()
		require.Empty(t, strings.Join(temporaries(t, disk), " "))
	})
	t.Run("taken", func(t *testing.T) {
		n, o, disk := ownerBed(t)
		inc, err := n.begin(t.Context(), o, newCopy)
		require.NoError(t, err)
		broken := context.DeadlineExceeded
		err = n.finish(t.Context(), o, inc, func(*journal.Journal) error { return broken })
		require.ErrorIs(t, err, broken)
		settled(t, o)
		require.Len(t, temporaries(t, disk), 1, "it is the journal's then")
	})
}

// W0, W5: a rebuild whose stream ends leaves no temporary and no open file, wherever it was: a writer whose
// connection flaps comes again and again.
func TestHole_AbandonedRebuildIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, o, disk := ownerBed(t)
		h := rpc.Header{Journal: segments.JournalID{1}, ConfigVersion: 1, Incarnation: quorum.Incarnation{1}, Claim: fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}}
		st := &journal.Stream{Header: h, Reply: func(rpc.WriteReply) {}, Fail: func(err error) { t.Error(err) }}
		prev := segments.End{}
		require.NoError(t, o.do(t.Context(), func(j *journal.Journal) error {
			require.NoError(t, j.Hello(h))
			j.Process([]journal.Item{{Stream: st, Request: rpc.WriteRequest{Start: &prev}}})
			require.NoError(t, j.Close())
			name := "j/segments/" + segments.Name{Kind: segments.NameInProgress, First: 1}.String()
			require.NoError(t, disk.FlipBit(name, 20, 1)) // in the header
			return nil
		}))
		var err error
		o.j, err = journal.Open(disk, "j", o.j.Self(), h.Journal, journal.Options{})
		require.NoError(t, err)
		require.NoError(t, o.do(t.Context(), func(j *journal.Journal) error { j.Attach(st); return nil }))

		ctx, cancel := context.WithCancel(t.Context())
		before, behind := make(chan struct{}), make(chan struct{})
		o.tasks <- task{do: func(*journal.Journal) { <-before }}
		done := make(chan error, 1)
		go func() { done <- n.rebuild(ctx, o, st, rpc.Fill{Segment: 1, Rebuild: &prev}) }()
		synctest.Wait() // its first half waits
		o.tasks <- task{do: func(*journal.Journal) { <-behind }}
		close(before)
		synctest.Wait() // the second half waits
		require.Len(t, temporaries(t, disk), 1)
		cancel()
		synctest.Wait()
		close(behind)
		require.ErrorIs(t, <-done, context.Canceled)
		settled(t, o)
		require.Empty(t, temporaries(t, disk))
	})
}
