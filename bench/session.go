package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
	"github.com/quorumjournal/qjm/bench/report"
	"github.com/quorumjournal/qjm/bench/systems"
)

// session measures everything that its options name. All its files lie below one directory of its own.
type session struct {
	opts     options
	dir      string
	results  report.Results
	profiles *profiles
	machine  machine
}

func newSession(o options) (*session, error) {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.dir, "run-")
	if err != nil {
		return nil, err
	}
	s := &session{opts: o, dir: dir, machine: describe(dir)}
	s.profiles = newProfiles(o)
	return s, nil
}

func (s *session) close() error { return os.RemoveAll(s.dir) }

func (s *session) run(ctx context.Context) error {
	s.printf("%s\n", s.machine)
	for round := range s.opts.rounds {
		if err := s.round(ctx, round); err != nil {
			return err
		}
	}
	if err := s.profiles.write(); err != nil {
		return err
	}
	var order []string
	for _, spec := range systems.All() {
		order = append(order, spec.Name)
	}
	return s.publish(s.results.Rows(order))
}

// round measures every system once. A machine that slows down or speeds up meanwhile hits those at the front
// and those at the end in turn, because every other round runs backwards.
func (s *session) round(ctx context.Context, round int) error {
	specs := slices.Clone(s.opts.specs)
	if round%2 == 1 {
		slices.Reverse(specs)
	}
	for _, size := range s.opts.sizes {
		for _, spec := range specs {
			if err := s.system(ctx, spec, size, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// system measures one system at every number of callers. A failure of the system is its result; only what
// ends the session is returned.
func (s *session) system(ctx context.Context, spec load.Spec, size, round int) error {
	levels := s.opts.callers
	if spec.Mode == load.Window {
		levels = []int{1} // it has one writer, whatever the others have
	}
	i := &instance{spec: spec, size: size, dir: filepath.Join(s.dir, spec.Name)}
	for _, callers := range levels {
		sample, err := s.cell(ctx, i, callers, size)
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), i.stop())
		}
		s.results.Add(spec.Name, callers, size, sample, err)
		if err != nil {
			s.printf("round %d  %-13s %5d callers: %v\n", round+1, spec.Name, callers, err)
			err = i.stop() // what failed once is begun anew
		} else {
			s.printf("round %d  %-13s %5d callers %12.0f ops/s\n", round+1, spec.Name, callers, float64(sample.Ops)/sample.Elapsed.Seconds())
		}
		if err != nil {
			s.printf("round %d  %-13s ended with: %v\n", round+1, spec.Name, err)
		}
	}
	if err := i.stop(); err != nil {
		s.printf("round %d  %-13s ended with: %v\n", round+1, spec.Name, err)
	}
	return nil
}

func (s *session) cell(ctx context.Context, i *instance, callers, size int) (load.Sample, error) {
	if err := i.ready(ctx, s.opts.bytesMax/2); err != nil {
		return load.Sample{}, err
	}
	sample, err := load.Run(ctx, i.spec, i.sys, load.Cell{
		Callers: callers, Size: size, Warm: s.opts.warm, Duration: s.opts.duration,
		Dir: i.dir, BytesMax: s.opts.bytesMax, Opened: s.profiles.start, Closed: s.profiles.stop,
	})
	sample.MemoryPeak -= min(sample.MemoryPeak, i.base)
	return sample, err
}

func (s *session) printf(format string, args ...any) {
	if !s.opts.quiet {
		fmt.Fprintf(os.Stderr, format, args...)
	}
}

// instance is a system that runs, or does not.
type instance struct {
	spec load.Spec
	dir  string
	size int
	sys  load.System
	base uint64 // memory in use before it started
}

// ready sees that the system runs, and begins it anew where its files take more than a bound.
func (i *instance) ready(ctx context.Context, bound uint64) error {
	if i.sys != nil {
		taken, err := load.DirBytes(i.dir)
		if err != nil || taken <= bound {
			return err
		}
		if err := i.stop(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(i.dir, 0o755); err != nil {
		return err
	}
	// It starts like the others: what the one before kept in pools goes with the second collection.
	runtime.GC()
	debug.FreeOSMemory()
	var err error
	if i.base, err = load.AnonMemory(); err != nil {
		return err
	}
	if i.sys, err = i.spec.Start(ctx, load.Env{Dir: i.dir, Size: i.size}); err != nil {
		i.sys = nil
		return errors.Join(fmt.Errorf("start of %s: %w", i.spec.Name, err), os.RemoveAll(i.dir))
	}
	return nil
}

// stopWait lets the kernel go on with what ending a system left it to do.
const stopWait = 200 * time.Millisecond

// stop ends the system, if it runs, and removes its files.
func (i *instance) stop() error {
	if i.sys == nil {
		return nil
	}
	err := i.sys.Close()
	i.sys = nil
	err = errors.Join(err, os.RemoveAll(i.dir))
	<-time.After(stopWait)
	return err
}
