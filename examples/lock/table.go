package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"

	"github.com/quorumjournal/qjm/libqjm"
)

// Token is a fencing token: which transaction gave the lock away. Later ones are larger, whoever is active.
type Token struct {
	Epoch libqjm.Epoch
	TxID  libqjm.TxID
}

// Less orders tokens by when they were given.
func (t Token) Less(o Token) bool {
	return t.Epoch < o.Epoch || t.Epoch == o.Epoch && t.TxID < o.TxID
}

func (t Token) String() string { return fmt.Sprintf("%d-%d", t.Epoch, t.TxID) }

// lock is one that is held.
type lock struct {
	Holder string
	Token  Token
	Ends   int64 // in the table's time, milliseconds
}

// command is what stands in the log. Now is the time of the active that proposed it: the only clock that decides.
type command struct {
	Op     string // acquire, renew, release, expire
	Name   string
	Holder string
	Token  Token
	TTL    int64 // milliseconds
	Now    int64
}

// reply is what a command comes to: an HTTP status, and the lock as it is, or was.
type reply struct {
	Status int
	Lock   lock
}

// table is the state machine: who holds which lock, and what time it is.
type table struct {
	mu    sync.Mutex
	Time  int64 // the latest Now in the log: it never goes back
	Locks map[string]lock
}

// Apply makes what is committed so. It looks at no clock: what time it is, the log says.
func (t *table) Apply(batch []libqjm.Entry) (results [][]byte, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range batch {
		var c command
		if err := json.Unmarshal(e.Data, &c); err != nil {
			return nil, fmt.Errorf("txid %d: %w", e.TxID, err)
		}
		r, _ := json.Marshal(t.step(c, Token{e.Epoch, e.TxID}))
		results = append(results, r)
	}
	return results, nil
}

func (t *table) step(c command, fresh Token) reply {
	t.Time = max(t.Time, c.Now)
	maps.DeleteFunc(t.Locks, func(_ string, l lock) bool { return l.Ends <= t.Time })
	l, held := t.Locks[c.Name]
	switch {
	case c.Op == "expire":
		return reply{Status: http.StatusOK}
	case c.Op == "acquire" && held && l.Holder != c.Holder:
		return reply{http.StatusConflict, l}
	case c.Op == "acquire" && !held:
		l = lock{Holder: c.Holder, Token: fresh} // who asks again has it already, with the same token
	case c.Op != "acquire" && (!held || l.Token != c.Token):
		return reply{http.StatusGone, l}
	case c.Op == "release":
		delete(t.Locks, c.Name)
		return reply{http.StatusNoContent, l}
	}
	l.Ends = t.Time + c.TTL
	t.Locks[c.Name] = l
	return reply{http.StatusOK, l}
}

// due reports whether a lock has ended by that time. What is due has not ended before the log says so.
func (t *table) due(now int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.Locks {
		if l.Ends <= now {
			return true
		}
	}
	return false
}

func (t *table) holder(name string) (lock, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, held := t.Locks[name]
	return l, held
}

// SaveSnapshot encodes at once: there are few locks.
func (t *table) SaveSnapshot() (func(io.Writer) error, error) {
	b, err := json.Marshal(t)
	return func(w io.Writer) error { _, err := w.Write(b); return err }, err
}

// LoadSnapshot replaces the state.
func (t *table) LoadSnapshot(r io.Reader) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Locks = map[string]lock{}
	return json.NewDecoder(r).Decode(t)
}
