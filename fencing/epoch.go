package fencing

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// Epoch numbers one writer's reign over a journal. Zero is "none yet": no writer ever holds it.
type Epoch uint64

// String returns the decimal form.
func (e Epoch) String() string { return strconv.FormatUint(uint64(e), 10) }

// WriterID names one opening of one writer: a fresh random UUID each time (rule F4), never a host
// name, so that a restarted process is somebody else.
type WriterID [16]byte

// IsZero reports whether the id is unset.
func (w WriterID) IsZero() bool { return w == WriterID{} }

// String returns the id in hexadecimal.
func (w WriterID) String() string { return hex.EncodeToString(w[:]) }

// ParseWriterID reads what String wrote.
func ParseWriterID(s string) (WriterID, error) {
	var w WriterID
	if len(s) != 2*len(w) {
		return w, fmt.Errorf("fencing: writer id %q is no 32 hexadecimal digits", s)
	}
	if _, err := hex.Decode(w[:], []byte(s)); err != nil {
		return WriterID{}, fmt.Errorf("fencing: writer id %q: %w", s, err)
	}
	return w, nil
}
