package journalnode

import (
	"encoding/binary"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// Anti-entropy compares lists of segments (A1), by digest, and a list costs as much as the journal is long. So nodes
// tell one another, of all journals in one message, by what name goes what they hold of each (rpc.Holding), and two
// lists that were compared and found in order are not compared again while both sides go on telling the same. That
// hides nothing: whatever could make a comparison come out another way (a segment finalized, copied, purged,
// quarantined, found damaged, a journal deleted or left, a restart) gives its node another name for it; names are taken
// down before the lists are asked for, so that what changes in between is compared again; and nothing is taken for
// compared where somebody did not answer, could not read something, or anything at all was found.

// holding names what this node holds finalized of the journal.
func (o *owner) holding() rpc.Holding {
	h := o.opening // whatever counted before a restart begins anew
	binary.BigEndian.PutUint64(h[8:], o.j.Changes())
	return h
}

// holdings is what the peers told in one round.
type holdings struct {
	round uint64                                               // counts them
	by    map[quorum.NodeID]map[segments.JournalID]rpc.Holding // of each that was asked; nil: it did not answer
}

func (h *holdings) note(p quorum.NodeID, answered bool, js []rpc.JournalSummary) {
	if h.by == nil {
		h.by = map[quorum.NodeID]map[segments.JournalID]rpc.Holding{}
	}
	h.by[p] = nil
	if !answered {
		return
	}
	h.by[p] = make(map[segments.JournalID]rpc.Holding, len(js))
	for _, s := range js {
		h.by[p][s.ID] = s.Holding
	}
}

// matched is what the lists of a comparison were of. Its zero value matches nothing.
type matched struct {
	config uint64 // whose majorities decide
	own    rpc.Holding
	peers  map[quorum.NodeID]rpc.Holding // zero: it did not tell
}

// of returns whom a comparison of a journal would ask, and what of. One that did not answer in this round is not asked
// for its list either, and one that does not have the journal has none; they are when they tell something. One that
// nobody asked in this round is.
func (h *holdings) of(self quorum.NodeID, id segments.JournalID, cfg quorum.Config, own rpc.Holding) matched {
	m := matched{config: cfg.Version, own: own, peers: map[quorum.NodeID]rpc.Holding{}}
	for _, p := range cfg.Members() {
		if p.ID == self {
			continue
		}
		told, asked := h.by[p.ID]
		holding, has := told[id]
		if !asked || has {
			m.peers[p.ID] = holding
		}
	}
	return m
}

// news reports whether a comparison can come out another way than the last one, which was in order.
func (m matched) news(last matched) bool {
	if len(m.peers) > 0 && (m.config != last.config || m.own != last.own) {
		return true
	}
	for p, holding := range m.peers {
		if holding.IsZero() || holding != last.peers[p] {
			return true
		}
	}
	return false
}
