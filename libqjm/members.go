package libqjm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// How often a change that is waited for is looked at.
const (
	changePoll    = 50 * time.Millisecond // at first
	changePollMax = time.Second
)

// replaceAtOnce bounds how many journals a replacement changes at the same time: the new node copies them.
const replaceAtOnce = 16

// Changes of a journal's members.
type (
	// MembershipChange is one under way: learning, joint, sealed or final.
	MembershipChange = rpc.MembershipChange
	// MembershipEvent is a past one, and what came of it.
	MembershipEvent = rpc.MembershipEvent
)

// ChangeOptions of a membership change.
type ChangeOptions struct {
	// ExpectVersion is the config version that the caller has seen; 0: whichever there is.
	ExpectVersion uint64
	// DryRun only checks.
	DryRun bool
}

// ChangeMembers begins to change a journal's members to the named nodes, and returns when that is decided;
// the catalog's leader carries it on from there. WaitForChange waits for the end. A live writer goes along
// without a failed append and keeps its epoch. The same change again, while it is under way, is answered
// again.
//
// Errors: ErrNoJournal; ErrNoNode; ErrSameMembers; ErrChangeUnderWay for another one; ErrConflict where the
// config is not of ExpectVersion; ErrUnavailable where a new member does not answer; ErrNoLeader.
func (c *Client) ChangeMembers(ctx context.Context, journal string, to []string, o ChangeOptions) (MembershipChange, error) {
	var keys []quorum.Key
	for _, id := range to {
		keys = append(keys, quorum.Key{ID: quorum.NodeID(id)})
	}
	return c.changeTo(ctx, rpc.ChangeRequest{Name: journal, To: keys, Expect: o.ExpectVersion, DryRun: o.DryRun})
}

func (c *Client) changeTo(ctx context.Context, req rpc.ChangeRequest) (MembershipChange, error) {
	if err := rpc.CheckJournalName(req.Name); err != nil {
		return MembershipChange{}, err
	}
	r, err := anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (rpc.ChangeReply, error) { return n.ChangeMembers(ctx, req) })
	if err != nil {
		return MembershipChange{}, fmt.Errorf("libqjm: change the members of %s: %w", req.Name, err)
	}
	return r.Change, nil
}

// AbortChange gives the change under way up, or only that one where id is not 0. The old members are the
// journal's again. Errors: ErrNoChange; ErrWrongStage for one that is final already; ErrNoLeader.
func (c *Client) AbortChange(ctx context.Context, journal string, id uint64) error {
	tried := false
	_, err := anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (uint64, error) {
		if id == 0 { // it is named once: asked for again, it must not be the next one that is given up
			var err error
			if id, err = changeUnderWay(ctx, n, journal); err != nil {
				return 0, err
			}
		}
		v, err := n.AbortChange(ctx, rpc.AbortRequest{Name: journal, Change: id})
		if tried && (errors.Is(err, ErrNoChange) || errors.Is(err, ErrConflict)) {
			return v, nil // an answer was lost
		}
		tried = tried || errors.Is(err, ErrUnavailable)
		return v, err
	})
	if err != nil {
		return fmt.Errorf("libqjm: abort the change of %s: %w", journal, err)
	}
	return nil
}

func changeUnderWay(ctx context.Context, n rpc.Node, journal string) (uint64, error) {
	v, err := n.Catalog(ctx, Linearizable)
	if err != nil {
		return 0, err
	}
	for _, j := range v.Journals {
		switch {
		case j.Name != journal:
		case j.Change == nil:
			return 0, fmt.Errorf("%w: journal %s", ErrNoChange, journal)
		default:
			return j.Change.ID, nil
		}
	}
	return 0, fmt.Errorf("%w: %s", ErrNoJournal, journal)
}

// ErrChangeAborted: a membership change that was waited for was given up. Why is in the journal's history.
var ErrChangeAborted = errors.New("libqjm: the membership change was given up")

