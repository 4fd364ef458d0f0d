package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/quorumjournal/qjm/internal/vfs"
)

// The classes of what can be wrong with a sealed record. All but ErrUnsupported are ErrDamaged.
var (
	// ErrDamaged: the bytes are not what was saved.
	ErrDamaged = errors.New("durable: damaged")
	// ErrTorn: shorter than its length says. Files saved here are never torn by a crash.
	ErrTorn = fmt.Errorf("%w: cut short", ErrDamaged)
	// ErrZeroed: nothing but zeros, or nothing at all.
	ErrZeroed = fmt.Errorf("%w: zeroed", ErrDamaged)
	// ErrForeign: whole, but with another magic.
	ErrForeign = fmt.Errorf("%w: of another kind", ErrDamaged)
	// ErrUnsupported: whole, and of a later version.
	ErrUnsupported = errors.New("durable: unsupported version")
	// ErrTooLarge: a payload beyond PayloadMax.
	ErrTooLarge = errors.New("durable: too large")
)

const (
	// Overhead is what Seal adds to a payload, in bytes.
	Overhead = 24
	// PayloadMax bounds a payload: these are small files.
	PayloadMax = 16 << 20

	offVersion = 8
	offLen     = 12
	offZero    = 16
	offCRC     = 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Seal returns the payload with magic, version, length and checksum in front of it.
func Seal(magic [8]byte, version uint32, payload []byte) []byte {
	b := make([]byte, Overhead, Overhead+len(payload))
	copy(b, magic[:])
	binary.LittleEndian.PutUint32(b[offVersion:], version)
	binary.LittleEndian.PutUint32(b[offLen:], uint32(len(payload)))
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b[offCRC:], checksum(b))
	return b
}

// Open verifies sealed data and returns its payload, shared with data, and its version, which is
// from 1 to maxVersion. Nothing may follow the record. The errors are the classes above.
func Open(magic [8]byte, maxVersion uint32, data []byte) (payload []byte, version uint32, err error) {
	if allZero(data) {
		return nil, 0, fmt.Errorf("%w (got %d bytes)", ErrZeroed, len(data))
	}
	if len(data) < Overhead {
		return nil, 0, fmt.Errorf("%w (got %d bytes, want %d)", ErrTorn, len(data), Overhead)
	}
	n := int64(binary.LittleEndian.Uint32(data[offLen:]))
	switch got := int64(len(data) - Overhead); {
	case n > got:
		return nil, 0, fmt.Errorf("%w (got %d bytes, want %d)", ErrTorn, got, n)
	case n < got:
		return nil, 0, fmt.Errorf("%w: length (got %d, want %d)", ErrDamaged, got, n)
	}
	if got, want := checksum(data), binary.LittleEndian.Uint32(data[offCRC:]); got != want {
		return nil, 0, fmt.Errorf("%w: checksum (got %08x, want %08x)", ErrDamaged, got, want)
	}
	if got := [8]byte(data[:8]); got != magic {
		return nil, 0, fmt.Errorf("%w (got %q, want %q)", ErrForeign, got[:], magic[:])
	}
	version = binary.LittleEndian.Uint32(data[offVersion:])
	switch {
	case version > maxVersion:
		return nil, version, fmt.Errorf("%w (got %d, want at most %d)", ErrUnsupported, version, maxVersion)
	case version == 0 || binary.LittleEndian.Uint32(data[offZero:]) != 0:
		return nil, 0, fmt.Errorf("%w: version or reserved bytes (got %d)", ErrDamaged, version)
	}
	return data[Overhead:], version, nil
}

// checksum covers everything but itself.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, b[:offCRC]), castagnoli, b[Overhead:])
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// Save makes the sealed payload the content of a file, atomically and durably (rule F1: temporary,
// sync, rename, sync of the directory). After an error it is open which content a crash would leave:
// the caller must stop using the file.
func Save(fsys vfs.FS, name string, magic [8]byte, version uint32, payload []byte) error {
	if len(payload) > PayloadMax {
		return fmt.Errorf("%w: %s (got %d bytes, want at most %d)", ErrTooLarge, name, len(payload), PayloadMax)
	}
	return vfs.WriteFileAtomic(fsys, name, Seal(magic, version, payload))
}

// Load reads what Save wrote. A file that is not there is fs.ErrNotExist; one that cannot be read in
// full is ErrDamaged, never absent (rule N2).
func Load(fsys vfs.FS, name string, magic [8]byte, maxVersion uint32) (payload []byte, version uint32, err error) {
	data, err := vfs.ReadFile(fsys, name, Overhead+PayloadMax)
	if errors.Is(err, vfs.ErrTooLarge) {
		return nil, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, 0, err
	}
	if payload, version, err = Open(magic, maxVersion, data); err != nil {
		return nil, version, fmt.Errorf("%s: %w", name, err)
	}
	return payload, version, nil
}
