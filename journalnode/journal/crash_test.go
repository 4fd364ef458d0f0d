package journal

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// cutPath is one operation of one node, to be cut off anywhere.
type cutPath struct {
	c    *cluster
	node quorum.NodeID
	op   func() error
	// kept is what a node that answered may never take back; it is asked after a restart.
	kept func(m *machine) bool
	// acked is what is committed before the operation, and ackedAfter what the answer commits.
	acked, ackedAfter []segments.Position
}

// openSegment: 1..2 are acknowledged by A and B, 3 is on A alone, 1 on C; epoch 1.
func openSegment(t require.TestingT) (*cluster, *writer, segments.Position) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	w.write("one", nodeA, nodeB, nodeC)
	two := w.write("two", nodeA, nodeB)
	w.write("three", nodeA)
	return c, w, two
}

// recovering runs a recovery over B and C (so the end is 2) and keeps back the messages of kind M to
// one node; nobody is finalized where M is AskAccept.
func recovering[M recovery.Effect](c *cluster, held quorum.NodeID) func() error {
	c.net = func(e recovery.Effect, id quorum.NodeID) fate {
		_, prepare := e.(recovery.AskPrepare)
		_, isM := e.(M)
		_, finalize := e.(recovery.AskFinalize)
		switch {
		case prepare && id == nodeA:
			return drop
		case isM && id == held:
			return delay
		case finalize && !isM:
			return drop
		}
		return deliver
	}
	_, _ = c.attempt(recovery.Options{})
	c.net = nil
	require.Len(c, c.delayed, 1)
	return c.delayed[0]
}

func acceptedOrFinal(end segments.TxID) func(*machine) bool {
	return func(m *machine) bool {
		cp := m.copyOf(1)
		return cp.Last.TxID == end && (cp.State == recovery.Finalized || cp.State == recovery.InProgress && cp.Accepted.End.Last == end)
	}
}

var paths = map[string]func(t require.TestingT) cutPath{
	"write": func(t require.TestingT) cutPath {
		// B has acknowledged txid 3, for which the file must grow: the op is the second ack.
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
		w.write("one", nodeA, nodeB, nodeC)
		two := w.write("two", nodeA, nodeB, nodeC)
		f := w.frame(strings.Repeat("large", 2000))
		_, err := w.put(nodeB, f)
		require.NoError(t, err)
		return cutPath{
			c: c, node: nodeA,
			op:    func() error { _, err := w.put(nodeA, f); return err },
			kept:  func(m *machine) bool { return m.copyOf(1).Last.TxID >= 3 },
			acked: []segments.Position{two}, ackedAfter: []segments.Position{f.Position()},
		}
	},
	"promise": func(t require.TestingT) cutPath {
		c, _, two := openSegment(t)
		claim := fencing.Claim{Epoch: 9, Writer: fencing.WriterID{9}}
		return cutPath{
			c: c, node: nodeA,
			op:    func() error { _, err := c.nodes[nodeA].NewEpoch(c.header(nodeA, claim)); return err },
			kept:  func(m *machine) bool { return m.State().Promised == claim },
			acked: []segments.Position{two},
		}
	},
	"accept, equal copy": func(t require.TestingT) cutPath {
		c, _, two := openSegment(t)
		return cutPath{c: c, node: nodeB, op: recovering[recovery.AskAccept](c, nodeB), kept: acceptedOrFinal(2), acked: []segments.Position{two}}
	},
	"accept, own prefix": func(t require.TestingT) cutPath {
		c, _, two := openSegment(t)
		return cutPath{c: c, node: nodeA, op: recovering[recovery.AskAccept](c, nodeA), kept: acceptedOrFinal(2), acked: []segments.Position{two}}
	},
	"accept, fetched": func(t require.TestingT) cutPath {
		c, _, two := openSegment(t)
		return cutPath{c: c, node: nodeC, op: recovering[recovery.AskAccept](c, nodeC), kept: acceptedOrFinal(2), acked: []segments.Position{two}}
	},
	"accept over a record": func(t require.TestingT) cutPath {
		// Epoch 2 has the end 3 accepted on A alone; epoch 3, over B and C, says 2.
		c, _, two := openSegment(t)
		c.net = func(e recovery.Effect, id quorum.NodeID) fate {
			if _, ok := e.(recovery.AskAccept); id == nodeC || ok && id != nodeA {
				return drop
			}
			return deliver
		}
		_, err := c.attempt(recovery.Options{})
		require.Error(t, err)
		require.EqualValues(t, 3, c.copyAt(nodeA, 1).Accepted.End.Last)
		return cutPath{c: c, node: nodeA, op: recovering[recovery.AskAccept](c, nodeA), kept: acceptedOrFinal(2), acked: []segments.Position{two}}
	},
	"rebuild": func(t require.TestingT) cutPath {
		// C's copy of the writer's own epoch is damaged; 1..2 are committed by A and B.
		c, w, two := openSegment(t)
		require.NoError(t, c.nodes[nodeC].Quiet())
		c.rot(nodeC, 1, "one")
		require.Equal(t, recovery.Unknown, c.copyAt(nodeC, 1).State)
		c.damaged = nodeC
		return cutPath{
			c: c, node: nodeC,
			op:    func() error { _, err := w.rebuild(nodeC, two, nodeA); return err },
			kept:  func(m *machine) bool { return startedBy(1, w)(m) && m.copyOf(1).Last == two },
			acked: []segments.Position{two},
		}
	},
	"finalize": func(t require.TestingT) cutPath {
		c, _, two := openSegment(t)
		return cutPath{
			c: c, node: nodeA, op: recovering[recovery.AskFinalize](c, nodeA),
			kept:  func(m *machine) bool { cp := m.copyOf(1); return cp.State == recovery.Finalized && cp.Last == two },
			acked: []segments.Position{two},
		}
	},
	"start": func(t require.TestingT) cutPath {
		c := newCluster(t)
		w := c.mustRecover()
		return cutPath{c: c, node: nodeA, op: func() error { _, err := w.start(nodeA); return err }, kept: startedBy(1, w)}
	},
	"start over an accepted copy": func(t require.TestingT) cutPath {
		// x is on A alone, accepted there; epoch 3, over B and C, says: empty.
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
		w.write("x", nodeA)
		c.net = func(e recovery.Effect, id quorum.NodeID) fate {
			if _, ok := e.(recovery.AskAccept); id == nodeC || ok && id != nodeA {
				return drop
			}
			return deliver
		}
		_, err := c.attempt(recovery.Options{})
		require.Error(t, err)
		w = c.mustRecover(nodeB, nodeC)
		return cutPath{c: c, node: nodeA, op: func() error { _, err := w.start(nodeA); return err }, kept: startedBy(1, w)}
	},
	"start of the next segment": func(t require.TestingT) cutPath {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
		one := w.write("one", nodeA, nodeB, nodeC)
		require.NoError(t, w.finalize(nodeB))
		require.NoError(t, w.finalize(nodeC))
		w.next()
		return cutPath{
			c: c, node: nodeA, op: func() error { _, err := w.start(nodeA); return err },
			kept:  func(m *machine) bool { return startedBy(2, w)(m) && m.copyOf(1).State == recovery.Finalized },
			acked: []segments.Position{one},
		}
	},
}

