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
	parent  map[segments.Position]segments.Position        // of each frame end, the one before: histories
	disks   []*diskView                                    // what each node would have after a power failure
	high    []copyAt                                       // per node, the newest copy's durable end
	residue []*copyAt                                      // per node, what rot took above the last mark (N2a)
	purged  []segments.Position                            // per node, its durable purge point
	quorums map[[2]uint64][]int                            // their smallest majorities, by version and disks
}

// copyAt is a copy of an open segment, and how far it was durable.
type copyAt struct {
	segment  segments.TxID
	epoch    fencing.Epoch
	accepted recovery.Accepted
	last     segments.Position
}

// sameCopy: neither of them was started, accepted or put in place since the other.
func (c copyAt) sameCopy(d copyAt) bool {
	c.last, d.last = segments.Position{}, segments.Position{}
	return c == d
}

// diskView is a node as it would come back after losing everything unsynced.
type diskView struct {
	n    *simNode
	disk *memfs.FS
	j    *journal.Journal
	err  error
	none bool
	as   map[uint64]*diskView // with a newer config installed, see under

	// What was asked of it already: it is asked for each majority, and each time again.
	told    *rpc.JournalState
	ends    map[segments.TxID]segments.End
	firsts  []segments.TxID
	answers map[string]recovery.Answer
}

func (d *diskView) state() rpc.JournalState {
	if d.told == nil {
		st := d.j.State()
		d.told = &st
	}
	return *d.told
}

func (d *diskView) answer(s segments.TxID, digests []segments.TxID) (recovery.Answer, error) {
	key := fmt.Sprint(s, digests)
	if a, ok := d.answers[key]; ok {
		return a, nil
	}
	a, err := d.j.Answer(s, digests)
	if err == nil {
		if d.answers == nil {
			d.answers = map[string]recovery.Answer{}
		}
		d.answers[key] = a
	}
	return a, err
}

// finalizedEnd is the end of a finalized segment; zero: there is none.
func (d *diskView) finalizedEnd(s segments.TxID) segments.End {
	end, known := d.ends[s]
	if !known {
		if d.ends == nil {
			d.ends = map[segments.TxID]segments.End{}
		}
		end = d.j.FinalizedEnd(s)
		d.ends[s] = end
	}
	return end
}

func (d *diskView) finalizedFirsts() []segments.TxID {
	if d.firsts == nil {
		d.firsts = append([]segments.TxID{}, d.j.FinalizedFirsts()...)
	}
	return d.firsts
}

func newOracle(w *world) oracle {
	return oracle{w: w, parent: map[segments.Position]segments.Position{}, high: make([]copyAt, w.cfg.Nodes),
		residue: make([]*copyAt, w.cfg.Nodes), sealed: map[segments.Position]bool{}, decided: map[segments.TxID]segments.End{},
		quorums: map[[2]uint64][]int{}, purged: make([]segments.Position, w.cfg.Nodes),
		txns: map[segments.Position]map[segments.TxID]string{}, disks: make([]*diskView, w.cfg.Nodes)}
}

// assign: a writer made a frame.
func (o *oracle) assign(core *replication.Core, f segments.Frame) {
	before := core.Last()
	if err := core.Add(f); err != nil {
		o.w.fail(err)
		return
	}
	o.parent[f.Position()] = before
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
		if !o.contains(o.acked, p) {
			o.w.fail(fmt.Errorf("two contents acknowledged: %s and %s", o.acked, p))
		}
		return
	}
	if !o.contains(p, o.acked) {
		o.w.fail(fmt.Errorf("two histories acknowledged: %s and %s", o.acked, p))
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
	for _, cfg := range o.known() {
		for _, mask := range o.majorities(cfg) {
			if !o.mayUse(cfg, mask) {
				continue
			}
			o.w.result.Probes++
			if err := o.probe(cfg, mask); err != nil {
				o.w.fail(fmt.Errorf("config %d, majority %03b: %w", cfg.Version, mask, err))
				return
			}
		}
	}
}

// known are the configs that a fresh writer may begin with: what the catalog ever held, so also all that is
// installed anywhere.
func (o *oracle) known() (all []quorum.Config) {
	if !o.w.cfg.Changes {
		return []quorum.Config{o.w.members}
	}
	for _, j := range o.w.group.log {
		if n := len(all); n == 0 || all[n-1].Version != j.Config.Version {
			all = append(all, j.Config)
		}
	}
	return all
}

