package leaseclock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/segments"
)

var (
	leaseJournal = segments.JournalID{1}
	leaseStart   = time.Unix(1000, 0)
)

func held(revision, renewed uint64) []catalog.JournalLease {
	return []catalog.JournalLease{{Journal: leaseJournal, Lease: catalog.Lease{Revision: revision, Renewed: renewed, TTLMillis: 1000}}}
}

func expiry(revision, renewed uint64) []catalog.Expire {
	return []catalog.Expire{{LeaseRef: catalog.LeaseRef{Journal: leaseJournal, Revision: revision}, Renewed: renewed}}
}

// at is a moment after the start, in milliseconds.
func at(ms int) time.Time { return leaseStart.Add(time.Duration(ms) * time.Millisecond) }

func kept(revision uint64, err error) []catalog.Kept {
	return []catalog.Kept{{LeaseRef: catalog.LeaseRef{Journal: leaseJournal, Revision: revision}, Err: err}}
}

// A lease is over its time to live and the slack after it was last seen to be renewed, and the expiry names
// that renewal.
func TestL2_LeaseClockCountsFromWhatIsApplied(t *testing.T) {
	c := New()
	require.Empty(t, c.Due(at(0)))
	_, any := c.Next()
	require.False(t, any)

	require.True(t, c.See(at(0), held(5, 5)), "it has come")
	next, any := c.Next()
	require.True(t, any)
	require.Equal(t, at(1100), next)
	require.Empty(t, c.Due(at(1099)))
	require.False(t, c.See(at(1099), held(5, 5)))
	require.Equal(t, expiry(5, 5), c.Due(at(1100)), "seeing it again does not count it anew")

	c.Renew(at(1000), 7, kept(5, nil))
	require.Empty(t, c.Due(at(2099)))
	require.Equal(t, expiry(5, 7), c.Due(at(2100)))
	c.Renew(at(2100), 8, kept(5, catalog.ErrStale))
	c.Renew(at(2100), 9, kept(6, nil))
	require.Equal(t, expiry(5, 7), c.Due(at(2100)), "of another lease, or refused")
	c.See(at(2100), held(5, 6))
	require.Equal(t, expiry(5, 7), c.Due(at(2100)), "a list that is older than the renewal")

	require.False(t, c.See(at(2100), held(5, 10))) // renewed unseen: by a raft snapshot, say
	require.Empty(t, c.Due(at(3199)))
	require.Equal(t, expiry(5, 10), c.Due(at(3200)))
	require.True(t, c.See(at(3200), held(11, 11)), "another one")
	require.Empty(t, c.Due(at(4299)))
	require.Equal(t, expiry(11, 11), c.Due(at(4300)))
	require.True(t, c.See(at(4300), nil), "it has gone")
	require.False(t, c.See(at(4300), nil))
	require.Empty(t, c.Due(at(9000)))
}

// A leader that was paused kept the holders waiting: it counts anew, once, and not for ever.
func TestL2_LeaderThatWasPausedCountsAnew(t *testing.T) {
	c := New()
	c.See(at(0), held(5, 5))
	require.Empty(t, c.Due(at(60_000)))
	require.Empty(t, c.Due(at(61_099)))
	require.Equal(t, expiry(5, 5), c.Due(at(61_100)))
	require.Equal(t, expiry(5, 5), c.Due(at(90_000)), "it could not be ended, and is none the younger")
	c.Renew(at(90_000), 6, kept(5, nil))
	require.Empty(t, c.Due(at(120_000)), "it was renewed since: another pause counts")
}
