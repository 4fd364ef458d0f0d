package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// OpKind says what an operation does.
type OpKind uint8

// The operations. Their numbers stand in journals: never change one, only add.
const (
	Mkdir OpKind = 1 + iota
	Create
	Rename
	Delete
)

// String returns the operation's name.
func (k OpKind) String() string {
	switch k {
	case Mkdir:
		return "mkdir"
	case Create:
		return "create"
	case Rename:
		return "rename"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("operation %d", uint8(k))
}

// Op is one change of the tree: one transaction of the journal.
type Op struct {
	Kind  OpKind
	Path  string
	To    string // Rename
	Entry Entry  // Mkdir, Create
}

// PathBytesMax bounds a path, and with it an encoded operation: OpBytesMax.
const (
	PathBytesMax = 4096
	OpBytesMax   = 2 + 2*(2+PathBytesMax) + entryBytes
	entryBytes   = 1 + 4 + 8 + 8 + 32
)

// version is the first byte of every operation. A reader that meets a higher one stops: it must not
// guess what the operation would have done to the tree.
const version = 1

var (
	// ErrVersion: the operation was written by a newer release.
	ErrVersion = errors.New("tree: operation of an unknown version")
	// ErrMalformed: the bytes are no operation.
	ErrMalformed = errors.New("tree: malformed operation")
)

// Validate checks what can be checked without a tree.
func (op Op) Validate() error {
	bad := func(p string) error { return &fs.PathError{Op: op.Kind.String(), Path: p, Err: fs.ErrInvalid} }
	if !validPath(op.Path) {
		return bad(op.Path)
	}
	e := op.Entry
	switch op.Kind {
	case Mkdir:
		if op.To != "" || e.Kind != Dir || e.Size != 0 || e.Hash != [32]byte{} {
			return bad(op.Path)
		}
	case Create:
		if op.To != "" || e.Kind != File && e.Kind != Symlink || e.Size < 0 {
			return bad(op.Path)
		}
	case Rename:
		if !validPath(op.To) || e != (Entry{}) {
			return bad(op.To)
		}
	case Delete:
		if op.To != "" || e != (Entry{}) {
			return bad(op.Path)
		}
	default:
		return bad(op.Path)
	}
	return nil
}

// validPath: absolute, clean, not "/" itself.
func validPath(p string) bool {
	return len(p) > 1 && len(p) <= PathBytesMax && p[0] == '/' && path.Clean(p) == p && !strings.ContainsRune(p, 0)
}

// Encode returns the operation's bytes:
//
//	version 1 | kind 1 | path 2+n | Rename: to 2+n; Mkdir, Create: entry 53
//
// All numbers are big-endian. There is exactly one encoding of an operation.
func (op Op) Encode() ([]byte, error) {
	if err := op.Validate(); err != nil {
		return nil, err
	}
	b := appendString([]byte{version, byte(op.Kind)}, op.Path)
	switch op.Kind {
	case Rename:
		b = appendString(b, op.To)
	case Mkdir, Create:
		b = appendEntry(b, op.Entry)
	}
	return b, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...) // PathBytesMax bounds it
}

func appendEntry(b []byte, e Entry) []byte {
	b = binary.BigEndian.AppendUint32(append(b, byte(e.Kind)), e.Mode)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(e.MTime))
	return append(b, e.Hash[:]...)
}

// Decode reads what Encode wrote, and nothing else. Errors: ErrVersion, ErrMalformed.
func Decode(b []byte) (Op, error) {
	if len(b) < 2 || len(b) > OpBytesMax {
		return Op{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	if b[0] != version {
		return Op{}, fmt.Errorf("%w (got %d, want %d)", ErrVersion, b[0], version)
	}
	op := Op{Kind: OpKind(b[1])}
	rest, ok := b[2:], false
	if op.Path, rest, ok = cutString(rest); !ok {
		return Op{}, fmt.Errorf("%w: path is cut short", ErrMalformed)
	}
	switch op.Kind {
	case Rename:
		if op.To, rest, ok = cutString(rest); !ok {
			return Op{}, fmt.Errorf("%w: target is cut short", ErrMalformed)
		}
	case Mkdir, Create:
		if len(rest) < entryBytes {
			return Op{}, fmt.Errorf("%w: entry is cut short", ErrMalformed)
		}
		op.Entry = Entry{
			Kind: Kind(rest[0]), Mode: binary.BigEndian.Uint32(rest[1:]), Size: int64(binary.BigEndian.Uint64(rest[5:])),
			MTime: int64(binary.BigEndian.Uint64(rest[13:])), Hash: [32]byte(rest[21:entryBytes]),
		}
		rest = rest[entryBytes:]
	}
	if len(rest) > 0 {
		return Op{}, fmt.Errorf("%w: %d bytes too many", ErrMalformed, len(rest))
	}
	if err := op.Validate(); err != nil {
		return Op{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return op, nil
}

func cutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < n {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}
