package leaseclock

import (
	"slices"
	"time"

	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/segments"
)

// slack is the part of its time to live that a lease gets on top, one in so many: a holder whose clock
// runs slower than the leader's by less than that never trusts a lease that is over (L3).
const slack = 10

// Clock is the leader's count of when leases are over, as a value: the time is passed in. It counts what
// the leader has applied itself: from its own Barrier, from a grant, or from a renewal, whichever was last
// (L2). It never proposes to end what it has not counted in full.
type Clock struct {
	leases map[segments.JournalID]*counted
}

type counted struct {
	catalog.LeaseRef
	ttl     time.Duration
	renewed uint64    // the renewal that it is counted from
	over    time.Time // when it is over
	late    bool      // it was counted anew because nobody had looked in time
}

// New returns a clock that has seen nothing yet.
func New() *Clock {
	return &Clock{leases: map[segments.JournalID]*counted{}}
}

func (l *counted) begin(now time.Time) { l.over = now.Add(l.ttl + l.ttl/slack) }

// See takes in all leases that there are. What is new, or was renewed unseen, is counted from now on: that
// may be later than it began, and is never earlier. It reports whether a lease has come or gone since the last time.
func (c *Clock) See(now time.Time, all []catalog.JournalLease) (news bool) {
	there := make(map[segments.JournalID]bool, len(all))
	for _, x := range all {
		there[x.Journal] = true
		l := c.leases[x.Journal]
		news = news || l == nil || l.Revision != x.Revision
		if l != nil && l.Revision == x.Revision && l.renewed >= x.Renewed {
			continue
		}
		l = &counted{
			LeaseRef: catalog.LeaseRef{Journal: x.Journal, Revision: x.Revision}, renewed: x.Renewed,
			ttl: time.Duration(x.TTLMillis) * time.Millisecond,
		}
		l.begin(now)
		c.leases[x.Journal] = l
	}
	for id := range c.leases {
		if !there[id] {
			delete(c.leases, id)
			news = true
		}
	}
	return news
}

// Renew takes in what the entry at index has kept.
func (c *Clock) Renew(now time.Time, index uint64, kept []catalog.Kept) {
	for _, k := range kept {
		if l := c.leases[k.Journal]; k.Err == nil && l != nil && l.Revision == k.Revision {
			l.renewed, l.late = index, false
			l.begin(now)
		}
	}
}

// Due returns what is to be ended, by journal. A leader that was paused finds that leases are long over whose
// holders it had kept waiting itself: it counts such a one anew, once, as the next leader would have.
func (c *Clock) Due(now time.Time) []catalog.Expire {
	var out []catalog.Expire
	for _, l := range c.leases {
		switch {
		case now.Before(l.over):
		case !l.late && now.Sub(l.over) > l.ttl/3: // a holder would have sent a renewal meanwhile
			l.late = true
			l.begin(now)
		default:
			l.late = true // whatever keeps it from being ended, it is not counted anew
			out = append(out, catalog.Expire{LeaseRef: l.LeaseRef, Renewed: l.renewed})
		}
	}
	slices.SortFunc(out, func(a, b catalog.Expire) int { return slices.Compare(a.Journal[:], b.Journal[:]) })
	return out
}

// Next returns when the next lease is over; false where there is none.
func (c *Clock) Next() (time.Time, bool) {
	var first time.Time
	for _, l := range c.leases {
		if first.IsZero() || l.over.Before(first) {
			first = l.over
		}
	}
	return first, !first.IsZero()
}
