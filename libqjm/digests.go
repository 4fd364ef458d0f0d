package libqjm

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/quorumjournal/qjm/internal/session"
)

// digestLog remembers what the state was summed up to after each of the last transactions. The active puts its digests
// into the log now and then, and every replica compares: the first one that differs names the transaction that the
// user's code does not apply alike everywhere.
type digestLog struct {
	on    bool
	first TxID // of the first digest
	sums  []uint64
}

// digestsKept bounds how far back can be compared, and digestsPerEntry how many the active puts into one entry: it has
// to come before the first of them is forgotten by replicas.
const (
	digestsPerEntry = 1024
	digestsKept     = 16 * digestsPerEntry
	digestsMax      = digestsPerEntry*digestSize + entryHeadMax // bytes of the entry
)

func (d *digestLog) note(txid TxID, user StateMachine, sessions *session.Table) error {
	sum, err := guard("Digest", func() (uint64, error) { return user.(Digester).Digest(), nil })
	if err != nil {
		return err
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], sum)
	if len(d.sums) == digestsKept {
		d.sums = append(d.sums[:0], d.sums[digestsKept/2:]...)
		d.first += digestsKept / 2
	}
	if len(d.sums) == 0 {
		d.first = txid
	}
	d.sums = append(d.sums, xxh3.Hash(sessions.Append(b[:])))
	return nil
}

func (d *digestLog) forget() { d.sums = d.sums[:0] }

// pending returns what the active would put into the log: digests of txids from first on, not yet told.
func (d *digestLog) pending(told TxID) (first TxID, data []byte) {
	if len(d.sums) == 0 {
		return 0, nil
	}
	first = max(d.first, told+1)
	for i := int(first - d.first); i < len(d.sums) && len(data) < digestsPerEntry*digestSize; i++ {
		data = binary.LittleEndian.AppendUint64(data, d.sums[i])
	}
	return first, data
}

// compare looks at digests that the active told. What is not known here is not compared.
func (d *digestLog) compare(first TxID, data []byte) error {
	if !d.on {
		return nil
	}
	for i := 0; i+digestSize <= len(data); i += digestSize {
		txid, want := first+TxID(i/digestSize), binary.LittleEndian.Uint64(data[i:])
		if txid < d.first || txid >= d.first+TxID(len(d.sums)) {
			continue
		}
		if got := d.sums[txid-d.first]; got != want {
			return fmt.Errorf("%w: txid %d is the first after which they differ (digest here %016x, of the active %016x)",
				ErrStateDiverges, txid, got, want)
		}
	}
	return nil
}
