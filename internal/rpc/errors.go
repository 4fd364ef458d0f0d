package rpc

import (
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

var (
	// ErrNoJournal: the node does not have the journal, and never had (its manifest would know, N5).
	ErrNoJournal = errors.New("qjm: no such journal")
	// ErrJournalExists: the name is taken.
	ErrJournalExists = errors.New("qjm: journal exists")
	// ErrJournalDeleted: the journal was deleted (M8).
	ErrJournalDeleted = errors.New("qjm: journal is deleted")
	// ErrJournalDeleting: the name belongs to a journal whose delete is decided and not in force yet (M8).
	ErrJournalDeleting = errors.New("qjm: journal is being deleted")
	// ErrBadRequest: the request makes no sense, whoever sends it.
	ErrBadRequest = errors.New("qjm: bad request")
	// ErrRefused: the request makes sense, but not as things stand.
	ErrRefused = errors.New("qjm: not as things stand")
	// ErrWrongNode is the class of *WrongNodeError.
	ErrWrongNode = errors.New("qjm: request is meant for another storage")
	// ErrConfig is the class of *ConfigError.
	ErrConfig = errors.New("qjm: config versions differ")
	// ErrConfigDiverges: two configs of one version differ (M0). Somebody made one up; nothing is changed.
	ErrConfigDiverges = errors.New("qjm: two configs of one version differ")
	// ErrUnknownNode: the node's fence or config cannot be read, or its storage is not a member: it
	// counts in no quorum until it is re-admitted (N1, N2).
	ErrUnknownNode = errors.New("qjm: node is unknown to the journal")
	// ErrNotInCatalog: the node's own copy of the catalog does not say what would remove its data (M8). Nothing
	// was removed.
	ErrNotInCatalog = errors.New("qjm: not in this node's copy of the catalog")
	// ErrRemoved: the catalog says that this storage was taken out of the cluster, or replaced by another. What
	// the node knew is out of date; every other node may be asked. It is an ErrUnknownNode, too.
	ErrRemoved error = removedClass{}
	// ErrNotFounded: the cluster is not founded yet (N4).
	ErrNotFounded = errors.New("qjm: cluster is not founded yet")
	// ErrPoisoned: a write or sync failed; the journal takes no writes on this node until a restart.
	ErrPoisoned = errors.New("qjm: journal is poisoned by a failed write")
	// ErrStalled: a sync on this node has been under way for too long; it answers so at once.
	ErrStalled = errors.New("qjm: disk is stalled")
	// ErrNoSource: no source could serve the frames that an accept or a fill needs.
	ErrNoSource = errors.New("qjm: no source could serve the frames")
	// ErrOutOfSync: the request does not continue what the node holds; start the segment again to hear
	// where it stands.
	ErrOutOfSync = errors.New("qjm: out of sync")
	// ErrNotFound: there is no such segment or txid here.
	ErrNotFound = errors.New("qjm: not found")
	// ErrPastEnd: the txid lies beyond what is committed.
	ErrPastEnd = errors.New("qjm: txid is past the end")
	// ErrClosed: the node is shutting down. The outcome of a request under way is unknown.
	ErrClosed = errors.New("qjm: node is shutting down")
	// ErrTooLarge: over a named limit.
	ErrTooLarge = errors.New("qjm: too large")
	// ErrNoLeader: the catalog has no leader that could be asked. Nothing happened; the data plane does not
	// need it.
	ErrNoLeader = errors.New("qjm: the catalog has no leader")
	// ErrCatalogDown: this node takes no part in the catalog: its raft store is damaged, or its software too
	// old for the catalog's state. Its journals go on.
	ErrCatalogDown = errors.New("qjm: the node takes no part in the catalog")
	// ErrUnavailable: the node could not be reached, or did not answer in time; the outcome is unknown.
	ErrUnavailable = errors.New("qjm: node unavailable")
)

// WrongNodeError says that a request named another incarnation than this storage's (N1): the disk was
// wiped or replaced, or the address belongs to another node.
type WrongNodeError struct {
	Node      quorum.NodeID
	Got, Want quorum.Incarnation
}

func (e *WrongNodeError) Error() string {
	return fmt.Sprintf("qjm: node %s has another storage incarnation (got %s, want %s)", e.Node, e.Got, e.Want)
}

// Is makes errors.Is(err, ErrWrongNode) true.
func (e *WrongNodeError) Is(target error) bool { return target == ErrWrongNode }

// ConfigError says that the request's config version is not the one installed here. An older request
// had no effect and should be made anew under the newer config (M1); for a newer one the node asks for
// the config first (M0).
type ConfigError struct {
	Journal   segments.JournalID
	Got, Want uint64
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("qjm: journal %s: config version differs (got %d, installed %d)", e.Journal, e.Got, e.Want)
}

// Is makes errors.Is(err, ErrConfig) true.
func (e *ConfigError) Is(target error) bool { return target == ErrConfig }

// removedClass is what ErrRemoved is: those who only know that a node does not count need not know it.
type removedClass struct{}

func (removedClass) Error() string { return "qjm: node is no part of the cluster any more" }

func (removedClass) Is(target error) bool { return target == ErrUnknownNode }
