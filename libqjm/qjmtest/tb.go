package qjmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
)

// TB is what this package needs of a test. *testing.T, *testing.B and *testing.F are one; Run makes one for whoever has
// none of these.
type TB interface {
	Helper()
	// Fatalf fails the test, and ends the goroutine that calls it.
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	// Cleanup has f called when the test has ended; what was added last is called first.
	Cleanup(f func())
	// Context ends when the test does, before anything is cleaned up.
	Context() context.Context
	// TempDir returns a new directory, which is removed when the test has ended.
	TempDir() string
}

// Run calls f with a TB that belongs to no test, cleans up, and returns why f, or the cleaning up, failed, or nil. It is
// for examples, which have no testing.T, and for programs that want a cluster for a moment. What is logged goes to
// standard error.
func Run(f func(t TB)) error {
	p := &program{}
	ctx, cancel := context.WithCancel(context.Background())
	p.ctx = ctx
	p.call(func() { f(p) })
	cancel()
	for {
		p.mu.Lock()
		last := len(p.cleanups) - 1
		if last < 0 {
			defer p.mu.Unlock()
			return errors.Join(p.errs...)
		}
		cleanup := p.cleanups[last]
		p.cleanups = p.cleanups[:last]
		p.mu.Unlock()
		p.call(cleanup)
	}
}

// program is a TB without a test.
type program struct {
	ctx context.Context

	mu       sync.Mutex
	errs     []error  // guarded by mu
	cleanups []func() // guarded by mu
}

// call returns when f has returned, or Fatalf has ended it.
func (p *program) call(f func()) {
	var done sync.WaitGroup
	done.Go(f)
	done.Wait()
}

// Helper implements TB.
func (p *program) Helper() {}

// Fatalf implements TB.
func (p *program) Fatalf(format string, args ...any) {
	p.mu.Lock()
	p.errs = append(p.errs, fmt.Errorf(format, args...))
	p.mu.Unlock()
	runtime.Goexit()
}

// Logf implements TB.
func (p *program) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// Cleanup implements TB.
func (p *program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

// Context implements TB.
func (p *program) Context() context.Context { return p.ctx }

// TempDir implements TB.
func (p *program) TempDir() string {
	dir, err := os.MkdirTemp("", "qjmtest-")
	if err != nil {
		p.Fatalf("qjmtest: %v", err)
	}
	p.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			p.Fatalf("qjmtest: %v", err)
		}
	})
	return dir
}

// strict is a TB as package testcluster wants it.
type strict struct {
	TB
	mu   sync.Mutex
	text string // what the next FailNow says; guarded by mu
}

// Errorf keeps the text for FailNow, which follows.
func (s *strict) Errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = fmt.Sprintf(format, args...)
}

// FailNow fails the test.
func (s *strict) FailNow() {
	s.Helper()
	s.mu.Lock()
	text := s.text
	s.mu.Unlock()
	s.Fatalf("qjmtest: %s", text)
}
