package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	endPatience   = 40 * time.Second // for a process that was asked to end
	comesUpPoll   = 20 * time.Millisecond
	startsMax     = 20 // of one process that ends by itself while it comes up
	firstPort     = 23000
	portsPerGuess = 16
)

// process is one of the run's, which may be started several times. It is known by its pid.
type process struct {
	name, log string
	bin       string
	args      []string
	isReplica bool

	mu          sync.Mutex
	cmd         *exec.Cmd     // guarded by mu, as all below; nil: it does not run
	exited      chan struct{} // closed when cmd has ended
	meant       bool          // the run ends it
	ready       bool          // it has printed its first line
	stopped     bool          // by SIGSTOP
	incarnation int
	odd         []string // ends that nobody meant
}

// start starts it, where it does not run.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return nil
	}
	p.incarnation++ // before it listens: who connects to it knows which one it is
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- start %d of %s %s\n", p.incarnation, filepath.Base(p.bin), strings.Join(p.args, " "))
	cmd := exec.Command(p.bin, p.args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr, cmd.SysProcAttr = log, childAttr()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited, p.meant, p.ready, p.stopped = cmd, exited, false, false, false
	go p.attend(cmd, out, exited)
	return nil
}

// attend reads what a process prints, and notes its end.
func (p *process) attend(cmd *exec.Cmd, out io.Reader, exited chan struct{}) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		p.mu.Lock()
		p.ready = true
		p.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, out) // a line that is too long ends the scanner
	err := cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.meant && (p.ready || !p.isReplica) {
		p.odd = append(p.odd, fmt.Sprintf("%s (start %d) ended by itself: %v\n%s", p.name, p.incarnation, err, lastLines(p.log)))
	}
	p.cmd = nil
	close(exited)
}

// pid returns 0 where it does not run.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

func (p *process) current() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.incarnation
}

// signal sends one, where it runs. Those that end it are meant.
func (p *process) signal(sig syscall.Signal) (exited chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	switch sig {
	case syscall.SIGKILL, syscall.SIGTERM:
		p.meant = true
	case syscall.SIGSTOP, syscall.SIGCONT:
		p.stopped = sig == syscall.SIGSTOP
	}
	_ = p.cmd.Process.Signal(sig) // it may have ended just now
	return p.exited
}

// kill ends it at once.
func (p *process) kill() {
	if exited := p.signal(syscall.SIGKILL); exited != nil {
		<-exited
	}
}

// term asks it to end, and reports how it did.
func (p *process) term() error {
	p.mu.Lock()
	cmd, ready := p.cmd, p.ready
	p.mu.Unlock()
	exited := p.signal(syscall.SIGTERM)
	if exited == nil {
		return nil
	}
	select {
	case <-exited:
	case <-time.After(endPatience):
		p.kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", p.name, endPatience)
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 && (ready || !p.isReplica) {
		return fmt.Errorf("%s ended with code %d after SIGTERM\n%s", p.name, code, lastLines(p.log))
	}
	return nil
}

// keep starts it until it has come up, or the context ends: a replica that finds no nodes gives up.
func (p *process) keep(ctx context.Context) error {
	for starts := 0; starts < startsMax; {
		p.mu.Lock()
		exited, up, runs := p.exited, p.cmd != nil && (p.ready || !p.isReplica), p.cmd != nil
		p.mu.Unlock()
		switch {
		case up:
			return nil
		case !runs:
			if err := p.start(); err != nil {
				return err
			}
			starts++
			continue
		}
		select {
		case <-exited:
		case <-time.After(comesUpPoll):
		case <-ctx.Done():
			return fmt.Errorf("%s did not come up: %w", p.name, context.Cause(ctx))
		}
	}
	return fmt.Errorf("%s does not come up\n%s", p.name, lastLines(p.log))
}

// oddEnds returns the ends that nobody meant.
func (p *process) oddEnds() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.odd
}

func lastLines(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// freePorts finds ports on loopback that nobody listens on, below the range from which the system gives ports to
// connections: a process that is restarted finds its own still free.
func freePorts(n int) ([]string, error) {
	var addrs []string
	first := firstPort + os.Getpid()*portsPerGuess%8000
	var errs error
	for port := first; port < first+1000 && len(addrs) < n; port++ {
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		errs = errors.Join(errs, l.Close())
		addrs = append(addrs, addr)
	}
	if len(addrs) < n {
		return nil, errors.Join(errs, fmt.Errorf("no %d free ports from %d on", n, first))
	}
	return addrs, errs
}
