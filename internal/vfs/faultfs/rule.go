package faultfs

import (
	"errors"
	"strings"
)

var (
	// ErrInjected is what a rule without an error of its own returns.
	ErrInjected = errors.New("faultfs: injected fault")
	// ErrCrashed is returned by everything from the crash on.
	ErrCrashed = errors.New("faultfs: the machine has crashed")
)

// OpKind is a set of operations.
type OpKind uint32

// The operations. OpOpen is Open and OpenWrite; OpStat is Stat, Size and Free.
const (
	OpCreate OpKind = 1 << iota
	OpOpen
	OpRename
	OpRemove
	OpMkdir
	OpList
	OpStat
	OpSyncDir
	OpRead
	OpWrite
	OpTruncate
	OpPreallocate
	OpSync
	OpLock

	// OpMutating are the operations that CrashAt counts and Log shows. OpLock is not among them:
	// nothing depends on whether a lock file survives.
	OpMutating = OpCreate | OpRename | OpRemove | OpMkdir | OpSyncDir | OpWrite | OpTruncate | OpPreallocate | OpSync
)

// Rule makes operations fail. It matches an operation of a kind in Op on a path that contains
// PathContains (for Rename: either path).
type Rule struct {
	// Op is the kinds it matches; 0 is all.
	Op OpKind
	// PathContains is a part of the name as the caller gave it; "" is in every name.
	PathContains string
	// Nth is the match that fails, 1 the first after Inject; 0 is every match.
	Nth int64
	// Err is returned as it is; nil is ErrInjected.
	Err error
	// Sticky makes every match after the Nth fail, too.
	Sticky bool
	// DropUnsynced makes a failed Sync lose what it should have made durable, for good, as Linux does:
	// reads still see it, a later Sync reports success without it. It takes an inner file with a
	// method DropUnsynced(), such as memfs has.
	DropUnsynced bool
}

// countedRule is a rule with the matches it has seen.
type countedRule struct {
	Rule
	matches int64
}

// fires counts a match and reports whether it is one that fails.
func (r *countedRule) fires(op OpKind, paths []string) bool {
	if !r.matchesOp(op, paths) {
		return false
	}
	r.matches++
	return r.Nth == 0 || r.matches == r.Nth || r.Sticky && r.matches > r.Nth
}

func (r *countedRule) matchesOp(op OpKind, paths []string) bool {
	if r.Op != 0 && r.Op&op == 0 {
		return false
	}
	for _, path := range paths {
		if strings.Contains(path, r.PathContains) {
			return true
		}
	}
	return false
}

func (r *countedRule) err() error {
	if r.Err != nil {
		return r.Err
	}
	return ErrInjected
}
