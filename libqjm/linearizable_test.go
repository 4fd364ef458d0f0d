package libqjm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// TestD4_TargetNeedsAMajorityOfDataAnswers: of A (damaged, it knows 5) and B (behind, it has nothing) no
// target can be told: taking B's word would show a reader an empty journal after 5 was acknowledged by A
// and C.
func TestD4_TargetNeedsAMajorityOfDataAnswers(t *testing.T) {
	var ms []quorum.Member
	for i, id := range []quorum.NodeID{"a", "b", "c"} {
		ms = append(ms, quorum.Member{ID: id, Incarnation: quorum.Incarnation{byte(i + 1)}})
	}
	cfg := quorum.NewConfig(1, ms...)
	says := func(i int, known bool, last segments.TxID) reply[rpc.JournalState] {
		st := rpc.JournalState{Node: ms[i].ID, Incarnation: ms[i].Incarnation, Member: true, DataKnown: known}
		if last > 0 {
			st.Answer = recovery.Answer{Newest: 1, Copy: recovery.Copy{Segment: 1, State: recovery.InProgress, Epoch: 1, Last: segments.Position{TxID: last}}}
		}
		return reply[rpc.JournalState]{node: ms[i].ID, val: st}
	}
	_, err := chosenEnd(cfg, []reply[rpc.JournalState]{says(0, false, 0), says(1, true, 0)})
	require.ErrorIs(t, err, ErrNoQuorum)
	end, err := chosenEnd(cfg, []reply[rpc.JournalState]{says(0, false, 0), says(1, true, 0), says(2, true, 5)})
	require.NoError(t, err)
	require.EqualValues(t, 5, end)
}
