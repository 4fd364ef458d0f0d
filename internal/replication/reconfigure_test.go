package replication

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

var d, e = key("d"), key("e")

func configOf(version uint64, sets ...[]quorum.Key) quorum.Config {
	c := quorum.Config{Version: version}
	for _, set := range sets {
		var ms []quorum.Member
		for _, k := range set {
			ms = append(ms, quorum.Member{ID: k.ID, Incarnation: k.Incarnation})
		}
		c.Sets = append(c.Sets, quorum.NewConfig(version, ms...).Sets[0])
	}
	return c
}

var (
	oldSet   = []quorum.Key{a, b, c}
	newSet   = []quorum.Key{c, d, e}
	joint    = configOf(4, oldSet, newSet)
	final    = configOf(5, newSet)
	goesBack = configOf(5, oldSet)
)

// frames sends what there is to the nodes, which acknowledge all of it.
func (r *rig) acks(ids ...quorum.Key) {
	for _, id := range ids {
		r.sent(id)
		r.says(id, rpc.Synced, r.Last())
	}
}

func (r *rig) finalize(ids ...quorum.Key) {
	for _, id := range ids {
		r.sent(id)
		r.says(id, rpc.Finalized, r.Last())
	}
}

// M3 in full: a live writer goes over from {a,b,c} to {c,d,e} without a new epoch. The open segment is
// finished by the old set; the next one needs both; that is the seal (M4).
func TestM3_LiveWriterMoves(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b, c)
	one := r.add(1)
	r.acks(a, b)
	require.NoError(t, r.Reconfigure(joint))
	require.False(t, r.Writing(), "the open segment belongs to the old config")
	for _, id := range []quorum.Key{a, b, d, e} {
		r.Linked(id)
	}
	require.Empty(t, r.sent(d), "a node that is in no common set is not bothered with the segment")
	require.Equal(t, []string{"finalize 1..1"}, r.sent(a), "all is committed: it may have been finalized before")
	r.says(a, rpc.Finalized, one)
	_, done := r.Finished()
	require.False(t, done)
	r.finalize(b)
	_, done = r.Finished()
	require.True(t, done, "W8 is counted by the common sets")
	r.OpenNext()
	require.True(t, r.Writing())

	two := r.add(1)
	for _, id := range []quorum.Key{a, b} {
		require.Equal(t, []string{"start 2"}, r.sent(id))
		r.says(id, rpc.Started, one)
	}
	r.acks(a, b)
	require.Equal(t, one, r.Committed(), "joint: a majority of the old set alone decides nothing")
	_, _, sealed := r.Sealed()
	require.False(t, sealed)
	for _, id := range []quorum.Key{d, e} {
		require.Equal(t, []string{"start 2"}, r.sent(id))
		r.says(id, rpc.Started, one)
	}
	s, v, sealed := r.Sealed()
	require.True(t, sealed)
	require.EqualValues(t, 2, s)
	require.EqualValues(t, 4, v)
	require.True(t, r.Idle(a))
	m, _ := r.Heartbeat(a)
	require.Equal(t, rpc.Seal{Version: 4, Epoch: claim.Epoch, Segment: 2}, m.Sealed)
	r.acks(d, e)
	require.Equal(t, two, r.Committed())

	require.NoError(t, r.Reconfigure(final))
	for _, id := range newSet {
		r.Linked(id)
		r.sent(id)
	}
	require.Nil(t, r.node(a), "a has left")
	r.finalize(d, e)
	r.OpenNext()
	r.add(1)
	for _, id := range []quorum.Key{d, e} {
		r.sent(id)
		r.says(id, rpc.Started, two)
	}
	r.acks(d, e)
	require.Equal(t, r.Last(), r.Committed())
	require.NoError(t, r.Err())
}

// Finding 2 of the control plane's review: an ack given under the old config, and one under the new, are
// never counted together. c acknowledged 1 under config 3 and has promised to somebody else since; b's ack
// under config 4 must not complete it.
func TestM3_AcksAreTakenAnew(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b, c)
	one := r.add(1)
	r.acks(c)
	require.NoError(t, r.Reconfigure(joint))
	r.Linked(b)
	require.Equal(t, []string{"start 1"}, r.sent(b))
	r.says(b, rpc.Started, segments.Position{})
	require.Equal(t, []string{"frames 1..1"}, r.sent(b), "also frames that were sent before")
	require.False(t, r.says(b, rpc.Synced, one))
	require.Zero(t, r.Committed(), "c's ack was of config 3")
	r.Linked(c)
	r.sent(c)
	require.True(t, r.says(c, rpc.Started, one), "asking the position again is enough")
	require.Equal(t, one, r.Committed())
}

