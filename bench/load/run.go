package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Cell is one measurement.
type Cell struct {
	Callers, Size  int
	Warm, Duration time.Duration
	// Dir is where the system's files lie, BytesMax what they may take; 0: no bound.
	Dir      string
	BytesMax uint64
	// Opened and Closed are called when the window opens and when it has closed; nil: nothing is.
	Opened, Closed func() error
}

// Sample is what a cell measured.
type Sample struct {
	Ops        uint64
	Elapsed    time.Duration
	Latency    *Histogram
	CPU        time.Duration
	Device     uint64 // bytes written to the disk, by the whole machine
	Dirtied    uint64 // bytes that the kernel charged the process with, whole page groups at a time
	MemoryPeak uint64
	Allocs     uint64
	AllocBytes uint64
	Cut        bool // the window ended early, at BytesMax
}

// Patience bounds what a load may take beyond its own duration before it is given up.
const Patience = 60 * time.Second

const (
	phaseWarm = iota
	phaseOpen
	phaseOver
)

const (
	shards     = 16 // of the histogram
	payloadSet = 64 // different payloads
	watchEvery = 100 * time.Millisecond
)

// run is one cell under way.
type run struct {
	cell   Cell
	sys    System
	phase  atomic.Int32
	shards [shards]Histogram
	work   sync.WaitGroup

	once   sync.Once
	err    error
	failed chan struct{}
}

