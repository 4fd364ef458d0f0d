package catalog

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// ClusterID names a cluster for good.
type ClusterID [16]byte

// Node is one storage incarnation of a node (N1).
type Node struct {
	ID          quorum.NodeID
	Incarnation quorum.Incarnation
	Addr        string // data plane; Raft is reached there, too
	HTTPAddr    string
	Labels      map[string]string
	Version     string // of its software, for people
	Level       uint16 // the highest feature level that its software knows
	Voter       bool   // in the catalog's group
	Leaving     bool   // another incarnation takes its place
}

// Member returns the node as a journal's member.
func (n Node) Member() quorum.Member {
	return quorum.Member{ID: n.ID, Incarnation: n.Incarnation, Addr: n.Addr}
}

func (n Node) clone() Node {
	n.Labels = maps.Clone(n.Labels)
	return n
}

func compareMembers(a, b quorum.Member) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), bytes.Compare(a.Incarnation[:], b.Incarnation[:]))
}

// Stage is how far a membership change has come.
type Stage uint8

// The stages, in their order. The config is the old one while learning, both sets while joint and
// sealed, the new one when final.
const (
	StageLearning Stage = iota + 1 // new members copy and do not count
	StageJoint                     // a majority of both sets is needed
	StageSealed                    // the seal is known (M4)
	StageFinal                     // the new set alone; old members are being cleaned up
)

// String returns the stage's name.
func (s Stage) String() string {
	switch s {
	case StageLearning:
		return "learning"
	case StageJoint:
		return "joint"
	case StageSealed:
		return "sealed"
	case StageFinal:
		return "final"
	}
	return "none"
}

// Seal is the first segment of the joint config (M4): one epoch has started it, or recovered and
// finalized it, on a majority of both sets.
type Seal struct {
	Epoch   fencing.Epoch
	Segment segments.TxID // its first txid
}

// Change is a membership change under way.
type Change struct {
	Stage        Stage
	Old, New     []quorum.Member
	BaseVersion  uint64 // the version of the old config
	Seal         Seal   // zero before StageSealed
	StartedIndex uint64 // names the change: commands say which one they mean
	Note         string // why it waits
}

// Learners returns the new members that are not old ones.
func (ch *Change) Learners() []quorum.Member {
	var out []quorum.Member
	for _, m := range ch.New {
		if !slices.ContainsFunc(ch.Old, m.Same) {
			out = append(out, m)
		}
	}
	return out
}

// Former is a member that left, and the config version that dropped it: a tombstone (M8).
type Former struct {
	Member  quorum.Member
	Version uint64
}

// Policy says when snapshots are due and what is kept. Zero switches a condition off.
type Policy struct {
	SnapshotBytes          uint64
	SnapshotTxns           uint64
	SnapshotIntervalMillis uint64
	SnapshotGrowthPercent  uint32
	RetainTxns             uint64 // kept before the newest snapshot, for slow readers
	RetainBytes            uint64
	Replicas               uint8 // how many members the journal should have; 0: as many as it has
	AutoReadmit            bool  // a wiped member is replaced without being asked for
}

// Snapshot is a listed snapshot (C1): the user's state after TxID. FrameLast is the end of the frame
// that holds it, whose digest names the history that it stands for.
type Snapshot struct {
	TxID          segments.TxID
	FrameLast     segments.Position
	Size          uint64
	Checksum      [32]byte
	Epoch         fencing.Epoch // of the writer that made it
	ConfigVersion uint64        // under which its holders were counted
	Holders       []quorum.Member
	Index         uint64 // at which it was listed
}

// same reports whether both are the same image of the same history.
func (s Snapshot) same(o Snapshot) bool {
	return s.TxID == o.TxID && s.FrameLast == o.FrameLast && s.Size == o.Size && s.Checksum == o.Checksum
}

// Lease says who should write. It stops nobody (L1): epochs decide who can.
type Lease struct {
	Revision    uint64 // the index that granted or reserved it
	Renewed     uint64 // the index that last renewed it; at first the same (L2)
	Holder      string // empty while it is reserved
	Addr        string
	TTLMillis   uint32
	Nonce       [16]byte // tells a repeated request from another process of the same name
	ReservedFor string   // the only one who may take it, after a transfer
}

// HistoryKind says what happened.
type HistoryKind uint8

// Kinds of history entries.
const (
	Created  HistoryKind = iota + 1
	Changed              // a change became final
	Aborted              // a change was given up
	Adopted              // the nodes' config was taken over (M9)
	Forced               // an operator gave up a lost majority
	Deleted              // the empty config
	kindsEnd = Deleted
)

// ByForce reports whether a config came about without the consent of a majority of the one before, or may have: what
// nodes had installed before the catalog knew of it may be an operator's reset of one node alone.
func (k HistoryKind) ByForce() bool { return k == Forced || k == Adopted }

