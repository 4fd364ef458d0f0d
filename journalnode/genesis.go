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

// ErrTwoClusters: the peers do not belong to one cluster; an address leads to a node of another one. This
// node joins neither.
var ErrTwoClusters = errors.New("journalnode: the peers belong to different clusters")

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
// else is said. It returns self where there is nothing to do, ErrNotAdmitted where this storage is not
// part of a cluster that exists, and ErrTwoClusters besides where the peers are of more than one.
//
// A blank directory never founds a cluster alone: the record is made only when all founders are heard,
// and none of them belongs to a cluster yet. Founding becomes Founded when all are heard to have
// written the same record; until then it may be made anew, since no promise or vote rests on it.
func found(self identity, peers []Peer, heard map[quorum.NodeID]rpc.NodeInfo) (identity, error) {
	if self.Phase == rpc.Founded {
		return self, nil
	}
	told, err := foundedAmong(peers, heard)
	switch {
	case err != nil:
		return self, err
	case told.Phase == rpc.Founded:
		return join(self, told)
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

// foundedAmong returns what one of the founded peers says, or the zero NodeInfo where none is. All that are
// founded must be of one cluster: which of two is meant is nobody's guess, whoever is asked first.
func foundedAmong(peers []Peer, heard map[quorum.NodeID]rpc.NodeInfo) (rpc.NodeInfo, error) {
	var first rpc.NodeInfo
	for _, p := range peers {
		info := heard[p.ID]
		switch {
		case info.Phase != rpc.Founded:
		case first.Phase != rpc.Founded:
			first = info
		case first.Cluster != info.Cluster:
			return rpc.NodeInfo{}, fmt.Errorf("%w: %w (%s is of %x, %s of %x)",
				ErrNotAdmitted, ErrTwoClusters, first.ID, first.Cluster, info.ID, info.Cluster)
		}
	}
	return first, nil
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
