package catalog

import (
	"fmt"

	"github.com/quorumjournal/qjm/segments"
)

// Grant gives a journal's lease to a holder. The same holder with the same nonce is answered again;
// another process, of the same name or not, is told who has it. Time is not known here: whoever leads
// the catalog's group counts, and says Expire (L2).
type Grant struct {
	Journal   segments.JournalID
	Holder    string
	Addr      string
	TTLMillis uint32
	Nonce     [16]byte
}

func (m *Grant) kind() kind { return kindGrant }

func (m *Grant) code(c *coder) {
	c.fixed(m.Journal[:])
	text(c, &m.Holder, MaxHolderBytes)
	text(c, &m.Addr, MaxAddrBytes)
	u32(c, &m.TTLMillis)
	c.fixed(m.Nonce[:])
}

func (m *Grant) check() error {
	if err := checkText("holder", m.Holder, 1, MaxHolderBytes); err != nil {
		return err
	}
	if err := checkText("holder's address", m.Addr, 0, MaxAddrBytes); err != nil {
		return err
	}
	if m.TTLMillis < MinTTLMillis || m.TTLMillis > MaxTTLMillis {
		return invalid("time to live in ms", m.TTLMillis, fmt.Sprintf("%d to %d", MinTTLMillis, MaxTTLMillis))
	}
	if m.Nonce == ([16]byte{}) {
		return invalid("nonce", "zero", "a random one")
	}
	return nil
}

func (m *Grant) apply(c *Catalog, index uint64) (Result, error) {
	cur, err := c.alive(m.Journal)
	if err != nil {
		return Result{}, err
	}
	if l := cur.Lease; l != nil {
		switch {
		case l.ReservedFor != "" && l.ReservedFor != m.Holder:
			return Result{}, &HeldError{Journal: m.Journal, Holder: l.ReservedFor, Reserved: true, Revision: l.Revision}
		case l.ReservedFor == "" && l.Holder == m.Holder && l.Nonce == m.Nonce:
			return Result{Again: true, Version: cur.Config.Version, Revision: l.Revision}, nil
		case l.ReservedFor == "":
			return Result{}, &HeldError{Journal: m.Journal, Holder: l.Holder, Addr: l.Addr, Revision: l.Revision}
		}
	}
	return c.replace(cur, func(j *Journal) (Result, error) {
		j.Lease = &Lease{Revision: index, Renewed: index, Holder: m.Holder, Addr: m.Addr, TTLMillis: m.TTLMillis, Nonce: m.Nonce}
		return Result{Revision: index}, nil
	})
}

// LeaseRef names a lease by its revision, so that a late message never touches a later lease.
type LeaseRef struct {
	Journal  segments.JournalID
	Revision uint64
}

func codeLeaseRef(c *coder, r *LeaseRef) {
	c.fixed(r.Journal[:])
	u64(c, &r.Revision)
}

func (r *LeaseRef) code(c *coder) { codeLeaseRef(c, r) }

// lease returns the journal whose lease, held or reserved, has the revision.
func (c *Catalog) lease(r LeaseRef) (*Journal, error) {
	j, err := c.alive(r.Journal)
	if err != nil {
		return nil, err
	}
	if j.Lease == nil {
		return nil, refuse(ErrStale, "journal "+j.Name, r.Revision, "no lease")
	}
	if j.Lease.Revision != r.Revision {
		return nil, refuse(ErrStale, "journal "+j.Name, r.Revision, j.Lease.Revision)
	}
	return j, nil
}

// KeepAlive renews leases, many in one entry: each remembers the last entry that renewed it, and nothing
// else changes. That it was applied is what the holder and whoever counts the time wait for (L2).
type KeepAlive struct{ Leases []LeaseRef }

// Kept is the result for one lease. Err is ErrStale's, ErrNoJournal's or ErrDeleted's kind, or nil.
type Kept struct {
	LeaseRef
	Err error
}