// majorities lists the smallest ones, of nodes whose disks the config names (N1), as masks.
func (o *oracle) majorities(cfg quorum.Config) (masks []int) {
	key := [2]uint64{cfg.Version, uint64(o.w.disks)}
	if have, ok := o.quorums[key]; ok {
		return have
	}
	majority := func(mask int) bool {
		return cfg.Majority(func(m quorum.Member) bool {
			n := o.w.node(m.ID)
			return mask>>n.at&1 == 1 && (n.incarnation == m.Incarnation || n.wiped)
		})
	}
	for mask := range 1 << len(o.w.nodes) {
		spare := !majority(mask)
		for i := range o.w.nodes {
			spare = spare || mask>>i&1 == 1 && majority(mask&^(1<<i))
		}
		if !spare {
			masks = append(masks, mask)
		}
	}
	o.quorums[key] = masks
	return masks
}

// mayUse: nobody in it has a newer config installed. Whoever asks there would hear of that, and start over
// (M1, M7).
func (o *oracle) mayUse(cfg quorum.Config, mask int) bool {
	for i, d := range o.disks {
		if mask>>i&1 == 1 && d.j != nil && d.j.Config().Version > cfg.Version {
			return false
		}
	}
	return true
}

// under is the node when it has been sent the config that a request carries (M0).
func (d *diskView) under(cfg quorum.Config) *diskView {
	if d.err != nil || d.j != nil && (d.j.Config().Version >= cfg.Version || d.j.Usable() != nil) {
		return d
	}
	if v, ok := d.as[cfg.Version]; ok {
		return v
	}
	v := &diskView{n: d.n, disk: d.disk.CrashClone(memfs.CrashOptions{})}
	v.disk.SetCapacity(-1)
	if d.none {
		v.err = journal.Create(v.disk, dir, d.n.w.journal, "sim", cfg)
	}
	if v.err == nil {
		v.j, v.err = journal.Open(v.disk, dir, d.n.self(), d.n.w.journal, journalOptions)
	}
	if v.err == nil {
		if err := v.j.InstallConfig(cfg); err != nil && !errors.Is(err, rpc.ErrUnknownNode) {
			v.err = err
		}
	}
	d.as[cfg.Version] = v
	return v
}

func (o *oracle) look(n *simNode) *diskView {
	clone := n.disk.CrashClone(memfs.CrashOptions{})
	clone.SetCapacity(-1)
	view := &diskView{n: n, disk: clone, as: map[uint64]*diskView{}}
	if view.none = !hasJournal(clone); view.none {
		return view
	}
	var mark segments.Position
	if n.rotten {
		mark = highestMark(clone, o.high[n.at].segment)
	}
	o.w.open(clone)
	view.j, view.err = journal.Open(clone, dir, n.self(), o.w.journal, journalOptions)
	if view.err == nil {
		o.measure(n, view.j.State().Answer.Copy, mark)
		o.purgePoint(n, view)
	}
	return view
}

// forget: the node has another disk.
func (o *oracle) forget(i int) {
	o.high[i], o.residue[i], o.purged[i] = copyAt{}, nil, segments.Position{}
}

// measure follows how far the newest copy is durable. It may only shrink where rot struck above the highest
// mark that is left: those frames then pass for torn. That is the residue which N2a documents, and the only
// loss of synced frames that a node may not notice.
func (o *oracle) measure(n *simNode, c recovery.Copy, mark segments.Position) {
	now := copyAt{c.Segment, c.Epoch, c.Accepted, c.Last}
	old := &o.high[n.at]
	if c.State == recovery.Unknown {
		return // noticed
	}
	if n.rotten && n.j != nil {
		// Frames behind a rotten mark cannot be read from the moment they are written: they were never seen
		// here, but the node that runs on has synced and acknowledged them.
		own := n.j.State().Answer.Copy
		if has := (copyAt{own.Segment, own.Epoch, own.Accepted, own.Last}); own.State == recovery.InProgress && has.sameCopy(*old) && o.contains(own.Last, old.last) {
			*old = has
		}
	}
	if c.State == recovery.InProgress && now.sameCopy(*old) && c.Last.TxID < old.last.TxID {
		switch {
		case !n.rotten && o.w.cfg.Broken != RuleR4: // whose accepted ends have no record
			o.w.fail(fmt.Errorf("n%d had %s durable, and has %s now", n.at+1, old.last, c.Last))
		case c.Last.TxID >= mark.TxID && o.residue[n.at] == nil:
			o.residue[n.at] = &copyAt{c.Segment, c.Epoch, c.Accepted, old.last}
			o.w.note("n%d: rot took %s to %s, above its last mark", n.at+1, c.Last, old.last)
		}
	}
	if r := o.residue[n.at]; r != nil && (c.State != recovery.InProgress || !now.sameCopy(*r) || o.contains(c.Last, r.last)) {
		o.residue[n.at] = nil // it has them again, or what was decided without them
	}
	*old = now
}

