package journalnode

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
)

const reserveFile = "reserve"

// reserve is a file that takes up room which appends must not have: on a full disk it is given up for
// what ends a journal's trouble instead of adding to it, promises, accepted records, configs, footers.
// Until it is there again, new frames and segments are refused (vfs.ErrNoSpace), so that the room goes to
// nothing else. It is made again, and writing goes on, when there is half as much more free than it takes:
// with less, the next promise would undo it.
type reserve struct {
	fs    vfs.FS
	dir   string
	bytes int64 // 0: no reserve
	log   *slog.Logger

	low atomic.Bool

	mu   sync.Mutex // held over the disk: making and giving up must not overlap
	held bool       // guarded by mu
}

var _ journal.Room = (*reserve)(nil)

func newReserve(fsys vfs.FS, dir string, bytes int64, log *slog.Logger) *reserve {
	return &reserve{fs: fsys, dir: dir, bytes: max(bytes, 0), log: log}
}

func (r *reserve) path() string { return path.Join(r.dir, reserveFile) }

// Low implements journal.Room.
func (r *reserve) Low() bool { return r.low.Load() }

// GiveUp implements journal.Room.
func (r *reserve) GiveUp() bool {
	if !r.mu.TryLock() {
		return false // it is just being made; an owner does not wait for that
	}
	defer r.mu.Unlock()
	if !r.held {
		return false
	}
	r.held = false
	r.low.Store(true) // before the room is there for others to take
	r.log.Error("disk is full: the reserve is given up, and no new transactions are taken until there is room", "bytes", r.bytes)
	if err := r.fs.Remove(r.path()); err != nil {
		r.log.Error("cannot give the reserve up", "err", err)
		return false
	}
	return true
}

// load finds out what an earlier run left: a file of any other size is a half-made one, or of another
// setting.
func (r *reserve) load() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch st, err := r.fs.Stat(r.path()); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("journalnode: reserve: %w", err)
	case st.Size() == r.bytes && r.bytes > 0:
		r.held = true
		return nil
	}
	if err := r.fs.Remove(r.path()); err != nil {
		return fmt.Errorf("journalnode: reserve: %w", err)
	}
	return nil
}

// fill makes the reserve if it is not there and there is room for it.
func (r *reserve) fill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held || r.bytes == 0 {
		return
	}
	free, err := r.fs.Free(r.dir)
	if err != nil {
		r.log.Warn("cannot tell how much room there is: no reserve", "err", err)
		r.low.Store(false)
		return
	}
	if free < r.bytes+r.bytes/2 {
		if !r.low.Swap(true) {
			r.log.Error("disk is nearly full: no new transactions are taken until there is room", "free", free, "reserve", r.bytes)
		}
		return
	}
	if err := r.make(); err != nil {
		r.log.Warn("cannot make the reserve", "err", err)
		return
	}
	r.held = true
	if r.low.Swap(false) {
		r.log.Info("there is room again: transactions are taken")
	}
}

func (r *reserve) make() error {
	f, err := r.fs.Create(r.path())
	if errors.Is(err, fs.ErrExist) { // giving it up failed
		if err = r.fs.Remove(r.path()); err == nil {
			f, err = r.fs.Create(r.path())
		}
	}
	if err != nil {
		return err
	}
	err = f.Preallocate(0, r.bytes)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, r.fs.Remove(r.path()))
	}
	return r.fs.SyncDir(r.dir)
}

// reserveLoop makes the reserve, and makes it again after it was given up. When there is room, segments
// whose torn tail could not be put aside for lack of it are opened.
func (n *Node) reserveLoop() {
	for {
		n.reserve.fill()
		if !n.reserve.Low() {
			n.retryTails()
		}
		select {
		case <-time.After(n.opts.RepairEvery):
		case <-n.stopping:
			return
		}
	}
}

func (n *Node) retryTails() {
	for _, o := range n.allOwners() {
		if !o.j.LacksRoom() {
			continue
		}
		ctx, cancel := n.context(n.opts.PeerTimeout)
		err := o.do(ctx, func(j *journal.Journal) error { return j.RetryTails() })
		cancel()
		if err != nil {
			o.log.Warn("a torn tail cannot be put aside yet", "err", err)
		}
	}
}
