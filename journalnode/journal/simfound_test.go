package journal

import (
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// N2, R5, A2. 1: C finalized 1..2, A and B hold it open. 2: the header of C's copy rots. 3: a recovery that
// hears A and B decides 1..2, and asks C to accept it as well. C wrote the accepted record, could not put
// the content in the place of a finalized copy, and refused to open from then on, with all its segments.
// Such a copy is replaced by anti-entropy alone.
func TestN2_AcceptOverARottenFinalizedCopy(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	w.write("one", c.ids()...)
	two := w.write("two", c.ids()...)
	require.NoError(t, w.finalize(nodeC))
	name := segments.Name{Kind: segments.NameFinalized, First: 1, Last: 2}.String()
	require.NoError(t, c.nodes[nodeC].disk.FlipBit(path.Join(dir, segmentsDir, name), 78, 0))
	require.Error(t, c.nodes[nodeC].Verify(1, nil))

	c.nodes[nodeC].fs.Inject(faultfs.Rule{Op: faultfs.OpRemove, PathContains: ".accepting"}) // as if it died there
	_, err := c.recover()
	require.NoError(t, err, "A and B are enough")
	m := c.restart(nodeC, 100)
	require.Equal(t, recovery.Unknown, m.copyOf(1).State)
	require.Empty(t, m.accepted, "nothing was accepted")
	inc, err := m.NewIncoming(segments.End{}, w.claim.Epoch)
	require.NoError(t, err)
	for _, f := range w.sent {
		require.NoError(t, inc.Append(f))
	}
	require.NoError(t, m.InstallFinalized(inc, w.end()))
	require.Equal(t, recovery.Finalized, m.copyOf(1).State)
	c.probe(two)
}

// The same state as an older version left it on the disk.
func TestN2_RecordAndContentBesideARottenFinalizedCopy(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	w.write("one", c.ids()...)
	require.NoError(t, w.finalize(nodeC))
	m := c.nodes[nodeC]
	inc, err := m.NewIncoming(segments.End{}, w.claim.Epoch)
	require.NoError(t, err)
	require.NoError(t, inc.Append(w.sent[0]))
	require.NoError(t, inc.Keep())
	require.NoError(t, m.files.saveAccepted(recovery.Accepted{Epoch: w.claim.Epoch + 1, End: w.end()}))
	name := segments.Name{Kind: segments.NameFinalized, First: 1, Last: 1}.String()
	require.NoError(t, m.disk.FlipBit(path.Join(dir, segmentsDir, name), 78, 0))
	require.Equal(t, recovery.Unknown, c.restart(nodeC, 100).copyOf(1).State)
}

// N2. A node died between the finalized name and the removal of the accepted record; the record rots. The
// segment was decided, and the record is done with, as one that can be read is: it was reported as damage
// for good.
func TestN2_RottenRecordOfAFinalizedSegment(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	w.write("one", c.ids()...)
	require.NoError(t, w.finalize(nodeC))
	m := c.nodes[nodeC]
	require.NoError(t, m.files.saveAccepted(recovery.Accepted{Epoch: w.claim.Epoch, End: w.end()}))
	require.NoError(t, m.disk.FlipBit(path.Join(dir, acceptedName(1)), 10, 0))
	m = c.restart(nodeC, 100)
	require.Empty(t, m.State().Damaged)
	require.Equal(t, recovery.Finalized, m.copyOf(1).State)
	require.Empty(t, c.restart(nodeC, 0).State().Damaged, "durably")
}

// N2: a finalized copy whose file cannot be opened now (too many open files) was listed as finalized with no digest,
// as another history. It is unknown as long as that lasts, and no longer: nothing is wrong with it.
func TestN2_FileThatCannotBeOpenedNow(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	w.write("one", c.ids()...)
	require.NoError(t, w.finalize(nodeC))
	m := c.restart(nodeC, 100)
	m.fs.Inject(faultfs.Rule{Op: faultfs.OpOpen, PathContains: ".seg", Sticky: true, Nth: 1})
	require.Equal(t, recovery.Unknown, m.Segments()[0].State)
	require.Zero(t, m.Segments()[0].Last)
	require.Zero(t, m.finalizedBefore(2))
	m.fs.ClearRules()
	require.Equal(t, recovery.Finalized, m.Segments()[0].State)
	require.Equal(t, w.end().Position(), m.Segments()[0].Last)
	require.Equal(t, w.end(), m.finalizedBefore(2))
}
