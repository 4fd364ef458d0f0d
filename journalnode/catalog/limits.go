package catalog

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/quorumjournal/qjm/internal/quorum"
)

// Bounds of the catalog. They hold for commands and for the state, in both directions.
const (
	MaxCommandBytes = 1 << 20 // one encoded command
	MaxNodes        = 255     // node ids; for a time each may have two incarnations
	MaxJournals     = 10_000  // journals, deleted ones included until they are reclaimed
	MaxTombstones   = 10_000  // reclaimed journals whose former members were not all forgotten
	MaxNameBytes    = 128     // a journal's name
	MaxAddrBytes    = 261     // a host name and a port
	MaxLabels       = 16      // per node
	MaxLabelBytes   = 63      // a label's key, and its value
	MaxTextBytes    = 256     // notes, reasons, software versions
	MaxHolderBytes  = 128     // a lease holder's name
	MaxFormer       = 1024    // members that left a journal and were not forgotten
	MaxHistory      = 8       // changes remembered per journal
	MaxSnapshots    = 2       // listed snapshots per journal: a download of the older one may be under way (C2)
	MaxKeepAlive    = 1024    // leases in one KeepAlive
	MaxNamedInUse   = 16      // journals that an InUseError names
	MinTTLMillis    = 300     // a lease's time to live
	MaxTTLMillis    = 10 * 60 * 1000
	maxSets         = 2
	maxHolders      = maxSets * quorum.MaxMembers
	maxIncarnations = 2 // of one node id: the one that leaves, and the one that comes
)

// Feature levels. A command says which level it needs. The catalog's level is raised by SetLevel when
// every node's software knows the new one; until then such a command is refused by every node alike.
const (
	LevelFirst uint16 = 1
	LevelMax   uint16 = 1 // the highest one that this software knows
)

// checkText refuses what is too long or too short, or would spoil a table or a log line.
func checkText(what, s string, lo, hi int) error {
	if len(s) < lo || len(s) > hi {
		return invalid(what+" has a wrong length", len(s), fmt.Sprintf("%d to %d", lo, hi))
	}
	if !utf8.ValidString(s) {
		return invalid(what+" is no UTF-8", fmt.Sprintf("%q", s), "UTF-8")
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return invalid(what+" holds a control character", fmt.Sprintf("%q", s), "none")
		}
	}
	return nil
}

// FitText makes a text fit where the catalog wants one: nodes' errors are told in notes and reasons, are of any
// length, and go over several lines.
func FitText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) <= MaxTextBytes {
		return s
	}
	const more = "..."
	s = strings.ToValidUTF8(s[:MaxTextBytes-len(more)], "") // no half of a character
	if i := strings.LastIndexByte(s, ' '); i > MaxTextBytes/2 {
		s = s[:i] // nor of a word
	}
	return s + more
}

// checkName asks of a journal's name what the nodes ask of it: the same in a shell, a URL and a metric.
func checkName(name string) error {
	if err := checkText("journal name", name, 1, MaxNameBytes); err != nil {
		return err
	}
	for _, r := range name {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
		if !ok {
			return invalid("journal name", fmt.Sprintf("%q", name), "letters, digits, '-' and '_'")
		}
	}
	return nil
}

// checkMembers asks for one valid member set, in any order.
func checkMembers(what string, set []quorum.Member) error {
	for _, m := range set {
		if err := checkText(what+": address", m.Addr, 0, MaxAddrBytes); err != nil {
			return err
		}
	}
	if err := quorum.NewConfig(1, set...).Validate(); err != nil {
		return &Refusal{Class: ErrInvalid, What: what, Cause: err}
	}
	return nil
}

// checkConfig asks for a valid config within the bounds.
func checkConfig(cfg quorum.Config) error {
	if err := cfg.Validate(); err != nil {
		return &Refusal{Class: ErrInvalid, What: "config", Cause: err}
	}
	for _, set := range cfg.Sets {
		if err := checkMembers("config", set); err != nil {
			return err
		}
	}
	return nil
}
