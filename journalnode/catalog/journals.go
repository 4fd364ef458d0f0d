package catalog

import (
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// CreateJournal adds a journal with its first config. The same again, before any change, is answered
// again.
type CreateJournal struct {
	ID      segments.JournalID
	Name    string
	Members []quorum.Member // addresses are taken from the nodes
	Policy  Policy
	Quota   uint64
}

func (m *CreateJournal) kind() kind { return kindCreateJournal }

func (m *CreateJournal) code(c *coder) {
	c.fixed(m.ID[:])
	text(c, &m.Name, MaxNameBytes)
	codeMembers(c, &m.Members)
	codePolicy(c, &m.Policy)
	u64(c, &m.Quota)
}

func (m *CreateJournal) check() error {
	if m.ID.IsZero() {
		return invalid("journal id", "zero", "a UUID")
	}
	if err := checkName(m.Name); err != nil {
		return err
	}
	if err := checkMembers("members", m.Members); err != nil {
		return err
	}
	return checkPolicy(m.Policy)
}

func (m *CreateJournal) apply(c *Catalog, index uint64) (Result, error) {
	if old, ok := c.journals[m.ID]; ok {
		if old.Name == m.Name && old.Config.Digest() == quorum.NewConfig(1, m.Members...).Digest() {
			return Result{Again: true, Version: 1}, nil
		}
		return Result{}, refuse(ErrJournalExists, m.ID.String(), m.Name, old.Name)
	}
	if id, ok := c.byName[m.Name]; ok {
		return Result{}, refuse(ErrNameTaken, m.Name, m.ID, id)
	}
	if n := len(c.byName); n >= MaxJournals {
		return Result{}, refuse(ErrLimit, "journals", n+1, MaxJournals)
	}
	set, err := c.members(m.Members, nil)
	if err != nil {
		return Result{}, err
	}
	// Version 1 has no predecessor that could still act, so it is in force from the start (M2).
	j := &Journal{ID: m.ID, Name: m.Name, Config: quorum.NewConfig(1, set...), InForce: 1, Policy: m.Policy, Quota: m.Quota}
	j.remember(index, Created, "")
	c.put(j)
	c.byName[m.Name] = m.ID
	return Result{Version: 1}, nil
}

func checkPolicy(p Policy) error {
	if p.Replicas > quorum.MaxMembers {
		return invalid("replicas", p.Replicas, fmt.Sprintf("at most %d", quorum.MaxMembers))
	}
	return nil
}

// DeleteJournal makes the empty config the journal's next one (M8). All members leave tombstones, and
// the name stays taken until Reclaim. A change that is still learning is dropped; any other has to end
// first, and so has the way of the current config into force (M2).
type DeleteJournal struct{ Target }

func (m *DeleteJournal) kind() kind   { return kindDeleteJournal }
func (m *DeleteJournal) check() error { return nil }

func (m *DeleteJournal) apply(c *Catalog, index uint64) (Result, error) {
	return c.edit(m.Target, func(j *Journal) (Result, error) {
		if j.Change != nil && j.Change.Stage != StageLearning {
			return Result{}, underWay(j)
		}
		if err := inForce(j); err != nil {
			return Result{}, err
		}
		if err := j.dropChange(); err != nil { // before the empty config: learners were no members
			return Result{}, err
		}
		if err := j.install(quorum.Config{Version: j.Config.Version + 1}); err != nil {
			return Result{}, err
		}
		j.Lease, j.Deleted = nil, true
		j.remember(index, Deleted, "")
		return Result{}, nil
	})
}

func inForce(j *Journal) error {
	if j.InForce < j.Config.Version {
		return refuse(ErrNotInForce, "journal "+j.Name, j.InForce, j.Config.Version)
	}
	return nil
}

// Reclaim says that the empty config is in force: the name is free (M8). The tombstones stay until every
// former member was forgotten.
type Reclaim struct {
	ID      segments.JournalID
	Version uint64 // of the empty config
}

func (m *Reclaim) kind() kind { return kindReclaim }

func (m *Reclaim) code(c *coder) {
	c.fixed(m.ID[:])
	u64(c, &m.Version)
}

func (m *Reclaim) check() error { return nil }

func (m *Reclaim) apply(c *Catalog, _ uint64) (Result, error) {
	cur, ok := c.journals[m.ID]
	switch {
	case !ok:
		return Result{}, &Refusal{Class: ErrNoJournal, What: m.ID.String()}
	case !cur.Deleted:
		return Result{}, &Refusal{Class: ErrNotDeleted, What: cur.Name}
	case m.Version != cur.Config.Version:
		return Result{}, &ConflictError{Journal: m.ID, Of: "config version", Got: m.Version, Want: cur.Config.Version}
	case cur.Reclaimed:
		return Result{Again: true, Version: cur.Config.Version}, nil
	case len(c.journals)-len(c.byName) >= MaxTombstones:
		return Result{}, refuse(ErrLimit, "tombstones", MaxTombstones+1, MaxTombstones)
	}
	res, err := c.replace(cur, func(j *Journal) (Result, error) {
		j.reclaim()
		return Result{}, nil
	})
	delete(c.byName, cur.Name)
	c.bury(m.ID)
	return res, err
}

// DropLost takes a journal out of which nothing is left: the empty config, and the name is free at once, though
// nobody has heard of it (M8). Only an operator asks for that, when all members are lost for good. A member that
// comes back all the same is told by its tombstone; see LostWhole for what it does with its data. Of a journal
// that is being deleted it ends the wait for members who never answer.
type DropLost struct {
	Target
	Version uint64 // of the empty config
	Reason  string
}

func (m *DropLost) kind() kind { return kindDropLost }

func (m *DropLost) code(c *coder) {
	m.Target.code(c)
	u64(c, &m.Version)
	text(c, &m.Reason, MaxTextBytes)
}

func (m *DropLost) check() error { return checkText("reason", m.Reason, 1, MaxTextBytes) }

func (m *DropLost) apply(c *Catalog, index uint64) (Result, error) {
	cur, ok := c.journals[m.Journal]
	switch {
	case !ok:
		return Result{}, &Refusal{Class: ErrNoJournal, What: m.Journal.String()}
	case m.ExpectVersion != cur.Config.Version:
		return Result{}, &ConflictError{Journal: m.Journal, Of: "config version", Got: m.ExpectVersion, Want: cur.Config.Version}
	case cur.Reclaimed:
		return Result{Again: true, Version: cur.Config.Version}, nil
	case !cur.Deleted && m.Version <= cur.Config.Version:
		return Result{}, &ConflictError{Journal: m.Journal, Of: "forced config version", Got: m.Version, Want: cur.Config.Version + 1}
	case len(c.journals)-len(c.byName) >= MaxTombstones:
		return Result{}, refuse(ErrLimit, "tombstones", MaxTombstones+1, MaxTombstones)
	}
	res, err := c.replace(cur, func(j *Journal) (Result, error) {
		if j.Deleted {
			j.reclaim()
			return Result{}, nil
		}
		if err := j.dropChange(); err != nil {
			return Result{}, err
		}
		if err := j.install(quorum.Config{Version: m.Version}); err != nil {
			return Result{}, err
		}
		j.Lease, j.Deleted = nil, true
		j.remember(index, Forced, m.Reason)
		j.reclaim()
		return Result{}, nil
	})
	if err != nil {
		return Result{}, err
	}
	delete(c.byName, cur.Name)
	c.bury(m.Journal)
	return res, nil
}

// reclaim: the empty config counts as in force.
func (j *Journal) reclaim() {
	j.Reclaimed, j.InForce = true, j.Config.Version
	j.Snapshots = nil
}

// LostWhole tells that the journal was dropped because all its members were lost. What one of them holds that comes
// back is all that is left of it, and nobody asked for it to be removed.
func (j *Journal) LostWhole() bool {
	return j.Deleted && slices.ContainsFunc(j.History, func(h HistoryEntry) bool {
		return h.Kind == Forced && h.Version == j.Config.Version
	})
}

// bury drops a reclaimed journal that no node has to be kept from any more.
func (c *Catalog) bury(id segments.JournalID) {
	if j := c.journals[id]; j.Reclaimed && len(j.Former) == 0 {
		delete(c.journals, id)
		delete(c.changed, id)
	}
}

// Forget drops tombstones: the node's storage is gone for good, or was told all it has to know. With a
// Journal it drops the one that Version left there; without, all of the node's.
type Forget struct {
	ID          quorum.NodeID
	Incarnation quorum.Incarnation
	Journal     segments.JournalID // zero: every journal
	Version     uint64             // with a Journal: a later tombstone is not meant
}

func (m *Forget) kind() kind { return kindForget }

func (m *Forget) code(c *coder) {
	text(c, &m.ID, quorum.MaxIDBytes)
	c.fixed(m.Incarnation[:])
	c.fixed(m.Journal[:])
	u64(c, &m.Version)
}

func (m *Forget) check() error { return nil }

func (m *Forget) apply(c *Catalog, _ uint64) (Result, error) {
	if m.Journal.IsZero() {
		return Result{Again: !c.forgetAll(m)}, nil
	}
	j, ok := c.journals[m.Journal]
	if !ok {
		return Result{}, &Refusal{Class: ErrNoJournal, What: m.Journal.String()}
	}
	i := m.find(j)
	if i < 0 {
		return Result{Again: true, Version: j.Config.Version}, nil
	}
	if v := j.Former[i].Version; v != m.Version {
		return Result{}, &ConflictError{Journal: m.Journal, Of: "tombstone", Got: m.Version, Want: v}
	}
	version := j.Config.Version
	c.forget(j, i)
	return Result{Version: version}, nil
}

func (m *Forget) find(j *Journal) int {
	return slices.IndexFunc(j.Former, func(f Former) bool {
		return f.Member.Same(quorum.Member{ID: m.ID, Incarnation: m.Incarnation})
	})
}

func (c *Catalog) forgetAll(m *Forget) bool {
	any := false
	for _, j := range c.sortedJournals() {
		if i := m.find(j); i >= 0 {
			any = true
			c.forget(j, i)
		}
	}
	return any
}

func (c *Catalog) forget(j *Journal, i int) {
	next := j.clone()
	next.Former = slices.Delete(next.Former, i, i+1)
	if len(next.Former) == 0 {
		next.Former = nil
	}
	c.put(next)
	c.bury(j.ID)
}

// SetPolicy replaces the journal's policy.
type SetPolicy struct {
	Target
	Policy Policy
}

func (m *SetPolicy) kind() kind { return kindSetPolicy }

func (m *SetPolicy) code(c *coder) {
	m.Target.code(c)
	codePolicy(c, &m.Policy)
}

func (m *SetPolicy) check() error { return checkPolicy(m.Policy) }

func (m *SetPolicy) apply(c *Catalog, _ uint64) (Result, error) {
	return c.edit(m.Target, func(j *Journal) (Result, error) {
		j.Policy = m.Policy
		return Result{}, nil
	})
}

// SetQuota replaces the journal's quota.
type SetQuota struct {
	Target
	Quota uint64
}

func (m *SetQuota) kind() kind { return kindSetQuota }

func (m *SetQuota) code(c *coder) {
	m.Target.code(c)
	u64(c, &m.Quota)
}

func (m *SetQuota) check() error { return nil }

func (m *SetQuota) apply(c *Catalog, _ uint64) (Result, error) {
	return c.edit(m.Target, func(j *Journal) (Result, error) {
		j.Quota = m.Quota
		return Result{}, nil
	})
}

// ListSnapshot lists a snapshot that a majority of every member set of the config ExpectVersion has
// synced and verified (C1). It is refused if that config is not the current one any more: its holders
// may have been switched off. ConfigVersion, Holders and Index of Snapshot are set here.
type ListSnapshot struct {
	Target
	Snapshot Snapshot
	Holders  []quorum.Member
}

func (m *ListSnapshot) kind() kind { return kindListSnapshot }

func (m *ListSnapshot) code(c *coder) {
	m.Target.code(c)
	codeImage(c, &m.Snapshot)
	list(c, &m.Holders, maxHolders, codeMember)
}

func (m *ListSnapshot) check() error {
	s := m.Snapshot
	if s.TxID == 0 || s.TxID > s.FrameLast.TxID {
		return invalid("snapshot's txid", s.TxID, fmt.Sprintf("1 to its frame's last, %d", s.FrameLast.TxID))
	}
	for _, h := range m.Holders {
		if err := h.ID.Validate(); err != nil {
			return &Refusal{Class: ErrInvalid, What: "holder", Cause: err}
		}
	}
	return nil
}

func (m *ListSnapshot) apply(c *Catalog, index uint64) (Result, error) {
	return c.edit(m.Target, func(j *Journal) (Result, error) {
		if slices.ContainsFunc(j.Snapshots, m.Snapshot.same) {
			return Result{Again: true}, nil
		}
		if len(j.Snapshots) > 0 && m.Snapshot.TxID <= j.Snapshots[0].TxID {
			newest := j.Snapshots[0]
			return Result{}, refuse(ErrOldSnapshot, "snapshot of journal "+j.Name, m.Snapshot.TxID,
				fmt.Sprintf("above %d", newest.TxID))
		}
		if err := m.counted(j); err != nil {
			return Result{}, err
		}
		s := m.Snapshot
		s.ConfigVersion, s.Index = j.Config.Version, index
		s.Holders = m.members()
		j.Snapshots = slices.Insert(j.Snapshots, 0, s)
		j.Snapshots = j.Snapshots[:min(len(j.Snapshots), MaxSnapshots)]
		return Result{}, nil
	})
}

// members returns the holders once each, sorted, without addresses.
func (m *ListSnapshot) members() []quorum.Member {
	out := sortedSet(m.Holders)
	for i := range out {
		out[i].Addr = ""
	}
	return slices.CompactFunc(out, quorum.Member.Same)
}

func (m *ListSnapshot) counted(j *Journal) error {
	for _, h := range m.Holders {
		if !j.Config.Has(h.ID, h.Incarnation) {
			return refuse(ErrNoMajority, "holder", fmt.Sprintf("%s/%s", h.ID, h.Incarnation), "a member")
		}
	}
	if !j.Config.Majority(func(o quorum.Member) bool { return slices.ContainsFunc(m.Holders, o.Same) }) {
		return refuse(ErrNoMajority, "holders of journal "+j.Name, len(m.members()), "a majority of every member set")
	}
	return nil
}
