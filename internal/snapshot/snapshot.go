package snapshot

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/segments"
)

// SizeMax bounds the content of a snapshot.
const SizeMax = 1 << 44

// Checksum is SHA-256 of a snapshot's content.
type Checksum [32]byte

// String returns the checksum in hexadecimal.
func (c Checksum) String() string { return hex.EncodeToString(c[:]) }

// ID says of what a snapshot is: the user's state at TxID. At is the end of the frame that holds TxID,
// with its chain digest, so that the snapshot belongs to one history only (C1).
type ID struct {
	TxID  segments.TxID
	At    segments.Position
	Epoch fencing.Epoch // of the writer that saved it
}

// String returns "txid at position, epoch e".
func (id ID) String() string { return fmt.Sprintf("%d at %v, epoch %d", id.TxID, id.At, id.Epoch) }

// Validate checks what every id has. The errors are ErrInvalid.
func (id ID) Validate() error {
	switch {
	case id.TxID == 0:
		return fmt.Errorf("%w: txid (got 0, want at least 1)", ErrInvalid)
	case id.At.TxID < id.TxID:
		return fmt.Errorf("%w: end of the frame that holds the txid (got %d, want at least %d)", ErrInvalid, id.At.TxID, id.TxID)
	case id.At.Digest.IsZero():
		return fmt.Errorf("%w: chain digest (got zeros)", ErrInvalid)
	case id.Epoch == 0:
		return fmt.Errorf("%w: epoch (got 0, want at least 1)", ErrInvalid)
	}
	return nil
}

// Snapshot names one content: what the catalog lists, and what two nodes compare.
type Snapshot struct {
	TxID     segments.TxID
	At       segments.Position // last txid and chain digest of the frame that holds TxID
	Size     int64             // of the content
	Checksum Checksum          // of the content
	Epoch    fencing.Epoch     // of the writer that saved it
}

// ID returns what the snapshot is of.
func (s Snapshot) ID() ID { return ID{TxID: s.TxID, At: s.At, Epoch: s.Epoch} }

// Validate checks what every snapshot has. The errors are ErrInvalid.
func (s Snapshot) Validate() error {
	if err := s.ID().Validate(); err != nil {
		return err
	}
	if s.Size < 0 || s.Size > SizeMax {
		return fmt.Errorf("%w: size (got %d, want 0 to %d)", ErrInvalid, s.Size, int64(SizeMax))
	}
	return nil
}

const (
	// EncodedSize is the length of a Snapshot's durable form.
	EncodedSize = 8 + IDSize + 8 + 32
	// IDSize is the length of an ID's.
	IDSize = 8 + 8 + 16 + 8

	recordVersion = 1
)

// AppendBinary appends the durable form: version (4), zeros (4), id, size (8), checksum (32), little endian.
func (s Snapshot) AppendBinary(b []byte) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return b, err
	}
	b = binary.LittleEndian.AppendUint64(b, recordVersion)
	b = s.ID().Append(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Size))
	return append(b, s.Checksum[:]...), nil
}

// ParseSnapshot reads what AppendBinary wrote, and nothing else: ErrUnsupported for a later version,
// ErrInvalid for all that it would not have written.
func ParseSnapshot(b []byte) (Snapshot, error) {
	if len(b) < 8 {
		return Snapshot{}, fmt.Errorf("%w: record length (got %d, want %d)", ErrInvalid, len(b), EncodedSize)
	}
	switch version := binary.LittleEndian.Uint32(b); {
	case version > recordVersion:
		return Snapshot{}, fmt.Errorf("%w: record (got %d, want at most %d)", ErrUnsupported, version, recordVersion)
	case binary.LittleEndian.Uint64(b) != recordVersion:
		return Snapshot{}, fmt.Errorf("%w: record version (got %d, want %d)", ErrInvalid, version, recordVersion)
	case len(b) != EncodedSize:
		return Snapshot{}, fmt.Errorf("%w: record length (got %d, want %d)", ErrInvalid, len(b), EncodedSize)
	}
	id := ParseID(b[8:])
	s := Snapshot{TxID: id.TxID, At: id.At, Epoch: id.Epoch, Size: int64(binary.LittleEndian.Uint64(b[8+IDSize:]))}
	copy(s.Checksum[:], b[8+IDSize+8:])
	return s, s.Validate()
}

// Append appends the durable form, whatever it says.
func (id ID) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(id.TxID))
	b = binary.LittleEndian.AppendUint64(b, uint64(id.At.TxID))
	b = append(b, id.At.Digest[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(id.Epoch))
}

// ParseID reads IDSize bytes; the caller validates.
func ParseID(b []byte) ID {
	id := ID{TxID: segments.TxID(binary.LittleEndian.Uint64(b)), Epoch: fencing.Epoch(binary.LittleEndian.Uint64(b[32:]))}
	id.At.TxID = segments.TxID(binary.LittleEndian.Uint64(b[8:]))
	copy(id.At.Digest[:], b[16:])
	return id
}
