package wire

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Values with every field set, each to something else.
var (
	header = rpc.Header{
		Journal:       segments.JournalID{1, 15: 2},
		ConfigVersion: 1<<63 + 3,
		Incarnation:   quorum.Incarnation{4, 15: 5},
		Claim:         fencing.Claim{Epoch: 1<<63 + 6, Writer: fencing.WriterID{7, 15: 8}},
	}
	end     = segments.End{First: 11, Last: 20, Digest: segments.Digest{9, 15: 1}}
	prevEnd = segments.End{First: 1, Last: 10, Digest: segments.Digest{8, 15: 2}}
	at      = segments.Position{TxID: 1<<64 - 1, Digest: segments.Digest{7, 15: 3}}
	floor   = recovery.Floor{Segment: 11, Epoch: 6, At: segments.Position{TxID: 15, Digest: segments.Digest{6}}}
	reach   = &rpc.Reach{ID: 1 << 63, Nodes: members}
	reached = &rpc.Reached{ID: 7, Nodes: []rpc.ReachedNode{{Node: members[0].Key()}, {Node: members[1].Key(), Err: "refused"}}}
	members = []quorum.Member{
		{ID: "n1", Incarnation: quorum.Incarnation{1}, Addr: "10.0.0.1:7070"},
		{ID: "n2", Incarnation: quorum.Incarnation{2}, Addr: "[::1]:7070"},
	}
	config = quorum.Config{Version: 7, Sets: [][]quorum.Member{members, members[1:]}}
	answer = recovery.Answer{
		Node: quorum.Key{ID: "n1"},
		Copy: recovery.Copy{
			Segment: 11, State: recovery.InProgress, Epoch: 5, Prev: prevEnd, Last: at,
			Accepted: recovery.Accepted{Epoch: 4, End: end},
			CutAt:    &segments.Position{TxID: 12, Digest: segments.Digest{5}},
		},
		Floor:  floor,
		Newest: 21,
		Purged: segments.Position{TxID: 5, Digest: segments.Digest{3}},
		Digests: []recovery.DigestReply{
			{At: segments.Position{TxID: 13, Digest: segments.Digest{4}}, Found: true}, {At: segments.Position{TxID: 14}},
		},
	}
	snap = snapshot.Snapshot{
		TxID: 13, At: segments.Position{TxID: 15, Digest: segments.Digest{2, 15: 1}}, Size: 1 << 40,
		Checksum: snapshot.Checksum{6, 31: 7}, Epoch: 1<<63 + 1,
	}
	summary = rpc.JournalSummary{ID: segments.JournalID{3}, Name: "name-node_1", Config: config, Deleted: true, Holding: rpc.Holding{1, 15: 2}}
)

// frame returns a frame of one transaction of n bytes.
func frame(t testing.TB, first segments.TxID, n int) segments.Frame {
	t.Helper()
	var b segments.Builder
	b.Reset(first, 5)
	require.NoError(t, b.Add(make([]byte, n)))
	f, err := b.Seal(segments.Digest{byte(first)}, segments.SealOptions{})
	require.NoError(t, err)
	return f
}

// sameFrames compares frames by their bytes.
var sameFrames = cmp.Comparer(func(a, b segments.Frame) bool { return string(a.Bytes()) == string(b.Bytes()) })

func requireSame(t testing.TB, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, sameFrames); diff != "" {
		t.Fatalf("got differs from want (-want +got):\n%s", diff)
	}
}

// call is what a service was called with.
type call struct {
	Method string
	Args   []any
}

// fakeService answers with err or with what is set, and remembers the calls.
type fakeService struct {
	mu    sync.Mutex
	calls []call // guarded by mu

	err      error
	info     rpc.NodeInfo
	journals []rpc.JournalSummary
	state    rpc.JournalState
	writer   rpc.WriterAnswer
	promise  rpc.PromiseReply
	answer   recovery.Answer
	segments rpc.SegmentsPage
	accept   func(ctx context.Context, relay rpc.ChunkStream) error
	chunks   func(ctx context.Context, send func(rpc.Chunk) error) error
	write    func(h rpc.Header, s rpc.ServerStream) error
	control
	offset int64
	list   rpc.SnapshotList
	chunk  rpc.SnapshotChunk
}

func (f *fakeService) called(method string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call{method, args})
}

func (f *fakeService) lastCall() call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[len(f.calls)-1]
}

func (f *fakeService) Info(context.Context) (rpc.NodeInfo, error) {
	f.called("Info")
	return f.info, f.err
}

