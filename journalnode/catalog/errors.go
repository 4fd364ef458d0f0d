package catalog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// Classes of refusals. A refused command changed nothing but the index, on every node alike.
var (
	// ErrNotFounded: Init was not applied yet.
	ErrNotFounded = errors.New("catalog: cluster is not founded")
	// ErrCluster: the catalog belongs to another cluster.
	ErrCluster = errors.New("catalog: another cluster's catalog")
	// ErrIndex: the entry's index is not above the last one applied.
	ErrIndex = errors.New("catalog: index was applied already")
	// ErrLevel: the command needs a feature level that the cluster, or one of its nodes, has not reached.
	ErrLevel = errors.New("catalog: feature level not reached")
	// ErrInvalid: the command makes no sense, whatever the state.
	ErrInvalid = errors.New("catalog: invalid")
	// ErrLimit: over a named limit.
	ErrLimit = errors.New("catalog: limit reached")
	// ErrConflict is the class of *ConflictError: the sender decided on another state.
	ErrConflict = errors.New("catalog: state has changed")
	// ErrNoNode: no such node, or not this incarnation of it.
	ErrNoNode = errors.New("catalog: no such node")
	// ErrIncarnation: the node id is taken by another storage incarnation (N1).
	ErrIncarnation = errors.New("catalog: node has another storage incarnation")
	// ErrReplaceUnderWay: two incarnations of the node are still in use.
	ErrReplaceUnderWay = errors.New("catalog: node is being replaced")
	// ErrLeaving: the node is leaving; nothing new is put on it.
	ErrLeaving = errors.New("catalog: node is leaving")
	// ErrVoter: the node is a voter of the catalog's group, or the last one.
	ErrVoter = errors.New("catalog: node is a voter")
	// ErrInUse is the class of *InUseError.
	ErrInUse = errors.New("catalog: node is in use")
	// ErrTooFewNodes: there are not as many nodes as replicas.
	ErrTooFewNodes = errors.New("catalog: too few nodes")
	// ErrNoJournal: no such journal.
	ErrNoJournal = errors.New("catalog: no such journal")
	// ErrJournalExists: the journal's id is taken.
	ErrJournalExists = errors.New("catalog: journal exists")
	// ErrNameTaken: the name belongs to another journal, perhaps to a deleted one whose empty config is
	// not in force yet (M8).
	ErrNameTaken = errors.New("catalog: journal name is taken")
	// ErrDeleted: the journal was deleted.
	ErrDeleted = errors.New("catalog: journal is deleted")
	// ErrNotDeleted: only a deleted journal can be reclaimed.
	ErrNotDeleted = errors.New("catalog: journal is not deleted")
	// ErrChangeUnderWay is the class of *ChangeUnderWayError.
	ErrChangeUnderWay = errors.New("catalog: a membership change is under way")
	// ErrNoChange: no membership change is under way.
	ErrNoChange = errors.New("catalog: no membership change is under way")
	// ErrStage: the change is at another stage.
	ErrStage = errors.New("catalog: membership change is at another stage")
	// ErrSeal: final names another seal than the one that was recorded (M4).
	ErrSeal = errors.New("catalog: another seal")
	// ErrNotInForce: the current config is not known to be in force, so nothing follows it yet (M2).
	ErrNotInForce = errors.New("catalog: config is not in force yet")
	// ErrSameMembers: the change would change nothing.
	ErrSameMembers = errors.New("catalog: these are the members already")
	// ErrDivergence: two configs of one version (M0). Nobody may go on from here by guessing.
	ErrDivergence = errors.New("catalog: two configs of one version")
	// ErrNoMajority: the named holders are no majority of every member set (C1).
	ErrNoMajority = errors.New("catalog: no majority holds the snapshot")
	// ErrOldSnapshot: a newer snapshot, or another one at the same txid, is listed.
	ErrOldSnapshot = errors.New("catalog: snapshot is not newer than the listed one")
	// ErrHeld is the class of *HeldError.
	ErrHeld = errors.New("catalog: lease is held")
	// ErrStale: the lease's revision is another one by now, or the lease is gone.
	ErrStale = errors.New("catalog: lease revision is stale")
	// ErrBadCommand: the command's bytes cannot be read.
	ErrBadCommand = errors.New("catalog: command is malformed")
)

