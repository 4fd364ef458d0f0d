package rpc_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

type pageFunc = func(context.Context, rpc.SegmentsRequest) (rpc.SegmentsPage, error)

// endless lists segments without end, step apart, in pages of n.
func endless(n int, step segments.TxID) pageFunc {
	return func(_ context.Context, r rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
		p := rpc.SegmentsPage{More: true}
		for i := range n {
			p.Segments = append(p.Segments, rpc.SegmentInfo{First: r.After + segments.TxID(i+1)*step})
		}
		return p, nil
	}
}

func TestAllSegments_LoopsOverPages(t *testing.T) {
	var asked []rpc.SegmentsRequest
	got, err := rpc.AllSegments(t.Context(), segments.JournalID{7}, func(_ context.Context, r rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
		asked = append(asked, r)
		first := r.After + 10
		return rpc.SegmentsPage{Segments: []rpc.SegmentInfo{{First: first}, {First: first + 10}}, More: first < 40}, nil
	})
	require.NoError(t, err)
	var firsts []segments.TxID
	for _, s := range got {
		firsts = append(firsts, s.First)
	}
	require.Equal(t, []segments.TxID{10, 20, 30, 40, 50, 60}, firsts)
	id, limit := segments.JournalID{7}, rpc.SegmentsPageMax
	require.Equal(t, []rpc.SegmentsRequest{{id, 0, limit}, {id, 20, limit}, {id, 40, limit}}, asked)
}

// A node may answer anything: the loop ends all the same.
func TestAllSegments_IsBounded(t *testing.T) {
	_, err := rpc.AllSegments(t.Context(), segments.JournalID{}, endless(rpc.SegmentsPageMax, 1))
	require.ErrorIs(t, err, rpc.ErrTooLarge)
	_, err = rpc.AllSegments(t.Context(), segments.JournalID{}, endless(2, 0))
	require.ErrorContains(t, err, "goes back (got 0, want more than 0)")
	_, err = rpc.AllSegments(t.Context(), segments.JournalID{}, endless(0, 1))
	require.ErrorContains(t, err, "empty page")
	broken := errors.New("broken")
	_, err = rpc.AllSegments(t.Context(), segments.JournalID{}, func(_ context.Context, r rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
		if r.After > 0 {
			return rpc.SegmentsPage{}, broken
		}
		return rpc.SegmentsPage{Segments: []rpc.SegmentInfo{{First: 1}}, More: true}, nil
	})
	require.ErrorIs(t, err, broken, "half a list is none")
}
