package main

import (
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"

	"github.com/quorumjournal/qjm/libqjm"
)

// command is a change as it stands in the log, in JSON.
type command struct {
	Key      string
	Value    []byte
	Delete   bool
	IfAbsent bool        // only if the key is not there
	IfTxID   libqjm.TxID // unless 0: only if this transaction wrote what is there
}

// item is a value and the transaction that wrote it. It is replaced, never changed: a copy of the map is one of the state.
type item struct {
	Value []byte
	TxID  libqjm.TxID
}

// store is the state machine.
type store struct {
	mu    sync.RWMutex
	items map[string]item
	last  libqjm.TxID // the last command in items
}

func newStore() *store { return &store{items: map[string]item{}} }

// get returns what a key has, and how far the state was then.
func (s *store) get(key string) (it item, there bool, at libqjm.TxID) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	it, there = s.items[key]
	return it, there, s.last
}

// Apply makes committed changes. What it cannot read is from a later version: an error stops this replica, and that is
// right, for one that skipped it would have another state than the rest. A result names the transaction itself: who
// retries in a session is answered with the first try's result, and its retry has a txid of its own.
func (s *store) Apply(batch []libqjm.Entry) (results [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range batch {
		var c command
		if err := json.Unmarshal(e.Data, &c); err != nil {
			return nil, fmt.Errorf("txid %d: %w", e.TxID, err)
		}
		status, txid := s.step(c, e.TxID)
		results, s.last = append(results, fmt.Appendf(nil, "%d %d", status, txid)), e.TxID
	}
	return results, nil
}

// step returns an HTTP status, and the txid of the change, or of what is there where the condition does not hold, or 0.
func (s *store) step(c command, txid libqjm.TxID) (int, libqjm.TxID) {
	old, there := s.items[c.Key]
	switch {
	case c.IfAbsent && there, c.IfTxID != 0 && c.IfTxID != old.TxID:
		return http.StatusPreconditionFailed, old.TxID
	case c.Delete && !there:
		return http.StatusNotFound, 0
	case c.Delete:
		delete(s.items, c.Key)
		return http.StatusNoContent, txid
	}
	s.items[c.Key] = item{c.Value, txid}
	return http.StatusOK, txid
}

// SaveSnapshot holds up Apply for the copy of the map only: the copy is written while more is applied.
func (s *store) SaveSnapshot() (func(io.Writer) error, error) {
	items := maps.Clone(s.items) // no lock: Apply, which changes it, is not running
	return func(w io.Writer) error { return gob.NewEncoder(w).Encode(items) }, nil
}

// LoadSnapshot replaces the state.
func (s *store) LoadSnapshot(r io.Reader) error {
	items := map[string]item{}
	if err := gob.NewDecoder(r).Decode(&items); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = items
	return nil
}
