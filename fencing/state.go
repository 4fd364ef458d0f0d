package fencing

import (
	"encoding/binary"
	"fmt"
)

// Claim is what a writer says of itself: its epoch and its id.
type Claim struct {
	Epoch  Epoch
	Writer WriterID
}

// IsZero reports whether the claim is unset.
func (c Claim) IsZero() bool { return c == Claim{} }

// String returns "epoch/writer", the writer shortened.
func (c Claim) String() string { return c.Epoch.String() + "/" + c.Writer.String()[:8] }

// MaxEpochStep bounds how far one claim may lie above the promise. Epochs rise by one for each opening, so
// no writer comes near; without a bound one stray request could use up all epochs there are.
const MaxEpochStep = 1 << 32

// State is a journal's fence on one node: the highest claim it has promised to serve. The zero State
// has promised nothing.
type State struct {
	Promised Claim
}

// Propose answers NewEpoch (rule F2). It returns the state to save before replying: a new one where
// the claim is above the promise, s itself where it repeats the promise. Errors: *FencedError for a
// lower epoch, *LostRaceError where another writer holds this epoch, ErrZeroEpoch.
func (s State) Propose(c Claim) (State, error) { return s.Admit(c) }

// Admit answers every other request that changes the journal or counts towards a quorum (rule F3):
// lower epochs are refused, an equal one must come from the promised writer, a higher one is promised
// first. It is the same table as Propose on purpose: a request that overtook its own NewEpoch must not
// find a weaker gate. Errors are those of Propose.
func (s State) Admit(c Claim) (State, error) {
	switch {
	case c.Epoch == 0 || c.Writer.IsZero():
		return s, ErrZeroEpoch
	case c.Epoch > s.Promised.Epoch && c.Epoch-s.Promised.Epoch > MaxEpochStep:
		return s, fmt.Errorf("%w (got %d, promised %d)", ErrEpochTooFar, c.Epoch, s.Promised.Epoch)
	case c.Epoch < s.Promised.Epoch:
		return s, &FencedError{Promised: s.Promised, Got: c}
	case c.Epoch == s.Promised.Epoch && c.Writer != s.Promised.Writer:
		return s, &LostRaceError{Holder: s.Promised, Got: c}
	case c == s.Promised:
		return s, nil
	}
	return State{Promised: c}, nil
}

// Holds reports whether the claim is the promised one, exactly: what W1 asks for each frame when it is
// written, where a higher claim has no business either. Errors are those of Propose, and
// *NotPromisedError for a claim above the promise.
func (s State) Holds(c Claim) error {
	next, err := s.Admit(c)
	if err != nil {
		return err
	}
	if next != s {
		return &NotPromisedError{Promised: s.Promised, Got: c}
	}
	return nil
}

// EncodedSize is the length of a State's durable form.
const EncodedSize = 8 + 16

// AppendBinary appends the durable form: epoch (little endian), writer id. Magic, version and checksum
// belong to the file around it.
func (s State) AppendBinary(b []byte) ([]byte, error) {
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Promised.Epoch))
	return append(b, s.Promised.Writer[:]...), nil
}

// ParseState reads what AppendBinary wrote.
func ParseState(b []byte) (State, error) {
	if len(b) != EncodedSize {
		return State{}, fmt.Errorf("fencing: state has a wrong length (got %d, want %d)", len(b), EncodedSize)
	}
	s := State{Promised: Claim{Epoch: Epoch(binary.LittleEndian.Uint64(b))}}
	copy(s.Promised.Writer[:], b[8:])
	if (s.Promised.Epoch == 0) != s.Promised.Writer.IsZero() {
		return State{}, fmt.Errorf("fencing: epoch %d with writer id %s: only both or none can be zero",
			s.Promised.Epoch, s.Promised.Writer)
	}
	return s, nil
}