// The new nodes' acks do not commit a frame of a segment that was started without them.
func TestM3_CountedByTheCommonSets(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b, c)
	one := r.add(1)
	require.NoError(t, r.Reconfigure(joint))
	for _, id := range []quorum.Key{c, d, e} {
		r.Linked(id)
		r.sent(id)
	}
	r.says(c, rpc.Started, segments.Position{})
	r.sent(c)
	r.says(c, rpc.Synced, one)
	for _, id := range []quorum.Key{d, e} {
		_, err := r.Handle(id, r.reply(id, rpc.Synced, one))
		require.Error(t, err, "it was never asked")
	}
	require.Zero(t, r.Committed())
}

// Finding 1: a writer that never heard of the joint config has no member set in common with the final one:
// what is open can never be committed, so it stops, fenced.
func TestM3_NoCommonSet(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b, c)
	r.add(1)
	r.acks(c)
	err := r.Reconfigure(final)
	require.ErrorIs(t, err, fencing.ErrFenced)
	require.Equal(t, &DroppedError{Segment: 1, Began: 3, Now: 5}, err)
	require.Equal(t, err, r.Err())
	require.Zero(t, r.Committed())

	r = newRig(t, Options{})
	r.start(a, b, c)
	require.NoError(t, r.Reconfigure(final), "nothing was ever sent of an empty segment")
	r.add(1)
	for _, id := range []quorum.Key{d, e} {
		r.Linked(id)
		r.sent(id)
		r.says(id, rpc.Started, segments.Position{})
	}
	r.acks(d, e)
	require.Equal(t, r.Last(), r.Committed())
}

// Abort: joint, and back to the old set. What is open was started under the joint config, and commits by
// what both have: the old set.
func TestM3_Abort(t *testing.T) {
	r := newRig(t, Options{})
	require.NoError(t, r.Reconfigure(joint))
	for _, id := range []quorum.Key{a, b} {
		r.Linked(id)
		r.sent(id)
		r.says(id, rpc.Started, segments.Position{})
	}
	one := r.add(1)
	r.acks(a, b)
	require.Zero(t, r.Committed(), "d and e never answer")
	require.NoError(t, r.Reconfigure(goesBack))
	for _, id := range []quorum.Key{a, b} {
		r.Linked(id)
		require.Equal(t, []string{"start 1"}, r.sent(id))
		r.says(id, rpc.Started, one)
	}
	require.Equal(t, one, r.Committed())
	r.finalize(a, b)
	_, done := r.Finished()
	require.True(t, done)
}

// M0: one version, two contents.
func TestM0_SameVersionOtherContent(t *testing.T) {
	r := newRig(t, Options{})
	require.ErrorIs(t, r.Reconfigure(configOf(3, newSet)), rpc.ErrConfigDiverges)
	require.NoError(t, r.Reconfigure(configOf(3, oldSet)))
	require.NoError(t, r.Reconfigure(configOf(2, newSet)), "an older one is no news")
	require.EqualValues(t, 3, r.Config().Version)
}

// N1: a node with a new disk is another member: its acks are not those of the old one.
func TestN1_TwoIncarnationsInAJointConfig(t *testing.T) {
	fresh := quorum.Key{ID: "c", Incarnation: quorum.Incarnation{200}}
	r := newRig(t, Options{})
	r.start(a, b, c)
	require.NoError(t, r.Reconfigure(configOf(4, oldSet, []quorum.Key{a, b, fresh})))
	one := r.add(1)
	for _, id := range []quorum.Key{a, fresh} {
		r.Linked(id)
		r.sent(id)
		r.says(id, rpc.Started, segments.Position{})
	}
	r.acks(a, fresh)
	require.Zero(t, r.Committed(), "{a, c/new} is no majority of {a, b, c/old}")
	r.Linked(b)
	r.sent(b)
	r.says(b, rpc.Started, segments.Position{})
	r.acks(b)
	require.Equal(t, one, r.Committed())
}
