package journalnode

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// W3: the floor is written under load that never breaks off, at most once a second.
func TestW3_FloorIsWrittenUnderUnbrokenLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, id, self := memfs.New(), segments.JournalID{1}, journal.Self{ID: "a", Incarnation: quorum.Incarnation{1}}
		cfg := quorum.NewConfig(1, quorum.Member{ID: "a", Incarnation: self.Incarnation})
		require.NoError(t, journal.Create(disk, "j", id, "j", cfg))
		j, err := journal.Open(disk, "j", self, id, journal.Options{})
		require.NoError(t, err)
		opts := Options{}.withDefaults()
		o := newOwner(j, opts, slog.New(slog.DiscardHandler), newMetrics(&Node{opts: opts}), newSpare(opts.QuietAfter))
		h := rpc.Header{Journal: id, ConfigVersion: 1, Incarnation: self.Incarnation, Claim: fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}}
		require.NoError(t, o.do(context.Background(), func(j *journal.Journal) error { return j.Hello(h) }))

		written := func() segments.TxID {
			c, err := journal.Inspect(disk.ProcessCrashClone(), "j")
			require.NoError(t, err)
			return c.Floor.At.TxID
		}
		const group = 100 * time.Millisecond
		var txid segments.TxID
		writes, done := 0, make(chan struct{})
		st := &journal.Stream{Header: h, Fail: func(err error) { t.Error(err) }}
		send := func() {
			txid++
			floor := recovery.Floor{Segment: 1, Epoch: 1, At: segments.Position{TxID: txid}}
			o.tasks <- task{item: journal.Item{Stream: st, Request: rpc.WriteRequest{Floor: floor}}}
		}
		last := segments.TxID(0)
		st.Reply = func(rpc.WriteReply) { // in the owner: another message always waits when it is done
			<-time.After(group)
			if at := written(); at != last {
				last = at
				writes++
			}
			if txid == 100 {
				close(done)
				return
			}
			send()
		}
		send()
		<-done
		require.InDelta(t, 9, writes, 1, "once a second, in ten seconds")
		require.Greater(t, last, segments.TxID(80))
		o.close()
	})
}
