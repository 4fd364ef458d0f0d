package membership

import (
	"fmt"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode/catalog"
)

// Action is the one thing to do now.
type Action interface{ isAction() }

type (
	// Nothing: the journal is as the catalog says.
	Nothing struct{}
	// Wait: nothing can be done now; the reason is for the operator, on every node (catalog.SetNote). Learners
	// are told, each time, that they are to copy: they would stop after a while, and one that was a member
	// before has the config already.
	Wait struct {
		Why      string
		Learners []quorum.Member
	}
	// Install passes the journal's config on to these nodes (M0); those that do not answer are asked again
	// the next time.
	Install struct {
		On     []quorum.Member
		Config quorum.Config
	}
	// Propose hands a command to the catalog, after a Barrier: the leader must still be one.
	Propose struct{ Command catalog.Command }
	// Move opens the journal as an ordinary writer under the catalog's config: a new epoch, at least
	// MinEpoch, promised and recovered on a majority of each set, the next segment started on them; then it
	// is closed. It fences a writer that lives after all: safe, and said.
	Move struct {
		MinEpoch fencing.Epoch
		Why      string
	}
	// Bump asks nodes of the new set for the promise that the old set reports (M5). It names that epoch's
	// writer, so it does not fence it.
	Bump struct {
		On    []quorum.Member
		Claim fencing.Claim
	}
	// CleanUp tells nodes that have left to drop their data and keep config and promise (M8).
	CleanUp struct{ On []quorum.Member }
	// Stop: two configs of one version are installed, and nobody may choose (M0).
	Stop struct{ Err error }
)

func (Nothing) isAction() {}
func (Wait) isAction()    {}
func (Install) isAction() {}
func (Propose) isAction() {}
func (Move) isAction()    {}
func (Bump) isAction()    {}
func (CleanUp) isAction() {}
func (Stop) isAction()    {}

// String says what the action is, for logs and progress.
func (a Wait) String() string { return "waiting: " + a.Why }
func (a Install) String() string {
	return fmt.Sprintf("installing config %d on %s", a.Config.Version, names(a.On))
}
func (a Propose) String() string { return fmt.Sprintf("proposing %T", a.Command) }
func (a Move) String() string    { return "moving the journal: " + a.Why }
func (a Bump) String() string {
	return fmt.Sprintf("raising the promise of %s to %d", names(a.On), a.Claim.Epoch)
}
func (a CleanUp) String() string { return "cleaning up " + names(a.On) }

func names(ms []quorum.Member) string {
	s := ""
	for i, m := range ms {
		if i > 0 {
			s += ", "
		}
		s += string(m.ID)
	}
	return s
}
