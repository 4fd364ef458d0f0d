package simtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/leaseclock"
)

// Writer leases: the catalog's entries and the leader's clock are the real ones; the holders do what libqjm's Lease
// does. One leader counts at a time, as its proposals go into the log and a deposed one's do not; it is deposed,
// paused, and slow to apply. Clocks run at rates that differ by less than a tenth (L3).

const (
	leaseTTL    = 400 // ticks; one is a millisecond
	leaseRounds = 8   // looks of the leader in one time to live
	renewals    = 3   // that a holder sends in one time to live
)

// leases is all that has to do with them. They have random numbers of their own: a run that has leases, too, is
// otherwise the run that it was.
type leases struct {
	w    *world
	rng  *rand.Rand
	term int
	// trusted is until when the holder of each revision may trust it, by what was applied and by its own clock, however
	// late it hears of that (L2).
	trusted map[uint64]int64
	clock   *leaseclock.Clock // of the leader
	paused  int64             // until when the leader does nothing
	holders []*holder
}

// holder is one client's end.
type holder struct {
	l        *leases
	c        *client
	name     string
	rate     float64 // of its clock, by the true one
	life     int
	nonce    [16]byte
	first    int64  // when the request with that nonce was sent first: a later one renews nothing
	revision uint64 // that it has; zero: none
	until    int64  // when it stops trusting it, in true time
}

func newLeases(w *world) *leases {
	l := &leases{w: w, rng: rand.New(rand.NewPCG(w.cfg.Seed, 0x6c65617365)), trusted: map[uint64]int64{}}
	for i, c := range w.clients {
		h := &holder{l: l, c: c, name: fmt.Sprintf("w%d", i), rate: 0.92 + l.rng.Float64()*0.16}
		l.holders = append(l.holders, h)
		w.after(1+l.rng.Int64N(leaseTTL), func() { h.campaign(h.life) })
	}
	l.lead()
	return l
}

// instant is the leader's clock.
func (l *leases) instant() time.Time { return time.UnixMilli(l.w.now) }

func (l *leases) delay() int64 {
	d := 1 + l.rng.Int64N(delayMax)
	if l.rng.IntN(10) == 0 {
		d += l.rng.Int64N(leaseTTL)
	}
	return d
}

// lead is a new leader: it counts from its own Barrier, by which it has applied all that was decided.
func (l *leases) lead() {
	w := l.w
	l.term++
	term := l.term
	l.clock = nil
	w.after(l.delay(), func() {
		if l.term != term {
			return
		}
		l.clock = leaseclock.New()
		l.look(term)
	})
	w.after(leaseTTL+l.rng.Int64N(10*leaseTTL), func() {
		if l.term == term && !w.calm {
			w.note("leases: another leader")
			l.lead()
		}
	})
}

// look is a round of the leader's: what is over is proposed to end, and stands in the log a while later.
func (l *leases) look(term int) {
	w := l.w
	if l.term != term || w.over() {
		return
	}
	w.after(1+l.rng.Int64N(2*leaseTTL/leaseRounds), func() { l.look(term) })
	if l.rng.IntN(60) == 0 && !w.calm {
		l.paused = w.now + l.rng.Int64N(3*leaseTTL)
	}
	if w.now < l.paused {
		return
	}
	l.clock.See(l.instant(), w.group.c.Leases())
	for _, e := range l.clock.Due(l.instant()) {
		w.after(l.delay(), func() { l.expire(term, e) })
	}
}

func (l *leases) expire(term int, e catalog.Expire) {
	if l.term != term {
		return // a deposed leader's
	}
	if l.w.cfg.Broken == RuleL2Renewal {
		if now, err := l.w.group.c.Lease(e.Journal); err == nil && now != nil {
			e.Renewed = now.Renewed
		}
	}
	_, err := l.propose(&e)
	l.w.note("lease %d ends: %v", e.Revision, err)
	if err != nil {
		return
	}
	l.w.result.Expired++
	if until := l.trusted[e.Revision]; until > l.w.now {
		l.w.fail(fmt.Errorf("L2: lease %d is ended at %d, and its holder may trust it until %d", e.Revision, l.w.now, until))
	}
}

// propose is an entry about leases. It changes nothing else (L1).
func (l *leases) propose(cmd catalog.Command) (catalog.Result, error) {
	w := l.w
	g := w.group
	before, _ := g.c.Journal(w.journal)
	g.index++
	res, err := g.c.Apply(g.index, cmd)
	after, _ := g.c.Journal(w.journal)
	before.Lease, after.Lease = nil, nil
	if !reflect.DeepEqual(before, after) {
		w.fail(fmt.Errorf("L1: %T changed more than the lease: %+v, %+v", cmd, before, after))
	}
	return res, err
}

// ask is a holder's request to the leader, which is lost now and then, on its way or the answer, and answered when
// the leader has applied what came of it.
func (l *leases) ask(cmd catalog.Command, sent int64, rate float64, done func(catalog.Result, error)) {
	w := l.w
	if l.rng.IntN(10) == 0 && !w.calm {
		return
	}
	w.after(l.delay(), func() { l.serve(cmd, sent, rate, done) })
}

