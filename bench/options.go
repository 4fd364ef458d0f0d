package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
	"github.com/quorumjournal/qjm/bench/systems"
)

// options of a session.
type options struct {
	specs        []load.Spec
	callers      []int
	sizes        []int
	rounds       int
	warm         time.Duration
	duration     time.Duration
	dir          string
	bytesMax     uint64
	latest, full string // files for other programs
	docs         string // directory for documents
	quiet        bool

	cpuProfile, memProfile, blockProfile string
}

const (
	callersMax = 1 << 16
	sizeMax    = 1 << 20
)

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	names := f.String("systems", "all", "systems to measure, with commas between, or all")
	callers := f.String("callers", "1,16,256,2048", "how many callers wait for appends at once, one after the other")
	sizes := f.String("size", "256", "bytes of a transaction; several with commas between")
	maxMiB := f.Uint64("files-max", 2048, "MiB that a system's files may take; then it is ended, or begun anew")
	f.IntVar(&o.rounds, "rounds", 2, "how often everything is measured; every other round runs backwards")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "how long one window is open")
	f.DurationVar(&o.warm, "warm", 500*time.Millisecond, "how long the load runs before that")
	f.StringVar(&o.dir, "dir", "out/tmp", "where the systems' files lie while they run")
	f.StringVar(&o.latest, "latest", "out/latest.json", "file for the figures that other programs read; empty: none")
	f.StringVar(&o.full, "full", "out/full.json", "file for all figures; empty: none")
	f.StringVar(&o.docs, "docs", "", "directory for a Markdown page and plots; empty: none")
	f.BoolVar(&o.quiet, "quiet", false, "print nothing while it runs")
	f.StringVar(&o.cpuProfile, "cpuprofile", "", "file for a CPU profile of the windows of one system")
	f.StringVar(&o.memProfile, "memprofile", "", "file for its allocations since the start")
	f.StringVar(&o.blockProfile, "blockprofile", "", "file for where its goroutines waited, windows only")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected arguments: %q", f.Args())
	}
	o.bytesMax = *maxMiB << 20
	if o.specs, err = parseSystems(*names); err != nil {
		return o, err
	}
	if o.callers, err = numbers("callers", *callers, callersMax); err != nil {
		return o, err
	}
	if o.sizes, err = numbers("size", *sizes, sizeMax); err != nil {
		return o, err
	}
	return o, o.validate()
}

func (o options) validate() error {
	switch {
	case o.rounds < 1:
		return fmt.Errorf("-rounds is too small (got %d, want at least 1)", o.rounds)
	case o.duration <= 0 || o.warm < 0:
		return fmt.Errorf("-duration must be above zero and -warm not below (got %s and %s)", o.duration, o.warm)
	case o.bytesMax == 0:
		return fmt.Errorf("-files-max must be above zero")
	case o.profiled() && len(o.specs) != 1:
		return fmt.Errorf("a profile is of one system (got %d in -systems)", len(o.specs))
	}
	return nil
}

func (o options) profiled() bool {
	return o.cpuProfile != "" || o.memProfile != "" || o.blockProfile != ""
}

func parseSystems(names string) ([]load.Spec, error) {
	if names == "all" {
		return systems.All(), nil
	}
	var specs []load.Spec
	for name := range strings.SplitSeq(names, ",") {
		s, ok := systems.Find(strings.TrimSpace(name))
		if !ok {
			var known []string
			for _, s := range systems.All() {
				known = append(known, s.Name)
			}
			return nil, fmt.Errorf("unknown system %q (known: %s)", name, strings.Join(known, ", "))
		}
		if !slices.ContainsFunc(specs, func(o load.Spec) bool { return o.Name == s.Name }) {
			specs = append(specs, s)
		}
	}
	return specs, nil
}

func numbers(what, list string, most int) ([]int, error) {
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("-%s: %q is no number from 1 to %d", what, s, most)
		}
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}
