package faultfs

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/quorumjournal/qjm/internal/vfs"
)

// logEntriesMax bounds the log; the older half goes when it is full.
const logEntriesMax = 1 << 16

// FS passes operations on to an inner FS, or fails them. Its methods may be called concurrently.
type FS struct {
	inner vfs.FS

	// mu guards all below and is held over the inner operation (X1).
	mu         sync.Mutex
	rules      []*countedRule
	mutations  int64
	crashAt    int64 // 0: never
	crashAfter int64 // 0: never
	crashed    bool
	log        []string
}

var _ vfs.FS = (*FS)(nil)

// New returns an FS that passes everything on.
func New(inner vfs.FS) *FS { return &FS{inner: inner} }

// Inject adds a rule. Where several fire at one operation, the one injected first gives the error.
func (f *FS) Inject(rule Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, &countedRule{Rule: rule})
}

// ClearRules removes all rules.
func (f *FS) ClearRules() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// CrashAt kills the machine at the k-th mutation since New: it is not done, and it and every later
// operation fails with ErrCrashed. If there were k already, the next mutation is the one. 0 is never.
func (f *FS) CrashAt(k int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = k
}

// CrashAfter is CrashAt with the k-th mutation done. It, too, returns ErrCrashed: its caller must
// cope with not knowing. (To let the caller see nil and no more is CrashAt of k+1.)
func (f *FS) CrashAfter(k int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAfter = k
}

// Crash kills the machine now, between two operations.
func (f *FS) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

// Crashed reports whether the machine is dead.
func (f *FS) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// Mutations counts the mutating operations that were tried since New, failed ones included, up to
// the crash.
func (f *FS) Mutations() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mutations
}

// Log returns the mutating operations since the last ResetLog, oldest first:
//
//	create a            mkdir d          write a 0+4096        sync a
//	rename a b          syncdir d        preallocate a 0+4096  truncate a 100
//	remove a
//
// An operation that a rule made fail ends in " (fault)", the one that killed the machine in
// " (crash)" or, where it was done, " (done, crash)".
func (f *FS) Log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

// ResetLog empties the log.
func (f *FS) ResetLog() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = nil
}

// call is one operation on its way through.
type call struct {
	op      OpKind
	paths   []string
	verb    string        // as in the log
	details func() string // after the path in the log; may be nil
	dropped func()        // run when a rule with DropUnsynced fires; may be nil
}

// run does an operation, or fails it.
func (f *FS) run(c call, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	dieAfter := false
	if c.op&OpMutating != 0 {
		f.mutations++
		if f.crashAt > 0 && f.mutations >= f.crashAt {
			f.crashed = true
			f.note(c, " (crash)")
			return ErrCrashed
		}
		dieAfter = f.crashAfter > 0 && f.mutations >= f.crashAfter
	}
	if rule := f.firing(c); rule != nil {
		f.crashed = dieAfter
		f.note(c, " (fault)")
		if rule.DropUnsynced && c.dropped != nil {
			c.dropped()
		}
		return rule.err()
	}
	if dieAfter {
		f.crashed = true
		f.note(c, " (done, crash)")
		_ = do() // its outcome is what the caller does not learn
		return ErrCrashed
	}
	f.note(c, "")
	return do()
}

// firing returns the first rule that makes the operation fail. All rules count the match.
func (f *FS) firing(c call) *countedRule {
	var first *countedRule
	for _, rule := range f.rules {
		if rule.fires(c.op, c.paths) && first == nil {
			first = rule
		}
	}
	return first
}

func (f *FS) note(c call, outcome string) {
	if c.op&OpMutating == 0 {
		return
	}
	if len(f.log) == logEntriesMax {
		f.log = slices.Delete(f.log, 0, logEntriesMax/2)
	}
	entry := c.verb
	for _, path := range c.paths {
		entry += " " + path
	}
	if c.details != nil {
		entry += " " + c.details()
	}
	f.log = append(f.log, entry+outcome)
}

// Create passes on or fails (OpCreate).
func (f *FS) Create(name string) (vfs.File, error) {
	return f.open(call{op: OpCreate, verb: "create", paths: []string{name}}, f.inner.Create)
}

// Open passes on or fails (OpOpen).
func (f *FS) Open(name string) (vfs.File, error) {
	return f.open(call{op: OpOpen, paths: []string{name}}, f.inner.Open)
}

// OpenWrite passes on or fails (OpOpen).
func (f *FS) OpenWrite(name string) (vfs.File, error) {
	return f.open(call{op: OpOpen, paths: []string{name}}, f.inner.OpenWrite)
}

func (f *FS) open(c call, open func(name string) (vfs.File, error)) (vfs.File, error) {
	var inner vfs.File
	err := f.run(c, func() (err error) {
		inner, err = open(c.paths[0])
		return err
	})
	if err != nil {
		if inner != nil { // done, then crashed
			_ = inner.Close()
		}
		return nil, err
	}
	return &file{fs: f, inner: inner, name: c.paths[0]}, nil
}

// Rename passes on or fails (OpRename).
func (f *FS) Rename(oldName, newName string) error {
	return f.run(call{op: OpRename, verb: "rename", paths: []string{oldName, newName}},
		func() error { return f.inner.Rename(oldName, newName) })
}

// Remove passes on or fails (OpRemove).
func (f *FS) Remove(name string) error {
	return f.run(call{op: OpRemove, verb: "remove", paths: []string{name}},
		func() error { return f.inner.Remove(name) })
}

// MkdirAll passes on or fails (OpMkdir).
func (f *FS) MkdirAll(name string) error {
	return f.run(call{op: OpMkdir, verb: "mkdir", paths: []string{name}},
		func() error { return f.inner.MkdirAll(name) })
}

// List passes on or fails (OpList).
func (f *FS) List(dir string) (names []string, err error) {
	err = f.run(call{op: OpList, paths: []string{dir}}, func() (err error) {
		names, err = f.inner.List(dir)
		return err
	})
	return names, err
}

// Stat passes on or fails (OpStat).
func (f *FS) Stat(name string) (info fs.FileInfo, err error) {
	err = f.run(call{op: OpStat, paths: []string{name}}, func() (err error) {
		info, err = f.inner.Stat(name)
		return err
	})
	return info, err
}

// SyncDir passes on or fails (OpSyncDir).
func (f *FS) SyncDir(dir string) error {
	return f.run(call{op: OpSyncDir, verb: "syncdir", paths: []string{dir}},
		func() error { return f.inner.SyncDir(dir) })
}

// Lock passes on or fails (OpLock).
func (f *FS) Lock(name string) (io.Closer, error) {
	var inner io.Closer
	err := f.run(call{op: OpLock, paths: []string{name}}, func() (err error) {
		inner, err = f.inner.Lock(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &lock{fs: f, inner: inner}, nil
}

// Free passes on or fails (OpStat).
func (f *FS) Free(name string) (free int64, err error) {
	err = f.run(call{op: OpStat, paths: []string{name}}, func() (err error) {
		free, err = f.inner.Free(name)
		return err
	})
	return free, err
}

func byteRange(off, n int64) func() string {
	return func() string { return fmt.Sprintf("%d+%d", off, n) }
}