func (l *leases) serve(cmd catalog.Command, sent int64, rate float64, done func(catalog.Result, error)) {
	w := l.w
	switch {
	case l.clock == nil: // nobody leads
	case w.now < l.paused:
		w.after(l.paused-w.now+l.rng.Int64N(delayMax), func() { l.serve(cmd, sent, rate, done) })
	default:
		res, err := l.propose(cmd)
		index, term := w.group.index, l.term
		l.granted(cmd, res, err, sent, rate)
		w.after(l.rng.Int64N(delayMax), func() {
			if l.term == term {
				l.clock.See(l.instant(), w.group.c.Leases())
				l.clock.Renew(l.instant(), index, res.Kept)
			}
			if l.rng.IntN(10) != 0 {
				w.after(l.delay(), func() { done(res, err) })
			}
		})
	}
}

// granted: the holder may trust what was granted or renewed from when it sent the request, should it hear of it.
func (l *leases) granted(cmd catalog.Command, res catalog.Result, err error, sent int64, rate float64) {
	until := sent + int64(leaseTTL/rate)
	if l.w.cfg.Broken == RuleL2Sent {
		until = 0 // by when it hears of it
	}
	switch cmd := cmd.(type) {
	case *catalog.Grant:
		if err == nil && !res.Again {
			l.trusted[res.Revision] = max(l.trusted[res.Revision], until)
		}
	case *catalog.KeepAlive:
		if err == nil && res.Kept[0].Err == nil {
			r := cmd.Leases[0].Revision
			l.trusted[r] = max(l.trusted[r], until)
		}
	}
}

// campaign asks for the lease until it has it.
func (h *holder) campaign(life int) {
	l, w := h.l, h.l.w
	if h.life != life || w.over() || w.calm || h.revision != 0 {
		return
	}
	if h.nonce == ([16]byte{}) {
		for i := range h.nonce {
			h.nonce[i] = byte(1 + l.rng.IntN(255))
		}
		h.first = w.now
	}
	sent := h.first
	l.ask(&catalog.Grant{Journal: w.journal, Holder: h.name, TTLMillis: leaseTTL, Nonce: h.nonce}, sent, h.rate,
		func(res catalog.Result, err error) {
			if h.life != life || err != nil || h.revision != 0 {
				return
			}
			w.note("lease %d is %s's", res.Revision, h.name)
			w.result.Leases++
			h.revision, h.nonce = res.Revision, [16]byte{}
			h.trust(sent)
			h.keep(life)
		})
	w.after(leaseTTL/renewals+l.rng.Int64N(leaseTTL), func() { h.campaign(life) })
}

// trust: the holder counts from when it sent. Two that trust a lease at a time are one too many (L3).
func (h *holder) trust(sent int64) {
	l, w := h.l, h.l.w
	if w.cfg.Broken == RuleL2Sent {
		sent = w.now
	}
	h.until = max(h.until, sent+int64(leaseTTL/h.rate))
	if h.until <= w.now {
		return
	}
	for _, o := range l.holders {
		if o != h && o.revision != 0 && o.until > w.now {
			w.fail(fmt.Errorf("L3: %s trusts lease %d until %d, and %s lease %d until %d", h.name, h.revision, h.until, o.name, o.revision, o.until))
		}
	}
}

// keep renews the lease; now and then the holder is stopped for a while, dies, or lets go.
func (h *holder) keep(life int) {
	l, w := h.l, h.l.w
	if h.life != life || w.over() || h.revision == 0 {
		return
	}
	next := int64(leaseTTL / renewals)
	switch k := l.rng.IntN(40); {
	case w.calm:
		return
	case k == 0: // stopped, and its clock goes on
		w.after(l.rng.Int64N(3*leaseTTL), func() { h.keep(life) })
		return
	case k == 1:
		h.end("dies")
		return
	case k == 2:
		h.letGo(&catalog.Resign{LeaseRef: h.ref()})
		return
	case k == 3:
		h.letGo(&catalog.Transfer{LeaseRef: h.ref(), To: fmt.Sprintf("w%d", l.rng.IntN(len(l.holders)))})
		return
	}
	sent, revision := w.now, h.revision
	l.ask(&catalog.KeepAlive{Leases: []catalog.LeaseRef{h.ref()}}, sent, h.rate, func(res catalog.Result, err error) {
		switch {
		case h.life != life || h.revision != revision || err != nil:
		case errors.Is(res.Kept[0].Err, catalog.ErrStale):
			h.end("has lost it")
		case res.Kept[0].Err == nil:
			h.trust(sent)
		}
	})
	w.after(next, func() { h.keep(life) })
}

func (h *holder) ref() catalog.LeaseRef {
	return catalog.LeaseRef{Journal: h.l.w.journal, Revision: h.revision}
}

// letGo: for the holder it is over with the call.
func (h *holder) letGo(cmd catalog.Command) {
	revision := h.revision
	h.end("lets go")
	h.l.trusted[revision] = 0
	h.l.ask(cmd, h.l.w.now, h.rate, func(catalog.Result, error) {})
}

// end: the holder's writer, if it has one, goes on as if nothing had happened (L1).
func (h *holder) end(why string) {
	l := h.l
	l.w.note("%s, with lease %d, %s", h.name, h.revision, why)
	h.life++
	h.revision, h.until, h.nonce = 0, 0, [16]byte{}
	life := h.life
	l.w.after(1+l.rng.Int64N(leaseTTL), func() { h.campaign(life) })
}

// acked: what was acknowledged to a writer whose process has no lease while another has one (L1).
func (l *leases) acked(c *client) {
	own, others := false, false
	for _, h := range l.holders {
		valid := h.revision != 0 && h.until > l.w.now
		own = own || h.c == c && valid
		others = others || h.c != c && valid
	}
	if others && !own {
		l.w.result.Unleased++
	}
}
