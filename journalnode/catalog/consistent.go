package catalog

import (
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
)

// consistent says what no sequence of commands leads to. Restore asks it, and so do the tests after
// each step.
func (c *Catalog) consistent() error {
	if c.level < LevelFirst {
		return fmt.Errorf("level (got %d, want at least %d)", c.level, LevelFirst)
	}
	if c.cluster == (ClusterID{}) && len(c.nodes)+len(c.journals) > 0 {
		return fmt.Errorf("not founded (got %d nodes and %d journals, want none)", len(c.nodes), len(c.journals))
	}
	if err := c.consistentNodes(); err != nil {
		return err
	}
	if n := len(c.byName); n > MaxJournals {
		return fmt.Errorf("journals (got %d, want at most %d)", n, MaxJournals)
	}
	for _, j := range c.sortedJournals() {
		if err := c.consistentJournal(j); err != nil {
			return fmt.Errorf("journal %s: %w", j.ID, err)
		}
	}
	return nil
}

func (c *Catalog) consistentNodes() error {
	staying, all := map[quorum.NodeID]int{}, map[quorum.NodeID]int{}
	for _, n := range c.sortedNodes() {
		if err := checkNode(*n); err != nil {
			return err
		}
		if n.Level < c.level {
			return fmt.Errorf("node %s: level (got %d, want at least %d)", n.ID, n.Level, c.level)
		}
		if all[n.ID]++; all[n.ID] > maxIncarnations {
			return fmt.Errorf("node %s: incarnations (got %d, want at most %d)", n.ID, all[n.ID], maxIncarnations)
		}
		if !n.Leaving {
			staying[n.ID]++
		}
		if staying[n.ID] > 1 {
			return fmt.Errorf("node %s: incarnations that stay (got %d, want at most 1)", n.ID, staying[n.ID])
		}
	}
	if len(all) > MaxNodes {
		return fmt.Errorf("nodes (got %d, want at most %d)", len(all), MaxNodes)
	}
	return nil
}

func (c *Catalog) consistentJournal(j *Journal) error {
	if j.ID.IsZero() {
		return fmt.Errorf("id (got zero, want a UUID)")
	}
	for _, err := range []error{checkName(j.Name), checkConfig(j.Config), checkPolicy(j.Policy)} {
		if err != nil {
			return err
		}
	}
	if j.InForce == 0 || j.InForce > j.Config.Version {
		return fmt.Errorf("version in force (got %d, want 1 to %d)", j.InForce, j.Config.Version)
	}
	if j.Deleted != j.Config.IsEmpty() || j.Reclaimed && (!j.Deleted || len(j.Former) == 0) {
		return fmt.Errorf("deleted %t, reclaimed %t with %d tombstones, config %v", j.Deleted, j.Reclaimed, len(j.Former), j.Config)
	}
	if j.Deleted && (j.Lease != nil || j.Change != nil) || j.Reclaimed && j.InForce != j.Config.Version {
		return fmt.Errorf("a deleted journal has lease %v, change %v, in force %d", j.Lease, j.Change, j.InForce)
	}
	for _, check := range []func(*Journal) error{consistentChange, consistentFormer, consistentSnapshots} {
		if err := check(j); err != nil {
			return err
		}
	}
	if err := consistentLease(j.Lease, c.index); err != nil {
		return err
	}
	return consistentHistory(j, c.index)
}

