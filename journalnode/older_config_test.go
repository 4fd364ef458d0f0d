package journalnode_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// newer is a node that has config 2 of a journal installed, and the summary with which it was told.
type newer struct {
	*bed
	n   rpc.Node
	id  segments.JournalID
	cfg quorum.Config
}

func (b *bed) newer() *newer {
	id := b.journal("j")
	o := &newer{bed: b, n: b.node(0), id: id, cfg: quorum.NewConfig(2, b.membersOf(0, 1, 2)...)}
	return o
}

func (o *newer) install() {
	o.Helper()
	require.NoError(o, o.n.InstallConfig(o.ctx, o.summary(2)))
}

func (o *newer) summary(version uint64) rpc.JournalSummary {
	cfg := o.cfg
	cfg.Version = version
	return rpc.JournalSummary{ID: o.id, Name: "j", Config: cfg}
}

// countsTowardsAQuorum says of every request that a node serves whether it counts towards a quorum. Those that
// do are sent with a config's version; the others say why they need none.
var countsTowardsAQuorum = map[string]struct {
	send   func(o *newer, h rpc.Header) error
	exempt string
}{
	"NewEpoch": {send: func(o *newer, h rpc.Header) error { _, err := o.n.NewEpoch(o.ctx, h); return err }},
	"Prepare":  {send: func(o *newer, h rpc.Header) error { _, err := o.n.Prepare(o.ctx, h, 1, nil); return err }},
	"Accept": {send: func(o *newer, h rpc.Header) error {
		return o.n.Accept(o.ctx, h, recovery.AcceptRequest{Claim: h.Claim, End: segments.End{First: 1, Last: 1}, Epoch: 1}, nil)
	}},
	"Finalize": {send: func(o *newer, h rpc.Header) error { return o.n.Finalize(o.ctx, h, segments.End{First: 1, Last: 1}) }},
	"Write":    {send: func(o *newer, h rpc.Header) error { return o.message(h, rpc.WriteRequest{}) }},
	"BeginSnapshot": {send: func(o *newer, h rpc.Header) error {
		_, err := o.n.BeginSnapshot(o.ctx, rpc.SnapshotUpload{Header: h, ID: image.ID(), Size: image.Size})
		h.Claim = fencing.Claim{} // without a writer's claim it counts as well
		_, unclaimed := o.n.BeginSnapshot(o.ctx, rpc.SnapshotUpload{Header: h, ID: image.ID(), Size: image.Size})
		return errors.Join(err, unclaimed)
	}},
	"FinishSnapshot": {send: func(o *newer, h rpc.Header) error {
		err := o.n.FinishSnapshot(o.ctx, rpc.SnapshotEnd{Header: h, Snapshot: image})
		h.Claim = fencing.Claim{}
		return errors.Join(err, o.n.FinishSnapshot(o.ctx, rpc.SnapshotEnd{Header: h, Snapshot: image}))
	}},
	// That a config is installed is counted (M2).
	"InstallConfig": {send: func(o *newer, h rpc.Header) error { return o.n.InstallConfig(o.ctx, o.summary(h.ConfigVersion)) }},
	"LeaveJournal":  {send: func(o *newer, h rpc.Header) error { return o.n.LeaveJournal(o.ctx, o.summary(h.ConfigVersion)) }},

	"State":        {exempt: "it answers with its own config, and whoever counts answers compares those (D6)"},
	"AskWriter":    {exempt: "it has the writer asked, which answers under its own claim"},
	"PutSnapshot":  {exempt: "what it sends is invisible until FinishSnapshot"},
	"ReadSegment":  {exempt: "fetching frames (D6)"},
	"Tail":         {exempt: "fetching frames (D6)"},
	"ReadSnapshot": {exempt: "fetching what a majority vouched for"},
	"Segments":     {exempt: "a list, for anti-entropy and for eyes"},
	"Snapshots":    {exempt: "a list; what is listed comes from the catalog"},
	"Journals":     {exempt: "a list, with the configs"},
	"Info":         {exempt: "about the node"},
	"Close":        {exempt: "no request"},
}

var image = snapshot.Snapshot{TxID: 1, At: segments.Position{TxID: 1, Digest: segments.Digest{1}}, Size: 1, Epoch: 1}