// contains: the history that ends at end goes through p.
func (o *oracle) contains(end, p segments.Position) bool {
	for end.TxID > p.TxID {
		end = o.parent[end]
	}
	return end == p
}

// whole: the node's disk holds all that was acknowledged, all of it can be read, and what the node had
// when it was damaged is there again, or was decided otherwise. Then another node may be damaged.
func (o *oracle) whole(i int) bool {
	n := o.w.nodes[i]
	clone := n.disk.CrashClone(memfs.CrashOptions{})
	clone.SetCapacity(-1)
	j, err := journal.Open(clone, dir, n.self(), o.w.journal, journalOptions)
	if err != nil || o.residue[i] != nil {
		return false
	}
	st := j.State()
	if !st.Member || !st.DataKnown || len(st.Damaged) > 0 || st.Answer.Copy.CutAt != nil {
		return false // or what was cut here still stands in the file of the running node
	}
	end := j.Purged()
	decided := end
	if o.w.cfg.Snapshots {
		listed := o.w.group.listedAt(len(o.w.group.log) - 1)
		if d := (&diskView{j: j}); len(listed) > 0 && !d.holds(listed[len(listed)-1]) {
			return false
		}
	}
	for _, s := range j.Segments() {
		if s.Last.TxID <= j.Purged().TxID && s.First <= j.Purged().TxID {
			continue // it will go
		}
		if s.First != end.TxID+1 || decided != end || s.State == recovery.Finalized && j.Verify(s.First, nil) != nil {
			return false
		}
		if end = s.Last; s.State == recovery.Finalized {
			decided = end
		}
	}
	for _, p := range n.owes {
		if p.TxID > decided.TxID && !o.contains(end, p) {
			return false
		}
	}
	return o.contains(end, o.acked)
}

// chosen: an attempt has made its choice. One that leaves out frames which rot took from a node that it
// heard, above that node's last mark, ends the run: the frames may have been acknowledged, or be any time.
// It is no excuse where any node that was heard knew a floor beyond the choice (R3).
func (o *oracle) chosen(c *client, end segments.End) {
	lost, cutAt := false, false
	for _, a := range c.heard {
		r := o.residue[o.w.node(a.Node.ID).at]
		if r != nil && a.Copy.State == recovery.InProgress && !o.contains(end.Position(), r.last) && o.mayBeAcked(r.last) {
			lost = true
			cutAt = cutAt || a.Copy.CutAt != nil
		}
		if !o.contains(end.Position(), a.Floor.At) {
			return
		}
	}
	if lost {
		o.w.note("N2a's residue: epoch %d ends at %s, cut_at %t", c.as(c.co.Claim()).Epoch, end, cutAt)
		o.w.result.Residue = true
	}
}

// mayBeAcked: a majority had p durable, before rot took it from some.
func (o *oracle) mayBeAcked(p segments.Position) bool {
	holds := func(m quorum.Member) bool {
		i := o.w.node(m.ID).at
		r := o.residue[i]
		return o.contains(o.high[i].last, p) || r != nil && o.contains(r.last, p)
	}
	return slices.ContainsFunc(o.known(), func(cfg quorum.Config) bool { return cfg.Majority(holds) })
}

