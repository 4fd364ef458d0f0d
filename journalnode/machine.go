package journalnode

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
)

// machine lets the group drive the catalog. Results cross as *outcome.
type machine struct {
	log     *slog.Logger
	changed func() // after each apply but of renewals; never waits
	renewed func(index uint64, kept []catalog.Kept)
	stuck   chan error // buffered: why the catalog goes no further, once

	mu      sync.RWMutex
	cat     *catalog.Catalog // guarded by mu
	news    uint64           // the last index that was told by changed: renewals are none; guarded by mu
	advance chan struct{}    // closed, and made anew, with each apply; guarded by mu
}

var _ raftgroup.Machine = (*machine)(nil)

// outcome is what the catalog said to one command.
type outcome struct {
	res catalog.Result
	err error
}

func newMachine(log *slog.Logger, changed func(), renewed func(uint64, []catalog.Kept)) *machine {
	return &machine{log: log, changed: changed, renewed: renewed, stuck: make(chan error, 1), cat: catalog.New(), advance: make(chan struct{})}
}

// Apply implements raftgroup.Machine. Refusals are the same on every node; a command that this software is
// too old for is not: from there on the state here would be another one, so the group has to end.
func (m *machine) Apply(index uint64, command []byte) any {
	m.mu.Lock()
	res, err := m.cat.ApplyBytes(index, command)
	if len(res.Kept) == 0 {
		m.news = index
	}
	close(m.advance)
	m.advance = make(chan struct{})
	m.mu.Unlock()
	if errors.Is(err, catalog.ErrUnsupported) {
		select {
		case m.stuck <- err:
		default:
		}
	}
	if len(res.Kept) > 0 {
		m.renewed(index, res.Kept) // nothing else changed: this is many times a second, and no news to anybody else
	} else {
		m.changed()
	}
	return &outcome{res, err}
}

// Snapshot implements raftgroup.Machine.
func (m *machine) Snapshot() ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.cat.AppendBinary(nil)
}

// Restore implements raftgroup.Machine.
func (m *machine) Restore(b []byte) error {
	cat, err := catalog.Restore(b)
	if err != nil {
		return fmt.Errorf("journalnode: %w", err)
	}
	m.mu.Lock()
	m.cat, m.news = cat, cat.Index()
	close(m.advance)
	m.advance = make(chan struct{})
	m.mu.Unlock()
	m.changed()
	return nil
}

// read shows the catalog to f, which must be quick and keep nothing: the next entry waits for it.
func (m *machine) read(f func(*catalog.Catalog)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f(m.cat)
}

// applied returns the last index, and a channel that is closed with the next one.
func (m *machine) applied() (uint64, <-chan struct{}) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.cat.Index(), m.advance
}

// toFollow returns the last index of which there were news: whoever has taken over what the catalog was then knows all but
// renewals. 0: nothing was applied yet.
func (m *machine) toFollow() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.news
}
