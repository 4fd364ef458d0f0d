package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// The harness is three real Journals on memory disks, stepped one call at a time: a test is one exact
// interleaving. Nothing runs by itself. Messages of a recovery pass through cluster.net, where a test
// drops, delays or repeats them; the write path is called directly.

const dir = "j"

var (
	journalID = segments.JournalID{7}
	nodeA     = quorum.NodeID("A")
	nodeB     = quorum.NodeID("B")
	nodeC     = quorum.NodeID("C")
	errNet    = rpc.ErrUnavailable
	small     = Options{Store: store.Options{PreallocateBytes: 8 << 10}}
)

type cluster struct {
	require.TestingT
	cfg   quorum.Config
	nodes map[quorum.NodeID]*machine
	// net decides about each message of a recovery; nil delivers.
	net     func(recovery.Effect, quorum.NodeID) fate
	writers byte
	delayed []func() error         // what net kept back, to be called by the test
	mute    map[quorum.NodeID]bool // peers cannot fetch from these
	// damaged is known to be unknown: a majority that needs its data may answer so (N2).
	damaged quorum.NodeID
}

type fate int

const (
	deliver   fate = iota
	drop           // never arrives
	loseReply      // arrives, the answer does not
	twice          // arrives twice
	delay          // dropped for now; cluster.delayed brings it later
)

// machine is one node: a disk, faults in front of it, and the journal while it runs.
type machine struct {
	*Journal
	id   quorum.NodeID
	disk *memfs.FS
	fs   *faultfs.FS
}

func newCluster(t require.TestingT) *cluster { return newClusterOf(t, nodeA, nodeB, nodeC) }

func newClusterOf(t require.TestingT, ids ...quorum.NodeID) *cluster {
	c := &cluster{TestingT: t, nodes: map[quorum.NodeID]*machine{}}
	var ms []quorum.Member
	for _, id := range ids {
		ms = append(ms, quorum.Member{ID: id, Incarnation: incarnation(id)})
	}
	c.cfg = quorum.NewConfig(1, ms...)
	for _, id := range ids {
		m := &machine{id: id, disk: memfs.New()}
		c.nodes[id] = m
		require.NoError(c, Create(m.disk, dir, journalID, "test", c.cfg))
		require.NoError(c, m.disk.SyncDir("."))
		c.open(id)
	}
	return c
}

func incarnation(id quorum.NodeID) quorum.Incarnation { return quorum.Incarnation{id[0]} }

func (c *cluster) open(id quorum.NodeID) *machine {
	m := c.nodes[id]
	m.fs = faultfs.New(m.disk)
	j, err := Open(m.fs, dir, Self{id, incarnation(id)}, journalID, small)
	require.NoError(c, err)
	m.Journal = j
	return m
}

// restart is a power loss that spares the given share of what was not synced.
func (c *cluster) restart(id quorum.NodeID, percent int) *machine {
	m := c.nodes[id]
	m.disk = m.disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: percent, Rand: rand.New(rand.NewPCG(1, 2))})
	return c.open(id)
}

// kill is the end of the process: the page cache stays.
func (c *cluster) kill(id quorum.NodeID) *machine {
	m := c.nodes[id]
	m.disk = m.disk.ProcessCrashClone()
	return c.open(id)
}

func (c *cluster) ids() []quorum.NodeID {
	var ids []quorum.NodeID
	for _, m := range c.cfg.Members() {
		ids = append(ids, m.ID)
	}
	return ids
}

func (c *cluster) header(id quorum.NodeID, claim fencing.Claim) rpc.Header {
	return rpc.Header{Journal: journalID, ConfigVersion: c.cfg.Version, Incarnation: incarnation(id), Claim: claim}
}

func (c *cluster) freshWriter() fencing.WriterID {
	c.writers++
	return fencing.WriterID{c.writers}
}

// only lets a recovery reach these nodes and no others.
func only(ids ...quorum.NodeID) func(recovery.Effect, quorum.NodeID) fate {
	return func(_ recovery.Effect, id quorum.NodeID) fate {
		if slices.Contains(ids, id) {
			return deliver
		}
		return drop
	}
}

// recover runs one attempt over the nodes given (all: none given), one message after another.
func (c *cluster) recover(ids ...quorum.NodeID) (recovery.Result, error) {
	if len(ids) > 0 {
		c.net = only(ids...)
		defer func() { c.net = nil }()
	}
	return c.attempt(recovery.Options{})
}

