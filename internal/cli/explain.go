package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"syscall"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
)

// Subject is what a command was about, for its error messages.
type Subject struct {
	Program   string
	Endpoints []string
	Connected bool // an endpoint has answered: what does not is something else
	Journal   string
	Does      Intent
	Usage     string // the command's usage line
	HelpOf    string // the command whose --help tells more
}

// Intent is what a command wants of a journal, where that changes what to do about an error.
type Intent int

// The intents. Looks is everything that wants a journal that is there.
const (
	Looks Intent = iota
	Creates
	Deletes
	Writes
)

// Explain says what an error means and what to do about it; hint may be empty.
func (s Subject) Explain(err error) (what, hint string) {
	_, class := classOf(err)
	switch class {
	case "usage":
		return packageNames.ReplaceAllString(err.Error(), "$1"), s.usageHint() // of several lines, perhaps
	case "no quorum":
		return noQuorum(err), s.noQuorumHint(err)
	case "fenced", "append fenced":
		return fenced(err), "only one writer at a time; " + s.statusHint()
	case "superseded":
		return brief(err, 200), "another writer is taking over at the same time; run it again if you are the one who should win"
	case "unreachable", "deadline":
		return s.unreachable(err, class)
	case "no leader":
		return brief(err, 200), "a majority of the nodes must run; where it is lost for good, see: " + s.Program + " unsafe recover-quorum survey"
	case "plan":
		if errors.Is(err, libqjm.ErrPlan) {
			hint = "make the plan again, and read it"
		}
		return strings.Replace(trim(err.Error()), "bad request: ", "", 1), hint
	case "no journal":
		hint = fmt.Sprintf("see the names: %s journal list", s.Program)
		if s.Does == Writes {
			hint = fmt.Sprintf("create it: %s journal create %s", s.Program, s.Journal)
		}
		if s.Journal == "" { // of several that were named
			return trim(err.Error()), hint
		}
		return fmt.Sprintf("there is no journal %q", s.Journal), hint
	case "journal exists":
		return fmt.Sprintf("journal %q exists already", s.Journal), ""
	case "journal deleted":
		if s.Does == Creates {
			hint = "its name stays taken; choose another one"
		}
		return fmt.Sprintf("journal %q was deleted", s.Journal), hint
	case "lease held":
		return leaseHeld(err), fmt.Sprintf("--wait waits for it; see: %s lease show %s", s.Program, s.Journal)
	case "lease lost":
		return fmt.Sprintf("the lease of %q is over, or another one's", s.Journal), fmt.Sprintf("see: %s lease show %s", s.Program, s.Journal)
	case "other cluster":
		return "the endpoints belong to different clusters: " + strings.Join(s.Endpoints, ", "), "name nodes of one cluster only"
	case "divergence", "corruption":
		return trim(err.Error()), fmt.Sprintf("see which node: %s journal segments NAME, or %s debug verify-dir DIR on each node", s.Program, s.Program)
	case "past the end":
		return trim(err.Error()), "--follow waits for transactions to come"
	case "refused by a rule":
		e, _ := errors.AsType[*RefusedError](err)
		return e.Text, e.Hint
	case "data directory in use":
		return trim(err.Error()), "another journalnode runs on it"
	case "data directory of another node":
		return trim(err.Error()), "check --id and --data-dir; a new node needs an empty directory"
	case "node in use":
		return trim(err.Error()), fmt.Sprintf("move them: %s member replace ID OTHER", s.Program)
	case "bad request":
		return trim(strings.TrimPrefix(err.Error(), rpc.ErrBadRequest.Error()+": ")), ""
	case "not as things stand":
		return strings.Replace(trim(err.Error()), "not as things stand: ", "", 1), ""
	case "canceled", "interrupted":
		return "interrupted", ""
	case "auth":
		return trim(err.Error()), "check credentials"
	}
	return other(err)
}

func other(err error) (what, hint string) {
	switch what = trim(err.Error()); {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another process listens there: stop it, or choose another port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "this machine does not have that address"
	case errors.Is(err, fs.ErrPermission):
		hint = "check who owns it"
	case errors.Is(err, vfs.ErrNoSpace):
		hint = "make room on the disk"
	case errors.Is(err, journalnode.ErrNotAdmitted):
		hint = "if its disk was wiped or replaced: qjmclient member replace ID ID"
	}
	return what, hint
}

func (s Subject) usageHint() string {
	switch {
	case s.Usage != "":
		return fmt.Sprintf("usage: %s; more: %s --help", s.Usage, s.HelpOf)
	case s.HelpOf != "":
		return fmt.Sprintf("see %s --help", s.HelpOf)
	}
	return ""
}

func (s Subject) statusHint() string {
	name := s.Journal
	if name == "" {
		name = "NAME"
	}
	return fmt.Sprintf("see: %s journal status %s", s.Program, name)
}