func (m *KeepAlive) kind() kind    { return kindKeepAlive }
func (m *KeepAlive) code(c *coder) { list(c, &m.Leases, MaxKeepAlive, codeLeaseRef) }

func (m *KeepAlive) check() error {
	if n := len(m.Leases); n == 0 || n > MaxKeepAlive {
		return invalid("leases to keep alive", n, fmt.Sprintf("1 to %d", MaxKeepAlive))
	}
	return nil
}

func (m *KeepAlive) apply(c *Catalog, index uint64) (Result, error) {
	res := Result{Kept: make([]Kept, len(m.Leases))}
	for i, r := range m.Leases {
		j, err := c.lease(r)
		if err == nil && j.Lease.ReservedFor != "" {
			err = refuse(ErrStale, "journal "+j.Name, r.Revision, "a lease that is held")
		}
		if err == nil { // not a copy of all of the journal: there are many leases, many times a second
			l := *j.Lease
			l.Renewed = index
			j.Lease = &l
		}
		res.Kept[i] = Kept{LeaseRef: r, Err: err}
	}
	return res, nil
}

// Resign ends a lease: its holder does not want it any more. Whoever a lease is reserved for can decline.
type Resign struct{ LeaseRef }

func (m *Resign) kind() kind                                 { return kindResign }
func (m *Resign) check() error                               { return nil }
func (m *Resign) apply(c *Catalog, _ uint64) (Result, error) { return c.drop(m.LeaseRef) }

// Expire ends a lease, or a reservation, that was not renewed in time. It names the revision, and the
// renewal that the sender counted from (L2): one that stands before it in the log, and that the sender had
// not seen, keeps the lease, for its holder is told so. It stops no writer (L1).
type Expire struct {
	LeaseRef
	Renewed uint64
}

func (m *Expire) kind() kind   { return kindExpire }
func (m *Expire) check() error { return nil }

func (m *Expire) code(c *coder) {
	m.LeaseRef.code(c)
	u64(c, &m.Renewed)
}

func (m *Expire) apply(c *Catalog, _ uint64) (Result, error) {
	j, err := c.lease(m.LeaseRef)
	if err != nil {
		return Result{}, err
	}
	if j.Lease.Renewed != m.Renewed {
		return Result{}, refuse(ErrStale, "expiry of the lease of journal "+j.Name+", renewal", m.Renewed, j.Lease.Renewed)
	}
	return c.drop(m.LeaseRef)
}

func (c *Catalog) drop(r LeaseRef) (Result, error) {
	cur, err := c.lease(r)
	if err != nil {
		return Result{}, err
	}
	return c.replace(cur, func(j *Journal) (Result, error) {
		j.Lease = nil
		return Result{}, nil
	})
}

// Transfer ends a lease and reserves the next one for To. The reservation has a revision of its own and
// the old time to live; Expire ends it like a lease.
type Transfer struct {
	LeaseRef
	To string
}

func (m *Transfer) kind() kind { return kindTransfer }

func (m *Transfer) code(c *coder) {
	m.LeaseRef.code(c)
	text(c, &m.To, MaxHolderBytes)
}

func (m *Transfer) check() error { return checkText("next holder", m.To, 1, MaxHolderBytes) }

func (m *Transfer) apply(c *Catalog, index uint64) (Result, error) {
	cur, err := c.lease(m.LeaseRef)
	if err != nil {
		return Result{}, err
	}
	if cur.Lease.ReservedFor != "" {
		return Result{}, refuse(ErrStale, "journal "+cur.Name, m.Revision, "a lease that is held")
	}
	if cur.Lease.Holder == m.To {
		return Result{}, invalid("next holder", m.To, "another one")
	}
	return c.replace(cur, func(j *Journal) (Result, error) {
		j.Lease = &Lease{Revision: index, Renewed: index, TTLMillis: j.Lease.TTLMillis, ReservedFor: m.To}
		return Result{Revision: index}, nil
	})
}