var (
	// ErrUnsupported: the state is of a format or feature level that this software does not know. It is
	// no refusal: a node that meets it must stop, and be given newer software.
	ErrUnsupported = errors.New("catalog: state needs newer software")
	// ErrCorrupt: the state's bytes are damaged.
	ErrCorrupt = errors.New("catalog: state is corrupt")
)

// Refusal says why a command was refused. Class is one of the errors above.
type Refusal struct {
	Class     error
	What      string
	Got, Want string // both may be empty
	Cause     error  // may be nil
}

func (e *Refusal) Error() string {
	var b strings.Builder
	b.WriteString(e.Class.Error())
	if e.What != "" {
		b.WriteString(": " + e.What)
	}
	if e.Got != "" || e.Want != "" {
		fmt.Fprintf(&b, " (got %s, want %s)", e.Got, e.Want)
	}
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	return b.String()
}

// Is makes errors.Is(err, e.Class) true.
func (e *Refusal) Is(target error) bool { return target == e.Class }

// Unwrap returns the cause.
func (e *Refusal) Unwrap() error { return e.Cause }

func refuse(class error, what string, got, want any) error {
	return &Refusal{Class: class, What: what, Got: fmt.Sprint(got), Want: fmt.Sprint(want)}
}

func invalid(what string, got, want any) error { return refuse(ErrInvalid, what, got, want) }

// ConflictError says that the sender saw another state than the one that its command met: look again,
// then decide again (M6). Of is what was compared.
type ConflictError struct {
	Journal   segments.JournalID
	Of        string // "config version" or "change"
	Got, Want uint64 // what the command named, what the catalog has
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("catalog: journal %s: %s has changed (got %d, want %d)", e.Journal, e.Of, e.Got, e.Want)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// InUseError names journals whose config, change or tombstones name the node.
type InUseError struct {
	Node     quorum.Member
	Journals []string // names, sorted by journal id, at most MaxNamedInUse
	More     int      // how many are not named
}

func (e *InUseError) Error() string {
	more := ""
	if e.More > 0 {
		more = fmt.Sprintf(" and %d more", e.More)
	}
	return fmt.Sprintf("catalog: node %s (storage %s) is in use by journals %s%s", e.Node.ID, e.Node.Incarnation, strings.Join(e.Journals, ", "), more)
}

// Is makes errors.Is(err, ErrInUse) true.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// ChangeUnderWayError names the change that has to end first.
type ChangeUnderWayError struct {
	Journal segments.JournalID
	Name    string
	Stage   Stage
	Change  uint64 // the index that began it
	To      []quorum.Member
}

func (e *ChangeUnderWayError) Error() string {
	ids := make([]string, len(e.To))
	for i, m := range e.To {
		ids[i] = string(m.ID)
	}
	return fmt.Sprintf("catalog: journal %s: a membership change to %s is under way (change %d, stage %s)",
		e.Name, strings.Join(ids, ","), e.Change, e.Stage)
}

// Is makes errors.Is(err, ErrChangeUnderWay) true.
func (e *ChangeUnderWayError) Is(target error) bool { return target == ErrChangeUnderWay }

// HeldError says who has the lease.
type HeldError struct {
	Journal  segments.JournalID
	Holder   string // or for whom it is reserved
	Addr     string
	Reserved bool // nobody holds it, but only Holder may take it
	Revision uint64
}

func (e *HeldError) Error() string {
	how := "held by"
	if e.Reserved {
		how = "reserved for"
	}
	return fmt.Sprintf("catalog: journal %s: lease is %s %q (revision %d)", e.Journal, how, e.Holder, e.Revision)
}

// Is makes errors.Is(err, ErrHeld) true.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }
