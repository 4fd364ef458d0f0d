package libqjm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/quorumjournal/qjm/internal/session"
)

// StateMachine is the state that a Replica keeps. All its methods are called one at a time; only what SaveSnapshot returns
// runs beside them.
//
// It must be deterministic: equal transactions in equal order make equal states. No clock, no random number, no map
// order may decide anything; what they should decide is put into the proposal by whoever proposes it.
//
// An error or a panic stops this replica, and no other: see Replica.Err.
type StateMachine interface {
	// Apply applies transactions in the order of the log, each of them once. They are committed: they will
	// not be taken back. It returns a result for each, or nil where there are none; results of proposals that clients
	// may retry are kept and replicated (see Session), so they must be deterministic, too. Data must not be changed,
	// and not be kept without copying.
	Apply(batch []Entry) (results [][]byte, err error)

	// SaveSnapshot captures the state as it is now, and returns what writes it. Applying waits for SaveSnapshot,
	// so it should copy what it must, or take hold of something immutable, and leave the rest to the function that it returns:
	// that runs beside Apply.
	SaveSnapshot() (write func(io.Writer) error, err error)

	// LoadSnapshot replaces the state by one that was saved. Where reading fails it is called again, with what can be
	// read then; where it fails by itself the replica stops. It need not read to the end.
	LoadSnapshot(io.Reader) error
}

// Digester is implemented by state machines whose replicas are to be compared, see ReplicaOptions.CompareStates.
type Digester interface {
	// Digest sums up the state. Equal states must have equal digests.
	Digest() uint64
}

// Entry is a proposal that is committed.
type Entry struct {
	TxID  TxID
	Epoch Epoch // of the active that proposed it
	Data  []byte
}

var (
	// ErrStateMachine is the class of what user code returned, or panicked with. It stops the replica.
	ErrStateMachine = errors.New("libqjm: the state machine failed")
	// ErrStateDiverges: replicas that applied the same transactions have different states. The state machine is
	// not deterministic. The error names the first txid after which they differ.
	ErrStateDiverges = errors.New("libqjm: replicas have different states")
)

// outcome of one transaction: what its proposer is told.
type outcome struct {
	result []byte
	err    error
}

// machine is a user's state machine with what a Replica replicates beside it. It is stepped by hand.
type machine struct {
	user     StateMachine
	limits   session.Limits
	sessions *session.Table
	applied  TxID
	torn     bool // a snapshot was loaded in part: the state is none until one is loaded whole

	batch    []Entry
	outcomes []outcome
	from     []origin           // of the entries of the batch
	inBatch  map[session.ID]int // sessions with a proposal in the batch

	digests digestLog
}

// sessionKey names a proposal of a session; number 0 is none.
type sessionKey struct {
	id  session.ID
	seq uint64
}

// origin of an entry of a batch: which outcome it has, and which proposal of a session it is.
type origin struct {
	out int
	key sessionKey
}

func newMachine(user StateMachine, limits session.Limits, compare bool) *machine {
	m := &machine{user: user, limits: limits, sessions: session.New(limits), inBatch: map[session.ID]int{}}
	m.digests.on = compare
	return m
}

// apply applies transactions that follow on what was applied. The outcomes are valid until the next call. After an error
// the state is of no use any more.
func (m *machine) apply(txns []Txn) ([]outcome, error) {
	m.begin()
	for _, t := range txns {
		if t.Opaque {
			return nil, fmt.Errorf("%w: txids %d to %d are opaque", ErrNotOurs, t.ID, t.Last)
		}
		if err := m.take(t.ID, t.Epoch, t.Data); err != nil {
			return nil, err
		}
	}
	return m.end()
}

// begin, take for each transaction, and end are what apply does, for whoever has no Txn.
func (m *machine) begin() {
	clear(m.outcomes)
	m.outcomes = m.outcomes[:0]
}

func (m *machine) take(txid TxID, epoch Epoch, data []byte) error {
	if want := m.applied + TxID(len(m.outcomes)) + 1; txid != want {
		return fmt.Errorf("%w: txid (got %d, want %d)", ErrNotOurs, txid, want)
	}
	m.outcomes = append(m.outcomes, outcome{})
	if len(data) > 0 && data[0] == entryPlain && !m.digests.on { // most are
		m.add(Entry{txid, epoch, data[1:]}, sessionKey{})
		return nil
	}
	e, err := parseEntry(data)
	if err != nil {
		return fmt.Errorf("txid %d: %w", txid, err)
	}
	return m.step(txid, epoch, e)
}

func (m *machine) end() ([]outcome, error) {
	if err := m.flush(); err != nil {
		return nil, err
	}
	m.applied += TxID(len(m.outcomes))
	return m.outcomes, nil
}

// step takes one transaction; a proposal of the user is left in the batch.
func (m *machine) step(txid TxID, epoch Epoch, e logEntry) error {
	out := len(m.outcomes) - 1
	switch e.kind {
	case entryPlain:
		m.add(Entry{txid, epoch, e.data}, sessionKey{})
	case entryInOrder:
		if m.inBatch[e.session] > 0 { // its result decides what a retry behind it is answered
			if err := m.flush(); err != nil {
				return err
			}
		}
		m.sessions.Advance(e.stamp)
		switch a := m.sessions.Begin(e.session, e.seq, e.awaited); a.Verdict {
		case session.Apply:
			m.inBatch[e.session]++
			m.add(Entry{txid, epoch, e.data}, sessionKey{e.session, e.seq})
		default:
			m.outcomes[out] = outcome{a.Result, a.Err}
		}
	case entryOpen, entryClose:
		// What a proposal before it returned belongs to the session that it was made in, and not to the one that is
		// opened anew; another replica may have them in two batches.
		if m.inBatch[e.session] > 0 {
			if err := m.flush(); err != nil {
				return err
			}
		}
		m.sessions.Advance(e.stamp)
		if e.kind == entryOpen {
			m.outcomes[out].err = m.sessions.Open(e.session, e.ttl)
		} else {
			m.sessions.Close(e.session)
		}
	case entryDigests:
		if err := m.digests.compare(e.first, e.data); err != nil {
			return err
		}
	}
	if m.digests.on { // a digest after each transaction
		if err := m.flush(); err != nil {
			return err
		}
		return m.digests.note(txid, m.user, m.sessions)
	}
	return nil
}

// add puts a proposal into the batch; the last outcome is its own.
func (m *machine) add(e Entry, key sessionKey) {
	m.batch, m.from = append(m.batch, e), append(m.from, origin{len(m.outcomes) - 1, key})
}

// flush has the user's code apply what is in the batch.
func (m *machine) flush() error {
	if len(m.batch) == 0 {
		return nil
	}
	results, err := guard("Apply", func() ([][]byte, error) { return m.user.Apply(m.batch) })
	if err != nil {
		return fmt.Errorf("txids %d to %d: %w", m.batch[0].TxID, m.batch[len(m.batch)-1].TxID, err)
	}
	if results != nil && len(results) != len(m.batch) {
		return fmt.Errorf("%w: Apply returned %d results for %d transactions", ErrStateMachine, len(results), len(m.batch))
	}
	for i := range m.from {
		from := &m.from[i]
		if results != nil {
			m.outcomes[from.out].result = results[i]
		}
		if k := &from.key; k.seq != 0 {
			m.sessions.Done(k.id, k.seq, bytes.Clone(m.outcomes[from.out].result))
		}
	}
	clear(m.batch)
	clear(m.inBatch)
	m.batch, m.from = m.batch[:0], m.from[:0]
	return nil
}

