package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// What clients do.
const (
	requestTimeout = 2 * time.Second
	sessionAlive   = 200 // writes of one session
	retryPause     = 20 * time.Millisecond
	avoidFor       = 300 * time.Millisecond // a replica that did not answer
	parkFor        = 8 * time.Second        // a session
	parkedMax      = 20                     // of one client
	hasty          = 3                      // writes of a hundred that are not given the time
)

// boundsOfFresh are those that fresh reads ask for.
var boundsOfFresh = []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, time.Second}

// load is what all clients share.
type load struct {
	h        *history
	keys     *keyring
	pace     time.Duration // between two operations of a client, on average
	retryFor time.Duration // a write in a session, until it is given up
}

// client does one thing after the other.
type client struct {
	*load
	t       *transport
	rnd     *rand.Rand
	number  int
	clients int
	process int // in the history
	writes  int

	active  int            // who is taken for the active
	avoid   []time.Time    // until when a replica is left alone
	etags   map[string]etg // what this client last saw of a key, and of its values only
	told    uint64         // the newest txid of its writes
	session string
	seq     uint64
	again   *Op // a write of the session to be sent once more
	parked  []parked
}

// etg is what a client was told of a key's value.
type etg struct{ etag uint64 }

// parked is a session that is left alone until its last write is sent once more: after others have taken over, maybe, and
// have learned of the session from a snapshot.
type parked struct {
	op  *Op
	due time.Time
}

func newClient(l *load, number, clients int, t *transport, seed uint64) *client {
	return &client{
		load: l, t: t, rnd: rand.New(rand.NewPCG(seed, uint64(number))), number: number, clients: clients, process: number,
		avoid: make([]time.Time, len(t.replicas)), etags: map[string]etg{},
	}
}