// message opens a write stream and returns how it ends after a message, or nil if there is an answer.
func (o *newer) message(h rpc.Header, m rpc.WriteRequest) error {
	s, err := o.n.Write(o.ctx, h)
	if err != nil {
		return err
	}
	defer s.Close()
	_ = s.Send(m) // how the stream ended is what Recv says
	_, err = soon(o.bed, time.Minute, "answer", s.Recv)
	return err
}

// M1: a node refuses each request that counts towards a quorum and carries an older config than its installed
// one, answers with the newer version, and promises nothing. Who adds a request says here whether it counts.
func TestM1_EveryRequestOfAnOlderConfig(t *testing.T) {
	for m := range reflect.TypeFor[rpc.Node]().Methods() {
		if _, control := reflect.TypeFor[rpc.Control]().MethodByName(m.Name); control {
			continue // asked of the catalog, not of the journal's members
		}
		row, ok := countsTowardsAQuorum[m.Name]
		require.True(t, ok, "rpc.Node.%s: does it count towards a quorum? Add a row.", m.Name)
		require.NotEqual(t, row.send == nil, row.exempt == "", m.Name)
	}
	for name, row := range countsTowardsAQuorum {
		_, ok := reflect.TypeFor[rpc.Node]().MethodByName(name)
		require.True(t, ok, name)
		if row.send == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) {
				o := b.newer()
				o.install()
				h := b.header(0, o.id, 9, writerID())
				err := row.send(o, h)
				for _, e := range each(err) {
					require.ErrorIs(b, e, rpc.ErrConfig)
					ce, ok := errors.AsType[*rpc.ConfigError](e)
					require.True(b, ok)
					require.EqualValues(b, 2, ce.Want)
				}
				require.Error(b, err)
				st, serr := o.n.State(b.ctx, o.id)
				require.NoError(b, serr)
				require.Zero(b, st.Promised, "a request that is refused has no effect")
				require.EqualValues(b, 2, st.Summary.Config.Version)

				h.ConfigVersion = 2
				require.NotErrorIs(b, row.send(o, h), rpc.ErrConfig, "under the installed one it passes, or fails for a reason of its own")
			})
		})
	}
}

// each takes a joined error apart.
func each(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// M1: the same of every kind of message on a stream that was opened before the newer config came: none is
// answered any more.
func TestM1_EveryMessageOfAnOlderStream(t *testing.T) {
	messages := map[string]func(h rpc.Header) rpc.WriteRequest{
		"Seq": func(rpc.Header) rpc.WriteRequest { return rpc.WriteRequest{Seq: 7} }, // a heartbeat
		"Floor": func(h rpc.Header) rpc.WriteRequest {
			return rpc.WriteRequest{Floor: recovery.Floor{Segment: 1, Epoch: h.Claim.Epoch, At: segments.Position{TxID: 1, Digest: segments.Digest{1}}}}
		},
		"Start": func(rpc.Header) rpc.WriteRequest { return rpc.WriteRequest{Start: &segments.End{}} },
		"Frames": func(h rpc.Header) rpc.WriteRequest {
			return rpc.WriteRequest{Frames: frames(t, segments.Position{}, h.Claim.Epoch, "a")}
		},
		"Finalize": func(rpc.Header) rpc.WriteRequest { return rpc.WriteRequest{Finalize: &segments.End{First: 1}} },
		"Fill":     func(rpc.Header) rpc.WriteRequest { return rpc.WriteRequest{Fill: &rpc.Fill{Segment: 1}} },
		"Sealed": func(h rpc.Header) rpc.WriteRequest {
			return rpc.WriteRequest{Sealed: rpc.Seal{Version: 1, Epoch: h.Claim.Epoch, Segment: 1}}
		},
		"Reached": func(rpc.Header) rpc.WriteRequest { return rpc.WriteRequest{Reached: &rpc.Reached{ID: 1}} },
		"Leaving": func(rpc.Header) rpc.WriteRequest { return rpc.WriteRequest{Leaving: true} },
	}
	for f := range reflect.TypeFor[rpc.WriteRequest]().Fields() {
		if f.Name != "Free" { // says nothing
			require.Contains(t, messages, f.Name, "a new kind of message: add a row")
		}
	}
	for name, message := range messages {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) {
				o := b.newer()
				h := b.header(0, o.id, 1, writerID())
				s, err := o.n.Write(b.ctx, h)
				require.NoError(b, err)
				defer s.Close()
				require.NoError(b, s.Send(rpc.WriteRequest{Start: &segments.End{}}))
				r, err := soon(b, time.Minute, "started", s.Recv)
				require.NoError(b, err)
				require.Equal(b, rpc.Started, r.Kind)
				o.install()
				_ = s.Send(message(h)) // the stream may be over already
				_, err = soon(b, time.Minute, "the end of the stream", s.Recv)
				require.ErrorIs(b, err, rpc.ErrConfig)
				require.ErrorIs(b, o.message(h, message(h)), rpc.ErrConfig, "nor on a new stream")
				st, err := o.n.State(b.ctx, o.id)
				require.NoError(b, err)
				require.Equal(b, recovery.InProgress, st.Answer.Copy.State)
				require.Zero(b, st.Answer.Copy.Last)
				require.Zero(b, st.Answer.Floor)
				require.Zero(b, st.Seal)
			})
		})
	}
}

