package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Bounds of a run beside its duration.
const (
	startPatience = 60 * time.Second // until everything is up, and a first write succeeds
	healPatience  = 90 * time.Second // after everything is healed
	giveUpAfter   = 20 * time.Second // on requests under way at the end
	faultPart     = 6                // no fault lasts longer than this part of the run
	quietMost     = 3 * time.Second
	finalPoll     = 50 * time.Millisecond
	finalPasses   = 20
)

// config of a run.
type config struct {
	duration  time.Duration
	seed      uint64
	clients   int
	keys      int
	opsPerKey int
	rate      float64 // operations a second, of all clients
	dir, bin  string  // bin: built before; empty: they are built
	race      bool
	screen    *screen
}

// result of a run.
type result struct {
	config     config
	ops        []*Op
	faults     []*fault
	ran        time.Duration
	violations []Violation
	strangers  int // connections of which nobody could say whose they are
}

// run is a whole run: it leaves no process behind.
func run(ctx context.Context, cfg config) (res *result, err error) {
	cfg.screen.live("building")
	if cfg.bin == "" {
		cfg.bin = filepath.Join(cfg.dir, "bin")
		if err := build(ctx, cfg.bin, cfg.race); err != nil {
			return nil, err
		}
	}
	c, err := newCluster(cfg.dir, cfg.bin)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	h, err := newHistory(filepath.Join(cfg.dir, "history.jsonl"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	log, err := os.Create(filepath.Join(cfg.dir, "nemesis.jsonl"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	r := &running{config: cfg, cluster: c, h: h}
	r.nemesis = &nemesis{
		cluster: c, h: h, rnd: rand.New(rand.NewPCG(cfg.seed, 1<<32)), log: log, note: r.note,
		most: cfg.duration / faultPart, quiet: min(quietMost, cfg.duration/faultPart),
	}
	return r.all(ctx)
}

// running is a run under way.
type running struct {
	config
	*cluster
	h       *history
	nemesis *nemesis
	load    *load
	odd     []Violation

	mu    sync.Mutex
	doing string // guarded by mu
}

func (r *running) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doing = s
}

func (r *running) all(ctx context.Context) (*result, error) {
	start, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	r.screen.live("starting %d nodes and %d replicas", nodesCount, replicasCount)
	if err := r.start(start); err != nil {
		return nil, err
	}
	r.load = &load{
		h: r.h, keys: newKeyring(r.keys, r.opsPerKey), retryFor: 15 * time.Second,
		pace: time.Duration(float64(r.config.clients) / r.rate * float64(time.Second)),
	}
	last := newClient(r.load, r.config.clients, r.config.clients+1, newTransport(r.net, "clients", r.service), r.seed)
	if !last.progress(start) {
		return nil, fmt.Errorf("no write succeeds within %v of the start", startPatience)
	}
	r.harm(ctx)
	healed, cancel := context.WithTimeout(ctx, healPatience)
	defer cancel()
	r.screen.live("healed: comparing")
	r.finish(healed, last)
	res := &result{config: r.config, ran: r.h.now()}
	r.stopAll()
	res.ops, res.faults, res.strangers = r.h.snapshot(), r.nemesis.faults, r.net.strangers()
	r.screen.live("checking %d operations", len(res.ops))
	res.violations = append(r.odd, checkAll(res.ops)...)
	return res, ctx.Err()
}

// harm lets clients work and the nemesis harm, for the run's duration.
func (r *running) harm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.duration)
	defer cancel()
	give, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	var working sync.WaitGroup
	for i := range r.config.clients {
		side := fmt.Sprintf("clients%d", i%2) // a cut takes half of them
		if i < 2 {
			r.cluster.clients = append(r.cluster.clients, side)
		}
		c := newClient(r.load, i, r.config.clients+1, newTransport(r.net, side, r.service), r.seed)
		working.Go(func() { c.run(ctx, give) })
	}
	working.Go(func() { r.progress(ctx) })
	for ctx.Err() == nil {
		r.nemesis.round(ctx)
	}
	late := time.AfterFunc(giveUpAfter, giveUp)
	defer late.Stop()
	working.Wait()
}

// progress shows a line on a terminal, until the context ends.
func (r *running) progress(ctx context.Context) {
	for ctx.Err() == nil {
		r.mu.Lock()
		doing := r.doing
		r.mu.Unlock()
		ops := r.h.snapshot()
		writes, unknown := 0, 0
		for _, o := range ops {
			if o.isWrite() && o.Outcome == OK {
				writes++
			}
			if o.Outcome == Unknown {
				unknown++
			}
		}
		r.screen.live("%3.0f of %.0f s  %d ops, %d writes, %d unknown  %s", r.h.now().Seconds(), r.duration.Seconds(), len(ops), writes, unknown, doing)
		pause(ctx, time.Second)
	}
}

// finish reads everything once all is healed.
func (r *running) finish(ctx context.Context, last *client) {
	if err := r.up(ctx); err != nil {
		r.fail("%v", err)
	}
	if !last.progress(ctx) {
		r.fail("no write succeeds within %v after everything is healed", healPatience)
	}
	keys, _ := byKey(r.h.snapshot())
	for _, key := range keys {
		for ctx.Err() == nil {
			o := last.read(ctx, &Op{Kind: Get, Key: key, Read: Linearizable, Final: true}, last.any())
			if o.answered() {
				break
			}
			pause(ctx, finalPoll)
		}
	}
	if err := r.compare(ctx, last, keys); err != nil {
		r.fail("%v", err)
	}
}

// fail notes what is against H9.
func (r *running) fail(format string, args ...any) {
	r.odd = append(r.odd, Violation{Rule: "H9", Check: runsAsMeant, Text: fmt.Sprintf(format, args...)})
}

// compare reads each key on each replica at one txid. A write of which nobody awaits the answer may still arrive: then
// it is done anew.
func (r *running) compare(ctx context.Context, last *client, keys []string) error {
	for range finalPasses {
		at, err := r.settled(ctx)
		if err != nil {
			return err
		}
		quiet := &load{h: &history{began: r.h.began}, keys: r.load.keys}
		c := newClient(quiet, last.number, last.clients, last.t, 0)
		moved := false
		for i := range r.service {
			for _, key := range keys {
				o := c.read(ctx, &Op{Kind: Get, Key: key, Read: Stale, After: at, Final: true}, i)
				moved = moved || o.answered() && o.Applied > at
			}
		}
		if moved && ctx.Err() == nil {
			continue
		}
		for _, o := range quiet.h.ops {
			r.h.add(o)
		}
		return ctx.Err()
	}
	return fmt.Errorf("something is written all the time, and nobody writes")
}

// settled returns how far all replicas are, once that is the same.
func (r *running) settled(ctx context.Context) (at uint64, err error) {
	for ctx.Err() == nil {
		var all []uint64
		same := true
		for i := range r.service {
			st, serr := r.status(ctx, i)
			err = errors.Join(err, serr)
			same = same && serr == nil && st.Applied > 0 && (len(all) == 0 || st.Applied == all[0])
			all = append(all, st.Applied)
		}
		if same {
			return all[0], nil
		}
		err = fmt.Errorf("replicas do not get to one txid within %v: %v", healPatience, all)
		pause(ctx, finalPoll)
	}
	return 0, err
}

// progress writes until a write succeeds.
func (c *client) progress(ctx context.Context) bool {
	for ctx.Err() == nil {
		if c.write(ctx, &Op{Kind: Put, Key: "progress"}, false).Outcome == OK {
			return true
		}
		pause(ctx, finalPoll)
	}
	return false
}

// stopAll ends all processes, and notes what they did that nobody asked for.
func (r *running) stopAll() {
	r.screen.live("stopping")
	if err := r.stop(); err != nil {
		r.fail("%v", err)
	}
	for _, t := range r.nemesis.trouble {
		r.fail("%s", t)
	}
	for _, p := range r.processes() {
		for _, odd := range p.oddEnds() {
			r.fail("%s", odd)
		}
		if b, err := os.ReadFile(p.log); err == nil && bytes.Contains(b, []byte("WARNING: DATA RACE")) {
			r.fail("the race detector reports something in %s", p.log)
		}
	}
}

func (n *network) strangers() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.unknown
}

// checkAll runs all checks.
func checkAll(ops []*Op) (bad []Violation) {
	f := newFacts(ops)
	for _, c := range checks() {
		for _, v := range c.run(f) {
			v.Check = c.what
			bad = append(bad, v)
		}
	}
	return bad
}
