package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/segments"
)

// What a node allocates for a frame does not depend on how many transactions are in it: nothing per transaction.
// Allocations are exact where times are not, so this is what guards the write path in CI.
func TestAllocs_NothingPerTransaction(t *testing.T) {
	const perFrame = 12 // the system calls' closures and paths to errors; what is above it was added by somebody
	for _, txns := range []int{1, 1000} {
		j, st := startedOnDisk(t)
		var fs []segments.Frame
		at := segments.Position{}
		const runs = 100
		for range runs + 1 {
			var b segments.Builder
			b.Reset(at.TxID+1, st.Header.Claim.Epoch)
			for range txns {
				require.NoError(t, b.Add(make([]byte, 256)))
			}
			f, err := b.Seal(at.Digest, segments.SealOptions{})
			require.NoError(t, err)
			fs, at = append(fs, f), f.Position()
		}
		items := []Item{{Stream: st}}
		got := testing.AllocsPerRun(runs, func() {
			items[0].Request.Frames, fs = fs[:1], fs[1:]
			j.Process(items)
		})
		require.LessOrEqual(t, got, float64(perFrame), "allocations for a frame of %d transactions", txns)
		require.Equal(t, at, j.tails[1].w.Synced())
	}
}

// startedOnDisk is a journal on a real disk with a segment that was started.
func startedOnDisk(t *testing.T) (*Journal, *Stream) {
	fs := osfs.New(t.TempDir())
	self := Self{nodeA, incarnation(nodeA)}
	cfg := quorum.NewConfig(1, quorum.Member{ID: nodeA, Incarnation: self.Incarnation})
	require.NoError(t, Create(fs, dir, journalID, "test", cfg))
	j, err := Open(fs, dir, self, journalID, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	h := rpc.Header{Journal: journalID, ConfigVersion: 1, Incarnation: self.Incarnation,
		Claim: fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}}
	st := &Stream{Header: h, Reply: func(rpc.WriteReply) {}, Fail: func(err error) { t.Error(err) }}
	require.NoError(t, j.Hello(h))
	j.Attach(st)
	j.Process([]Item{{Stream: st, Request: rpc.WriteRequest{Start: &segments.End{}}}})
	return j, st
}