// run works until the context ends. Requests under way are finished: give ends them when even that takes too long.
func (c *client) run(ctx, give context.Context) {
	defer c.t.close()
	for ctx.Err() == nil {
		c.one(give)
		pause(ctx, time.Duration(c.rnd.ExpFloat64()*float64(c.pace)))
	}
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// one does one thing.
func (c *client) one(ctx context.Context) {
	key := c.keys.pick(c.rnd)
	if c.again != nil && c.rnd.IntN(3) == 0 {
		c.sendAgain(ctx, c.again)
		c.again = nil
		return
	}
	if len(c.parked) > 0 && time.Now().After(c.parked[0].due) {
		c.sendAgain(ctx, c.parked[0].op)
		c.parked = c.parked[1:]
		return
	}
	switch n := c.rnd.IntN(100); {
	case n < 20:
		c.write(ctx, &Op{Kind: Put, Key: key}, n < 8)
	case n < 34:
		o := &Op{Kind: Put, Key: key, IfMatch: c.etags[key].etag}
		o.IfAbsent = o.IfMatch == 0
		c.write(ctx, o, n < 26)
	case n < 38:
		c.write(ctx, &Op{Kind: Put, Key: key, IfAbsent: true}, n < 36)
	case n < 45:
		o := &Op{Kind: Delete, Key: key}
		if n < 40 {
			o.IfMatch = c.etags[key].etag
		}
		c.write(ctx, o, n%2 == 0)
	case n < 63:
		c.read(ctx, &Op{Kind: Get, Key: key, Read: Linearizable}, c.any())
	case n < 78:
		c.read(ctx, &Op{Kind: Get, Key: key, Read: Lease}, c.active)
	case n < 86:
		c.read(ctx, &Op{Kind: Get, Key: key, Read: Fresh, Within: boundsOfFresh[c.rnd.IntN(len(boundsOfFresh))]}, c.any())
	case n < 92:
		c.read(ctx, &Op{Kind: Get, Key: key, Read: Stale, After: c.told}, c.any())
	default:
		c.read(ctx, &Op{Kind: Get, Key: key, Read: Stale}, c.any())
	}
}

// any returns a replica, rather one that answers.
func (c *client) any() int {
	for range c.avoid {
		if i := c.rnd.IntN(len(c.avoid)); time.Now().After(c.avoid[i]) {
			return i
		}
	}
	return c.rnd.IntN(len(c.avoid))
}

// heard remembers who answered, and who did not.
func (c *client) heard(a answer) {
	switch {
	case a.err != nil:
		c.avoid[a.replica] = time.Now().Add(avoidFor)
		c.active = c.any()
	case a.status == http.StatusServiceUnavailable || a.status == http.StatusGatewayTimeout:
		c.active = c.any()
	}
}

// read has one read answered, or not.
func (c *client) read(ctx context.Context, o *Op, to int) *Op {
	r := request{method: http.MethodGet, timeout: requestTimeout, path: fmt.Sprintf("/kv/%s?read=%s", o.Key, o.Read)}
	if o.Read == Fresh {
		r.path += "&within=" + o.Within.String()
	}
	if o.After != 0 {
		r.path += "&after=" + strconv.FormatUint(o.After, 10)
	}
	o.Call = c.h.now()
	a := c.t.follow(ctx, to, r)
	o.Return = c.h.now()
	o.Outcome, o.Odd = a.readOutcome()
	if o.Outcome == OK {
		o.Got = a.body
		c.etags[o.Key] = etg{a.etag}
	}
	c.done(o, a)
	if o.Read == Lease && o.Outcome != NotDone {
		c.active = a.replica
	}
	return o
}

// done notes an answer in an operation, and the operation in the history.
func (c *client) done(o *Op, a answer) {
	c.heard(a)
	o.Replica, o.Incarnation, o.Status, o.ETag, o.Applied = c.t.replicas[a.replica].name, a.incarnation, a.status, a.etag, a.applied
	o.Odd, o.Process = cmp.Or(o.Odd, a.odd), c.process
	if a.err != nil {
		o.Err = fmt.Sprintf("%.120s", a.err)
	}
	c.h.add(o)
	if o.Outcome == Unknown {
		c.process += c.clients
	}
}

// write has one write made, or not; in a session it is tried until it is answered definitely.
func (c *client) write(ctx context.Context, o *Op, inSession bool) *Op {
	if o.Kind == Put {
		c.writes++
		o.Value = fmt.Sprintf("c%d.%d", c.number, c.writes)
	}
	if inSession && c.openSession(ctx) {
		c.seq++
		o.Session, o.Seq = c.session, c.seq
		if c.again != nil {
			c.again = nil // its answer is not awaited any more
		}
	}
	r := c.writeRequest(o)
	o.Call = c.h.now()
	var a answer
	for deadline := o.Call + c.retryFor; ; {
		o.Attempts++
		a = c.t.follow(ctx, c.active, r)
		o.Outcome, o.Odd = a.writeOutcome(o.Kind, o.IfMatch != 0 || o.IfAbsent)
		definite := o.Outcome != Unknown && (o.Outcome != NotDone || o.Attempts == 1)
		if o.Session == "" || o.Odd != "" || definite || c.h.now() > deadline || ctx.Err() != nil {
			break
		}
		o.Outcome = Unknown // an earlier try may still be made
		c.heard(a)
		pause(ctx, retryPause)
	}
	o.Return = c.h.now()
	c.wrote(o, a)
	return o
}

func (c *client) writeRequest(o *Op) request {
	r := request{method: http.MethodPut, path: "/kv/" + o.Key, body: o.Value, timeout: requestTimeout, header: map[string]string{}}
	if o.Kind == Delete || o.Kind == Again && o.Value == "" {
		r.method = http.MethodDelete
	}
	if c.rnd.IntN(100) < hasty {
		r.timeout = time.Duration(1+c.rnd.IntN(20)) * time.Millisecond
	}
	if o.IfMatch != 0 {
		r.header["If-Match"] = fmt.Sprintf("%q", strconv.FormatUint(o.IfMatch, 10))
	}
	if o.IfAbsent {
		r.header["If-None-Match"] = "*"
	}
	if o.Session != "" {
		r.header["Qjm-Session"] = o.Session
		r.header["Qjm-Seq"] = strconv.FormatUint(o.Seq, 10)
		r.header["Qjm-Awaited"] = strconv.FormatUint(o.Seq, 10)
	}
	return r
}

// wrote notes what came of a write.
func (c *client) wrote(o *Op, a answer) {
	c.done(o, a)
	definite := o.Outcome == OK || o.Outcome == Failed || o.Outcome == Absent
	switch {
	case o.Outcome == OK:
		c.told = max(c.told, o.ETag)
		c.active = a.replica
		delete(c.etags, o.Key)
		if o.Kind == Put {
			c.etags[o.Key] = etg{o.ETag}
		}
	case definite:
		c.active = a.replica
		delete(c.etags, o.Key) // the next one reads, or has a condition that holds
	}
	if o.Session == "" {
		return
	}
	if o.Outcome == Unknown || o.Odd != "" || c.seq >= sessionAlive {
		c.session = "" // what it has under way may be made, and must not be in the way
	} else if o.Outcome == NotDone {
		c.seq-- // it was never sent, or refused
	} else if k := c.rnd.IntN(100); k < 2 && len(c.parked) < parkedMax {
		c.parked = append(c.parked, parked{o, time.Now().Add(parkFor)})
		c.session = ""
	} else if k < 50 {
		c.again = o
	}
}

// sendAgain sends a write of the session as if its answer had been lost.
func (c *client) sendAgain(ctx context.Context, first *Op) {
	o := &Op{
		Kind: Again, Key: first.Key, Value: first.Value, IfMatch: first.IfMatch, IfAbsent: first.IfAbsent,
		Session: first.Session, Seq: first.Seq, Attempts: 1,
	}
	o.Call = c.h.now()
	a := c.t.follow(ctx, c.active, c.writeRequest(o))
	o.Return = c.h.now()
	o.Outcome, o.Odd = a.writeOutcome(first.Kind, o.IfMatch != 0 || o.IfAbsent)
	c.done(o, a)
}

// openSession makes sure that there is one.
func (c *client) openSession(ctx context.Context) bool {
	if c.session != "" {
		return true
	}
	a := c.t.follow(ctx, c.active, request{method: http.MethodPost, path: "/session", timeout: requestTimeout})
	c.heard(a)
	c.again = nil
	if a.status != http.StatusCreated || a.session == "" {
		return false
	}
	c.session, c.seq = a.session, 0
	return true
}
