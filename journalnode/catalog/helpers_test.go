package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

var (
	testCluster = ClusterID{0xc1, 15: 1}
	j1          = segments.JournalID{0xa1, 15: 1}
	j2          = segments.JournalID{0xa2, 15: 2}
	testNonce   = [16]byte{7}
)

// member returns the node's storage of that generation: 1 is the first one, 2 the one after a wipe.
func member(id quorum.NodeID, generation byte) quorum.Member {
	return quorum.Member{ID: id, Incarnation: quorum.Incarnation{generation, 15: id[len(id)-1]}, Addr: string(id) + ":8480"}
}

func members(ids ...quorum.NodeID) []quorum.Member {
	var out []quorum.Member
	for _, id := range ids {
		out = append(out, member(id, 1))
	}
	return out
}

func node(m quorum.Member) Node {
	return Node{ID: m.ID, Incarnation: m.Incarnation, Addr: m.Addr, HTTPAddr: string(m.ID) + ":8481",
		Labels: map[string]string{"rack": "r-" + string(m.ID[len(m.ID)-1:])}, Version: "v1.0.0", Level: LevelFirst}
}

// world feeds a catalog, by encoded commands as in real life, and checks it after each one.
type world struct {
	*testing.T
	c     *Catalog
	index uint64
}

// newWorld returns a cluster of n1, n2, n3 as voters, and n4, n5, n6.
func newWorld(t *testing.T) *world {
	w := &world{T: t, c: New()}
	var founders []Node
	for _, m := range members("n1", "n2", "n3") {
		founders = append(founders, node(m))
	}
	w.ok(&Init{Cluster: testCluster, Nodes: founders})
	for _, m := range members("n4", "n5", "n6") {
		w.ok(&PutNode{Node: node(m)})
	}
	return w
}

// withJournal has the journal j1, "ns1", on n1, n2, n3.
func withJournal(t *testing.T) *world {
	w := newWorld(t)
	w.ok(&CreateJournal{ID: j1, Name: "ns1", Members: members("n1", "n2", "n3")})
	return w
}

func (w *world) apply(cmd Command) (Result, error) {
	w.Helper()
	b, err := encode(cmd)
	require.NoError(w, err)
	w.index++
	res, err := w.c.ApplyBytes(w.index, b)
	require.NoError(w, w.c.consistent())
	require.Equal(w, w.index, w.c.Index())
	return res, err
}

func (w *world) ok(cmd Command) Result {
	w.Helper()
	res, err := w.apply(cmd)
	require.NoError(w, err)
	require.Equal(w, w.index, res.Index)
	return res
}

// no wants a refusal of that class that changes nothing but the index.
func (w *world) no(class error, cmd Command) error {
	w.Helper()
	before := w.state()
	_, err := w.apply(cmd)
	require.ErrorIs(w, err, class)
	require.Equal(w, before, w.state(), "a refused command changed the state")
	return err
}

// again wants the answer to a repetition, which changes nothing but the index.
func (w *world) again(cmd Command) Result {
	w.Helper()
	before := w.state()
	res := w.ok(cmd)
	require.True(w, res.Again)
	require.Equal(w, before, w.state(), "a repeated command changed the state")
	return res
}

// state is everything but the index.
func (w *world) state() []byte {
	index := w.c.index
	defer func() { w.c.index = index }()
	w.c.index = 1 << 40
	return encoded(w, w.c)
}

func encoded(t require.TestingT, c *Catalog) []byte {
	b, err := c.AppendBinary(nil)
	require.NoError(t, err)
	return b
}

func (w *world) journal() Journal {
	j, ok := w.c.Journal(j1)
	require.True(w, ok)
	return j
}

func (w *world) version() uint64 { return w.journal().Config.Version }

func (w *world) target() Target { return Target{Journal: j1, ExpectVersion: w.version()} }

// step names the change under way.
func (w *world) step() Step {
	s := Step{Target: w.target()}
	if ch := w.journal().Change; ch != nil {
		s.Change = ch.StartedIndex
	}
	return s
}

var testSeal = Seal{Epoch: 5, Segment: 101}

// changeUpTo drives a change of j1 to n1, n4, n5 up to a stage.
func (w *world) changeUpTo(stage Stage) {
	w.Helper()
	w.ok(&BeginChange{Target: w.target(), To: members("n1", "n4", "n5")})
	if stage >= StageJoint {
		w.ok(&Joint{w.step()})
	}
	if stage >= StageSealed {
		w.ok(&Sealed{w.step(), testSeal})
	}
	if stage >= StageFinal {
		w.ok(&Final{w.step(), testSeal})
	}
	require.Equal(w, stage, w.journal().Change.Stage)
}

// finish ends the change of changeUpTo.
func (w *world) finish() {
	w.Helper()
	w.ok(&InForce{w.target()})
	w.ok(&Finish{w.step()})
}