// probe is a fresh writer's recovery on one majority, as far as the choice: R2 and R3 over what the
// disks hold. A majority without damaged nodes must be able to recover. One with such a node may be stuck,
// but it must not choose wrongly.
func (o *oracle) probe(cfg quorum.Config, mask int) error {
	var js []*diskView
	newest := segments.TxID(1)
	damaged, residue := false, false
	for i, n := range o.w.nodes {
		if mask>>i&1 == 0 {
			continue
		}
		damaged, residue = damaged || n.damaged, residue || o.residue[i] != nil
		if err := o.knows(cfg, i); err != nil {
			if n.damaged {
				return nil // no data answer, and it says so
			}
			return err
		}
		d := o.disks[i].under(cfg)
		if st := d.state(); st.DataKnown {
			newest = max(newest, st.Answer.Newest)
		}
		js = append(js, d)
	}
	ch, err := o.choose(cfg, newest, js)
	switch {
	case err != nil && damaged && !errors.Is(err, recovery.ErrDivergence):
		return nil
	case err != nil:
		return fmt.Errorf("stuck: %w", err)
	}
	if d, ok := o.decided[newest]; ok && d != ch.End {
		return fmt.Errorf("decision changed: segment %d was decided to end at %s, recovery says %s", newest, d, ch.End)
	}
	err = o.keepsAcked(ch, js, damaged, mask)
	if err == nil || !residue || o.passesFloor(ch, js) {
		return err
	}
	// N2a's residue: frames that rotted above the last mark may be lost to this majority, while the other
	// holder is away. With everybody there they must not be: who has a newer config then has the attempt start
	// over under that (M7), and its majorities are asked for themselves.
	if o.hearsOfNewer(cfg) {
		return nil
	}
	if everybody := o.everybody(cfg); everybody != mask {
		return o.probe(cfg, everybody)
	}
	return err
}

// hearsOfNewer: a member has a newer config installed.
func (o *oracle) hearsOfNewer(cfg quorum.Config) bool {
	return slices.ContainsFunc(cfg.Members(), func(m quorum.Member) bool {
		n := o.w.node(m.ID)
		return n.incarnation == m.Incarnation && !o.mayUse(cfg, 1<<n.at)
	})
}

// knows: the node would count, and give a data answer.
func (o *oracle) knows(cfg quorum.Config, i int) error {
	d := o.disks[i].under(cfg)
	if d.err != nil {
		return fmt.Errorf("n%d cannot be opened after a power failure: %w", i+1, d.err)
	}
	switch st := d.state(); {
	case !st.Member:
		return fmt.Errorf("n%d is no member after a power failure: %v", i+1, st.Damaged)
	case !st.DataKnown && o.w.cfg.Broken != RuleN2:
		return fmt.Errorf("n%d does not know its data after a power failure: %v", i+1, st.Damaged)
	}
	return nil
}

func (o *oracle) everybody(cfg quorum.Config) (mask int) {
	for i, n := range o.w.nodes {
		if cfg.Has(n.member.ID, n.incarnation) && o.mayUse(cfg, 1<<i) && o.knows(cfg, i) == nil {
			mask |= 1 << i
		}
	}
	return mask
}

// passesFloor: one of the nodes knows a floor that the choice does not contain (R3).
func (o *oracle) passesFloor(ch recovery.Choice, js []*diskView) bool {
	return slices.ContainsFunc(js, func(d *diskView) bool {
		return !o.contains(ch.End.Position(), d.state().Answer.Floor.At)
	})
}