func (f *fakeService) Journals(context.Context) ([]rpc.JournalSummary, error) {
	f.called("Journals")
	return f.journals, f.err
}

func (f *fakeService) InstallConfig(_ context.Context, j rpc.JournalSummary) error {
	f.called("InstallConfig", j)
	return f.err
}

func (f *fakeService) LeaveJournal(_ context.Context, j rpc.JournalSummary) error {
	f.called("LeaveJournal", j)
	return f.err
}

func (f *fakeService) AskWriter(_ context.Context, r rpc.AskWriterRequest) (rpc.WriterAnswer, error) {
	f.called("AskWriter", r)
	return f.writer, f.err
}

func (f *fakeService) State(_ context.Context, id segments.JournalID) (rpc.JournalState, error) {
	f.called("State", id)
	return f.state, f.err
}

func (f *fakeService) NewEpoch(_ context.Context, h rpc.Header) (rpc.PromiseReply, error) {
	f.called("NewEpoch", h)
	return f.promise, f.err
}

func (f *fakeService) Prepare(_ context.Context, h rpc.Header, s segments.TxID, digests []segments.TxID) (recovery.Answer, error) {
	f.called("Prepare", h, s, digests)
	return f.answer, f.err
}

func (f *fakeService) Accept(ctx context.Context, h rpc.Header, req recovery.AcceptRequest, relay rpc.ChunkStream) error {
	f.called("Accept", h, req, relay != nil)
	if f.accept != nil {
		return f.accept(ctx, relay)
	}
	return f.err
}

func (f *fakeService) Finalize(_ context.Context, h rpc.Header, end segments.End) error {
	f.called("Finalize", h, end)
	return f.err
}

func (f *fakeService) Segments(_ context.Context, req rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
	f.called("Segments", req)
	return f.segments, f.err
}

func (f *fakeService) ReadSegment(ctx context.Context, req rpc.ReadRequest, send func(rpc.Chunk) error) error {
	f.called("ReadSegment", req)
	if f.chunks != nil {
		return f.chunks(ctx, send)
	}
	return f.err
}

func (f *fakeService) Tail(ctx context.Context, req rpc.TailRequest, send func(rpc.Chunk) error) error {
	f.called("Tail", req)
	if f.chunks != nil {
		return f.chunks(ctx, send)
	}
	return f.err
}

func (f *fakeService) Write(h rpc.Header, s rpc.ServerStream) error {
	f.called("Write", h)
	if f.write != nil {
		return f.write(h, s)
	}
	return f.err
}

func (f *fakeService) BeginSnapshot(_ context.Context, r rpc.SnapshotUpload) (int64, error) {
	f.called("BeginSnapshot", r)
	return f.offset, f.err
}

func (f *fakeService) PutSnapshot(_ context.Context, p rpc.SnapshotPiece) (int64, error) {
	f.called("PutSnapshot", p)
	return f.offset, f.err
}

func (f *fakeService) FinishSnapshot(_ context.Context, r rpc.SnapshotEnd) error {
	f.called("FinishSnapshot", r)
	return f.err
}

func (f *fakeService) Snapshots(_ context.Context, id segments.JournalID) (rpc.SnapshotList, error) {
	f.called("Snapshots", id)
	return f.list, f.err
}

func (f *fakeService) ReadSnapshot(_ context.Context, r rpc.SnapshotRead) (rpc.SnapshotChunk, error) {
	f.called("ReadSnapshot", r)
	return f.chunk, f.err
}

// listen serves svc in memory; the dialer reaches it under any address.
func listen(t testing.TB, svc rpc.Service, log *slog.Logger) (Dialer, *grpc.Server) {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(append(ServerOptions(log), grpc.WaitForHandlers(true))...)
	Register(srv, svc)
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(lis) })
	t.Cleanup(func() { srv.Stop(); served.Wait() })
	return Dialer{DialContext: func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }}, srv
}

// connect returns a node that svc serves.
func connect(t testing.TB, svc rpc.Service) *node {
	t.Helper()
	d, _ := listen(t, svc, nil)
	n, err := d.Dial("n1:7070")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n.(*node)
}

// within fails the test instead of hanging it.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// sliceStream is a ChunkStream over a slice.
type sliceStream struct{ chunks []rpc.Chunk }

func (s *sliceStream) Recv() (rpc.Chunk, error) {
	if len(s.chunks) == 0 {
		return rpc.Chunk{}, io.EOF
	}
	c := s.chunks[0]
	s.chunks = s.chunks[1:]
	return c, nil
}

func (*sliceStream) Close() {}