func consistentChange(j *Journal) error {
	sets := j.Config.Sets
	ch := j.Change
	if ch == nil {
		if len(sets) > 1 {
			return fmt.Errorf("config %d has %d member sets and no change", j.Config.Version, len(sets))
		}
		return nil
	}
	want := map[Stage]quorum.Config{
		StageLearning: {Version: ch.BaseVersion, Sets: [][]quorum.Member{ch.Old}},
		StageJoint:    {Version: ch.BaseVersion + 1, Sets: [][]quorum.Member{ch.Old, ch.New}},
		StageSealed:   {Version: ch.BaseVersion + 1, Sets: [][]quorum.Member{ch.Old, ch.New}},
		StageFinal:    {Version: ch.BaseVersion + 2, Sets: [][]quorum.Member{ch.New}},
	}
	cfg, ok := want[ch.Stage]
	if !ok || cfg.Version != j.Config.Version || !slices.EqualFunc(cfg.Sets, sets, sameSet) {
		return fmt.Errorf("change at stage %d (got config %v, want %v)", ch.Stage, j.Config, cfg)
	}
	for _, set := range [][]quorum.Member{ch.Old, ch.New} {
		if err := checkConfig(quorum.Config{Version: 1, Sets: [][]quorum.Member{set}}); err != nil {
			return err
		}
	}
	if sealed := ch.Stage >= StageSealed; sealed != (checkSeal(ch.Seal) == nil) || !sealed && ch.Seal != (Seal{}) {
		return fmt.Errorf("change at stage %s has seal %v", ch.Stage, ch.Seal)
	}
	if ch.StartedIndex == 0 {
		return fmt.Errorf("change without an index")
	}
	return checkText("note", ch.Note, 0, MaxTextBytes)
}

func consistentFormer(j *Journal) error {
	for i, f := range j.Former {
		if err := checkMembers("former member", []quorum.Member{f.Member}); err != nil {
			return err
		}
		if i > 0 && compareMembers(j.Former[i-1].Member, f.Member) >= 0 {
			return fmt.Errorf("former members are not sorted at %s", f.Member.ID)
		}
		if j.Config.Has(f.Member.ID, f.Member.Incarnation) {
			return fmt.Errorf("member %s is a former one, too", f.Member.ID)
		}
		if f.Version == 0 || f.Version > j.Config.Version {
			return fmt.Errorf("former member %s: version (got %d, want 1 to %d)", f.Member.ID, f.Version, j.Config.Version)
		}
	}
	return nil
}

func consistentSnapshots(j *Journal) error {
	for i, s := range j.Snapshots {
		if s.TxID == 0 || s.TxID > s.FrameLast.TxID || i > 0 && j.Snapshots[i-1].TxID <= s.TxID {
			return fmt.Errorf("snapshot %d: txid %d of a frame that ends at %d", i, s.TxID, s.FrameLast.TxID)
		}
		if s.ConfigVersion == 0 || s.ConfigVersion > j.Config.Version || len(s.Holders) == 0 {
			return fmt.Errorf("snapshot %d: config version %d, %d holders", i, s.ConfigVersion, len(s.Holders))
		}
		for k, h := range s.Holders {
			if err := checkMembers("holder", []quorum.Member{h}); err != nil {
				return err
			}
			if k > 0 && compareMembers(s.Holders[k-1], h) >= 0 {
				return fmt.Errorf("snapshot %d: holders are not sorted", i)
			}
		}
	}
	return nil
}

func consistentLease(l *Lease, index uint64) error {
	if l == nil {
		return nil
	}
	if l.Revision == 0 || l.Revision > index || (l.Holder == "") == (l.ReservedFor == "") {
		return fmt.Errorf("lease of %q, reserved for %q, revision %d of %d", l.Holder, l.ReservedFor, l.Revision, index)
	}
	if l.Renewed < l.Revision || l.Renewed > index {
		return fmt.Errorf("lease of revision %d was renewed by %d of %d", l.Revision, l.Renewed, index)
	}
	if l.TTLMillis < MinTTLMillis || l.TTLMillis > MaxTTLMillis {
		return fmt.Errorf("lease's time to live (got %d ms, want %d to %d)", l.TTLMillis, MinTTLMillis, MaxTTLMillis)
	}
	for _, s := range []string{l.Holder, l.Addr, l.ReservedFor} {
		if err := checkText("lease", s, 0, MaxAddrBytes); err != nil {
			return err
		}
	}
	return nil
}

func consistentHistory(j *Journal, index uint64) error {
	for i, h := range j.History {
		if h.Kind == 0 || h.Kind > kindsEnd || h.Index == 0 || h.Index > index || i > 0 && j.History[i-1].Index >= h.Index {
			return fmt.Errorf("history %d: %+v", i, h)
		}
		if err := checkText("history", h.Note, 0, MaxTextBytes); err != nil {
			return err
		}
	}
	if j.Change != nil && j.Change.StartedIndex > index {
		return fmt.Errorf("change %d is beyond index %d", j.Change.StartedIndex, index)
	}
	return nil
}
