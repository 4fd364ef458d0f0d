package journalnode_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/segments"
)

// bed is a cluster in a bubble.
type bed struct {
	*testcluster.Cluster
	*testing.T
	ctx context.Context
}

func run(t *testing.T, opts testcluster.Options, f func(b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		opts.Mem = true
		t.Cleanup(func() { pass(time.Minute) }) // fake, and last: what is under way on the network ends
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		f(&bed{Cluster: testcluster.Start(t, opts), T: t, ctx: ctx})
	})
}

// node returns a client's connection to a node.
func (b *bed) node(i int) rpc.Node {
	b.Helper()
	n, err := b.Net.Dialer("client").Dial(b.ID(i))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, n.Close()) })
	return n
}

func (b *bed) info(i int) rpc.NodeInfo {
	b.Helper()
	info, err := b.node(i).Info(b.ctx)
	require.NoError(b, err)
	return info
}

// founded waits until all nodes are.
func (b *bed) founded() rpc.ClusterID {
	b.Helper()
	for i := range b.Nodes {
		b.Until(time.Minute, "founded", func() bool { return b.info(i).Phase == rpc.Founded })
	}
	return b.info(0).Cluster
}

// founders are the first config of a journal on all nodes.
func (b *bed) founders() quorum.Config { return quorum.NewConfig(1, b.info(0).Founders...) }

// journal makes a journal on all nodes and returns its id.
func (b *bed) journal(name string) segments.JournalID {
	b.Helper()
	id := rpc.JournalIDOf(b.founded(), name)
	for i := range b.Nodes {
		require.NoError(b, b.node(i).InstallConfig(b.ctx, rpc.JournalSummary{ID: id, Name: name, Config: b.founders()}))
	}
	return id
}

func (b *bed) header(i int, id segments.JournalID, epoch fencing.Epoch, w fencing.WriterID) rpc.Header {
	b.Helper()
	return rpc.Header{Journal: id, ConfigVersion: 1, Incarnation: b.info(i).Incarnation, Claim: fencing.Claim{Epoch: epoch, Writer: w}}
}

func writerID() fencing.WriterID { return fencing.WriterID(uuid.New()) }

// frames seals one frame of each payload, from the position on.
func frames(t testing.TB, at segments.Position, epoch fencing.Epoch, payloads ...string) []segments.Frame {
	t.Helper()
	var out []segments.Frame
	for _, p := range payloads {
		var sb segments.Builder
		sb.Reset(at.TxID+1, epoch)
		require.NoError(t, sb.Add([]byte(p)))
		f, err := sb.Seal(at.Digest, segments.SealOptions{})
		require.NoError(t, err)
		out, at = append(out, f), f.Position()
	}
	return out
}

// soon calls f in a goroutine and returns what it returned, or fails after d.
func soon[T any](b *bed, d time.Duration, what string, f func() (T, error)) (T, error) {
	b.Helper()
	type answer struct {
		val T
		err error
	}
	done := make(chan answer, 1)
	go func() { v, err := f(); done <- answer{v, err} }()
	select {
	case a := <-done:
		return a.val, a.err
	case <-time.After(d):
		require.FailNow(b, "no answer: "+what)
		panic("not reached")
	}
}

var (
	writerOptions = libqjm.WriterOptions{}
	readerOptions = libqjm.ReaderOptions{Follow: true}
)

// pass lets fake time pass.
func pass(d time.Duration) { <-time.After(d) }

// smallReserve is for disks in memory: each node would write 64 MiB otherwise.
const smallReserve = 64 << 10
