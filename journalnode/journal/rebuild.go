package journal

import (
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// BeginRebuild is the first half of W0's way out for a node whose copy of the open segment is damaged: the
// writer has it built anew. It returns the copy to fill, outside the owner, up to f.Target; nil where the
// copy here is not damaged (any more): then the segment is started as ever, and the stream answered.
//
// Nothing of the damaged copy is lost by it that counts. Its epoch is the stream's own or cannot be read;
// a higher one would have a higher promise, which Holds refuses. The writer has voided the acks of this
// node, so all that is committed in this epoch is at or below the target, or committed without this node.
// Owner only.
func (j *Journal) BeginRebuild(st *Stream, f rpc.Fill) (*store.Incoming, error) {
	needed, err := j.mustRebuild(st.Header, f)
	if err != nil {
		return nil, err
	}
	if !needed {
		return nil, j.start(st, *f.Rebuild)
	}
	j.incoming++
	hdr := segments.Header{Journal: j.id, First: f.Segment, Epoch: st.Header.Claim.Epoch, Prev: *f.Rebuild}
	inc, err := j.store.NewIncoming(hdr, fmt.Sprintf("rebuild%d", j.incoming))
	return inc, j.stored(err)
}

// mustRebuild is the gate (F3, W1), and W0's judgement: everything but the damage speaks for the start.
func (j *Journal) mustRebuild(h rpc.Header, f rpc.Fill) (bool, error) {
	if err := j.check(h); err != nil {
		return false, err
	}
	if err := j.fence.Holds(h.Claim); err != nil {
		return false, err
	}
	if f.Rebuild.Next() != f.Segment || f.Target.TxID < f.Rebuild.Last {
		return false, fmt.Errorf("%w: rebuild of segment %d up to %d after %s", rpc.ErrBadRequest, f.Segment, f.Target.TxID, *f.Rebuild)
	}
	_, err := recovery.DecideStart(j.local(f.Segment), h.Claim.Epoch, f.Segment, *f.Rebuild)
	if errors.Is(err, recovery.ErrUnknownData) {
		return true, nil
	}
	return false, err
}

// FinishRebuild is the second half: the gate again, since anything may have happened meanwhile; then a
// record is removed, the damaged copy goes aside and the new one in its place, and the stream is answered
// as to a Start. A crash before that leaves the damaged copy, unknown as it was. The incoming copy belongs
// to the journal now, whatever is returned. Owner only.
func (j *Journal) FinishRebuild(st *Stream, f rpc.Fill, inc *store.Incoming) error {
	needed, err := j.mustRebuild(st.Header, f)
	if err == nil && needed && inc.Position() != f.Target {
		err = fmt.Errorf("%w: the rebuilt copy ends at %s (want %s)", rpc.ErrOutOfSync, inc.Position(), f.Target)
	}
	if err != nil || !needed {
		_ = inc.Abort() // a temporary: what is left of it goes at the next open
		if err == nil {
			err = j.start(st, *f.Rebuild)
		}
		return err
	}
	s := f.Segment
	if err := j.dropAccepted(s); err != nil {
		return err
	}
	if t := j.tails[s]; t != nil {
		delete(j.tails, s)
		_ = t.w.Close() // the file is set aside; nothing is written through it any more
	}
	if err := inc.InstallInProgress(segments.ReasonDamaged); err != nil {
		j.broken[s] = err
		j.structureChanged()
		return j.stored(err)
	}
	j.openTail(s)
	j.structureChanged()
	if err := j.broken[s]; err != nil {
		return err
	}
	st.Reply(j.reply(st.Header, rpc.Started, s, j.copyOf(s).Last))
	return nil
}
