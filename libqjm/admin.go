package libqjm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// settle tries f again for a moment while too few nodes answer: the endpoint that was heard first may be
// ahead of the others, which are still being connected to, or founding the cluster.
func (c *Client) settle(ctx context.Context, f func() error) error {
	over, longer := time.After(min(settleTime, c.opts.RequestTimeout)), false
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		err := f()
		if !errors.Is(err, ErrNoQuorum) {
			return err
		}
		if errors.Is(err, rpc.ErrNotFounded) && !longer { // the cluster was started a moment ago
			over, longer = time.After(c.opts.RequestTimeout), true
		}
		select {
		case <-time.After(min(wait, time.Second)):
		case <-c.ctx.Done():
			return ErrClosed // nobody answers any more
		case <-over:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

// JournalInfo is one line of the list of journals.
type JournalInfo struct {
	Name    string
	ID      string
	Members []string
	Version uint64 // of its config
	Deleted bool   // only the tombstone is left, or will be soon: such ones are not listed
	// Deleting: some nodes have the tombstone, not a majority yet: the delete is decided, and will be finished.
	Deleting bool
}

// Journals lists the cluster's journals, by name. It returns what the nodes that answer know; an error
// only where none does.
func (c *Client) Journals(ctx context.Context) ([]JournalInfo, error) {
	said := map[segments.JournalID]map[quorum.NodeID]rpc.JournalSummary{}
	answered, removed := 0, 0
	nq := &recovery.NoQuorumError{Step: "the list of journals"}
	ids := c.nodeIDs()
	ask(ctx, c, ids, func(ctx context.Context, n rpc.Node) ([]rpc.JournalSummary, error) {
		return n.Journals(ctx)
	}, func(r reply[[]rpc.JournalSummary]) bool {
		if r.err != nil {
			nq.Causes = append(nq.Causes, recovery.NodeCause{Node: r.node, Err: r.err})
			if errors.Is(r.err, rpc.ErrRemoved) {
				removed++
			}
			return false
		}
		answered++
		for _, s := range r.val {
			if said[s.ID] == nil {
				said[s.ID] = map[quorum.NodeID]rpc.JournalSummary{}
			}
			said[s.ID][r.node] = s
		}
		return false
	})
	if answered == 0 {
		return nil, nq
	}
	var out []JournalInfo
	for id, by := range said {
		if info := journalInfo(id, by, len(ids)-removed-(answered-len(by))); !info.Deleted { // its name is free, or will be soon
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(a, b JournalInfo) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// journalInfo is what nodes say of one journal, by the newest config among them. So many nodes have it, or did not
// answer.
func journalInfo(id segments.JournalID, by map[quorum.NodeID]rpc.JournalSummary, nodes int) JournalInfo {
	info := JournalInfo{ID: id.String(), Deleted: rpc.DeleteInForce(quorum.Config{}, nodes, by)}
	var cfg quorum.Config
	for _, s := range by {
		info.Name = s.Name
		info.Deleting = info.Deleting || !info.Deleted && s.Deleted
		if !s.Deleted && s.Config.Version > cfg.Version {
			cfg = s.Config
		}
	}
	info.Version = cfg.Version
	for _, m := range cfg.Members() {
		info.Members = append(info.Members, string(m.ID))
	}
	info.Deleted = info.Deleted || cfg.Majority(func(m quorum.Member) bool { return by[m.ID].Deleted })
	return info
}

// Fence takes a higher epoch without becoming the writer (F7): the writer there is, if any, can commit
// nothing more. It returns the new epoch. Errors: ErrNoJournal, ErrNoQuorum.
func (c *Client) Fence(ctx context.Context, name string) (Epoch, error) {
	ref, _, err := c.states(ctx, name, false)
	if err != nil {
		return 0, err
	}
	res, err := c.win(ctx, &ref, recovery.Options{FenceOnly: true})
	return res.Claim.Epoch, err
}

// Recovery is the outcome of Recover.
type Recovery struct {
	Epoch   Epoch
	LastTx  TxID
	Digest  string // chain digest at LastTx
	Segment TxID   // first txid of the segment that was looked at; 0: the journal is empty
	Empty   bool   // it held nothing
	Sources []string
	Missing []string // nodes worth hearing that did not answer (N2a)
	// Quarantine names nodes whose finalized copy differs from the one that a majority holds (R2).
	Quarantine []string
}

// Recover fences whoever writes, decides how the newest segment ends and finalizes it, without becoming
// the writer. Errors: ErrNoJournal, ErrNoQuorum, ErrDivergence, *recovery.FloorError.
func (c *Client) Recover(ctx context.Context, name string) (Recovery, error) {
	ref, _, err := c.states(ctx, name, false)
	if err != nil {
		return Recovery{}, err
	}
	res, err := c.win(ctx, &ref, recovery.Options{})
	if err != nil {
		return Recovery{}, err
	}
	r := Recovery{
		Epoch: res.Claim.Epoch, LastTx: res.Prev.Last, Digest: res.Prev.Digest.String(),
		Segment: res.Recovered.End.First, Empty: res.Recovered.Empty,
	}
	for _, n := range res.Recovered.Sources {
		r.Sources = append(r.Sources, string(n))
	}
	for _, n := range res.Missing {
		r.Missing = append(r.Missing, string(n))
	}
	for _, n := range res.Recovered.Quarantine {
		r.Quarantine = append(r.Quarantine, string(n))
	}
	return r, nil
}

// NodeStatus is how one node stands in a journal.
type NodeStatus struct {
	Node        string
	State       string // in-sync, behind, unknown, damaged, poisoned, deleted, absent, unreachable, non-member
	Incarnation string
	Promised    Epoch
	Newest      TxID // first txid of its newest segment
	SegState    string
	SegEpoch    Epoch
	Last        TxID
	Digest      string
	Committed   TxID // its committed floor
	SyncMillis  float64
	Problems    []string
	Err         error
}

// JournalStatus is how a journal stands.
type JournalStatus struct {
	Name      string
	ID        string
	Version   uint64 // of the config
	Epoch     Epoch  // the highest one promised
	Writer    string // its writer id
	Committed TxID   // the highest txid known to be committed
	Segment   TxID   // the newest segment
	Quorum    bool   // a majority answered and counts
	Nodes     []NodeStatus
}

// Degraded reports whether anything is less than it should be.
func (s JournalStatus) Degraded() bool {
	return slices.ContainsFunc(s.Nodes, func(n NodeStatus) bool { return n.State != "in-sync" && n.State != "non-member" })
}

// Status asks all nodes how a journal stands. A quorum that is missing is told in the status, not as an
// error; errors are ErrNoJournal, ErrJournalDeleted, ErrBadRequest.
func (c *Client) Status(ctx context.Context, name string) (JournalStatus, error) {
	ref, got, err := c.states(ctx, name, true)
	if err != nil && !errors.Is(err, ErrNoQuorum) {
		return JournalStatus{}, err
	}
	st := JournalStatus{Name: name, ID: ref.id.String(), Version: ref.cfg.Version, Quorum: err == nil}
	got = slices.DeleteFunc(got, func(r reply[rpc.JournalState]) bool { return !concerned(ref.cfg, r) })
	var claim fencing.Claim
	for _, r := range got {
		if r.err != nil {
			continue
		}
		if r.val.Promised.Epoch > claim.Epoch {
			claim = r.val.Promised
		}
		st.Committed = max(st.Committed, committedBy(r.val))
		if r.val.DataKnown {
			st.Segment = max(st.Segment, r.val.Answer.Newest)
		}
	}
	if !claim.IsZero() {
		st.Epoch, st.Writer = claim.Epoch, claim.Writer.String()
	}
	for _, r := range got {
		n := nodeStatus(r, st)
		if r.err == nil && !isMember(ref.cfg, r.node) {
			n.State = "non-member"
		}
		st.Nodes = append(st.Nodes, n)
	}
	return st, nil
}

func isMember(cfg quorum.Config, id quorum.NodeID) bool {
	return slices.ContainsFunc(cfg.Members(), func(m quorum.Member) bool { return m.ID == id })
}

// concerned: a node that is no member has to do with the journal only while it copies it. Where nobody knows
// who the members are, all nodes are told of.
func concerned(cfg quorum.Config, r reply[rpc.JournalState]) bool {
	return cfg.IsZero() || isMember(cfg, r.node) || r.err == nil && !r.val.Summary.Deleted && r.val.Answer.Newest > 0
}

// committedBy is the highest txid that one node's answer proves committed.
func committedBy(s rpc.JournalState) TxID {
	t := max(s.Answer.Floor.At.TxID, s.Answer.Purged.TxID)
	if s.DataKnown && s.Answer.Copy.State == recovery.Finalized {
		t = max(t, s.Answer.Copy.Last.TxID)
	}
	if s.DataKnown && s.Answer.Copy.State == recovery.InProgress {
		t = max(t, s.Answer.Copy.Prev.Last)
	}
	return t
}

func nodeStatus(r reply[rpc.JournalState], st JournalStatus) NodeStatus {
	n := NodeStatus{Node: string(r.node), Err: r.err}
	switch {
	case errors.Is(r.err, ErrNoJournal):
		n.State = "absent"
		return n
	case errors.Is(r.err, rpc.ErrUnknownNode):
		n.State = "unknown"
		return n
	case r.err != nil:
		n.State = "unreachable"
		return n
	}
	s := r.val
	n.Incarnation, n.Promised, n.Newest = s.Incarnation.String(), s.Promised.Epoch, s.Answer.Newest
	n.SegState, n.SegEpoch = s.Answer.Copy.State.String(), s.Answer.Copy.Epoch
	n.Last, n.Digest, n.Committed = s.Answer.Copy.Last.TxID, s.Answer.Copy.Last.Digest.String(), s.Answer.Floor.At.TxID
	n.SyncMillis = float64(s.LastSync.Microseconds()) / 1000
	for _, d := range s.Damaged {
		n.Problems = append(n.Problems, fmt.Sprintf("segment %d: %s", d.Segment, d.Text))
	}
	switch {
	case s.Summary.Deleted:
		n.State = "deleted"
	case !s.Member:
		n.State = "unknown"
	case s.Poisoned != "":
		n.State = "poisoned"
		n.Problems = append(n.Problems, s.Poisoned)
	case len(s.Damaged) > 0:
		n.State = "damaged"
	case s.Answer.Newest < st.Segment || n.Last < st.Committed: // a lower promise alone lacks nothing
		n.State = "behind"
	default:
		n.State = "in-sync"
	}
	return n
}

// SegmentInfo is one segment on one node.
type SegmentInfo struct {
	Node    string
	First   TxID
	Last    TxID
	State   string
	Epoch   Epoch
	Digest  string
	Bytes   int64
	Problem string
}

// Segments lists what each node holds of a journal, by node and first txid.
func (c *Client) Segments(ctx context.Context, name string) ([]SegmentInfo, error) {
	ref, _, err := c.states(ctx, name, false)
	if err != nil && !errors.Is(err, ErrNoQuorum) {
		return nil, err
	}
	var out []SegmentInfo
	answered := false
	ids := c.nodeIDs()
	if !ref.cfg.IsZero() {
		ids = slices.DeleteFunc(ids, func(id quorum.NodeID) bool { return !isMember(ref.cfg, id) })
	}
	ask(ctx, c, ids, func(ctx context.Context, n rpc.Node) ([]rpc.SegmentInfo, error) {
		return rpc.AllSegments(ctx, ref.id, n.Segments)
	}, func(r reply[[]rpc.SegmentInfo]) bool {
		answered = answered || r.err == nil
		for _, s := range r.val {
			out = append(out, SegmentInfo{
				Node: string(r.node), First: s.First, Last: s.Last.TxID, State: s.State.String(), Epoch: s.Epoch,
				Digest: s.Last.Digest.String(), Bytes: s.Bytes, Problem: s.Problem,
			})
		}
		return false
	})
	if !answered {
		return nil, err
	}
	slices.SortFunc(out, func(a, b SegmentInfo) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.First, b.First))
	})
	return out, nil
}