func startedBy(s segments.TxID, w *writer) func(*machine) bool {
	return func(m *machine) bool {
		cp := m.copyOf(s)
		return cp.State == recovery.InProgress && cp.Epoch == w.claim.Epoch && cp.Accepted.IsZero()
	}
}

func (p cutPath) machine() *machine { return p.c.nodes[p.node] }

// verify powers the node off and on, sparing nothing, half and all of what was not synced: what it
// answered is kept, and the oracle recovers on each majority.
func (p cutPath) verify(t *testing.T, answered bool, what string) {
	acked := p.acked
	if answered {
		acked = append(acked, p.ackedAfter...)
	}
	for _, percent := range []int{0, 50, 100} {
		m := &machine{id: p.node, disk: p.machine().disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: percent, Rand: rand.New(rand.NewPCG(5, 6))})}
		reopened := &cluster{TestingT: t, cfg: p.c.cfg, nodes: map[quorum.NodeID]*machine{p.node: m}}
		reopened.open(p.node)
		if answered {
			require.True(t, p.kept(m), "%s: answered, and taken back with %d%% surviving: %+v", what, percent, m.copyOf(1))
		}
		require.NoError(t, m.Close())
	}
	p.c.TestingT = t
	p.c.probe(acked...)
}

// F1, W0, W2, R4, R7: the machine dies at the k-th disk operation, for every k: once with the operation
// undone, once with it done. Guards the order of steps and every sync on these paths: without one, what
// was answered is gone where nothing unsynced survives.
func TestF1_W0_W2_R4_CrashAtEveryDiskOperation(t *testing.T) {
	for name, setup := range paths {
		t.Run(name, func(t *testing.T) {
			for _, after := range []bool{false, true} {
				for k := int64(1); ; k++ {
					p := setup(t)
					m := p.machine()
					if at := m.fs.Mutations() + k; after {
						m.fs.CrashAfter(at)
					} else {
						m.fs.CrashAt(at)
					}
					err := p.op()
					p.verify(t, err == nil, fmt.Sprintf("crash at operation %d (done: %v): %v", k, after, m.fs.Log()))
					if !m.fs.Crashed() {
						require.NoError(t, err)
						require.Greater(t, k, int64(1))
						break
					}
				}
			}
		})
	}
}

// W2, F1: the k-th disk operation fails, for every k: no answer rests on it, and nothing is written after
// a failed write or sync of a file in use; after a restart all is well.
func TestF1_W2_FailEveryDiskOperation(t *testing.T) {
	for name, setup := range paths {
		t.Run(name, func(t *testing.T) {
			for k := int64(1); ; k++ {
				p := setup(t)
				m := p.machine()
				m.fs.Inject(faultfs.Rule{Op: faultfs.OpMutating, Nth: k, DropUnsynced: true})
				before := m.fs.Mutations()
				err := p.op()
				p.verify(t, err == nil, fmt.Sprintf("operation %d fails: %v", k, m.fs.Log()))
				if m.fs.Mutations()-before < k {
					require.NoError(t, err)
					break
				}
			}
		})
	}
}

