// Package segments is the log on disk, as bytes: frames, segment files, their names, and how to read
// them when the machine stopped in the middle. It is pure: it reads through io.ReaderAt and knows no
// file, clock or log. Package store puts it on a disk.
//
// A segment file, in progress (above) and finalized (below):
//
//	+--------+-------+-------+------+-------+-------+------+-------+-------------------+
//	| header | frame | frame | mark | frame | frame | mark | frame | zeros             |
//	| 4096 B |       |       | 64 B |       |       |      |       | (preallocated)    |
//	+--------+-------+-------+------+-------+-------+------+-------+-------------------+
//	+--------+-------+-------+------+-- ... --+------+---------------+-------+---------+
//	| header | frame | frame | mark |         | mark | footer: head, | index | trailer |
//	+--------+-------+-------+------+-- ... --+------+---------------+-------+---------+
//
// A frame is the unit of checksum, transfer and sync. Its writer encodes it once; the same bytes go
// over the wire, onto every disk, and back to readers. docs/format.md has the byte tables.
//
//	var b segments.Builder
//	b.Reset(first, epoch)
//	b.Add([]byte("one"))
//	b.Add([]byte("two"))
//	f, err := b.Seal(prev, segments.SealOptions{}) // f.Bytes() is what travels
//	...
//	f, err := segments.ParseFrame(bytes)
//	err = f.Verify(prev)
//	err = f.EachTxn(func(id segments.TxID, data []byte) error { ... })
//
// Invariants, cited by tests:
//
//	G1 Lengths are bounded before memory is taken for them.
//	G2 (last txid, digest) names everything before it: a digest covers the frame and the digest of
//	   the frame before; a segment's first frame chains from the previous segment's digest (W1).
//	G3 What is unreadable at or below the highest synced mark in the file is damage. What is above
//	   it is torn (N2a). A shorter answer is never given in place of damage (N2).
//	G4 A later version is told apart from damage: the checksum's place never changes.
//	G5 Every encoding is unique: what parses, encodes again to the same bytes.
package segments