func (c *cluster) attempt(opts recovery.Options) (recovery.Result, error) {
	co := recovery.NewCoordinator(c.cfg, c.freshWriter(), opts)
	queue := co.Step(recovery.Begin{})
	patience := []recovery.Effect{}
	for {
		if len(queue) == 0 && len(patience) > 0 { // time passes when nothing else is under way
			queue, patience = co.Step(recovery.PatienceOver{Step: patience[0].(recovery.SetPatience).Step}), patience[1:]
			continue
		}
		if len(queue) == 0 {
			return recovery.Result{}, errors.New("the coordinator waits for nothing")
		}
		e := queue[0]
		queue = queue[1:]
		switch e := e.(type) {
		case recovery.Done:
			return e.Result, nil
		case recovery.Fail:
			return recovery.Result{}, e.Err
		case recovery.SetPatience:
			patience = append(patience, e)
		default:
			queue = append(queue, co.Step(c.message(e))...)
		}
	}
}

// message carries a request to its node and the answer back, as net decides.
func (c *cluster) message(e recovery.Effect) recovery.Event {
	id, step, call := c.request(e)
	f := deliver
	if c.net != nil {
		f = c.net(e, id)
	}
	failed := recovery.Failed{Node: quorum.Key{ID: id, Incarnation: incarnation(id)}, Step: step, Err: errNet}
	switch f {
	case drop:
		return failed
	case delay:
		c.delayed = append(c.delayed, func() error { _, err := call(); return err })
		return failed
	case loseReply:
		_, _ = call()
		return failed
	case twice:
		_, _ = call()
	case deliver:
	}
	ev, err := call()
	if err != nil {
		return recovery.Failed{Node: quorum.Key{ID: id, Incarnation: incarnation(id)}, Step: step, Err: err}
	}
	return ev
}

func (c *cluster) request(e recovery.Effect) (quorum.NodeID, recovery.Step, func() (recovery.Event, error)) {
	switch e := e.(type) {
	case recovery.AskState:
		return e.Node.ID, recovery.StepState, func() (recovery.Event, error) {
			return recovery.Stated{Node: e.Node, Promised: c.nodes[e.Node.ID].State().Promised.Epoch}, nil
		}
	case recovery.AskPromise:
		return e.Node.ID, recovery.StepPromise, func() (recovery.Event, error) {
			r, err := c.nodes[e.Node.ID].NewEpoch(c.header(e.Node.ID, e.Claim))
			return recovery.Promised{Node: e.Node, DataKnown: r.DataKnown, Newest: r.Newest, Purged: r.Purged}, err
		}
	case recovery.AskPrepare:
		return e.Node.ID, recovery.StepPrepare, func() (recovery.Event, error) {
			a, err := c.nodes[e.Node.ID].Prepare(c.header(e.Node.ID, e.Claim), e.Segment, e.Digests)
			return recovery.Prepared{Answer: a}, err
		}
	case recovery.AskAccept:
		return e.Node.ID, recovery.StepAccept, func() (recovery.Event, error) {
			return recovery.AcceptedBy{Node: e.Node}, c.accept(e.Node.ID, e.Accept)
		}
	case recovery.AskFinalize:
		return e.Node.ID, recovery.StepFinalize, func() (recovery.Event, error) {
			return recovery.FinalizedBy{Node: e.Node}, c.nodes[e.Node.ID].Finalize(c.header(e.Node.ID, e.Claim), e.End)
		}
	}
	panic(fmt.Sprintf("no message: %T", e))
}

// accept does what a node's shell does: both halves, with the fetch between them.
func (c *cluster) accept(id quorum.NodeID, req recovery.AcceptRequest) error {
	m, h := c.nodes[id], c.header(id, req.Claim)
	plan, err := m.BeginAccept(h, req)
	if err != nil || !plan.Fetch {
		return err
	}
	if err := c.fetch(plan.Incoming, req); err != nil {
		return errors.Join(err, plan.Incoming.Abort())
	}
	return m.FinishAccept(h, req, plan.Incoming)
}