// guard calls the user's code. What it returns as an error, or panics with, is of class ErrStateMachine.
func guard[T any](what string, call func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s panicked: %v\n%s", ErrStateMachine, what, p, debug.Stack())
		}
	}()
	if v, err = call(); err != nil {
		err = fmt.Errorf("%w: %s: %w", ErrStateMachine, what, err)
	}
	return v, err
}

// A replica's snapshot is a head of its own, and behind it what the user's code wrote.
const (
	snapshotMagic     = "QJMR"
	snapshotVersion   = 1
	snapshotHead      = len(snapshotMagic) + 1 + 8 + 8 // and version, last txid, length of the sessions
	snapshotTableBits = 31                             // sessions are below 2 GiB
)

// ErrBadSnapshot: the content of a snapshot is none that a Replica saved.
var ErrBadSnapshot = errors.New("libqjm: snapshot was not saved by a Replica")

// save captures the state, and returns what writes it.
func (m *machine) save() (func(io.Writer) error, error) {
	write, err := guard("SaveSnapshot", m.user.SaveSnapshot)
	if err != nil {
		return nil, err
	}
	table := m.sessions.Append(nil)
	head := append([]byte(snapshotMagic), snapshotVersion)
	head = binary.LittleEndian.AppendUint64(head, uint64(m.applied))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(table)))
	head = append(head, table...)
	return func(w io.Writer) error {
		if _, err := w.Write(head); err != nil {
			return err
		}
		out := &blamedWriter{w: w}
		_, err := guard("SaveSnapshot", func() (struct{}, error) { return struct{}{}, write(out) })
		if out.err != nil {
			return out.err // whatever the user's code made of it
		}
		return err
	}, nil
}

// load replaces the state by a snapshot of a txid, whose content is size long.
func (m *machine) load(txid TxID, size int64, r io.Reader) error {
	in := &blamed{r: r}
	head := make([]byte, snapshotHead)
	if err := in.full(head); err != nil {
		return err
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic || head[len(snapshotMagic)] != snapshotVersion {
		return fmt.Errorf("%w: it begins with %q (want %q, version %d)", ErrBadSnapshot, head[:len(snapshotMagic)+1], snapshotMagic, snapshotVersion)
	}
	of, length := TxID(binary.LittleEndian.Uint64(head[5:])), binary.LittleEndian.Uint64(head[13:])
	if of != txid || length>>snapshotTableBits != 0 || int64(length) > size-int64(snapshotHead) {
		return fmt.Errorf("%w: state at txid %d with %d bytes of sessions (want txid %d, %d bytes in all)", ErrBadSnapshot, of, length, txid, size)
	}
	table := make([]byte, length)
	if err := in.full(table); err != nil {
		return err
	}
	sessions, err := session.Decode(table, m.limits)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}
	m.torn = true
	_, err = guard("LoadSnapshot", func() (struct{}, error) { return struct{}{}, m.user.LoadSnapshot(in) })
	if err == nil {
		_, _ = io.Copy(io.Discard, in) // the checksum is compared at the end
	}
	if in.err != nil {
		return in.err // whatever the user's code made of it
	}
	if err != nil {
		return err
	}
	m.sessions, m.applied, m.torn = sessions, txid, false
	m.digests.forget()
	return nil
}

// blamedWriter remembers that writing failed: that is no fault of the user's code.
type blamedWriter struct {
	w   io.Writer
	err error
}

func (b *blamedWriter) Write(p []byte) (int, error) {
	n, err := b.w.Write(p)
	if err != nil && b.err == nil {
		b.err = err
	}
	return n, err
}

// blamed remembers that reading failed: that is no fault of the user's code, which returns the error as its own.
type blamed struct {
	r   io.Reader
	err error
}

// full reads what belongs to the snapshot: ErrBadSnapshot only where it is too short.
func (b *blamed) full(p []byte) error {
	_, err := io.ReadFull(b, p)
	if err != nil && b.err == nil {
		return fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}
	return err
}

func (b *blamed) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF && b.err == nil {
		b.err = err
	}
	return n, err
}