// noQuorumHint: what was asked of the nodes, and not only looked up, may be done on a minority of them.
func (s Subject) noQuorumHint(err error) string {
	e, ok := errors.AsType[*recovery.NoQuorumError](err)
	switch {
	case ok && s.Does == Creates && e.Step == "creating the journal":
		return "it may be there on some nodes; repeat when a majority runs"
	case ok && s.Does == Deletes && e.Step == "deleting the journal":
		return "it may be deleted on some nodes: do not use it, repeat this when a majority runs"
	}
	return "wait until a majority of the nodes runs; " + s.statusHint()
}

func (s Subject) unreachable(err error, class string) (what, hint string) {
	if class == "deadline" {
		what := "no answer within the time limit"
		if why := strings.TrimSuffix(brief(err, 200), context.DeadlineExceeded.Error()); why != "" {
			what += ": " + strings.TrimSuffix(why, ": ")
		}
		return what, "--timeout makes it longer"
	}
	if errors.Is(err, rpc.ErrNotFounded) {
		return "the cluster is not founded yet", "all nodes of the initial cluster must run once; look at their logs"
	}
	if s.Connected {
		return brief(err, 200), ""
	}
	hint = "is the cluster running? endpoints come from --endpoints or QJM_ENDPOINTS"
	if Cause(err) == causeForeign {
		hint = "an endpoint is what a node was given as --listen, not its HTTP address"
	}
	return fmt.Sprintf("cannot connect: none of %s answered (%s)", strings.Join(s.Endpoints, ", "), Cause(err)), hint
}

func noQuorum(err error) string {
	e, ok := errors.AsType[*recovery.NoQuorumError](err)
	if !ok {
		return brief(err, 200)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "no quorum for %s", e.Step)
	for i, c := range e.Causes {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s %s", sep, c.Node, Cause(c.Err))
	}
	return b.String()
}

func leaseHeld(err error) string {
	e, ok := errors.AsType[*libqjm.LeaseHeldError](err)
	switch {
	case !ok:
		return brief(err, 200)
	case e.Reserved:
		return fmt.Sprintf("the lease is reserved for %q", e.Holder)
	}
	return fmt.Sprintf("the lease is held by %q", e.Holder)
}

func fenced(err error) string {
	if e, ok := errors.AsType[*fencing.FencedError](err); ok {
		return fmt.Sprintf("fenced: epoch %d was taken by another writer or an operator; this writer had epoch %d", e.Promised.Epoch, e.Got.Epoch)
	}
	if e, ok := errors.AsType[*fencing.LostRaceError](err); ok {
		return fmt.Sprintf("fenced: another writer holds epoch %d", e.Got.Epoch)
	}
	return "fenced: " + brief(err, 200)
}

// causeForeign: what listens there speaks something else.
const causeForeign = "what listens there is no JournalNode"

// isForeign knows what gRPC says of a server that speaks another protocol, or has other services.
func isForeign(text string) bool {
	for _, part := range []string{"http2: frame too large", "unexpected HTTP status code", "malformed header", "unknown service"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// Cause says in a few words why a node does not count.
func Cause(err error) string {
	text := err.Error()
	switch {
	case isForeign(text):
		return causeForeign
	case strings.Contains(text, "connection refused"):
		return "connection refused"
	case strings.Contains(text, "no such host"):
		return "no such host"
	case errors.Is(err, rpc.ErrNotFounded):
		return "cluster not founded yet"
	case errors.Is(err, libqjm.ErrNoJournal):
		return "does not have the journal"
	case errors.Is(err, rpc.ErrClosed):
		return "shutting down"
	case errors.Is(err, rpc.ErrStalled):
		return "disk is stalled"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, libqjm.ErrUnavailable):
		return "unreachable"
	}
	return brief(err, 80)
}

// Plain is a text of the library as a user should see it.
func Plain(text string) string { return trim(text) }

// trim takes the names of packages out, which tell a user nothing, and puts errors that were joined on one line.
func trim(text string) string {
	return packageNames.ReplaceAllString(strings.ReplaceAll(text, "\n", "; "), "$1")
}

var packageNames = regexp.MustCompile(`(^|: |; |\()(?:(?:qjm|libqjm|recovery|segments|journalnode|vfs|osfs|store|journal|fencing|durable|quorum|inspect|wire|replication|catalog|quorumloss): )+`)

// brief is an error's text on one line of bounded length.
func brief(err error, most int) string {
	text := strings.Join(strings.Fields(trim(err.Error())), " ")
	if len(text) <= most {
		return text
	}
	text = strings.ToValidUTF8(text[:most], "")
	if i := strings.LastIndexByte(text, ' '); i > most/2 { // between two words, unless one is as long as all
		text = text[:i]
	}
	return text + "..."
}
