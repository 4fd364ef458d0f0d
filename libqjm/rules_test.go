package libqjm_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// TestW6_OneNodeHasIt_S12: S12 of the review. A frame reached n1; n2 and n3 take nothing. Its caller gives up,
// and is told that it may have committed; nothing else is ever written under its txid, by this writer or by
// whoever recovers from n1. A refusal for lack of room, of what was handed to nobody, uses up no txid.
func TestW6_OneNodeHasIt_S12(t *testing.T) {
	for name, dies := range map[string]bool{"the writer goes on": false, "the writer dies": true} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
				w := b.writerWith(libqjm.WriterOptions{QueueBytes: 64 << 10, FrameBytes: 32 << 10, FramesInFlight: 1})
				b.inSync(w, "n1", "n2", "n3")
				frames := []string{"Write.Frames"}
				b.lose(map[string][]string{"n2": frames, "n3": frames})
				_, err := w.Append(b.within(time.Second), text(1))
				require.ErrorIs(b, err, context.DeadlineExceeded)
				require.True(b, libqjm.MayHaveCommitted(err))
				b.holds(w, "n1", 1)
				refused := 0
				for err = nil; err == nil; refused++ { // what waits behind it, until there is no room
					_, err = w.AppendAsync(b.within(time.Second), make([]byte, 16<<10))
				}
				require.ErrorIs(b, err, libqjm.ErrQueueFull)
				require.False(b, libqjm.MayHaveCommitted(err))
				waiting := libqjm.TxID(refused - 1)
				if dies {
					b.abandon(w)
					b.StopNode(2)
					b.Net.Fault(nil)
					w = b.writer()
					b.write(w, 2, 2)
					require.NoError(b, w.Close(b.ctx))
					require.Equal(b, upTo(1, 2), b.read(libqjm.ReaderOptions{}), "n1 was heard: what it had is in")
					return
				}
				b.Net.Fault(nil)
				id, err := w.Append(b.ctx, text(2+waiting))
				require.NoError(b, err)
				require.Equal(b, 2+waiting, id, "the refusal used up no txid")
				require.NoError(b, w.Close(b.ctx))
				b.finalized(1, id)
				r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
				require.NoError(b, err)
				defer func() { require.NoError(b, r.Close()) }()
				for txn, err := range r.All(b.ctx) {
					require.NoError(b, err)
					if txn.ID == 1 || txn.ID == id {
						require.Equal(b, string(text(txn.ID)), string(txn.Data))
					}
				}
			})
		})
	}
}
