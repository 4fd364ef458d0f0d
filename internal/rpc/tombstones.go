package rpc

import "github.com/quorumjournal/qjm/internal/quorum"

// DeleteInForce reports whether the delete of a journal is in force by what its nodes say (M2, M8): a majority
// of the members of the config before it has the empty one. Where nobody tells that config, a majority of the
// nodes that may have been members is asked for: those that answered without the journal are not counted in nodes.
func DeleteInForce(cfg quorum.Config, nodes int, said map[quorum.NodeID]JournalSummary) bool {
	n := 0
	for _, s := range said {
		if s.Deleted {
			n++
		}
	}
	return cfg.Majority(func(m quorum.Member) bool { return said[m.ID].Deleted }) || len(cfg.Sets) == 0 && n > nodes/2
}
