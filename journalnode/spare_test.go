package journalnode

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func TestSparePause(t *testing.T) {
	require.Zero(t, sparePause(time.Second, false), "nobody is in the way")
	require.Zero(t, sparePause(0, true))
	require.Equal(t, 19*time.Millisecond, sparePause(time.Millisecond, true), "a twentieth of the time")
	require.Equal(t, sparePauseMax, sparePause(time.Minute, true))
}

// slowSyncs is a disk whose syncs take a millisecond each. It counts those of directories: a floor that is saved has one.
type slowSyncs struct {
	*memfs.FS
	saves atomic.Int64
}

type slowSyncFile struct{ vfs.File }

func (d *slowSyncs) SyncDir(dir string) error {
	d.saves.Add(1)
	<-time.After(time.Millisecond)
	return d.FS.SyncDir(dir)
}

func (d *slowSyncs) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return slowSyncFile{f}, nil
}

func (d *slowSyncs) Create(name string) (vfs.File, error)    { return d.file(d.FS.Create(name)) }
func (d *slowSyncs) OpenWrite(name string) (vfs.File, error) { return d.file(d.FS.OpenWrite(name)) }

func (f slowSyncFile) Sync() error {
	<-time.After(time.Millisecond)
	return f.File.Sync()
}

// spareBed is a node of many journals, each with a writer.
type spareBed struct {
	*testing.T
	disk   *slowSyncs
	owners []*owner
	files  []string
	send   []func(floor segments.TxID, frame bool)
}

func newSpareBed(t *testing.T, journals int) *spareBed {
	b := &spareBed{T: t, disk: &slowSyncs{FS: memfs.New()}}
	opts, self := Options{}.withDefaults(), journal.Self{ID: "a", Incarnation: quorum.Incarnation{1}}
	cfg := quorum.NewConfig(1, quorum.Member{ID: "a", Incarnation: self.Incarnation})
	m, s := newMetrics(&Node{opts: opts}), newSpare(opts.QuietAfter)
	for i := range journals {
		id, dir := segments.JournalID{1, byte(i)}, "j"+string(rune('A'+i))
		require.NoError(t, journal.Create(b.disk, dir, id, "j", cfg))
		j, err := journal.Open(b.disk, dir, self, id, journal.Options{})
		require.NoError(t, err)
		o := newOwner(j, opts, slog.New(slog.DiscardHandler), m, s)
		h := rpc.Header{Journal: id, ConfigVersion: 1, Incarnation: self.Incarnation, Claim: fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}}
		require.NoError(t, o.do(context.Background(), func(j *journal.Journal) error { return j.Hello(h) }))
		synctest.Wait() // the owner gives the turn back behind the answer
		st := &journal.Stream{Header: h, Reply: func(rpc.WriteReply) {}, Fail: func(err error) { t.Error(err) }}
		at := segments.Position{}
		require.True(t, o.handleNow(journal.Item{Stream: st, Request: rpc.WriteRequest{Start: &segments.End{}}}))
		b.send = append(b.send, func(floor segments.TxID, frame bool) {
			r := rpc.WriteRequest{Floor: recovery.Floor{Segment: 1, Epoch: 1, At: segments.Position{TxID: floor}}}
			if frame {
				var sb segments.Builder
				sb.Reset(at.TxID+1, 1)
				require.NoError(t, sb.Add([]byte("x")))
				f, err := sb.Seal(at.Digest, segments.SealOptions{})
				require.NoError(t, err)
				r.Frames, at = []segments.Frame{f}, f.Position()
			}
			require.NoError(t, o.submit(context.Background(), journal.Item{Stream: st, Request: r}, nil))
		})
		b.owners, b.files = append(b.owners, o), append(b.files, dir)
	}
	synctest.Wait()
	<-time.After(time.Minute)
	b.disk.saves.Store(0)
	return b
}

func (b *spareBed) close() {
	for _, o := range b.owners {
		o.close()
	}
}

// saved returns the floor that is left of a journal when the power goes.
func (b *spareBed) saved(i int) segments.TxID {
	c, err := journal.Inspect(b.disk.CrashClone(memfs.CrashOptions{}), b.files[i])
	require.NoError(b, err)
	return c.Floor.At.TxID
}

// W3, N2a: many journals that get an append now and then are slow, not quiet: their floors and marks take a twentieth of
// the disk's time while there are appends, are outlived by the process's end all the same, and are all written soon
// after the last append.
func TestW3_FloorsOfManyJournalsLeaveTheDiskToAppends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const journals, rounds, every = 50, 10, 1500 * time.Millisecond
		b := newSpareBed(t, journals)
		defer b.close()
		for round := range segments.TxID(rounds) {
			for _, send := range b.send {
				send(round+1, true)
				<-time.After(every / journals)
			}
		}
		saves := b.disk.saves.Load()
		const each = 4 * time.Millisecond // a mark, and a floor: of the file, its name
		require.LessOrEqual(t, time.Duration(saves)*each, rounds*every/10, "%d saves", saves)
		require.Positive(t, saves, "it goes on under load")
		for i := range journals {
			c, err := journal.Inspect(b.disk.ProcessCrashClone(), b.files[i])
			require.NoError(t, err)
			require.GreaterOrEqual(t, c.Floor.At.TxID, segments.TxID(rounds-1), "without a sync")
		}
		<-time.After(2*time.Second + journals*each)
		for i := range journals {
			require.EqualValues(t, rounds, b.saved(i), "when all is quiet")
		}
	})
}

// W3: a stop does not wait for what others have of the disk, nor does one that hangs keep it.
func TestW3_FloorIsSavedAtAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSpareBed(t, 2)
		require.True(t, b.owners[0].spare.try())
		for _, send := range b.send {
			send(7, false)
		}
		<-time.After(time.Minute)
		require.Zero(t, b.saved(0), "it waits for its turn")
		b.close()
		for i := range b.owners {
			require.EqualValues(t, 7, b.saved(i))
		}
	})
}
