package libqjm

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/session"
)

// SessionID names a session: 16 random bytes.
type SessionID [16]byte

// String returns it as 32 hexadecimal digits.
func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// ParseSessionID reads what String returns. The error is of class ErrBadRequest.
func ParseSessionID(s string) (id SessionID, err error) {
	if len(s) != hex.EncodedLen(len(id)) {
		return id, fmt.Errorf("%w: session (got %d characters, want %d hexadecimal digits)", ErrBadRequest, len(s), hex.EncodedLen(len(id)))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return SessionID{}, fmt.Errorf("%w: session: %w", ErrBadRequest, err)
	}
	return id, nil
}

// SessionRef names a proposal of a session.
type SessionRef struct {
	ID SessionID
	// Seq is the proposal's number: 1 for the first, and one more for each new one. A retry has the same.
	Seq uint64
	// Awaited is the lowest number that the client still awaits the answer of: results below it are forgotten.
	Awaited uint64
}

// Errors of sessions.
var (
	// ErrSession: there is no such session: it has ended, or was never opened. What was tried in it before may have
	// been applied.
	ErrSession = session.ErrUnknown
	// ErrTooManySessions: SessionLimits.Sessions are open.
	ErrTooManySessions = session.ErrTooMany
	// ErrSessionForgotten: the client said before that it has the answer.
	ErrSessionForgotten = session.ErrForgotten
	// ErrSessionWindow: too many proposals of one session are awaited.
	ErrSessionWindow = session.ErrWindow
	// ErrResultDropped: the proposal was applied, once, and its result was too large to be kept for a retry.
	ErrResultDropped = session.ErrResultDropped
)

// Bounds of a session's time to live: a second, and 30 days.
const (
	MinSessionTTL = time.Duration(session.MinTTL) * time.Millisecond
	MaxSessionTTL = time.Duration(session.MaxTTL) * time.Millisecond
)

// SessionWindow is how many proposals of one session may be awaited at once where SessionLimits do not say otherwise.
const SessionWindow = session.DefaultWindow

// Session is the client's side of exactly once: it numbers the proposals of one client, and knows which of them still
// have no answer. It lives where the retries are made, which is often another process than the replica's: what
// travels is the SessionRef. Whoever loses the Session (its process ends, say) opens a new one, and does not know what became of
// what was under way.
//
//	s := libqjm.NewSession()
//	err := replica.OpenSession(ctx, s.ID(), time.Hour)
//	ref, err := s.Begin()
//	for { // the same ref each time
//		done, err = replica.Propose(ctx, libqjm.Proposal{Data: data, Session: &ref})
//		again := libqjm.MayHaveCommitted(err) || errors.Is(err, libqjm.ErrNotActive)
//		if !again || ctx.Err() != nil {
//			break
//		}
//		time.Sleep(50 * time.Millisecond)
//	}
//	s.End(ref)
//
// Safe for concurrent use.
type Session struct {
	id SessionID

	mu      sync.Mutex
	last    uint64   // the last number given
	awaited []uint64 // in rising order
}

// NewSession returns a session with a random id. Nobody knows of it until Replica.OpenSession.
func NewSession() *Session {
	s := new(Session)
	_, _ = rand.Read(s.id[:]) // it never fails
	return s
}

// ID returns its name.
func (s *Session) ID() SessionID { return s.id }

// Begin numbers a new proposal; each must End. ErrSessionWindow: SessionWindow proposals reach from the first one that is
// awaited to the last.
func (s *Session) Begin() (SessionRef, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lowest := s.last + 1
	if len(s.awaited) > 0 {
		lowest = s.awaited[0]
	}
	if s.last+1-lowest >= SessionWindow {
		return SessionRef{}, fmt.Errorf("%w: proposal %d is awaited, and %d follow it", ErrSessionWindow, lowest, s.last-lowest)
	}
	s.last++
	s.awaited = append(s.awaited, s.last)
	return SessionRef{ID: s.id, Seq: s.last, Awaited: lowest}, nil
}

// End says that the proposal's outcome is known, or of no interest any more: it will not be tried again.
func (s *Session) End(ref SessionRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, found := slices.BinarySearch(s.awaited, ref.Seq); found && ref.ID == s.id {
		s.awaited = slices.Delete(s.awaited, i, i+1)
	}
}
