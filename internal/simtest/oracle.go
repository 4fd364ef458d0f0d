package simtest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/replication"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// oracle knows what was acknowledged and decided, and checks that it stays so.
type oracle struct {
	w       *world
	ackedBy fencing.Epoch                                  // who acknowledged it
	acked   segments.Position                              // the highest acknowledged position: it names the whole prefix
	sealed  map[segments.Position]bool                     // every frame end that a writer made
	decided map[segments.TxID]segments.End                 // how segments end
	txns    map[segments.Position]map[segments.TxID]string // content of each frame, by its end
	disks   []*diskView                                    // what each node would have after a power failure
}

// diskView is a node as it would come back after losing everything unsynced.
type diskView struct {
	j   *journal.Journal
	err error
}

func newOracle(w *world) oracle {
	return oracle{w: w, sealed: map[segments.Position]bool{}, decided: map[segments.TxID]segments.End{},
		txns: map[segments.Position]map[segments.TxID]string{}, disks: make([]*diskView, w.cfg.Nodes)}
}

// assign: a writer made a frame.
func (o *oracle) assign(core *replication.Core, f segments.Frame) {
	if err := core.Add(f); err != nil {
		o.w.fail(err)
		return
	}
	o.sealed[f.Position()] = true
	content := map[segments.TxID]string{}
	err := f.EachTxn(func(t segments.TxID, b []byte) error { content[t] = string(b); return nil })
	if err != nil {
		o.w.fail(err)
	}
	o.txns[f.Position()] = content
}

// ack: a writer told its callers that everything up to its committed position is durable.
func (o *oracle) ack(core *replication.Core) {
	p := core.Committed()
	if end, done := core.Finished(); done {
		o.decide(end)
	}
	if p.TxID <= o.acked.TxID {
		if p.TxID == o.acked.TxID && p != o.acked {
			o.w.fail(fmt.Errorf("two contents acknowledged: %s and %s", o.acked, p))
		}
		return
	}
	o.w.note("acked %s by epoch %d", p, core.Claim().Epoch)
	o.acked, o.ackedBy = p, core.Claim().Epoch
}

// decide: a majority agreed how a segment ends.
func (o *oracle) decide(end segments.End) {
	if old, ok := o.decided[end.First]; ok && old != end {
		o.w.fail(fmt.Errorf("decision changed: %s, then %s", old, end))
	}
	o.decided[end.First] = end
}

// recovered: an attempt is done; nothing that a lower epoch acknowledged may lie behind its end. (A
// higher epoch may have acknowledged more by the time this one learns that it chose: it is fenced then.)
func (o *oracle) recovered(r recovery.Result) {
	if r.Claim.Epoch > o.ackedBy && r.Prev.Last < o.acked.TxID {
		o.w.fail(fmt.Errorf("epoch %d recovered %s, but %s was acknowledged", r.Claim.Epoch, r.Prev, o.acked))
	}
}

// check runs after every event: nodes whose disks changed are looked at as they would come back from a
// power failure, and then every majority must be able to recover.
func (o *oracle) check() {
	changed := false
	for i, n := range o.w.nodes {
		ops := n.disk.Ops()
		if o.disks[i] != nil && n.seen == ops {
			continue
		}
		n.seen, changed = ops, true
		o.disks[i] = o.look(n)
	}
	if !changed || o.w.result.Err != nil {
		return
	}
	o.views()
	for mask := range 1 << len(o.w.nodes) {
		in := func(m quorum.Member) bool {
			return mask>>slices.IndexFunc(o.w.nodes, func(n *simNode) bool { return n.member.ID == m.ID })&1 == 1
		}
		if !minimal(o.w.members, mask, in) {
			continue
		}
		o.w.result.Probes++
		if err := o.probe(mask); err != nil {
			o.w.fail(fmt.Errorf("majority %03b: %w", mask, err))
			return
		}
	}
}

// minimal reports whether the mask is a majority without a member to spare.
func minimal(cfg quorum.Config, mask int, in func(quorum.Member) bool) bool {
	n := 0
	for m := mask; m > 0; m &= m - 1 {
		n++
	}
	return cfg.Majority(in) && n == len(cfg.Members())/2+1
}

func (o *oracle) look(n *simNode) *diskView {
	clone := n.disk.CrashClone(memfs.CrashOptions{})
	j, err := journal.Open(clone, dir, n.self(), o.w.journal, journalOptions)
	return &diskView{j, err}
}

// probe is a fresh writer's recovery on one majority, as far as the choice: R2 and R3 over what the
// disks hold.
func (o *oracle) probe(mask int) error {
	var js []*journal.Journal
	newest := segments.TxID(1)
	for i := range o.w.nodes {
		if mask>>i&1 == 0 {
			continue
		}
		if err := o.disks[i].err; err != nil {
			return fmt.Errorf("n%d cannot be opened after a power failure: %w", i+1, err)
		}
		j := o.disks[i].j
		st := j.State()
		if !st.DataKnown {
			return fmt.Errorf("n%d does not know its data after a power failure: %v", i+1, st.Damaged)
		}
		newest = max(newest, st.Answer.Newest)
		js = append(js, j)
	}
	ch, err := choose(o.w.members, newest, js)
	if err != nil {
		return fmt.Errorf("stuck: %w", err)
	}
	if d, ok := o.decided[newest]; ok && d != ch.End {
		return fmt.Errorf("decision changed: segment %d was decided to end at %s, recovery says %s", newest, d, ch.End)
	}
	return o.keepsAcked(ch, js)
}