// Scenario 132: the disk is full at each possible byte: an error or a good answer, never an answer that is
// not kept; and when there is room again the same request works. Guards save and stored.
func TestScenario132_DiskFullAnywhere(t *testing.T) {
	for name, setup := range paths {
		t.Run(name, func(t *testing.T) {
			for extra := int64(0); ; extra += 512 {
				p := setup(t)
				m := p.machine()
				m.disk.SetCapacity(1 << 40)
				free, err := m.disk.Free(".")
				require.NoError(t, err)
				m.disk.SetCapacity(1<<40 - free + extra)
				err = p.op()
				m.disk.SetCapacity(-1)
				if err == nil {
					p.verify(t, true, fmt.Sprintf("%d bytes free", extra))
					require.Positive(t, extra, "the operation needs no room")
					break
				}
				require.ErrorIs(t, err, vfs.ErrNoSpace)
				require.NotErrorIs(t, err, rpc.ErrPoisoned, "%d bytes free", extra)
				require.NoError(t, p.op(), "usable after space returns (%d bytes were free)", extra)
				p.verify(t, true, "after space returned")
			}
		})
	}
}

// F1: a full disk that shows before the rename of a small file left the old one untouched: a refusal. One
// that shows after it (the directory cannot be synced) leaves open which file a crash would leave: that
// poisons, or an old promise would be believed. Guards Unsettled in WriteFileAtomic.
func TestF1_NoSpaceBeforeAndAfterTheRename(t *testing.T) {
	claim := fencing.Claim{Epoch: 9, Writer: fencing.WriterID{9}}
	for _, tc := range []struct {
		name     string
		rule     faultfs.Rule
		poisoned bool
	}{
		{"create", faultfs.Rule{Op: faultfs.OpCreate, PathContains: "fence"}, false},
		{"write", faultfs.Rule{Op: faultfs.OpWrite, PathContains: "fence"}, false},
		{"sync of the temporary", faultfs.Rule{Op: faultfs.OpSync, PathContains: "fence"}, false},
		{"rename", faultfs.Rule{Op: faultfs.OpRename, PathContains: "fence"}, false},
		{"sync of the directory", faultfs.Rule{Op: faultfs.OpSyncDir}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t)
			m := c.nodes[nodeA]
			tc.rule.Err, tc.rule.Nth = vfs.ErrNoSpace, 1
			m.fs.Inject(tc.rule)
			_, err := m.NewEpoch(c.header(nodeA, claim))
			require.Error(t, err)
			require.Zero(t, m.State().Promised)
			_, err = m.NewEpoch(c.header(nodeA, claim))
			if tc.poisoned {
				require.ErrorIs(t, err, rpc.ErrPoisoned)
				return
			}
			require.NoError(t, err)
			require.Equal(t, claim, c.restart(nodeA, 0).State().Promised)
		})
	}
}

// The order of disk operations is part of the rules: F1, W0, R4, R7. testdata/order.txt has it, one path
// each; the log is of the node that carries it out.
func TestF1_W0_R4_R7_OrderOnDisk(t *testing.T) {
	datadriven.RunTest(t, "testdata/order.txt", func(t *testing.T, d *datadriven.TestData) string {
		p := paths[strings.NewReplacer("_", " ", ";", ",").Replace(d.CmdArgs[0].Key)](t)
		p.machine().fs.ResetLog()
		require.NoError(t, p.op())
		log := strings.Join(p.machine().fs.Log(), "\n") + "\n"
		log = strings.ReplaceAll(log, strings.Repeat("0", 19), "0")
		return strings.ReplaceAll(log, dir+"/", "")
	})
}

// A kept copy that cannot be read when the record is durable already: the segment is unknown here from
// then on, it is not the old copy with the new record on it. After a restart it is rolled forward.
// Guards "found" in FinishAccept and
// what InstallKept does not throw away.
func TestR4_ContentUnreadableAfterTheRecord(t *testing.T) {
	for _, kind := range []faultfs.OpKind{faultfs.OpOpen, faultfs.OpRead, faultfs.OpStat} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			p := paths["accept, fetched"](t)
			m := p.machine()
			m.fs.Inject(faultfs.Rule{Op: kind, PathContains: ".accepting", Sticky: true, Nth: 1})
			require.Error(t, p.op())
			cp := m.copyOf(1)
			require.Equal(t, recovery.Unknown, cp.State, "%+v", cp)
			require.True(t, acceptedOrFinal(2)(p.c.restart(nodeC, 0)), "rolled forward: %+v", p.c.copyAt(nodeC, 1))
			p.c.probe(p.acked...)
		})
	}
}
