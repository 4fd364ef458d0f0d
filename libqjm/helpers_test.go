package libqjm_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/libqjm"
)

// bed is a cluster in a bubble, with a journal "j" and a client.
type bed struct {
	*testcluster.Cluster
	*testing.T
	cl  *libqjm.Client
	ctx context.Context
}

// run runs f in a bubble with a cluster of three in memory. All of a test has ten minutes of fake time.
func run(t *testing.T, opts testcluster.Options, f func(b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		opts.Mem = true
		t.Cleanup(func() { pass(time.Minute) }) // fake, and last: what is under way on the network ends
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		b := &bed{Cluster: testcluster.Start(t, opts), T: t, ctx: ctx}
		b.cl = b.Client()
		for _, n := range b.Nodes {
			b.Until(time.Minute, "the cluster is founded", func() bool { return n.Ready() == nil })
		}
		require.NoError(t, b.cl.CreateJournal(ctx, "j"))
		f(b)
	})
}

func (b *bed) writer() *libqjm.Writer {
	b.Helper()
	return b.writerWith(libqjm.WriterOptions{})
}

func (b *bed) writerWith(o libqjm.WriterOptions) *libqjm.Writer {
	b.Helper()
	w, err := b.cl.OpenWriter(b.ctx, "j", o)
	require.NoError(b, err)
	return w
}

func text(id libqjm.TxID) []byte { return fmt.Appendf(nil, "txn %d", id) }

func texts(from, to libqjm.TxID) [][]byte {
	var out [][]byte
	for i := from; i <= to; i++ {
		out = append(out, text(i))
	}
	return out
}

// write appends from..to as one batch and waits until it is committed.
func (b *bed) write(w *libqjm.Writer, from, to libqjm.TxID) {
	b.Helper()
	first, last, err := w.AppendBatch(b.ctx, texts(from, to))
	require.NoError(b, err)
	require.Equal(b, from, first)
	require.Equal(b, to, last)
}

// writeFinal is write and a roll.
func (b *bed) writeFinal(w *libqjm.Writer, from, to libqjm.TxID) {
	b.Helper()
	b.write(w, from, to)
	require.NoError(b, w.Roll(b.ctx))
}

// abandon ends a writer as if its process died: nothing is finalized.
func (b *bed) abandon(w *libqjm.Writer) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	_ = w.Close(ctx) // its context is over: it cannot wait for anything
}

// read returns the txids that a reader yields, and checks what they hold.
func (b *bed) read(o libqjm.ReaderOptions) []libqjm.TxID {
	b.Helper()
	ids, err := b.tryRead(o)
	require.NoError(b, err)
	return ids
}

func (b *bed) tryRead(o libqjm.ReaderOptions) ([]libqjm.TxID, error) {
	b.Helper()
	r, err := b.cl.OpenReader(b.ctx, "j", o)
	if err != nil {
		return nil, err
	}
	defer func() { require.NoError(b, r.Close()) }()
	var ids []libqjm.TxID
	for txn, err := range r.All(b.ctx) {
		if err != nil {
			return ids, err
		}
		require.Equal(b, string(text(txn.ID)), string(txn.Data))
		require.Equal(b, txn.ID, txn.Last)
		ids = append(ids, txn.ID)
	}
	return ids, nil
}

func upTo(from, to libqjm.TxID) []libqjm.TxID {
	var out []libqjm.TxID
	for i := from; i <= to; i++ {
		out = append(out, i)
	}
	return out
}

// finalized checks that first..last is a finalized segment: a majority holds it, and no finalized copy
// disagrees (the scenarios' checkRecovery).
func (b *bed) finalized(first, last libqjm.TxID) {
	b.Helper()
	segs, err := b.cl.Segments(b.ctx, "j")
	require.NoError(b, err)
	holders, digest := 0, ""
	for _, s := range segs {
		if s.First != first || s.State != "finalized" {
			continue
		}
		require.Equal(b, last, s.Last, "finalized copy on %s", s.Node)
		if digest == "" {
			digest = s.Digest
		}
		require.Equal(b, digest, s.Digest, "finalized copy on %s", s.Node)
		holders++
	}
	require.GreaterOrEqual(b, holders, 2, "holders of %d to %d: %+v", first, last, segs)
}

// copies returns how many nodes hold first..last finalized.
func (b *bed) copies(first, last libqjm.TxID) int {
	b.Helper()
	segs, err := b.cl.Segments(b.ctx, "j")
	require.NoError(b, err)
	n := 0
	for _, s := range segs {
		if s.First == first && s.Last == last && s.State == "finalized" {
			n++
		}
	}
	return n
}

// within returns a context that ends after d of fake time.
func (b *bed) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(b.ctx, d)
	b.Cleanup(cancel)
	return ctx
}

func pad(id libqjm.TxID) string { return fmt.Sprintf("%020d", id) }

// dice is a seeded random source for hooks, which are called from many goroutines.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newDice(seed uint64) *dice { return &dice{r: rand.New(rand.NewPCG(seed, 0))} }

// roll is true in percent of all cases.
func (d *dice) roll(percent int) bool { return d.intn(100) < percent }

func (d *dice) intn(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

func (d *dice) perm(n int) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.Perm(n)
}

// crash takes the power from a node; nothing that was not synced survives.
func (b *bed) crash(i int) { b.CrashNode(i, memfs.CrashOptions{}) }

// pass lets fake time pass: a delay of the network, or a moment for what is under way.
func pass(d time.Duration) { <-time.After(d) }