// Run drives a system for one cell.
func Run(ctx context.Context, spec Spec, sys System, cell Cell) (Sample, error) {
	if p, ok := sys.(Prepared); ok {
		if err := p.Prepare(cell.Callers); err != nil {
			return Sample{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cell.Warm+cell.Duration+Patience)
	defer cancel()
	r := &run{cell: cell, sys: sys, failed: make(chan struct{})}
	if err := r.drive(ctx, spec.Mode); err != nil {
		return Sample{}, err
	}
	s, err := r.watch(ctx)
	r.phase.Store(phaseOver)
	if err != nil {
		cancel()
	}
	if !r.ended() {
		return Sample{}, fmt.Errorf("load: %s, %d callers: still appending %s after the end", spec.Name, cell.Callers, Patience)
	}
	if r.err != nil { // it says more than that the window was given up
		err = r.err
	}
	if err != nil {
		return Sample{}, fmt.Errorf("load: %s, %d callers: %w", spec.Name, cell.Callers, err)
	}
	s.Latency = new(Histogram)
	for i := range r.shards {
		s.Latency.Merge(&r.shards[i])
	}
	s.Ops = s.Latency.Count()
	if s.Ops == 0 {
		return Sample{}, fmt.Errorf("load: %s, %d callers: nothing was completed in %s", spec.Name, cell.Callers, s.Elapsed)
	}
	return s, nil
}

// drive starts the goroutines that make the load.
func (r *run) drive(ctx context.Context, mode Mode) error {
	switch mode {
	case Callers:
		set := Payloads(payloadSet, r.cell.Size)
		for i := range r.cell.Callers {
			r.work.Go(func() { r.call(ctx, set[i%len(set)], 1, &r.shards[i%shards]) })
		}
	case Raw:
		n := max(1, min(r.cell.Callers, RawBytesMax/r.cell.Size))
		piece := Payloads(1, n*r.cell.Size)[0]
		r.work.Go(func() { r.call(ctx, piece, uint64(n), &r.shards[0]) })
	case Window:
		w, ok := r.sys.(Windowed)
		if !ok {
			return errors.New("load: the system takes no window of transactions")
		}
		r.submit(ctx, w)
	}
	return nil
}

// call appends one transaction after the other, each counting as n operations.
func (r *run) call(ctx context.Context, txn []byte, n uint64, h *Histogram) {
	last := time.Now()
	for {
		err := r.sys.Append(ctx, txn)
		now := time.Now()
		switch phase := r.phase.Load(); {
		case phase == phaseOver:
			return
		case err != nil:
			r.fail(err)
			return
		case phase == phaseOpen:
			h.Add(now.Sub(last), n)
		}
		last = now
	}
}

// submit keeps a window of transactions under way: one goroutine hands over, one waits for outcomes.
func (r *run) submit(ctx context.Context, w Windowed) {
	type handed struct {
		p  Pending
		at time.Time
	}
	batch := min(WindowBatch, max(1, WindowBytes/4/r.cell.Size))
	set := Payloads(payloadSet, r.cell.Size)
	txns := make([][]byte, batch)
	for i := range txns {
		txns[i] = set[i%len(set)]
	}
	under := make(chan handed, max(1, WindowBytes/(batch*r.cell.Size)))
	r.work.Go(func() {
		defer close(under)
		for r.phase.Load() != phaseOver {
			h := handed{at: time.Now()}
			var err error
			if h.p, err = w.Submit(ctx, txns); err != nil {
				r.fail(err)
				return
			}
			under <- h
		}
	})
	r.work.Go(func() {
		for h := range under {
			if err := h.p.Wait(ctx); err != nil {
				r.fail(err)
			} else if r.phase.Load() == phaseOpen {
				r.shards[0].Add(time.Since(h.at), uint64(batch))
			}
		}
	})
}

// ended waits until all goroutines of the load are through; some systems have calls that no context ends.
func (r *run) ended() bool {
	done := make(chan struct{})
	go func() { r.work.Wait(); close(done) }()
	patience := time.NewTimer(Patience)
	defer patience.Stop()
	select {
	case <-done:
		return true
	case <-patience.C:
		return false
	}
}

func (r *run) fail(err error) {
	r.once.Do(func() {
		r.err = err
		r.phase.Store(phaseOver)
		close(r.failed)
	})
}

// watch opens the window after the warm-up and closes it in time, or early.
func (r *run) watch(ctx context.Context) (s Sample, err error) {
	if _, err = r.wait(ctx, r.cell.Warm, &s); err != nil {
		return s, err
	}
	if r.cell.Opened != nil {
		if err = r.cell.Opened(); err != nil {
			return s, err
		}
	}
	before, err := ReadUsage(r.cell.Dir)
	if err != nil {
		return s, err
	}
	if !r.phase.CompareAndSwap(phaseWarm, phaseOpen) {
		return s, errors.New("load: given up")
	}
	cut, err := r.wait(ctx, r.cell.Duration, &s)
	r.phase.Store(phaseOver)
	after, uerr := ReadUsage(r.cell.Dir)
	if r.cell.Closed != nil {
		err = errors.Join(err, r.cell.Closed())
	}
	if err = errors.Join(err, uerr); err != nil {
		return s, err
	}
	s.Cut, s.Elapsed, s.CPU = cut, after.At.Sub(before.At), after.CPU-before.CPU
	s.Device, s.Dirtied = after.Device-before.Device, after.Dirtied-before.Dirtied
	s.Allocs, s.AllocBytes = after.Allocs-before.Allocs, after.AllocBytes-before.AllocBytes
	return s, nil
}

// wait lets a time pass, looking at memory and files meanwhile. It reports whether it ended early.
func (r *run) wait(ctx context.Context, d time.Duration, s *Sample) (cut bool, err error) {
	over := time.NewTimer(d)
	defer over.Stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-over.C:
			return false, nil
		case <-r.failed:
			return false, errors.New("load: given up")
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-tick.C:
		}
		mem, err := AnonMemory()
		if err != nil {
			return false, err
		}
		s.MemoryPeak = max(s.MemoryPeak, mem)
		if r.cell.BytesMax == 0 {
			continue
		}
		if taken, err := DirBytes(r.cell.Dir); err != nil || taken >= r.cell.BytesMax {
			return err == nil, err
		}
	}
}

// Payloads makes n payloads that no compression makes smaller, the same in every run.
func Payloads(n, size int) [][]byte {
	source := rand.NewChaCha8([32]byte{1})
	out := make([][]byte, n)
	for i := range out {
		out[i] = make([]byte, size)
		_, _ = source.Read(out[i]) // never fails, as its documentation says
	}
	return out
}
