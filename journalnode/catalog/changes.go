package catalog

import (
	"fmt"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// Step is what the commands on a change have in common. Change names the one that is meant: a repeated
// entry must not move the next change, which may have the same config version.
type Step struct {
	Target
	Change uint64
}

func (s *Step) code(c *coder) {
	s.Target.code(c)
	u64(c, &s.Change)
}

func (s *Step) check() error { return nil }

// edit hands a copy of the journal to f if the change is the one that is meant, and at one of the stages.
func (s *Step) edit(c *Catalog, stages []Stage, f func(*Journal) error) (Result, error) {
	return c.edit(s.Target, func(j *Journal) (Result, error) {
		if j.Change == nil {
			return Result{}, &Refusal{Class: ErrNoChange, What: "journal " + j.Name}
		}
		if s.Change != j.Change.StartedIndex {
			return Result{}, &ConflictError{Journal: j.ID, Of: "change", Got: s.Change, Want: j.Change.StartedIndex}
		}
		for _, st := range stages {
			if j.Change.Stage == st {
				return Result{}, f(j)
			}
		}
		return Result{}, refuse(ErrStage, "journal "+j.Name, j.Change.Stage, fmt.Sprint(stages))
	})
}

func underWay(j *Journal) error {
	return &ChangeUnderWayError{Journal: j.ID, Name: j.Name, Stage: j.Change.Stage, Change: j.Change.StartedIndex, To: j.Change.New}
}

// BeginChange starts a membership change: the new members that are not old ones become learners. The
// config stays. One change at a time.
type BeginChange struct {
	Target
	To []quorum.Member // addresses are taken from the nodes
}

func (m *BeginChange) kind() kind { return kindBeginChange }

func (m *BeginChange) code(c *coder) {
	m.Target.code(c)
	codeMembers(c, &m.To)
}

func (m *BeginChange) check() error { return checkMembers("new members", m.To) }

func (m *BeginChange) apply(c *Catalog, index uint64) (Result, error) {
	return c.edit(m.Target, func(j *Journal) (Result, error) {
		if j.Change != nil {
			return Result{}, underWay(j)
		}
		old := c.addressed(j.Config.Sets[0])
		to, err := c.members(m.To, old)
		if err != nil {
			return Result{}, err
		}
		if sameSet(old, to) {
			return Result{}, &Refusal{Class: ErrSameMembers, What: "journal " + j.Name}
		}
		// The steps to come must not fail for want of room for tombstones.
		if n := len(j.Former) + len(old) + len(to); n > MaxFormer {
			return Result{}, refuse(ErrLimit, "former members of journal "+j.Name, n, MaxFormer)
		}
		j.Change = &Change{Stage: StageLearning, Old: old, New: to, BaseVersion: j.Config.Version, StartedIndex: index}
		return Result{Change: index}, nil
	})
}

// SetNote says why the change waits, so that every node can tell.
type SetNote struct {
	Step
	Note string
}

func (m *SetNote) kind() kind { return kindSetNote }

func (m *SetNote) code(c *coder) {
	m.Step.code(c)
	text(c, &m.Note, MaxTextBytes)
}

func (m *SetNote) check() error { return checkText("note", m.Note, 0, MaxTextBytes) }

func (m *SetNote) apply(c *Catalog, _ uint64) (Result, error) {
	stages := []Stage{StageLearning, StageJoint, StageSealed, StageFinal}
	return m.edit(c, stages, func(j *Journal) error {
		j.Change.Note = m.Note
		return nil
	})
}

// Joint makes {old, new} the config: from learning, once the sender has validated the new members (M6)
// and the old config is in force (M2).
type Joint struct{ Step }

func (m *Joint) kind() kind { return kindJoint }

func (m *Joint) apply(c *Catalog, _ uint64) (Result, error) {
	return m.edit(c, []Stage{StageLearning}, func(j *Journal) error {
		if err := inForce(j); err != nil {
			return err
		}
		ch := j.Change
		to, err := c.members(ch.New, ch.Old) // a learner may have begun to leave meanwhile
		if err != nil {
			return err
		}
		ch.Old, ch.New = c.addressed(ch.Old), to
		ch.Stage, ch.Note = StageJoint, ""
		return j.install(quorum.Config{Version: j.Config.Version + 1, Sets: [][]quorum.Member{ch.Old, ch.New}})
	})
}

// InForce says that the journal's nodes have installed the config of that version on a majority of a
// member set of the one before (M2), as their own config files tell.
type InForce struct {
	Target
}

func (m *InForce) kind() kind   { return kindInForce }
func (m *InForce) check() error { return nil }

func (m *InForce) apply(c *Catalog, _ uint64) (Result, error) {
	return c.edit(m.Target, func(j *Journal) (Result, error) {
		again := j.InForce == j.Config.Version
		j.InForce = j.Config.Version
		return Result{Again: again}, nil
	})
}

// Sealed records the seal: from joint (M4). A joint config that was sealed is in force, for the seal
// stands on a majority of both sets.
type Sealed struct {
	Step
	Seal Seal
}

func (m *Sealed) kind() kind { return kindSealed }

func (m *Sealed) code(c *coder) {
	m.Step.code(c)
	codeSeal(c, &m.Seal)
}

func (m *Sealed) check() error { return checkSeal(m.Seal) }

func checkSeal(s Seal) error {
	if s.Epoch == 0 || s.Segment == 0 {
		return invalid("seal", fmt.Sprintf("epoch %d, segment %d", s.Epoch, s.Segment), "both above 0")
	}
	return nil
}

func (m *Sealed) apply(c *Catalog, _ uint64) (Result, error) {
	return m.edit(c, []Stage{StageJoint}, func(j *Journal) error {
		j.Change.Stage, j.Change.Seal, j.Change.Note = StageSealed, m.Seal, ""
		j.InForce = j.Config.Version
		return nil
	})
}

// Final makes {new} the config: from sealed, with a compare-and-set on the seal, too (M6). The sender has
// seen everything before the seal finalized on a majority of the new set (M4). It cannot be undone.
type Final struct {
	Step
	Seal Seal
}

func (m *Final) kind() kind { return kindFinal }

func (m *Final) code(c *coder) {
	m.Step.code(c)
	codeSeal(c, &m.Seal)
}

func (m *Final) check() error { return checkSeal(m.Seal) }

func (m *Final) apply(c *Catalog, index uint64) (Result, error) {
	return m.edit(c, []Stage{StageSealed}, func(j *Journal) error {
		if m.Seal != j.Change.Seal {
			return refuse(ErrSeal, "journal "+j.Name, m.Seal, j.Change.Seal)
		}
		j.Change.New = c.addressed(j.Change.New)
		if err := j.install(quorum.Config{Version: j.Config.Version + 1, Sets: [][]quorum.Member{j.Change.New}}); err != nil {
			return err
		}
		j.Change.Stage, j.Change.Note = StageFinal, ""
		j.remember(index, Changed, "")
		return nil
	})
}

// Abort gives a change up, before final. From joint on, the old set becomes the config again, as a new
// version. It does not wait for the joint config to be in force: every quorum of that has a majority of
// the old set, and such a majority puts the abort in force (M2).
type Abort struct {
	Step
	Reason string
}

func (m *Abort) kind() kind { return kindAbort }

func (m *Abort) code(c *coder) {
	m.Step.code(c)
	text(c, &m.Reason, MaxTextBytes)
}

func (m *Abort) check() error { return checkText("reason", m.Reason, 0, MaxTextBytes) }

func (m *Abort) apply(c *Catalog, index uint64) (Result, error) {
	return m.edit(c, []Stage{StageLearning, StageJoint, StageSealed}, func(j *Journal) error {
		if j.Change.Stage != StageLearning {
			old := c.addressed(j.Change.Old)
			if err := j.install(quorum.Config{Version: j.Config.Version + 1, Sets: [][]quorum.Member{old}}); err != nil {
				return err
			}
		}
		if err := j.dropChange(); err != nil {
			return err
		}
		j.remember(index, Aborted, m.Reason)
		return nil
	})
}

// Finish ends a change: the final config is in force, and the first segment under it exists, or the
// journal was fenced under it; the old members were cleaned up as far as they could be reached (M8).
type Finish struct{ Step }

func (m *Finish) kind() kind { return kindFinish }

func (m *Finish) apply(c *Catalog, _ uint64) (Result, error) {
	return m.edit(c, []Stage{StageFinal}, func(j *Journal) error {
		if err := inForce(j); err != nil {
			return err
		}
		j.Change = nil
		return nil
	})
}

// Adopt takes over a config that nodes have installed: it outranks what the catalog remembers (M9). An
// older one is refused, and so is another one of the same version: two configs of one number, which
// nobody may choose between (M0). Its version is the compare-and-set.
type Adopt struct {
	Journal segments.JournalID
	Config  quorum.Config
}

func (m *Adopt) kind() kind { return kindAdopt }

func (m *Adopt) code(c *coder) {
	c.fixed(m.Journal[:])
	codeConfig(c, &m.Config)
}

func (m *Adopt) check() error { return checkConfig(m.Config) }

func (m *Adopt) apply(c *Catalog, index uint64) (Result, error) {
	cur, ok := c.journals[m.Journal]
	if !ok {
		return Result{}, &Refusal{Class: ErrNoJournal, What: m.Journal.String()}
	}
	have, got := cur.Config.Digest(), m.Config.Digest()
	switch {
	case m.Config.Version < cur.Config.Version:
		return Result{}, &ConflictError{Journal: m.Journal, Of: "config version", Got: m.Config.Version, Want: cur.Config.Version}
	case have == got:
		return Result{Again: true, Version: cur.Config.Version}, nil
	case m.Config.Version == cur.Config.Version:
		return Result{}, refuse(ErrDivergence, fmt.Sprintf("journal %s, version %d", cur.Name, cur.Config.Version),
			fmt.Sprintf("%x", got), fmt.Sprintf("%x", have))
	case cur.Reclaimed: // the name may have a new owner
		return Result{}, &Refusal{Class: ErrDeleted, What: cur.Name}
	}
	return c.replace(cur, func(j *Journal) (Result, error) {
		if err := j.install(cloneConfig(m.Config)); err != nil {
			return Result{}, err
		}
		if err := j.dropChange(); err != nil {
			return Result{}, err
		}
		j.Deleted = j.Config.IsEmpty()
		if j.Deleted {
			j.Lease = nil
		}
		if len(j.Config.Sets) == maxSets { // its seal, if there was one, is not known: it is sealed again
			j.Change = &Change{
				Stage: StageJoint, Old: j.Config.Sets[0], New: j.Config.Sets[1],
				BaseVersion: j.Config.Version - 1, StartedIndex: index,
			}
		}
		j.remember(index, Adopted, "")
		return Result{}, nil
	})
}

// ForceConfig replaces the config without the consent of its members: recover-quorum, after a majority
// was lost for good. What it may lose was told before; the history keeps it.
type ForceConfig struct {
	Target
	Config quorum.Config // one set
	Reason string
}

func (m *ForceConfig) kind() kind { return kindForceConfig }

func (m *ForceConfig) code(c *coder) {
	m.Target.code(c)
	codeConfig(c, &m.Config)
	text(c, &m.Reason, MaxTextBytes)
}

func (m *ForceConfig) check() error {
	if err := checkConfig(m.Config); err != nil {
		return err
	}
	if n := len(m.Config.Sets); n != 1 {
		return invalid("forced config's member sets", n, 1)
	}
	return checkText("reason", m.Reason, 1, MaxTextBytes)
}

func (m *ForceConfig) apply(c *Catalog, index uint64) (Result, error) {
	return c.edit(m.Target, func(j *Journal) (Result, error) {
		if m.Config.Version <= j.Config.Version {
			return Result{}, &ConflictError{Journal: j.ID, Of: "forced config version", Got: m.Config.Version, Want: j.Config.Version + 1}
		}
		set, err := c.members(m.Config.Sets[0], j.Config.Members())
		if err != nil {
			return Result{}, err
		}
		if err := j.install(quorum.NewConfig(m.Config.Version, set...)); err != nil {
			return Result{}, err
		}
		if err := j.dropChange(); err != nil {
			return Result{}, err
		}
		j.remember(index, Forced, m.Reason)
		return Result{}, nil
	})
}