// String returns the kind's name.
func (k HistoryKind) String() string {
	names := [...]string{"none", "created", "changed", "aborted", "adopted", "forced", "deleted"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

// HistoryEntry is one of a journal's last changes.
type HistoryEntry struct {
	Index   uint64
	Kind    HistoryKind
	Version uint64 // of the config that it led to
	Note    string
}

// Journal is what the catalog knows of one journal.
type Journal struct {
	ID        segments.JournalID
	Name      string
	Config    quorum.Config // the current one
	InForce   uint64        // the highest version that is known to be in force (M2)
	Change    *Change       // nil: none under way
	Former    []Former      // sorted by id and incarnation
	Policy    Policy
	Quota     uint64     // bytes per node; 0: none
	Deleted   bool       // the config is empty
	Reclaimed bool       // and in force: the name is free, only the tombstones are left
	Snapshots []Snapshot // newest first
	Lease     *Lease
	History   []HistoryEntry // oldest first
}

func (j *Journal) clone() *Journal {
	n := *j
	n.Config = cloneConfig(j.Config)
	if j.Change != nil {
		ch := *j.Change
		ch.Old, ch.New = slices.Clone(ch.Old), slices.Clone(ch.New)
		n.Change = &ch
	}
	n.Former = slices.Clone(j.Former)
	n.Snapshots = slices.Clone(j.Snapshots)
	for i, s := range n.Snapshots {
		n.Snapshots[i].Holders = slices.Clone(s.Holders)
	}
	if j.Lease != nil {
		l := *j.Lease
		n.Lease = &l
	}
	n.History = slices.Clone(j.History)
	return &n
}

func cloneConfig(cfg quorum.Config) quorum.Config {
	cfg.Sets = slices.Clone(cfg.Sets)
	for i, s := range cfg.Sets {
		cfg.Sets[i] = slices.Clone(s)
	}
	return cfg
}

// names reports whether config, change or tombstones name the member.
func (j *Journal) names(m quorum.Member) bool {
	if j.Config.Has(m.ID, m.Incarnation) {
		return true
	}
	if j.Change != nil && (slices.ContainsFunc(j.Change.Old, m.Same) || slices.ContainsFunc(j.Change.New, m.Same)) {
		return true
	}
	return slices.ContainsFunc(j.Former, func(f Former) bool { return f.Member.Same(m) })
}

// remember appends to the history, which is bounded.
func (j *Journal) remember(index uint64, kind HistoryKind, note string) {
	j.History = append(j.History, HistoryEntry{Index: index, Kind: kind, Version: j.Config.Version, Note: note})
	if len(j.History) > MaxHistory {
		j.forgetEntry()
	}
}

// forgetEntry forgets the oldest entry that no tombstone rests on: by whose word a member left says whether its
// data may go, for as long as it is a former one (M8). Where tombstones rest on all of them, those of the oldest
// go to the next one.
func (j *Journal) forgetEntry() {
	old := j.History[:MaxHistory] // the newest stays
	i := slices.IndexFunc(old, func(h HistoryEntry) bool {
		return !h.Kind.ByForce() || !slices.ContainsFunc(j.Former, func(f Former) bool { return f.Version == h.Version })
	})
	if i < 0 {
		i = 0
		for k := range j.Former {
			if j.Former[k].Version == old[0].Version {
				j.Former[k].Version = old[1].Version
			}
		}
	}
	j.History = slices.Delete(j.History, i, i+1)
}

// install makes cfg the journal's config. Who is not in it any more leaves a tombstone; who comes again
// has none (M8).
func (j *Journal) install(cfg quorum.Config) error {
	former := slices.DeleteFunc(slices.Clone(j.Former), func(f Former) bool {
		return cfg.Has(f.Member.ID, f.Member.Incarnation)
	})
	for _, m := range j.Config.Members() {
		if !cfg.Has(m.ID, m.Incarnation) {
			former = append(former, Former{Member: m, Version: cfg.Version})
		}
	}
	if len(former) > MaxFormer {
		return refuse(ErrLimit, "former members of journal "+j.Name, len(former), MaxFormer)
	}
	slices.SortFunc(former, func(a, b Former) int { return compareMembers(a.Member, b.Member) })
	if len(former) == 0 {
		former = nil
	}
	j.Config, j.Former = cfg, former
	return nil
}

// dropChange ends a change that did not come to its end. Its learners are members of nothing, and have copied:
// they leave as former members do, or what they hold would stay for good (M8).
func (j *Journal) dropChange() error {
	if j.Change == nil {
		return nil
	}
	former := slices.Clone(j.Former)
	for _, m := range j.Change.Learners() {
		same := func(f Former) bool { return f.Member.Same(m) }
		if !j.Config.Has(m.ID, m.Incarnation) && !slices.ContainsFunc(former, same) {
			former = append(former, Former{Member: m, Version: j.Config.Version})
		}
	}
	if len(former) > MaxFormer {
		return refuse(ErrLimit, "former members of journal "+j.Name, len(former), MaxFormer)
	}
	slices.SortFunc(former, func(a, b Former) int { return compareMembers(a.Member, b.Member) })
	j.Former, j.Change = former, nil
	return nil
}

func sameSet(a, b []quorum.Member) bool {
	return slices.EqualFunc(a, b, quorum.Member.Same)
}

func sortedSet(set []quorum.Member) []quorum.Member {
	set = slices.Clone(set)
	slices.SortFunc(set, compareMembers)
	return set
}
