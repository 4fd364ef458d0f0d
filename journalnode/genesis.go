package journalnode

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// ErrNotAdmitted: the cluster was founded without this storage; it counts nowhere until it is
// re-admitted (N1, N4).
var ErrNotAdmitted = errors.New("journalnode: the cluster was founded without this storage")

// clusterID is computed alike by all founders, from their sorted (id, incarnation) pairs.
func clusterID(founders []quorum.Member) rpc.ClusterID {
	digest := quorum.NewConfig(1, founders...).Digest()
	h := sha256.New()
	h.Write([]byte("qjm genesis v1\x00"))
	h.Write(digest[:])
	return rpc.ClusterID(h.Sum(nil)[:16])
}

// found is one step of genesis as a pure function (N4): given who this node is, the founding peers and
// what has been heard of them (nil: not heard yet), it returns the identity to write before anything
// else is said. It returns self where there is nothing to do, and ErrNotAdmitted where this storage is
// not part of a cluster that exists.
//
// A blank directory never founds a cluster alone: the record is made only when all founders are heard,
// and none of them belongs to a cluster yet. Founding becomes Founded when all are heard to have
// written the same record; until then it may be made anew, since no promise or vote rests on it.
func found(self identity, peers []Peer, heard map[quorum.NodeID]rpc.NodeInfo) (identity, error) {
	if self.Phase == rpc.Founded {
		return self, nil
	}
	members := make([]quorum.Member, 0, len(peers))
	all, same := true, true
	for _, p := range peers {
		info, ok := heard[p.ID]
		if p.ID == self.ID {
			info, ok = rpc.NodeInfo{ID: self.ID, Incarnation: self.Incarnation, Phase: self.Phase, Cluster: self.Cluster}, true
		}
		if !ok {
			all = false
			continue
		}
		if info.Phase == rpc.Founded {
			return join(self, info)
		}
		same = same && info.Phase == rpc.Founding && info.Cluster == self.Cluster
		members = append(members, quorum.Member{ID: p.ID, Incarnation: info.Incarnation, Addr: p.Addr})
	}
	if !all {
		return self, nil
	}
	next := self
	next.Founders, next.Cluster = members, clusterID(members)
	next.Phase = rpc.Founding
	if same && self.Phase == rpc.Founding && self.Cluster == next.Cluster {
		next = self
		next.Phase = rpc.Founded
	}
	return next, nil
}

// join: a founder that has heard everybody is the proof that all wrote the record, this node included
// if the record names it; a blank node that is named writes it and goes on.
func join(self identity, founded rpc.NodeInfo) (identity, error) {
	for _, m := range founded.Founders {
		if m.ID == self.ID && m.Incarnation == self.Incarnation {
			self.Founders, self.Cluster, self.Phase = founded.Founders, founded.Cluster, rpc.Founded
			return self, nil
		}
	}
	return self, fmt.Errorf("%w (cluster %x, told by %s)", ErrNotAdmitted, founded.Cluster, founded.ID)
}
