package model

// WalkOptions bounds a random walk.
type WalkOptions struct {
	Runs  int    // independent runs from the initial state
	Steps int    // at most so many actions a run
	Seed  uint64 // same seed, same walk
}

// Walk takes random runs through a system too large to search, and reports the shortest violation
// it met. It says nothing about what it did not meet: Complete is always false.
func Walk(cfg Config, opts WalkOptions) (Result, error) {
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	var res Result
	rng := splitMix(opts.Seed)
	for range opts.Runs {
		res.States++
		v, steps := walkOnce(&cfg, opts.Steps, &rng)
		res.Transitions += steps
		if v == nil {
			res.Depth = max(res.Depth, steps)
			continue
		}
		if res.Violation == nil || len(v.Trace) < len(res.Violation.Trace) {
			res.Violation = v
		}
	}
	if res.Violation != nil {
		res.Depth = len(res.Violation.Trace)
	}
	return res, nil
}

func walkOnce(cfg *Config, stepMax int, rng *splitMix) (*Violation, int) {
	var s state
	var trace []string
	for range stepMax {
		steps, v := successors(cfg, &s)
		if v != nil {
			v.Trace = append(trace, steps[len(steps)-1].by.String())
			return v, len(v.Trace)
		}
		if len(steps) == 0 {
			break
		}
		k := rng.intn(len(steps))
		trace = append(trace, steps[k].by.String())
		s = steps[k].next
		if v := cfg.check(&s); v != nil {
			v.Trace = trace
			return v, len(trace)
		}
	}
	return nil, len(trace)
}

// splitMix is the SplitMix64 generator: the core takes its randomness from a seed alone.
type splitMix uint64

func (r *splitMix) intn(n int) int {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) % uint64(n))
}