func (c *cluster) fetch(inc *store.Incoming, req recovery.AcceptRequest) error {
	errs := []error{rpc.ErrNoSource}
	for _, src := range req.Sources {
		if c.mute[src] {
			continue
		}
		err := c.nodes[src].Read(context.Background(), rpc.ReadRequest{
			Journal: journalID, Segment: req.End.First, Durable: true, Epoch: req.Epoch, UpTo: req.End.Last,
		}, func(ch rpc.Chunk) error {
			return eachFrame(ch.Frames, func(f segments.Frame) error {
				if f.Last() <= inc.Position().TxID {
					return nil
				}
				return inc.Append(f)
			})
		})
		if err == nil && inc.Position() == req.End.Position() {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func eachFrame(b []byte, each func(segments.Frame) error) error {
	for len(b) > 0 {
		f, err := segments.ParseFrame(b)
		if err != nil {
			return err
		}
		if err := each(f); err != nil {
			return err
		}
		b = b[f.Size():]
	}
	return nil
}

// writer is a writer in its epoch: what it has assigned, and one stream per node.
type writer struct {
	c     *cluster
	claim fencing.Claim
	prev  segments.End
	pos   segments.Position
	floor recovery.Floor
	sent  []segments.Frame // of the open segment
}

// writes returns the writer that a recovery made. The journal goes on behind its end.
func (c *cluster) writes(r recovery.Result) *writer {
	return &writer{c: c, claim: r.Claim, prev: r.Prev, pos: r.Prev.Position()}
}

// mustRecover returns the writer of a recovery that succeeds.
func (c *cluster) mustRecover(ids ...quorum.NodeID) *writer {
	r, err := c.recover(ids...)
	require.NoError(c, err)
	return c.writes(r)
}

// stream is one write stream to a node, with what came back.
type stream struct {
	*Stream
	m       *machine
	replies []rpc.WriteReply
	err     error
}

func (w *writer) stream(id quorum.NodeID) *stream {
	s := &stream{m: w.c.nodes[id]}
	s.Stream = &Stream{
		Header: w.c.header(id, w.claim),
		Reply:  func(r rpc.WriteReply) { s.replies = append(s.replies, r) },
		Fail:   func(err error) { s.err = err },
	}
	return s
}

// send hands messages over together (one group commit) and returns the answers.
func (s *stream) send(ms ...rpc.WriteRequest) ([]rpc.WriteReply, error) {
	if err := s.m.Hello(s.Header); err != nil {
		return nil, err
	}
	var items []Item
	for _, m := range ms {
		items = append(items, Item{s.Stream, m})
	}
	s.replies = nil
	s.m.Process(items)
	return s.replies, s.err
}

// start sends StartSegment and returns the position told.
func (w *writer) start(id quorum.NodeID) (segments.Position, error) {
	prev := w.prev
	rs, err := w.stream(id).send(rpc.WriteRequest{Start: &prev, Floor: w.floor})
	if err != nil {
		return segments.Position{}, err
	}
	require.Len(w.c, rs, 1)
	require.Equal(w.c, rpc.Started, rs[0].Kind)
	return rs[0].At, nil
}

// delete is what a node does when the catalog has deleted the journal.
func (c *cluster) delete(m *machine) error {
	return m.Bury(quorum.Config{Version: m.Config().Version + 1})
}

// rebuild has a damaged copy of the open segment built anew up to target, as journalnode does it, and
// returns the position told.
func (w *writer) rebuild(id quorum.NodeID, target segments.Position, sources ...quorum.NodeID) (segments.Position, error) {
	s, prev := w.stream(id), w.prev
	if err := s.m.Hello(s.Header); err != nil {
		return segments.Position{}, err
	}
	s.m.Attach(s.Stream)
	defer s.m.Detach(s.Stream)
	f := rpc.Fill{Segment: prev.Next(), Target: target, Rebuild: &prev}
	inc, err := s.m.BeginRebuild(s.Stream, f)
	if err == nil && inc != nil {
		if target != prev.Position() {
			err = w.c.fetch(inc, recovery.AcceptRequest{
				Epoch: w.claim.Epoch, Sources: sources,
				End: segments.End{First: f.Segment, Last: target.TxID, Digest: target.Digest},
			})
		}
		if err != nil {
			return segments.Position{}, errors.Join(err, inc.Abort())
		}
		err = s.m.FinishRebuild(s.Stream, f, inc)
	}
	if err != nil {
		return segments.Position{}, err
	}
	require.Len(w.c, s.replies, 1)
	require.Equal(w.c, rpc.Started, s.replies[0].Kind)
	return s.replies[0].At, nil
}

func (w *writer) mustStart(ids ...quorum.NodeID) *writer {
	for _, id := range ids {
		_, err := w.start(id)
		require.NoError(w.c, err, id)
	}
	return w
}

// frame assigns the next txid to a payload.
func (w *writer) frame(payload string) segments.Frame {
	f := sealed(w.pos, w.claim.Epoch, payload)
	w.pos = f.Position()
	w.sent = append(w.sent, f)
	return f
}

func sealed(before segments.Position, e fencing.Epoch, payload string) segments.Frame {
	var b segments.Builder
	b.Reset(before.TxID+1, e)
	if err := b.Add([]byte(payload)); err != nil {
		panic(err)
	}
	f, err := b.Seal(before.Digest, segments.SealOptions{})
	if err != nil {
		panic(err)
	}
	return f
}

// put sends frames and returns the position acknowledged.
func (w *writer) put(id quorum.NodeID, fs ...segments.Frame) (segments.Position, error) {
	rs, err := w.stream(id).send(rpc.WriteRequest{Frames: fs, Floor: w.floor})
	if len(rs) == 0 {
		return segments.Position{}, err
	}
	return rs[0].At, err
}

// write assigns one txid and has it acknowledged by the nodes.
func (w *writer) write(payload string, ids ...quorum.NodeID) segments.Position {
	f := w.frame(payload)
	for _, id := range ids {
		at, err := w.put(id, f)
		require.NoError(w.c, err, id)
		require.Equal(w.c, f.Position(), at)
	}
	return f.Position()
}

// commit says that all up to p is committed.
func (w *writer) commit(p segments.Position) {
	w.floor = recovery.Floor{Segment: w.prev.Next(), Epoch: w.claim.Epoch, At: p}
}

// tell sends the floor, and nothing else.
func (w *writer) tell(id quorum.NodeID) {
	_, err := w.stream(id).send(rpc.WriteRequest{Floor: w.floor})
	require.NoError(w.c, err)
}

func (w *writer) end() segments.End {
	return segments.End{First: w.prev.Next(), Last: w.pos.TxID, Digest: w.pos.Digest}
}

// finalize sends Finalize on the stream.
func (w *writer) finalize(id quorum.NodeID) error {
	end := w.end()
	rs, err := w.stream(id).send(rpc.WriteRequest{Finalize: &end, Floor: w.floor})
	if err == nil {
		require.Len(w.c, rs, 1)
		require.Equal(w.c, rpc.Finalized, rs[0].Kind)
	}
	return err
}

// next goes on to the segment behind the open one.
func (w *writer) next() *writer {
	w.prev, w.sent = w.end(), nil
	return w
}

// copyAt is what a node holds of segment s.
func (c *cluster) copyAt(id quorum.NodeID, s segments.TxID) recovery.Copy {
	return c.nodes[id].copyOf(s)
}

// shown is what a reader at a node is shown, from txid 1.
func (c *cluster) shown(id quorum.NodeID) ([]string, error) {
	var out []string
	err := c.nodes[id].Tail(context.Background(), rpc.TailRequest{Journal: journalID, From: 1}, func(ch rpc.Chunk) error {
		return eachFrame(ch.Frames, func(f segments.Frame) error {
			return f.EachTxn(func(_ segments.TxID, b []byte) error { out = append(out, string(b)); return nil })
		})
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, err
}

func pairs(ids []quorum.NodeID) [][]quorum.NodeID {
	var out [][]quorum.NodeID
	for i := range ids {
		for k := i + 1; k < len(ids); k++ {
			out = append(out, []quorum.NodeID{ids[i], ids[k]})
		}
	}
	return out
}

// probe is the oracle: on copies of the disks, after a power loss that spares nothing unsynced and after
// one that spares all, a fresh writer must recover on each majority, all acknowledged positions must be
// there, and the writer must be able to write.
func (c *cluster) probe(acked ...segments.Position) {
	for _, percent := range []int{0, 50, 100} {
		for _, majority := range pairs(c.ids()) {
			c.probeOn(percent, majority, acked)
		}
	}
}

func (c *cluster) probeOn(percent int, majority []quorum.NodeID, acked []segments.Position) {
	p := &cluster{TestingT: c.TestingT, cfg: c.cfg, nodes: map[quorum.NodeID]*machine{}, writers: 100 + c.writers}
	for _, id := range majority {
		disk := c.nodes[id].disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: percent, Rand: rand.New(rand.NewPCG(3, 4))})
		p.nodes[id] = &machine{id: id, disk: disk}
		p.open(id)
	}
	what := fmt.Sprintf("majority %v, %d%% of the unsynced survive", majority, percent)
	r, err := p.recover(majority...)
	if p.nodes[c.damaged] != nil && errors.Is(err, recovery.ErrUnknownData) {
		return
	}
	require.NoError(c, err, what)
	w := p.writes(r)
	for _, a := range acked {
		require.GreaterOrEqual(c, r.Prev.Last, a.TxID, "%s: %s is LOST", what, a)
		require.True(c, p.anyHolds(a), "%s: %s is LOST, something else stands there", what, a)
	}
	w.mustStart(majority...)
	w.write("probe", majority...)
}

// anyHolds: a finalized segment has this very position.
func (c *cluster) anyHolds(p segments.Position) bool {
	for _, m := range c.nodes {
		for _, s := range m.Segments() {
			if s.State != recovery.Finalized || s.First > p.TxID || s.Last.TxID < p.TxID {
				continue
			}
			if d, ok, err := m.store.DigestAt(s.First, p.TxID); err == nil && ok && d == p.Digest {
				return true
			}
		}
	}
	return p.TxID == 0
}

// pullFinalized copies a finalized segment from one node to another, as repair does.
func (c *cluster) pullFinalized(to, from quorum.NodeID, s segments.TxID) {
	src := c.nodes[from]
	info, err := src.store.Info(s)
	require.NoError(c, err)
	inc, err := c.nodes[to].NewIncoming(info.Prev, info.Epoch)
	require.NoError(c, err)
	require.NoError(c, src.store.CopyPrefix(s, info.Last, inc))
	require.NoError(c, c.nodes[to].InstallFinalized(inc, info.End()))
}
