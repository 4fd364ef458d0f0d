package raftgroup

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// watchdog knows how long the calls to the log store have been under way (G5). It only watches: a call
// that hangs is waited for, however long it takes. Raft snapshots are not watched: they are written beside
// the main loop, and one of many megabytes may honestly take longer than the bound.
type watchdog struct {
	bound time.Duration

	mu    sync.Mutex // guards what follows
	next  uint64
	calls map[uint64]time.Time // under way, since when
}

func newWatchdog(bound time.Duration) *watchdog {
	return &watchdog{bound: bound, calls: map[uint64]time.Time{}}
}

func (w *watchdog) begin() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	w.calls[w.next] = time.Now()
	return w.next
}

func (w *watchdog) end(call uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.calls, call)
}

// oldest is how long the oldest call has been under way; 0 without one.
func (w *watchdog) oldest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var age time.Duration
	for _, since := range w.calls {
		age = max(age, time.Since(since))
	}
	return age
}

// check returns a StalledError while a call is older than the bound.
func (w *watchdog) check() error {
	if age := w.oldest(); age > w.bound {
		return &StalledError{For: age, Max: w.bound}
	}
	return nil
}

// watchedLogs puts every call to the log under the watchdog. It must not say that it is a
// raft.MonotonicLogStore: upstream would then drop entries that this node has acknowledged.
type watchedLogs struct {
	in raft.LogStore
	w  *watchdog
}

func (s watchedLogs) FirstIndex() (uint64, error) {
	defer s.w.end(s.w.begin())
	return s.in.FirstIndex()
}

func (s watchedLogs) LastIndex() (uint64, error) {
	defer s.w.end(s.w.begin())
	return s.in.LastIndex()
}

func (s watchedLogs) GetLog(index uint64, log *raft.Log) error {
	defer s.w.end(s.w.begin())
	return s.in.GetLog(index, log)
}

func (s watchedLogs) StoreLog(log *raft.Log) error {
	defer s.w.end(s.w.begin())
	return s.in.StoreLog(log)
}

func (s watchedLogs) StoreLogs(logs []*raft.Log) error {
	defer s.w.end(s.w.begin())
	return s.in.StoreLogs(logs)
}

func (s watchedLogs) DeleteRange(first, last uint64) error {
	defer s.w.end(s.w.begin())
	return s.in.DeleteRange(first, last)
}

// watchedStable does the same for term and vote.
type watchedStable struct {
	in raft.StableStore
	w  *watchdog
}

func (s watchedStable) Set(key, val []byte) error {
	defer s.w.end(s.w.begin())
	return s.in.Set(key, val)
}

func (s watchedStable) Get(key []byte) ([]byte, error) {
	defer s.w.end(s.w.begin())
	return s.in.Get(key)
}

func (s watchedStable) SetUint64(key []byte, val uint64) error {
	defer s.w.end(s.w.begin())
	return s.in.SetUint64(key, val)
}

func (s watchedStable) GetUint64(key []byte) (uint64, error) {
	defer s.w.end(s.w.begin())
	return s.in.GetUint64(key)
}
