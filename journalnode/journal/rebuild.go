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
// node before it opened the stream, and the damage is the one that the stream met; so all that is committed
// in this epoch is at or below the target, or committed without this node. Owner only.
func (j *Journal) BeginRebuild(st *Stream, f rpc.Fill) (*store.Incoming, error) {
	needed, err := j.mustRebuild(st, f)
	if err != nil {
		return nil, err
	}
	if !needed {
		return nil, j.start(st, *f.Rebuild)
	}
	if err := j.mayGrow(); err != nil {
		return nil, err
	}
	j.incoming++
	hdr := segments.Header{Journal: j.id, First: f.Segment, Epoch: st.Header.Claim.Epoch, Prev: *f.Rebuild}
	inc, err := j.store.NewIncoming(hdr, fmt.Sprintf("rebuild%d", j.incoming))
	return inc, j.stored(err)
}

// mustRebuild is the gate (F3, W1), and W0's judgement: everything but the damage speaks for the start.
func (j *Journal) mustRebuild(st *Stream, f rpc.Fill) (bool, error) {
	h := st.Header
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
		err = j.mayRebuild(st, f)
		return err == nil, err
	}
	return false, err
}

// mayRebuild refuses a rebuild that could lose what this node has acknowledged.
//
//   - A damage that came since the stream began is another one: 1. a stream asks for a rebuild up to 7, and
//     drags on; 2. the next one has it done, 8 and 9 are acknowledged here, and committed by it; 3. that copy
//     rots, too; 4. the first rebuild would make a data answer of it that ends at 7. Refused as damaged, the
//     writer voids the acks since, and asks again.
//   - What the writer of this epoch called committed is at or below the target of each later request.
//   - A damaged copy that was finalized is replaced by a finalized one alone (R5, A2).
func (j *Journal) mayRebuild(st *Stream, f rpc.Fill) error {
	info, err := j.store.Info(f.Segment)
	switch {
	case err == nil && info.Finalized, st.damaged != f.Segment, st.copies != j.copies:
		return recovery.ErrUnknownData
	case j.floor.Segment == f.Segment && j.floor.Epoch == st.Header.Claim.Epoch && j.floor.At.TxID > f.Target.TxID:
		return fmt.Errorf("%w: rebuild up to %s, %s is committed", rpc.ErrOutOfSync, f.Target, j.floor.At)
	}
	return nil
}

// FinishRebuild is the second half: the gate again, since anything may have happened meanwhile; then a
// record is removed, the damaged copy goes aside and the new one in its place, and the stream is answered
// as to a Start. A crash before that leaves the damaged copy, unknown as it was. The incoming copy belongs
// to the journal now, whatever is returned. Owner only.
func (j *Journal) FinishRebuild(st *Stream, f rpc.Fill, inc *store.Incoming) error {
	needed, err := j.mustRebuild(st, f)
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
