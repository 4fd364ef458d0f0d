package systems

import (
	"testing"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/segments"
)

// manySegments is how long the long journals of these benchmarks are.
const manySegments = 10_000

// longJournals makes journals of so many finalized segments of a transaction each, equal on all nodes, of a cluster that
// is stopped for that.
func (q *qjm) longJournals(b *testing.B, journals map[string]int) map[string]segments.JournalID {
	b.Helper()
	ids := map[string]segments.JournalID{}
	for name := range journals {
		must(b, q.create(b.Context(), name))
		ids[name] = q.journalID(b, name)
		_, err := q.client.Fence(b.Context(), name) // the next writer's epoch is above that of the segments
		must(b, err)
	}
	await(b, "all nodes to have the journals", func() bool {
		for _, n := range q.nodes {
			for _, id := range ids {
				if _, err := n.State(b.Context(), id); err != nil {
					return false
				}
			}
		}
		return true
	})
	for i := range q.nodes {
		must(b, q.stopNode(b.Context(), i))
		for name, count := range journals {
			fillJournal(b, q.segmentsDir(i, ids[name]), ids[name].String(), count)
		}
	}
	for i := range q.nodes {
		must(b, q.startNode(b.Context(), i))
	}
	for i := range q.nodes {
		await(b, "the nodes to be ready", func() bool { return q.nodes[i].Ready() == nil })
	}
	return ids
}

// BenchmarkManifest lists a journal of 10,000 segments: as a client, which asks all nodes, and at a node without the
// network; and reads one transaction from its middle, from opening a reader to having it, beside the same in a
// journal of 10 segments.
func BenchmarkManifest(b *testing.B) {
	q := newCluster(b, nodes, nil)
	const few, many = "few", "many"
	ids := q.longJournals(b, map[string]int{few: 10, many: manySegments})
	b.Run("client", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			list, err := q.client.Segments(b.Context(), many)
			must(b, err)
			if len(list) < nodes*manySegments {
				b.Fatal(len(list), " segments")
			}
		}
	})
	b.Run("node", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			list, err := rpc.AllSegments(b.Context(), ids[many], q.nodes[0].Segments)
			must(b, err)
			if len(list) < manySegments {
				b.Fatal(len(list), " segments")
			}
		}
	})
	b.Run("seek-10", func(b *testing.B) { q.benchSeek(b, few, 10) })
	b.Run("seek-10000", func(b *testing.B) { q.benchSeek(b, many, manySegments) })
}

func (q *qjm) benchSeek(b *testing.B, name string, count int) {
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		x := libqjm.TxID(count/4 + n%(count/2) + 1) // another one each time
		r, err := q.client.OpenReader(b.Context(), name, libqjm.ReaderOptions{From: x, To: x})
		must(b, err)
		txn, err := r.Next(b.Context())
		must(b, err)
		if txn.ID != x {
			b.Fatal("got ", txn.ID)
		}
		must(b, r.Close())
	}
}
