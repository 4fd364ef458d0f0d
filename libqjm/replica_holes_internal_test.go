package libqjm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// F5, as TestF5_WhatIsUnderWayWhenAWriterOpensAnew, for the writer of a replica: what recovery kept is applied before
// its callers are told, and what is under way counts once.
func TestHole_ReplicaWriterOpensAnew(t *testing.T) {
	q := newApplyQueue()
	b := newBench(t, 3, WriterOptions{FrameBytes: 1000, FramesInFlight: 2, sink: q})
	var fs []Future
	for i := range 3 {
		f, err := b.AppendAsync(t.Context(), append(make([]byte, 999), byte(i)))
		require.NoError(t, err)
		fs = append(fs, f)
	}
	require.Len(t, b.flying, 2)
	kept := b.flying[0].frame.Position()
	b.mu.Lock()
	require.NoError(t, b.adopt(recovery.Result{
		Claim: fencing.Claim{Epoch: 2, Writer: fencing.WriterID{2}},
		Prev:  segments.End{First: 1, Last: kept.TxID, Digest: kept.Digest},
	}))
	b.mu.Unlock()
	select {
	case <-fs[0].Done():
		t.Fatal("it is not applied")
	default:
	}
	got := q.take()
	require.Len(t, got, 1)
	require.Same(t, fs[0].b, got[0])
	require.Equal(t, 3000, b.in.queued)
	got[0].finish()
	b.in.applied(got[0])
	require.Equal(t, 2000, b.in.queued)
}
