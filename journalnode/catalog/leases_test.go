package catalog

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/segments"
)

func grant(holder string, nonce byte) *Grant {
	return &Grant{Journal: j1, Holder: holder, Addr: holder + ":1", TTLMillis: 1000, Nonce: [16]byte{nonce}}
}

func TestGrant(t *testing.T) {
	w := withJournal(t)
	rev := w.ok(grant("a", 1)).Revision
	require.Equal(t, w.index, rev)
	require.Equal(t, rev, w.again(grant("a", 1)).Revision)
	for _, g := range []*Grant{grant("b", 2), grant("b", 1), grant("a", 2)} {
		e, ok := errors.AsType[*HeldError](w.no(ErrHeld, g))
		require.True(t, ok)
		require.Equal(t, HeldError{Journal: j1, Holder: "a", Addr: "a:1", Revision: rev}, *e)
	}
	require.Equal(t, []JournalLease{{Journal: j1, Name: "ns1",
		Lease: Lease{Revision: rev, Renewed: rev, Holder: "a", Addr: "a:1", TTLMillis: 1000, Nonce: [16]byte{1}}}}, w.c.Leases())

	for _, ms := range []uint32{0, MinTTLMillis - 1, MaxTTLMillis + 1} {
		g := grant("a", 1)
		g.TTLMillis = ms
		w.no(ErrInvalid, g)
	}
	w.no(ErrInvalid, grant("", 1))
	w.no(ErrInvalid, grant("a", 0))
	g := grant("a", 1)
	g.Journal = j2
	w.no(ErrNoJournal, g)
}

// TestL2_ExpiryNamesTheRevision: an expiry that comes late ends no later lease.
func TestL2_ExpiryNamesTheRevision(t *testing.T) {
	w := withJournal(t)
	first := w.ok(grant("a", 1)).Revision
	w.ok(&Expire{LeaseRef{j1, first}, first})
	w.no(ErrStale, &Expire{LeaseRef{j1, first}, first})
	second := w.ok(grant("a", 1)).Revision
	require.NotEqual(t, first, second)
	for _, cmd := range []Command{
		&Expire{LeaseRef{j1, first}, first}, &Expire{LeaseRef{j1, first}, second}, &Resign{LeaseRef{j1, first}}, &Transfer{LeaseRef{j1, first}, "b"},
		&Expire{LeaseRef{j1, second + 1}, second},
	} {
		w.no(ErrStale, cmd)
	}
	w.no(ErrNoJournal, &Expire{LeaseRef{j2, second}, second})
	w.ok(&Resign{LeaseRef{j1, second}})
	require.Empty(t, w.c.Leases())
}

// TestL2_KeepAliveIsAnEntry: it is answered lease by lease, and leaves all of the state alone but for the
// renewal: the clock is with those who apply it.
func TestL2_KeepAliveIsAnEntry(t *testing.T) {
	w := withJournal(t)
	w.ok(&CreateJournal{ID: j2, Name: "ns2", Members: members("n4")})
	rev := w.ok(grant("a", 1)).Revision
	before := w.journal()
	res := w.ok(&KeepAlive{[]LeaseRef{{j1, rev}, {j1, rev - 1}, {j2, 1}, {segments.JournalID{9}, 1}}})
	require.Equal(t, rev, before.Lease.Renewed, "who has a copy keeps it")
	before.Lease.Renewed = w.index
	require.Equal(t, before, w.journal())
	require.Len(t, res.Kept, 4)
	require.NoError(t, res.Kept[0].Err)
	require.ErrorIs(t, res.Kept[1].Err, ErrStale)
	require.ErrorIs(t, res.Kept[2].Err, ErrStale)
	require.ErrorIs(t, res.Kept[3].Err, ErrNoJournal)
	w.no(ErrInvalid, &KeepAlive{})
	_, err := EncodeCommand(&KeepAlive{make([]LeaseRef, MaxKeepAlive+1)})
	require.ErrorIs(t, err, ErrInvalid)
}

// TestL2_ExpiryNamesTheRenewal: a renewal stands in the log before an expiry whose sender had not seen it.
// Its holder is told that it was kept, so it is.
func TestL2_ExpiryNamesTheRenewal(t *testing.T) {
	w := withJournal(t)
	rev := w.ok(grant("a", 1)).Revision
	ref := LeaseRef{j1, rev}
	for range 2 {
		l, err := w.c.Lease(j1)
		require.NoError(t, err)
		seen := l.Renewed
		require.NoError(t, w.ok(&KeepAlive{[]LeaseRef{ref}}).Kept[0].Err)
		w.no(ErrStale, &Expire{ref, seen})
	}
	w.ok(&Expire{ref, w.index - 1})
	l, err := w.c.Lease(j1)
	require.NoError(t, err)
	require.Nil(t, l)
	_, err = w.c.Lease(j2)
	require.ErrorIs(t, err, ErrNoJournal)
}

// TestL1_TheEndOfALeaseChangesNothingElse: no config, no version, nothing that a writer would notice.
func TestL1_TheEndOfALeaseChangesNothingElse(t *testing.T) {
	for name, end := range map[string]func(LeaseRef) Command{
		"expire":   func(r LeaseRef) Command { return &Expire{r, r.Revision} },
		"resign":   func(r LeaseRef) Command { return &Resign{r} },
		"transfer": func(r LeaseRef) Command { return &Transfer{r, "b"} },
	} {
		t.Run(name, func(t *testing.T) {
			w := withJournal(t)
			w.changeUpTo(StageSealed)
			rev := w.ok(grant("a", 1)).Revision
			before := w.journal()
			w.ok(end(LeaseRef{j1, rev}))
			after := w.journal()
			before.Lease, after.Lease = nil, nil
			require.Equal(t, before, after)
		})
	}
}

func TestTransfer(t *testing.T) {
	w := withJournal(t)
	w.no(ErrStale, &Transfer{LeaseRef{j1, 1}, "b"})
	held := w.ok(grant("a", 1)).Revision
	w.no(ErrInvalid, &Transfer{LeaseRef{j1, held}, ""})
	w.no(ErrInvalid, &Transfer{LeaseRef{j1, held}, "a"})
	reserved := w.ok(&Transfer{LeaseRef{j1, held}, "b"}).Revision
	require.Equal(t, w.index, reserved)
	require.Equal(t, Lease{Revision: reserved, Renewed: reserved, TTLMillis: 1000, ReservedFor: "b"}, w.c.Leases()[0].Lease)

	e, ok := errors.AsType[*HeldError](w.no(ErrHeld, grant("a", 1)))
	require.True(t, ok)
	require.Equal(t, HeldError{Journal: j1, Holder: "b", Reserved: true, Revision: reserved}, *e)
	require.ErrorIs(t, w.ok(&KeepAlive{[]LeaseRef{{j1, held}}}).Kept[0].Err, ErrStale)
	require.ErrorIs(t, w.ok(&KeepAlive{[]LeaseRef{{j1, reserved}}}).Kept[0].Err, ErrStale, "a reservation is not kept alive")
	w.no(ErrStale, &Transfer{LeaseRef{j1, reserved}, "c"})
	w.ok(grant("b", 2))

	// Nobody came: the reservation expires, and anybody may have it.
	reserved = w.ok(&Transfer{LeaseRef{j1, w.index}, "c"}).Revision
	w.ok(&Expire{LeaseRef{j1, reserved}, reserved})
	w.ok(grant("a", 1))
}