// WaitForChange returns when no change of the journal's members is under way. Progress, which may be nil, is
// called with each state that is seen. Errors: ErrChangeAborted with the reason; ErrNoJournal.
func (c *Client) WaitForChange(ctx context.Context, journal string, progress func(MembershipChange)) error {
	var last MembershipChange
	for wait := changePoll; ; wait = min(2*wait, changePollMax) {
		v, err := c.Catalog(ctx, Linearizable)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(v.Journals, func(j CatalogJournal) bool { return j.Name == journal })
		if i < 0 {
			return fmt.Errorf("%w: %s", ErrNoJournal, journal)
		}
		j := v.Journals[i]
		if j.Change == nil {
			return gaveUp(j, last)
		}
		if progress != nil && (j.Change.ID != last.ID || j.Change.Stage != last.Stage || j.Change.Note != last.Note) {
			progress(*j.Change)
		}
		last = *j.Change
		if err := pauseFor(ctx, wait); err != nil {
			return err
		}
	}
}

// gaveUp looks in the history for what came of the change that was seen last: the first thing after it began.
// What is behind that is of another one.
func gaveUp(j CatalogJournal, last MembershipChange) error {
	for _, e := range j.History { // oldest first
		if e.Index <= last.ID || last.ID == 0 {
			continue
		}
		if e.Kind == "aborted" {
			return fmt.Errorf("%w: %s: %s", ErrChangeAborted, j.Name, e.Note)
		}
		break
	}
	if j.Deleted {
		return fmt.Errorf("%w: %s", ErrJournalDeleted, j.Name)
	}
	return nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// AddProgress says how far a node has come into the cluster.
type AddProgress struct {
	Asked bool // it is registered
	Votes bool // in the catalog's group
}

const (
	addGrace  = 5 * time.Second // how long a node that does not answer may be just starting
	addNotice = 2 * time.Second // how long one that answers may not have asked yet, before that is told
)

// AddMember waits until the node that was started at addr to join this cluster takes part in it: it is
// registered, has caught up with the catalog, and votes there, or would, if there were not enough voters
// already. With dryRun it only looks whether that can come to be. Called again, it goes on waiting.
//
// Errors: ErrUnavailable where nobody answers at addr; ErrRefused for another node, one of another cluster, a
// node that is registered under another address, one whose disk was wiped since, or one that was taken out.
func (c *Client) AddMember(ctx context.Context, id, addr string, dryRun bool, progress func(AddProgress)) error {
	var told *AddProgress
	began := time.Now()
	for wait := changePoll; ; wait = min(2*wait, changePollMax) {
		v, err := c.Catalog(ctx, Linearizable)
		if err != nil {
			return err
		}
		now, err := c.adding(ctx, v, id, addr)
		starting := errors.Is(err, ErrUnavailable) && time.Since(began) < addGrace
		if err != nil && !starting || dryRun {
			return err
		}
		due := err == nil && (now.Asked || time.Since(began) >= addNotice)
		if progress != nil && due && (told == nil || now != *told) {
			told = &now
			progress(now)
		}
		if now.Votes {
			return nil
		}
		if err := pauseFor(ctx, wait); err != nil {
			return fmt.Errorf("libqjm: node %s is not in the cluster yet: %w", id, err)
		}
	}
}

func (c *Client) adding(ctx context.Context, v Catalog, id, addr string) (AddProgress, error) {
	voters := 0
	var there *CatalogNode
	for _, n := range v.Nodes {
		if n.Voter {
			voters++
		}
		if string(n.ID) == id && !n.Leaving {
			there = &n
		}
	}
	switch {
	case there != nil && there.Addr != addr:
		return AddProgress{}, fmt.Errorf("%w: node %s is in the cluster, at %s", ErrRefused, id, there.Addr)
	}
	n, err := c.conn(addr)
	if err != nil {
		return AddProgress{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.RequestTimeout)
	defer cancel()
	info, err := n.Info(ctx)
	switch {
	case err != nil:
		return AddProgress{}, fmt.Errorf("libqjm: node %s at %s: %w", id, addr, err)
	case string(info.ID) != id:
		return AddProgress{}, fmt.Errorf("%w: another node answers at %s (got %s, want %s)", ErrRefused, addr, info.ID, id)
	case info.Phase != rpc.Blank && info.Cluster != v.Cluster:
		return AddProgress{}, fmt.Errorf("%w: node %s has the data of another cluster, %x", ErrRefused, id, info.Cluster)
	case there != nil && info.Incarnation != there.Incarnation:
		return AddProgress{}, fmt.Errorf("%w: node %s is in the cluster with another storage (its incarnation is %s, the cluster's %s): its disk was wiped or replaced; use member replace %s %s",
			ErrRefused, id, info.Incarnation, there.Incarnation, id, id)
	case there != nil:
		return AddProgress{Asked: true, Votes: there.Voter || voters >= rpc.VotersMax}, nil
	}
	if _, err := n.Catalog(ctx, rpc.Stale); errors.Is(err, rpc.ErrRemoved) { // it knows itself, and never asks
		return AddProgress{}, fmt.Errorf("%w: the storage of node %s (incarnation %s) was taken out of the cluster: give the node a blank directory, and start it with --join",
			ErrRefused, id, info.Incarnation)
	}
	return AddProgress{}, nil
}

// ReplaceProgress says how far a replacement has come.
type ReplaceProgress struct {
	Old, New   string
	Done       int // journals that do not need the old storage any more
	Journals   int // of so many
	UnderWay   []string
	Waiting    string // why the first of them waits
	Removed    bool   // the old storage has left the cluster
	Readmitted bool   // the new storage was registered in the place of the old one
}

// ReplaceOptions of ReplaceMember.
type ReplaceOptions struct {
	// Progress, if not nil, is called when something has moved.
	Progress func(ReplaceProgress)
	// Keep leaves the old node in the cluster when no journal needs it any more.
	Keep bool
	// DryRun only says which journals would change.
	DryRun bool
}

// ReplaceMember moves every journal from one node to another, and takes the old one out of the cluster last.
// Where both are the same node, its disk was wiped or replaced: the storage that it has now takes the place
// of the lost one (N1). It can be cut off anywhere, and called again, by anybody.
//
// It returns the names of the journals that were, or with DryRun would be, changed. Errors: those of
// ChangeMembers and RemoveNode; ErrChangeAborted where the change of a journal was given up;
// ErrRefused where a journal has both nodes already.
func (c *Client) ReplaceMember(ctx context.Context, old, fresh string, o ReplaceOptions) ([]string, error) {
	r := &replacement{c: c, o: o, under: map[string]MembershipChange{}, progress: ReplaceProgress{Old: old, New: fresh}}
	if err := r.find(ctx, old, fresh); err != nil {
		return nil, fmt.Errorf("libqjm: replace %s by %s: %w", old, fresh, err)
	}
	if err := r.run(ctx); err != nil {
		return r.changed, fmt.Errorf("libqjm: replace %s by %s: %w", old, fresh, err)
	}
	return r.changed, nil
}

type replacement struct {
	c          *Client
	o          ReplaceOptions
	old, fresh quorum.Key
	changed    []string
	under      map[string]MembershipChange // the change of each journal that was seen last
	progress   ReplaceProgress
}

// find says which storages are meant.
func (r *replacement) find(ctx context.Context, old, fresh string) error {
	if old == fresh {
		m, err := anyNode(ctx, r.c, func(ctx context.Context, n rpc.Node) (rpc.ReadmitReply, error) {
			return n.Readmit(ctx, rpc.ReadmitRequest{Node: quorum.NodeID(old), DryRun: r.o.DryRun})
		})
		r.old, r.fresh = m.Old.Key(), m.New.Key()
		r.progress.Readmitted = err == nil && !r.o.DryRun
		return err
	}
	v, err := r.c.Catalog(ctx, Linearizable)
	if err != nil {
		return err
	}
	for _, n := range v.Nodes {
		switch {
		case string(n.ID) == old && (r.old.ID == "" || !n.Leaving):
			r.old = quorum.Key{ID: n.ID, Incarnation: n.Incarnation}
		case string(n.ID) == fresh && !n.Leaving:
			r.fresh = quorum.Key{ID: n.ID, Incarnation: n.Incarnation}
		}
	}
	switch {
	case r.fresh.ID == "":
		return fmt.Errorf("%w: %s", ErrNoNode, fresh)
	case r.old.ID == "":
		return fmt.Errorf("%w: %s", ErrNoNode, old)
	}
	return nil
}

func (r *replacement) run(ctx context.Context) error {
	for wait := changePoll; ; wait = min(2*wait, changePollMax) {
		v, err := r.c.Catalog(ctx, Linearizable)
		if err != nil {
			return err
		}
		left, err := r.step(ctx, v.Journals)
		switch {
		case err != nil || r.o.DryRun:
			return err
		case left > 0:
			if err := pauseFor(ctx, wait); err != nil {
				return err
			}
			continue
		case r.o.Keep:
			return nil
		}
		if err := r.c.removeStorage(ctx, r.old); err != nil && !errors.Is(err, ErrNoNode) {
			return err
		}
		r.progress.Removed = true
		r.tell(0)
		return nil
	}
}

// step begins what can be begun, and returns how many journals still need the old storage.
func (r *replacement) step(ctx context.Context, journals []CatalogJournal) (left int, err error) {
	r.progress.UnderWay, r.progress.Waiting = nil, ""
	for _, j := range journals {
		if j.Deleted || !r.needs(j) {
			continue
		}
		left++
		if !slices.Contains(r.changed, j.Name) {
			r.changed = append(r.changed, j.Name)
		}
		if j.Change != nil {
			r.under[j.Name] = *j.Change
		} else if err := gaveUp(j, r.under[j.Name]); err != nil {
			return left, err // it would be begun again at once, and whoever gave it up could not
		}
		if j.Change == nil && r.o.DryRun {
			if _, err := r.to(j); err != nil {
				return left, err
			}
		}
		if j.Change == nil && len(r.progress.UnderWay) < replaceAtOnce && !r.o.DryRun {
			if err := r.begin(ctx, j); err != nil {
				return left, err
			}
		}
		r.progress.UnderWay = append(r.progress.UnderWay, j.Name)
		if j.Change != nil && r.progress.Waiting == "" {
			r.progress.Waiting = j.Change.Note
		}
		if len(r.progress.UnderWay) > replaceAtOnce {
			r.progress.UnderWay = r.progress.UnderWay[:replaceAtOnce]
		}
	}
	r.tell(left)
	return left, nil
}

func (r *replacement) needs(j CatalogJournal) bool {
	return j.Config.Has(r.old.ID, r.old.Incarnation) ||
		j.Change != nil && slices.ContainsFunc(slices.Concat(j.Change.Old, j.Change.New), func(m quorum.Member) bool { return m.Key() == r.old })
}

// to is who the members of a journal shall be.
func (r *replacement) to(j CatalogJournal) ([]quorum.Key, error) {
	var to []quorum.Key
	for _, m := range j.Config.Members() {
		switch k := m.Key(); k {
		case r.fresh:
			return nil, fmt.Errorf("%w: journal %s has %s already; say who its members shall be by a change of its own", ErrRefused, j.Name, k.ID)
		case r.old:
			to = append(to, r.fresh)
		default:
			to = append(to, k)
		}
	}
	return to, nil
}

func (r *replacement) begin(ctx context.Context, j CatalogJournal) error {
	to, err := r.to(j)
	if err != nil {
		return err
	}
	req := rpc.ChangeRequest{Name: j.Name, Expect: j.Config.Version, To: to}
	ch, err := r.c.changeTo(ctx, req)
	if err == nil {
		r.under[j.Name] = ch
	}
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrChangeUnderWay) || errors.Is(err, ErrSameMembers) {
		return nil // somebody was faster; the next look tells
	}
	return err
}

func (r *replacement) tell(left int) {
	r.progress.Journals, r.progress.Done = len(r.changed), len(r.changed)-left
	if r.o.Progress != nil {
		r.o.Progress(r.progress)
	}
}

func (c *Client) removeStorage(ctx context.Context, k quorum.Key) error {
	_, err := anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (struct{}, error) {
		return struct{}{}, n.RemoveNode(ctx, rpc.RemoveRequest{Node: k.ID, Incarnation: k.Incarnation})
	})
	return err
}
