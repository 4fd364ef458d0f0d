package segments

import (
	"fmt"
	"strconv"
	"strings"
)

// NameKind tells the files of a segment directory apart.
type NameKind uint8

const (
	// NameFinalized: a finalized segment, "first-last.seg".
	NameFinalized NameKind = iota + 1
	// NameInProgress: a segment that may grow, "first.inprogress".
	NameInProgress
	// NameAside: a copy put aside, "name.reason-n". Nothing reads it but an operator.
	NameAside
	// NameInstall: a whole and synced copy on its way into place, "name.install-reason": Open
	// finishes the way.
	NameInstall
	// NameTemporary: a copy being built, "incoming-first-tag.tmp": Open removes it.
	NameTemporary
	// NameKept: a whole and synced copy that an accepted record may speak of, "first.accepting" (R4):
	// only the record's owner knows whether it goes into place.
	NameKept
)

// Reason says why a copy was put aside.
type Reason string

// The reasons there are.
const (
	ReasonStale    Reason = "stale"    // an older copy that a new start of the segment replaced (W0)
	ReasonTorn     Reason = "torn"     // what was cut off a tail (N2a)
	ReasonLeftover Reason = "leftover" // a copy that is not what the quorum decided (W8, R9)
	ReasonDamaged  Reason = "damaged"  // a copy with damage, replaced by a good one (A2)
	ReasonReplaced Reason = "replaced" // a copy that recovery replaced (R4)
)

// Valid reports whether r is one of the reasons there are.
func (r Reason) Valid() bool {
	switch r {
	case ReasonStale, ReasonTorn, ReasonLeftover, ReasonDamaged, ReasonReplaced:
		return true
	}
	return false
}

// MaxTagLen bounds the tag in the name of a temporary.
const MaxTagLen = 64

// Name is a parsed file name.
type Name struct {
	Kind   NameKind
	First  TxID
	Last   TxID   // NameFinalized, and asides and installs of such a copy; else 0
	Reason Reason // NameAside, NameInstall
	N      uint64 // NameAside: from 1
	Tag    string // NameTemporary: [a-z0-9]+
}

// Base returns the name of the copy that an aside or install name belongs to.
func (n Name) Base() Name {
	if n.Last != 0 {
		return Name{Kind: NameFinalized, First: n.First, Last: n.Last}
	}
	return Name{Kind: NameInProgress, First: n.First}
}

// String returns the file name. It is what ParseName reads.
func (n Name) String() string {
	switch n.Kind {
	case NameFinalized:
		return fmt.Sprintf("%020d-%020d.seg", uint64(n.First), uint64(n.Last))
	case NameInProgress:
		return fmt.Sprintf("%020d.inprogress", uint64(n.First))
	case NameAside:
		return n.Base().String() + "." + string(n.Reason) + "-" + strconv.FormatUint(n.N, 10)
	case NameInstall:
		return n.Base().String() + ".install-" + string(n.Reason)
	case NameKept:
		return fmt.Sprintf("%020d.accepting", uint64(n.First))
	case NameTemporary:
		return fmt.Sprintf("incoming-%020d-%s.tmp", uint64(n.First), n.Tag)
	}
	return ""
}

// ParseName reads a file name. ok is false for every name that Name.String would not have made.
func ParseName(s string) (n Name, ok bool) {
	n, ok = parseName(s)
	if !ok || n.String() != s { // one spelling only
		return Name{}, false
	}
	return n, true
}

func parseName(s string) (n Name, ok bool) {
	if rest, found := strings.CutPrefix(s, "incoming-"); found {
		rest, found = strings.CutSuffix(rest, ".tmp")
		id, tag, cut := strings.Cut(rest, "-")
		n = Name{Kind: NameTemporary, First: parseNameTxID(id), Tag: tag}
		return n, found && cut && n.First != 0 && validTag(tag)
	}
	id, rest, found := strings.Cut(s, ".")
	if !found {
		return n, false
	}
	kind, suffix, more := strings.Cut(rest, ".")
	if kind == "accepting" && !more {
		n = Name{Kind: NameKept, First: parseNameTxID(id)}
		return n, n.First != 0
	}
	switch kind {
	case "seg":
		first, last, _ := strings.Cut(id, "-")
		n = Name{Kind: NameFinalized, First: parseNameTxID(first), Last: parseNameTxID(last)}
		ok = n.First != 0 && n.Last >= n.First
	case "inprogress":
		n = Name{Kind: NameInProgress, First: parseNameTxID(id)}
		ok = n.First != 0
	}
	if !ok || !more {
		return n, ok
	}
	if reason, found := strings.CutPrefix(suffix, "install-"); found {
		n.Kind, n.Reason = NameInstall, Reason(reason)
		return n, n.Reason.Valid()
	}
	reason, num, _ := strings.Cut(suffix, "-")
	n.Kind, n.Reason = NameAside, Reason(reason)
	var err error
	n.N, err = strconv.ParseUint(num, 10, 64)
	return n, err == nil && n.N > 0 && n.Reason.Valid()
}

// parseNameTxID returns 0 for what is no txid.
func parseNameTxID(s string) TxID {
	if len(s) != 20 {
		return 0
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return TxID(v)
}

func validTag(tag string) bool {
	if tag == "" || len(tag) > MaxTagLen {
		return false
	}
	for _, c := range []byte(tag) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
