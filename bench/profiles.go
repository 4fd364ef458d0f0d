package main

import (
	"bytes"
	"runtime"
	"runtime/pprof"
)

// profiles of one system. The CPU profile is of one window, the last: profiles cannot be joined.
type profiles struct {
	opts options
	cpu  bytes.Buffer
}

// blockRate is one sample for so many nanoseconds of waiting.
const blockRate = 10_000

func newProfiles(o options) *profiles {
	if o.memProfile != "" {
		runtime.MemProfileRate = 64 << 10
	}
	return &profiles{opts: o}
}

// start is called when a window opens.
func (p *profiles) start() error {
	if p.opts.blockProfile != "" {
		runtime.SetBlockProfileRate(blockRate)
	}
	if p.opts.cpuProfile == "" {
		return nil
	}
	p.cpu.Reset()
	return pprof.StartCPUProfile(&p.cpu)
}

// stop is called when it has closed.
func (p *profiles) stop() error {
	runtime.SetBlockProfileRate(0)
	if p.opts.cpuProfile != "" {
		pprof.StopCPUProfile()
	}
	return nil
}

// write puts the profiles into their files.
func (p *profiles) write() error {
	if p.opts.cpuProfile != "" {
		if err := writeFile(p.opts.cpuProfile, p.cpu.Bytes()); err != nil {
			return err
		}
	}
	for name, path := range map[string]string{"allocs": p.opts.memProfile, "block": p.opts.blockProfile} {
		if path == "" {
			continue
		}
		var b bytes.Buffer
		if err := pprof.Lookup(name).WriteTo(&b, 0); err != nil {
			return err
		}
		if err := writeFile(path, b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