func choose(cfg quorum.Config, s segments.TxID, js []*journal.Journal) (recovery.Choice, error) {
	ask := map[quorum.Key][]segments.TxID{}
	for {
		var answers []recovery.Answer
		for _, j := range js {
			a, err := j.Answer(s, ask[quorum.Key(j.Self())])
			if err != nil {
				return recovery.Choice{}, err
			}
			answers = append(answers, a)
		}
		ch, need, err := recovery.Choose(cfg, s, answers)
		if err != nil || len(need) == 0 {
			return ch, err
		}
		for _, q := range need {
			ask[q.Node] = append(ask[q.Node], q.TxID)
		}
	}
}

// keepsAcked: the recovered journal contains the highest acknowledged position, by digest, and every
// segment below the newest can be read on this majority.
func (o *oracle) keepsAcked(ch recovery.Choice, js []*journal.Journal) error {
	if o.acked.TxID > ch.End.Last {
		return fmt.Errorf("LOST: %s was acknowledged, recovery ends at %s", o.acked, ch.End)
	}
	at := segments.TxID(1)
	want := ch.Prev
	for at < ch.End.First {
		i := slices.IndexFunc(js, func(j *journal.Journal) bool { return j.FinalizedEnd(at) != segments.End{} })
		if i < 0 {
			return fmt.Errorf("UNREADABLE: txid %d lies below segment %d and is finalized on no node", at, ch.End.First)
		}
		end := js[i].FinalizedEnd(at)
		if end.Next() == ch.End.First && end != want {
			return fmt.Errorf("LOST: segment %d follows %s, but %s is finalized", ch.End.First, want, end)
		}
		if err := o.holdsAcked(js[i], at, end); err != nil {
			return err
		}
		at = end.Next()
	}
	for _, j := range js {
		if slices.Contains(ch.Sources, j.Self().ID) {
			if err := o.holdsAcked(j, ch.End.First, ch.End); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *oracle) holdsAcked(j *journal.Journal, s segments.TxID, end segments.End) error {
	if o.acked.TxID < s || o.acked.TxID > end.Last {
		return nil
	}
	a, err := j.Answer(s, []segments.TxID{o.acked.TxID})
	if err != nil {
		return err
	}
	for _, d := range a.Digests {
		if d.At == o.acked && d.Found {
			return nil
		}
	}
	return fmt.Errorf("LOST: %s was acknowledged, %s of segment %d holds other content there", o.acked, j.Self().ID, s)
}

// views is D1 and D2 on the living nodes: what a reader is shown is a frame end that was made by a
// writer, and is not beyond what is acknowledged or decided.
func (o *oracle) views() {
	for _, n := range o.w.nodes {
		if n.j == nil {
			continue
		}
		v, _ := n.j.Watch()
		if v.InProgress != 0 && v.Limit > o.acked.TxID {
			o.w.fail(fmt.Errorf("n%d shows txid %d, acknowledged is %s", n.at+1, v.Limit, o.acked))
		}
		for _, s := range n.j.FinalizedFirsts() {
			end := n.j.FinalizedEnd(s)
			if d, ok := o.decided[s]; ok && d != end {
				o.w.fail(fmt.Errorf("n%d finalized %s, decided was %s", n.at+1, end, d))
			}
		}
	}
}

// settled: the last writer has closed and all nodes hold the same.
func (o *oracle) settled() bool {
	last := o.w.clients[len(o.w.clients)-1]
	if !last.closed {
		return false
	}
	var want []rpc.SegmentInfo
	for i, n := range o.w.nodes {
		if n.j == nil {
			return false
		}
		have := n.j.Segments()
		for k := range have {
			if have[k].State != recovery.Finalized {
				return false
			}
			have[k].Bytes = 0 // marks are the node's own
		}
		if i > 0 && !slices.Equal(want, have) {
			return false
		}
		want = have
	}
	return true
}

// final reads the whole journal on every node and compares it with what the writers wrote.
func (o *oracle) final() {
	for _, n := range o.w.nodes {
		var prev segments.Position
		err := n.j.Tail(context.Background(), rpc.TailRequest{From: 1}, func(c rpc.Chunk) error {
			frames, err := segments.ParseFrames(c.Frames)
			if err != nil {
				return err
			}
			for _, f := range frames {
				if err := errors.Join(f.Verify(prev.Digest), o.sameContent(f)); err != nil {
					return err
				}
				prev = f.Position()
			}
			return nil
		})
		if err != nil || prev.TxID < o.acked.TxID {
			o.w.fail(fmt.Errorf("n%d reads up to %s, acknowledged is %s: %w", n.at+1, prev, o.acked, err))
		}
		o.w.note("n%d holds %s", n.at+1, prev)
	}
}

func (o *oracle) sameContent(f segments.Frame) error {
	want, ok := o.txns[f.Position()]
	if !ok {
		return fmt.Errorf("frame %s was never written", f.Range())
	}
	return f.EachTxn(func(t segments.TxID, b []byte) error {
		if want[t] != string(b) {
			return fmt.Errorf("txid %d: got %q, want %q", t, b, want[t])
		}
		return nil
	})
}
