package journal

import "github.com/quorumjournal/qjm/internal/rpc"

// AskWriter puts a question to the writer, on each of its streams once, and returns what it has answered (M6).
// A stream that has not said a word may be that of somebody who is about to leave, and reads one answer only:
// it is not asked. Owner only.
func (j *Journal) AskWriter(q rpc.Reach) rpc.WriterAnswer {
	var a rpc.WriterAnswer
	for _, st := range j.streams {
		if st.over || !st.heard || st.leaving || j.fence.Holds(st.Header.Claim) != nil {
			continue
		}
		a.Writer = st.Header.Claim
		if st.asked == q.ID {
			continue
		}
		st.asked = q.ID
		st.Reply(rpc.WriteReply{Kind: rpc.Alive, OverQuota: j.OverQuota(), Reach: &q})
	}
	if j.answeredBy == a.Writer {
		a.Reached = j.reached
	}
	return a
}

// heed takes in what a message says of its writer; it has passed the gate.
func (j *Journal) heed(st *Stream, m rpc.WriteRequest) {
	st.heard, st.leaving = true, st.leaving || m.Leaving
	j.writerLeft = st.leaving
	if m.Reached != nil {
		j.reached, j.answeredBy = *m.Reached, st.Header.Claim
	}
}

// WriterLeft: the last message of a writer said that it is about to be gone. Owner only.
func (j *Journal) WriterLeft() bool { return j.writerLeft }