func (o *oracle) choose(cfg quorum.Config, s segments.TxID, js []*diskView) (recovery.Choice, error) {
	ask := map[quorum.Key][]segments.TxID{}
	for {
		var answers []recovery.Answer
		for _, d := range js {
			a, err := d.answer(s, ask[quorum.Key(d.j.Self())])
			if err != nil {
				return recovery.Choice{}, err
			}
			answers = append(answers, o.w.distort(a))
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

// keepsAcked: the recovered journal contains the highest acknowledged position, by digest, and, unless a
// node is damaged, every segment below the newest can be read on this majority, or is covered by a listed
// snapshot that one of its nodes holds, with all behind it.
func (o *oracle) keepsAcked(ch recovery.Choice, js []*diskView, damaged bool, mask int) error {
	if !o.contains(ch.End.Position(), o.acked) {
		return fmt.Errorf("LOST: %s was acknowledged, recovery ends at %s", o.acked, ch.End)
	}
	if damaged {
		return nil
	}
	at := segments.TxID(1)
	want := ch.Prev
	for at < ch.End.First {
		i := slices.IndexFunc(js, func(d *diskView) bool { return d.finalizedEnd(at) != segments.End{} })
		if i < 0 {
			if next := o.behindSnapshot(at, ch.End.First, js, mask); next > at {
				at = next
				continue
			}
			return fmt.Errorf("UNREADABLE: txid %d lies below segment %d and is finalized on no node", at, ch.End.First)
		}
		end := js[i].finalizedEnd(at)
		if end.Next() == ch.End.First && end != want {
			return fmt.Errorf("LOST: segment %d follows %s, but %s is finalized", ch.End.First, want, end)
		}
		if err := o.holdsAcked(js[i], at, end); err != nil {
			return err
		}
		at = end.Next()
	}
	for _, d := range js {
		if slices.Contains(ch.Sources, d.j.Self().ID) {
			if err := o.holdsAcked(d, ch.End.First, ch.End); err != nil {
				return err
			}
		}
	}
	return nil
}

// behindSnapshot returns where a reader goes on who starts from a snapshot, as nobody has the segment at a txid.
func (o *oracle) behindSnapshot(at, newest segments.TxID, js []*diskView, mask int) segments.TxID {
	covered := o.covered(mask)
	next := newest
	for _, d := range js {
		for _, s := range d.finalizedFirsts() {
			if s > at {
				next = min(next, s)
			}
		}
	}
	if next > covered+1 {
		return 0
	}
	return next
}

func (o *oracle) holdsAcked(d *diskView, s segments.TxID, end segments.End) error {
	if o.acked.TxID < s || o.acked.TxID > end.Last {
		return nil
	}
	a, err := d.answer(s, []segments.TxID{o.acked.TxID})
	if err != nil {
		return err
	}
	for _, x := range a.Digests {
		if x.At == o.acked && x.Found {
			return nil
		}
	}
	return fmt.Errorf("LOST: %s was acknowledged, %s of segment %d holds other content there", o.acked, d.j.Self().ID, s)
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
			if end.IsZero() && n.damaged {
				continue // its footer cannot be read, which it noticed just now
			}
			if d, ok := o.decided[s]; ok && d != end {
				o.w.fail(fmt.Errorf("n%d finalized %s, decided was %s", n.at+1, end, d))
			}
		}
	}
}

// settled: the last writer has closed and all nodes hold the same.
func (o *oracle) settled() bool {
	last := o.w.clients[len(o.w.clients)-1]
	if !last.closed || !last.last {
		return false
	}
	var want []rpc.SegmentInfo
	var purged segments.TxID
	for _, n := range o.members() {
		if n.j != nil && !n.outForGood() {
			purged = max(purged, n.j.Purged().TxID)
		}
	}
	for _, n := range o.members() {
		if n.j == nil {
			return false
		}
		if n.outForGood() {
			continue
		}
		n.scrub() // rot that nobody has met yet
		if o.w.cfg.Snapshots && (n.j.Incomplete() || n.j.Needs() <= o.acked.TxID) {
			return false
		}
		have := slices.DeleteFunc(n.j.Segments(), func(s rpc.SegmentInfo) bool { return s.First <= purged })
		for k := range have {
			if have[k].State != recovery.Finalized {
				return false
			}
			have[k].Bytes = 0 // marks are the node's own
		}
		if want != nil && !slices.Equal(want, have) {
			return false
		}
		want = have
	}
	return true
}

// members are the nodes that the last config names.
func (o *oracle) members() (ms []*simNode) {
	for _, n := range o.w.nodes {
		if !o.w.cfg.Changes || o.w.group.now().Config.Has(n.member.ID, n.incarnation) {
			ms = append(ms, n)
		}
	}
	return ms
}

// holdings says what each node holds.
func (o *oracle) holdings() (s string) {
	for i, n := range o.w.nodes {
		s += fmt.Sprintf("\nn%d:", i+1)
		if n.j == nil {
			s += " down"
			continue
		}
		for _, x := range n.j.Segments() {
			s += fmt.Sprintf(" %d..%s %s %s", x.First, x.Last, x.State, x.Problem)
		}
	}
	return s
}

// final reads the whole journal on every node and compares it with what the writers wrote.
func (o *oracle) final() {
	for _, n := range o.members() {
		if n.outForGood() {
			continue
		}
		prev := n.j.Purged()
		err := n.j.Tail(context.Background(), rpc.TailRequest{From: prev.TxID + 1}, func(c rpc.Chunk) error {
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
