package recovery

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// TestEmptyChoiceNamesItsPredecessor: segment 96 was started on one node only, which is not heard. The
// others know what came before because W8 finalized it on a majority.
func TestEmptyChoiceNamesItsPredecessor(t *testing.T) {
	cfg := quorum.NewConfig(1, quorum.Member{ID: "a", Incarnation: quorum.Incarnation{1}},
		quorum.Member{ID: "b", Incarnation: quorum.Incarnation{2}}, quorum.Member{ID: "c", Incarnation: quorum.Incarnation{3}})
	prev := segments.End{First: 1, Last: 95, Digest: segments.Digest{7}}
	knows := Answer{Node: quorum.Key{ID: "b", Incarnation: quorum.Incarnation{2}}, Copy: Copy{Segment: 96, State: Absent, Prev: prev}, Newest: 1}
	lags := Answer{Node: quorum.Key{ID: "c", Incarnation: quorum.Incarnation{3}}, Copy: Copy{Segment: 96, State: Absent}, Newest: 1}
	ch, need, err := Choose(cfg, 96, []Answer{knows, lags})
	require.NoError(t, err)
	require.Empty(t, need)
	require.True(t, ch.Empty)
	require.Equal(t, prev, ch.Prev)

	_, _, err = Choose(cfg, 96, []Answer{lags, {Node: quorum.Key{ID: "a", Incarnation: quorum.Incarnation{1}}, Copy: Copy{Segment: 96, State: Absent}, Newest: 1}})
	require.ErrorIs(t, err, ErrNotComparable)
}
