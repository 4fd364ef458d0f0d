package journalnode

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// waitingLogEvery is how often a node says again what it waits for before its cluster is founded.
const waitingLogEvery = 10 * time.Second

// ErrFoundersDiffer is the class of *FoundersError.
var ErrFoundersDiffer = errors.New("journalnode: founding nodes disagree on the initial cluster")

// FoundersError says that another founding node was started with another list of founders. Neither can
// found a cluster: each waits for the other to agree.
type FoundersError struct {
	Node         quorum.NodeID // the other one
	Ours, Theirs []quorum.NodeID
}

func (e *FoundersError) Error() string {
	return fmt.Sprintf("journalnode: this node and %s disagree on the initial cluster (ours %v, theirs %v)", e.Node, e.Ours, e.Theirs)
}

// Is makes errors.Is(err, ErrFoundersDiffer) true.
func (e *FoundersError) Is(target error) bool { return target == ErrFoundersDiffer }

// MissingFoundersError names the founding nodes that have not been heard.
type MissingFoundersError struct{ Missing []Peer }

func (e *MissingFoundersError) Error() string {
	names := make([]string, len(e.Missing))
	for i, p := range e.Missing {
		names[i] = string(p.ID) + " at " + p.Addr
	}
	return "journalnode: founding nodes not heard yet: " + strings.Join(names, ", ")
}

// waitsFor says why the cluster cannot be founded yet by what was heard, or nil: a record of other
// founders, or founders that do not answer (N4).
func waitsFor(self quorum.NodeID, peers []Peer, heard map[quorum.NodeID]rpc.NodeInfo) error {
	var ours []quorum.NodeID
	for _, p := range peers {
		ours = append(ours, p.ID)
	}
	slices.Sort(ours)
	var missing []Peer
	for _, p := range peers {
		info, ok := heard[p.ID]
		if !ok {
			if p.ID != self {
				missing = append(missing, p)
			}
			continue
		}
		if info.Phase != rpc.Founding {
			continue // blank: its list is not told; founded: the lists do not count any more
		}
		var theirs []quorum.NodeID
		for _, m := range info.Founders {
			theirs = append(theirs, m.ID)
		}
		slices.Sort(theirs)
		if !slices.Equal(ours, theirs) {
			return &FoundersError{Node: p.ID, Ours: ours, Theirs: theirs}
		}
	}
	if len(missing) > 0 {
		return &MissingFoundersError{missing}
	}
	return nil
}

// sayWaiting logs and remembers why the node is not founded, now and then. It returns when it was last said.
func (n *Node) sayWaiting(heard map[quorum.NodeID]rpc.NodeInfo, said time.Time) time.Time {
	why := waitsFor(n.opts.ID, n.opts.InitialCluster, heard)
	n.idMu.Lock()
	n.waiting = why
	n.idMu.Unlock()
	if why == nil || time.Since(said) < waitingLogEvery {
		return said
	}
	if errors.Is(why, ErrFoundersDiffer) {
		n.log.Error("the cluster cannot be founded", "err", why)
	} else {
		n.log.Warn("the cluster cannot be founded yet", "err", why)
	}
	return time.Now()
}

// reachable reports whether a node that listens there can be what others call by addr, as far as that can
// be told without asking anybody: a name may be any address.
func reachable(listen, addr string) bool {
	lhost, lport, err := net.SplitHostPort(listen)
	if err != nil {
		return true // refused elsewhere
	}
	ahost, aport, err := net.SplitHostPort(addr)
	if err != nil {
		return true
	}
	if lport != aport && lport != "0" {
		return false
	}
	lip, lerr := netip.ParseAddr(lhost)
	aip, aerr := netip.ParseAddr(ahost)
	if lhost == "" || lerr != nil || aerr != nil || lip.IsUnspecified() {
		return true
	}
	return lip.Unmap() == aip.Unmap()
}

func (n *Node) warnOfAddress() {
	for _, p := range n.opts.InitialCluster {
		if p.ID == n.opts.ID && n.opts.Listen != "" && !reachable(n.opts.Listen, p.Addr) {
			n.log.Warn("the initial cluster has another address of this node than it listens on: others may not reach it",
				"listen", n.opts.Listen, "initial_cluster", p.Addr)
		}
	}
}
