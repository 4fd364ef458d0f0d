package libqjm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// Dial a cluster, make a journal, become its writer, append, read.
func Example() {
	ctx, cluster := startCluster()
	defer cluster.stop()

	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: cluster.Endpoints()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	if err := client.CreateJournal(ctx, "orders"); err != nil && !errors.Is(err, libqjm.ErrJournalExists) {
		fmt.Println(err)
		return
	}

	w, err := client.OpenWriter(ctx, "orders", libqjm.WriterOptions{}) // fences whoever wrote, recovers, is ready
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, order := range []string{"pay 5 to Ann", "pay 7 to Bob"} {
		txid, err := w.Append(ctx, []byte(order)) // returns when committed
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("committed as", txid)
	}
	if err := w.Close(ctx); err != nil {
		fmt.Println(err)
		return
	}

	r, err := client.OpenReader(ctx, "orders", libqjm.ReaderOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	for txn, err := range r.All(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d: %s\n", txn.ID, txn.Data)
	}
	// Output:
	// committed as 1
	// committed as 2
	// 1: pay 5 to Ann
	// 2: pay 7 to Bob
}

// Many appends can be under way. They get their txids in the order of the calls, and share frames and syncs.
func ExampleWriter_AppendAsync() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	w, err := cluster.client("orders").OpenWriter(ctx, "orders", libqjm.WriterOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close(ctx)

	var underWay []libqjm.Future
	for i := range 3 {
		f, err := w.AppendAsync(ctx, fmt.Appendf(nil, "order %d", i))
		if err != nil {
			fmt.Println("not appended:", err) // a definite refusal: it used up no txid
			return
		}
		underWay = append(underWay, f)
	}
	for _, f := range underWay {
		txid, err := f.Wait(ctx)
		if err != nil {
			fmt.Println(err, libqjm.MayHaveCommitted(err))
			return
		}
		fmt.Println("committed as", txid)
	}
	// Output:
	// committed as 1
	// committed as 2
	// committed as 3
}

// A batch stands in the journal in one piece, with nothing of other callers in between.
func ExampleWriter_AppendBatch() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	w, err := cluster.client("orders").OpenWriter(ctx, "orders", libqjm.WriterOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close(ctx)

	first, last, err := w.AppendBatch(ctx, [][]byte{[]byte("begin"), []byte("pay 5 to Ann"), []byte("end")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("committed as", first, "to", last)
	// Output:
	// committed as 1 to 3
}

// Read everything that was acknowledged before the reader was opened, from a txid on.
func ExampleReader_All() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("orders")
	w, err := client.OpenWriter(ctx, "orders", libqjm.WriterOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close(ctx)
	if _, _, err := w.AppendBatch(ctx, [][]byte{[]byte("a"), []byte("b"), []byte("c")}); err != nil {
		fmt.Println(err)
		return
	}

	// Without Linearizable the reader may lag the last acknowledgements by a moment.
	r, err := client.OpenReader(ctx, "orders", libqjm.ReaderOptions{From: 2, Linearizable: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	for txn, err := range r.All(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d %s, written in epoch %d\n", txn.ID, txn.Data, txn.Epoch)
	}
	// Output:
	// 2 b, written in epoch 1
	// 3 c, written in epoch 1
}

// A standby follows the writer: Next waits for what is committed next. Its context ends the wait, and not
// the reader.
func ExampleReader_Next() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("orders")
	w, err := client.OpenWriter(ctx, "orders", libqjm.WriterOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close(ctx)
	r, err := client.OpenReader(ctx, "orders", libqjm.ReaderOptions{Follow: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()

	for _, order := range []string{"pay 5 to Ann", "pay 7 to Bob"} {
		if _, err := w.Append(ctx, []byte(order)); err != nil {
			fmt.Println(err)
			return
		}
		txn, err := r.Next(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d: %s\n", txn.ID, txn.Data)
	}
	// Output:
	// 1: pay 5 to Ann
	// 2: pay 7 to Bob
}

// An operator, or another writer, fences: the writer that was there can commit nothing more.
func ExampleClient_Fence() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("orders")
	w, err := client.OpenWriter(ctx, "orders", libqjm.WriterOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close(ctx)

	epoch, err := client.Fence(ctx, "orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("fenced with epoch", epoch)

	_, err = w.Append(ctx, []byte("too late"))
	if f, ok := errors.AsType[*fencing.FencedError](err); ok {
		fmt.Printf("the writer of epoch %d must stop: epoch %d was promised\n", f.Got.Epoch, f.Promised.Epoch)
	}
	_, err = w.Append(ctx, []byte("much too late"))
	fmt.Println("fenced for good:", errors.Is(err, libqjm.ErrFenced), "- may be in the journal:", libqjm.MayHaveCommitted(err))
	// Output:
	// fenced with epoch 2
	// the writer of epoch 1 must stop: epoch 2 was promised
	// fenced for good: true - may be in the journal: false
}

// An error is a refusal, or leaves the outcome open. What is open is decided by the next writer, or by
// Recover: only then look, and append again what is not there.
func ExampleMayHaveCommitted() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	w, err := cluster.client("orders").OpenWriter(ctx, "orders", libqjm.WriterOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	tell := func(err error) {
		switch {
		case err == nil:
			fmt.Println("it is in the journal")
		case libqjm.MayHaveCommitted(err):
			fmt.Println("it may be in the journal: look before it is repeated")
		default:
			fmt.Println("it is not in the journal: it can be repeated")
		}
	}

	_, err = w.Append(ctx, []byte("pay 5 to Ann"))
	tell(err)
	_, err = w.Append(ctx, nil) // ErrEmpty
	tell(err)

	cluster.StopNode(1) // two of three are gone: there is no quorum
	cluster.StopNode(2)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = w.Append(short, []byte("pay 7 to Bob")) // context.DeadlineExceeded
	tell(err)
	if err := w.Close(short); err != nil {
		fmt.Println("closed, with something in doubt")
	}
	// Output:
	// it is in the journal
	// it is not in the journal: it can be repeated
	// it may be in the journal: look before it is repeated
	// closed, with something in doubt
}

// Segments are rolled by size and age; Roll does it now. Close finalizes the last one.
func ExampleWriter_Roll() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("orders")
	w, err := client.OpenWriter(ctx, "orders", libqjm.WriterOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	finalized := func() {
		r, err := client.OpenReader(ctx, "orders", libqjm.ReaderOptions{FinalizedOnly: true})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer r.Close()
		n := 0
		for range r.All(ctx) {
			n++
		}
		fmt.Println("finalized:", n)
	}

	for _, order := range []string{"a", "b", "c"} {
		if _, err := w.Append(ctx, []byte(order)); err != nil {
			fmt.Println(err)
			return
		}
		if order == "b" {
			if err := w.Roll(ctx); err != nil {
				fmt.Println(err)
				return
			}
		}
	}
	finalized()
	if err := w.Close(ctx); err != nil {
		fmt.Println(err)
		return
	}
	finalized()
	_, err = w.Append(ctx, []byte("d"))
	fmt.Println("closed:", errors.Is(err, libqjm.ErrClosed))
	// Output:
	// finalized: 2
	// finalized: 3
	// closed: true
}

// Recover finishes what a dead writer left, without writing anything.
func ExampleClient_Recover() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("orders")

	dying, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: cluster.Endpoints()})
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err := dying.OpenWriter(ctx, "orders", libqjm.WriterOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, _, err := w.AppendBatch(ctx, [][]byte{[]byte("a"), []byte("b")}); err != nil {
		fmt.Println(err)
		return
	}
	if err := dying.Close(); err != nil { // its process ends, and nothing is finalized
		fmt.Println(err)
		return
	}

	rec, err := client.Recover(ctx, "orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("recovered in epoch %d: the last txid is %d\n", rec.Epoch, rec.LastTx)
	// Output:
	// recovered in epoch 2: the last txid is 2
}

// The state after transaction 3 is saved and listed: the log up to it may go. Another program starts from it.
func ExampleClient_SaveSnapshot() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("orders")
	w, err := client.OpenWriter(ctx, "orders", libqjm.WriterOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, _, err := w.AppendBatch(ctx, [][]byte{[]byte("a"), []byte("b"), []byte("c"), []byte("d")}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := client.SaveSnapshot(ctx, "orders", 3, strings.NewReader("abc")); err != nil {
		fmt.Println(err)
		return
	}

	snap, err := client.LatestSnapshot(ctx, "orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	state, err := client.OpenSnapshot(ctx, "orders", snap.TxID)
	if err != nil {
		fmt.Println(err)
		return
	}
	content, err := io.ReadAll(state)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("the state after txid %d is %s\n", snap.TxID, content)
	r, err := client.OpenReader(ctx, "orders", libqjm.ReaderOptions{From: snap.TxID + 1, Linearizable: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	txn, err := r.Next(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("then comes txid %d: %s\n", txn.ID, txn.Data)
	// Output:
	// the state after txid 3 is abc
	// then comes txid 4: d
}

// exampleCluster is three nodes on loopback, for the examples. In life they are processes: journalnode.
type exampleCluster struct {
	*testcluster.Cluster
	tb   *exampleTB
	stop func()
}

// Campaign waits for the lease, and opens the writer under it. Others can see who leads, and campaign, too.
func ExampleClient_Campaign() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("orders")

	lead, err := client.Campaign(ctx, "orders", libqjm.CampaignOptions{
		Lease: libqjm.LeaseOptions{Holder: "node-a", Addr: "10.0.0.1:9000", TTL: 5 * time.Second},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	lease, err := client.Lease(ctx, "orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s leads, at %s\n", lease.Holder, lease.Addr)
	txid, err := lead.Writer().Append(ctx, []byte("pay 5 to Ann"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("committed as", txid)

	next := make(chan *libqjm.Leadership)
	go func() {
		defer close(next)
		l, err := client.Campaign(ctx, "orders", libqjm.CampaignOptions{Lease: libqjm.LeaseOptions{Holder: "node-b"}})
		if err != nil {
			fmt.Println(err)
			return
		}
		next <- l
	}()
	if err := lead.Resign(ctx); err != nil { // or Transfer(ctx, "node-b")
		fmt.Println(err)
		return
	}
	l, ok := <-next
	if !ok {
		return
	}
	fmt.Println("node-b goes on with txid", l.Writer().FirstTxID())
	if err := l.Resign(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// node-a leads, at 10.0.0.1:9000
	// committed as 1
	// node-b goes on with txid 2
}

// startCluster starts the nodes; the context bounds an example.
func startCluster() (context.Context, exampleCluster) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb := &exampleTB{ctx: ctx}
	c := exampleCluster{testcluster.Start(tb, testcluster.Options{}), tb, func() { cancel(); tb.end() }}
	c.Until(time.Minute, "the cluster is founded", func() bool {
		for _, n := range c.Nodes {
			if n.Ready() != nil {
				return false
			}
		}
		return true
	})
	return ctx, c
}

// client is what Example does first: it dials, and makes a journal.
func (c exampleCluster) client(journal string) *libqjm.Client {
	client := c.Client()
	if err := client.CreateJournal(c.tb.ctx, journal); err != nil {
		panic(err)
	}
	return client
}

// exampleTB is what a test cluster needs of a test; an example has none.
type exampleTB struct {
	testing.TB // nil: what is not below is not called
	ctx        context.Context
	cleanups   []func()
}

func (tb *exampleTB) Helper()                      {}
func (tb *exampleTB) Context() context.Context     { return tb.ctx }
func (tb *exampleTB) Cleanup(f func())             { tb.cleanups = append(tb.cleanups, f) }
func (tb *exampleTB) Errorf(text string, a ...any) { panic(fmt.Sprintf(text, a...)) }
func (tb *exampleTB) FailNow()                     { panic("an example failed") }

func (tb *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "qjm-example-")
	if err != nil {
		panic(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			panic(err)
		}
	})
	return dir
}

// end runs the cleanups, the last one first.
func (tb *exampleTB) end() {
	for i := len(tb.cleanups) - 1; i >= 0; i-- {
		tb.cleanups[i]()
	}
}
