// Package runlog is what a namespace process leaves behind for whoever watches it: a log of operations,
// which says exactly what was acknowledged even after a SIGKILL, and a file with its state.
package runlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// Log is the log of operations. A line is written, unbuffered, when an operation is started, and
// another one when it is acknowledged. A killed process loses none of them: the system has them. A nil
// Log writes nothing. The two methods may be called by one goroutine each.
type Log struct{ f *os.File }

// Create starts a log in a new file; an empty name is no log.
func Create(name string) (*Log, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	return &Log{f}, err
}

// Started notes that an operation is about to be handed over.
func (l *Log) Started(path string) error { return l.write("> %s\n", strconv.Quote(path)) }

// Acked notes that an operation was acknowledged as a transaction.
func (l *Log) Acked(txid uint64, path string) error {
	return l.write("< %d %s\n", txid, strconv.Quote(path))
}

func (l *Log) write(format string, args ...any) error {
	if l == nil {
		return nil
	}
	_, err := fmt.Fprintf(l.f, format, args...)
	return err
}

// Ack is an acknowledged operation.
type Ack struct {
	TxID uint64
	Path string
}

// Follower reads a log while it is being written.
type Follower struct {
	f       *os.File
	partial []byte // a last line that is not complete yet
	Started []string
	Acked   []Ack
}

// Follow opens a log.
func Follow(name string) (*Follower, error) {
	f, err := os.Open(name)
	return &Follower{f: f}, err
}

// Read takes in what was written since. A last line without its end does not count: the process did not
// get to write it.
func (r *Follower) Read() error {
	fresh, err := io.ReadAll(r.f)
	if err != nil {
		return err
	}
	all := append(r.partial, fresh...)
	whole := bytes.LastIndexByte(all, '\n') + 1
	r.partial = bytes.Clone(all[whole:])
	for lines := bufio.NewScanner(bytes.NewReader(all[:whole])); lines.Scan(); {
		if err := r.line(lines.Text()); err != nil {
			return fmt.Errorf("runlog: %s: line %q: %w", r.f.Name(), lines.Text(), err)
		}
	}
	return nil
}

func (r *Follower) line(s string) error {
	var a Ack
	if n, _ := fmt.Sscanf(s, "< %d %q", &a.TxID, &a.Path); n == 2 {
		r.Acked = append(r.Acked, a)
		return nil
	}
	if _, err := fmt.Sscanf(s, "> %q", &a.Path); err != nil {
		return err
	}
	r.Started = append(r.Started, a.Path)
	return nil
}

// Close closes the file.
func (r *Follower) Close() error { return r.f.Close() }

// State is what a process says of itself.
type State struct {
	Role     string // standby, active, done, refused
	Epoch    uint64 `json:",omitzero"`
	Writer   string `json:",omitzero"`
	FirstTx  uint64 `json:",omitzero"` // of the writer: everything below was recovered
	Followed uint64 `json:",omitzero"` // last transaction applied before it took over
	Skipped  int    `json:",omitzero"` // entries that were there already
	Digest   string `json:",omitzero"` // of the tree
	Refusal  string `json:",omitzero"`
	Promised uint64 `json:",omitzero"` // the epoch that fenced it
}

// Save writes the state, atomically; an empty name saves nothing.
func (s State) Save(name string) error {
	if name == "" {
		return nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	tmp := filepath.Clean(name) + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// Load reads a state; a file that is not there yet is the zero State.
func Load(name string) (s State, err error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}
