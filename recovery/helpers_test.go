package recovery

import (
	"crypto/sha256"
	"fmt"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// A history is a string with one letter per transaction of the segment; two copies agree up to t where
// their strings do. dig names a prefix, as a chain digest does.
func dig(history string) segments.Digest {
	if history == "" {
		return prevDigest
	}
	h := sha256.Sum256([]byte(history))
	return segments.Digest(h[:16])
}

var prevDigest = segments.Digest{0xff}

const seg segments.TxID = 101

// prev is the segment before seg: 1..100.
var prev = segments.End{First: 1, Last: seg - 1, Digest: prevDigest}

func at(history string) segments.Position {
	return segments.Position{TxID: seg + segments.TxID(len(history)) - 1, Digest: dig(history)}
}

func end(history string) segments.End {
	p := at(history)
	return segments.End{First: seg, Last: p.TxID, Digest: p.Digest}
}

func node(i int) quorum.NodeID { return quorum.NodeID(fmt.Sprintf("n%d", i)) }

func key(i int) quorum.Key { return quorum.Key{ID: node(i), Incarnation: quorum.Incarnation{byte(i)}} }

func members(ids ...int) []quorum.Member {
	var ms []quorum.Member
	for _, i := range ids {
		ms = append(ms, quorum.Member{ID: node(i), Incarnation: quorum.Incarnation{byte(i)}})
	}
	return ms
}

func config(n int) quorum.Config {
	var ids []int
	for i := range n {
		ids = append(ids, i+1)
	}
	return quorum.NewConfig(1, members(ids...)...)
}

// Answers, with every digest of the copy told, so that Choose needs to ask nothing.
func told(a Answer, history string) Answer {
	for i := 1; i <= len(history); i++ {
		a.Digests = append(a.Digests, DigestReply{At: at(history[:i]), Found: true})
	}
	for i := len(history) + 1; i <= 8; i++ {
		a.Digests = append(a.Digests, DigestReply{At: segments.Position{TxID: seg + segments.TxID(i) - 1}})
	}
	return a
}

func absent(i int) Answer {
	return Answer{Node: key(i), Copy: Copy{Segment: seg, State: Absent}, Newest: 1}
}

func inProgress(i int, epoch int, history string) Answer {
	c := Copy{Segment: seg, State: InProgress, Epoch: epochOf(epoch), Prev: prev, Last: at(history)}
	return told(Answer{Node: key(i), Copy: c, Newest: seg}, history)
}

func finalized(i int, epoch int, history string) Answer {
	a := inProgress(i, epoch, history)
	a.Copy.State = Finalized
	return a
}

func unknown(i int) Answer {
	return Answer{Node: key(i), Copy: Copy{Segment: seg, State: Unknown}, Newest: seg}
}

func (a Answer) accepted(epoch int, history string) Answer {
	a.Copy.Accepted = Accepted{Epoch: epochOf(epoch), End: end(history)}
	return a
}

func (a Answer) floored(epoch int, history string) Answer {
	a.Floor = Floor{Segment: seg, Epoch: epochOf(epoch), At: at(history)}
	return a
}

func (a Answer) cut(history string) Answer {
	p := at(history)
	a.Copy.CutAt = &p
	return a
}

// terse leaves the digests out: they have to be asked for.
func (a Answer) terse() Answer { a.Digests = nil; return a }
