package systems

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/quorumjournal/qjm/bench/load"
)

// floors are what the machine allows to anybody who does less than a quorum log must.
var floors = []load.Spec{floorDiskSpec, floorGRPCSpec}

var floorDiskSpec = load.Spec{
	Name: "floor-disk", Mode: load.Raw, Start: startFloorDisk,
	Setup: "no network: three preallocated files, one write + fdatasync each for all callers together, done when two of three are",
}

const (
	// floorFileBytes is what each file is made of before anything is measured. Zeroes are written, not only
	// reserved: a first write into reserved room changes the file's metadata, and the sync then writes that, too.
	floorFileBytes = 128 << 20
	// floorLag is how many pieces the third file may be behind.
	floorLag = 64
	// floorKept is how many pieces a floor remembers, to show in Contents that it moved them.
	floorKept = 1024
)

// floorDisk writes in place and starts again at the front of a file that is full.
type floorDisk struct {
	lanes []*lane
	ended chan error
}

// lane is one file and what waits to be written to it.
type lane struct {
	f     *os.File
	queue chan piece

	mu    sync.Mutex
	sizes []int // of the first pieces, for Contents
}

type piece struct {
	data []byte
	done chan error // has room for the outcomes of all lanes
}

func startFloorDisk(_ context.Context, env load.Env) (load.System, error) {
	d := &floorDisk{ended: make(chan error, nodes)}
	for i := range nodes {
		f, err := zeroFile(filepath.Join(env.Dir, fmt.Sprintf("file%d", i)), floorFileBytes)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		l := &lane{f: f, queue: make(chan piece, floorLag)}
		d.lanes = append(d.lanes, l)
		go func() { l.write(); d.ended <- f.Close() }()
	}
	return d, nil
}

func zeroFile(path string, size int) (*os.File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	zero := make([]byte, 1<<20)
	for range size / len(zero) {
		if _, err := f.Write(zero); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if err := f.Sync(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// write writes and syncs piece after piece.
func (l *lane) write() {
	off := 0
	for p := range l.queue {
		if off+len(p.data) > floorFileBytes {
			off = 0
		}
		_, err := l.f.WriteAt(p.data, int64(off))
		if err == nil {
			err = syscall.Fdatasync(int(l.f.Fd()))
		}
		off += len(p.data)
		l.note(len(p.data))
		p.done <- err
	}
}

func (l *lane) note(size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sizes) < floorKept {
		l.sizes = append(l.sizes, size)
	}
}

func (d *floorDisk) Append(_ context.Context, txn []byte) error {
	if len(txn) > floorFileBytes {
		return fmt.Errorf("systems: the floor's files are too small (got a piece of %d bytes, at most %d)", len(txn), floorFileBytes)
	}
	p := piece{data: txn, done: make(chan error, nodes)}
	for _, l := range d.lanes {
		l.queue <- p
	}
	for range majority {
		if err := <-p.done; err != nil {
			return err
		}
	}
	return nil
}

func (d *floorDisk) Contents(context.Context) ([][]byte, error) {
	var held [][][]byte
	for _, l := range d.lanes {
		txns, err := l.contents()
		if err != nil {
			return nil, err
		}
		held = append(held, txns)
	}
	return onMajority(held), nil
}

func (l *lane) contents() (out [][]byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	off := int64(0)
	for _, size := range l.sizes {
		txn := make([]byte, size)
		if _, err := l.f.ReadAt(txn, off); err != nil {
			return nil, err
		}
		out = append(out, txn)
		off += int64(size)
	}
	return out, nil
}

func (d *floorDisk) Close() error {
	for _, l := range d.lanes {
		close(l.queue)
	}
	var errs []error
	for range d.lanes {
		errs = append(errs, <-d.ended)
	}
	return errors.Join(errs...)
}
