package rpc

import (
	"crypto/sha256"
	"fmt"

	"github.com/quorumjournal/qjm/segments"
)

// CheckJournalName checks a journal's name: 1 to JournalNameMax letters, digits, '-' and '_', so that it
// is the same in a shell, a URL, a metric label and a file name. Errors are of class ErrBadRequest.
func CheckJournalName(name string) error {
	if len(name) == 0 || len(name) > JournalNameMax {
		return fmt.Errorf("%w: journal name has a wrong length (got %d, want 1 to %d)", ErrBadRequest, len(name), JournalNameMax)
	}
	for i, r := range name {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
		if !ok {
			return fmt.Errorf("%w: journal name %q: character %q at %d (want letters, digits, '-' and '_')", ErrBadRequest, name, r, i)
		}
	}
	return nil
}

// JournalIDOf derives an id from cluster and name. Journals get ids that are made anew; tests, which have to name
// one before it is there, use this.
func JournalIDOf(cluster ClusterID, name string) segments.JournalID {
	h := sha256.New()
	h.Write([]byte("qjm journal id v1\x00"))
	h.Write(cluster[:])
	h.Write([]byte(name))
	return segments.JournalID(h.Sum(nil)[:16])
}