// M0, N5: the power goes at each disk operation of InstallConfig, of a journal that is here, and of one that is
// made with the config. What is left has the old config or the new one whole, or no journal; never one that is
// unknown. What was answered stays; and the same request then succeeds.
func TestM0_InstallConfigCutOffAtEveryOperation(t *testing.T) {
	for name, here := range map[string]bool{"a journal that is here": true, "a journal that is made": false} {
		t.Run(name, func(t *testing.T) {
			for _, percent := range []int{0, 100} {
				for k := int64(1); ; k++ {
					if installCutOff(t, here, k, percent) {
						require.Greater(t, k, int64(4))
						break
					}
					require.False(t, t.Failed())
				}
			}
		})
	}
}

// installCutOff reports whether the install was done before operation k.
func installCutOff(t *testing.T, here bool, k int64, percent int) (done bool) {
	disks := make([]*faultfs.FS, 3)
	opts := testcluster.Options{FS: func(i int, d *memfs.FS) vfs.FS {
		disks[i] = faultfs.New(d)
		return disks[i]
	}}
	run(t, opts, func(b *bed) {
		id, before := rpc.JournalIDOf(b.founded(), "j"), quorum.Config{}
		o := &newer{bed: b, n: b.node(0), id: id, cfg: quorum.NewConfig(2, b.membersOf(0, 1, 2)...)}
		if here {
			b.journal("j")
			st, err := o.n.State(b.ctx, id)
			require.NoError(b, err)
			before = st.Summary.Config
		}
		disks[0].CrashAt(disks[0].Mutations() + k)
		ctx, cancel := context.WithTimeout(b.ctx, time.Second)
		err := o.n.InstallConfig(ctx, o.summary(2))
		cancel()
		done = !disks[0].Crashed()
		disks[0].Crash()
		b.Net.Down(b.ID(0))
		left := b.Disks[0].CrashClone(memfs.CrashOptions{UnsyncedPercent: percent})
		_ = b.Nodes[0].Stop(b.ctx) // on a disk that is dead
		b.Disks[0], b.Nodes[0] = left, nil
		b.StartNode(0)

		st, serr := b.Nodes[0].State(b.ctx, id)
		switch {
		case errors.Is(serr, rpc.ErrNoJournal):
			require.False(b, here || done)
		default:
			require.NoError(b, serr, "crash at %d", k)
			require.Empty(b, st.Damaged)
			require.True(b, st.Member)
			require.True(b, st.DataKnown)
			digest := st.Summary.Config.Digest()
			require.True(b, digest == o.cfg.Digest() || here && !done && digest == before.Digest(), "crash at %d: %v", k, st.Summary.Config)
		}
		if done {
			require.NoError(b, err)
		}
		require.NoError(b, b.Nodes[0].InstallConfig(b.ctx, o.summary(2)))
		h := b.header(0, id, 1, writerID())
		h.ConfigVersion = 2
		_, err = b.Nodes[0].NewEpoch(b.ctx, h)
		require.NoError(b, err)
	})
	return done
}
