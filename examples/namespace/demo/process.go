package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child of the demo, known by its pid and never by its name.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
	meant  bool // the demo ended it
}

// spawn starts a child in a process group of its own, so that Ctrl-C reaches the demo alone, which then
// ends its children itself.
func (d *demo) spawn(name, bin string, args ...string) (*process, error) {
	log := filepath.Join(d.dir, name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{name: name, cmd: exec.Command(bin, args...), log: log, exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w (has it been built? make build)", name, err)
	}
	d.children = append(d.children, p)
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // ProcessState says how it ended
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// end sends a signal and waits for the end; what does not heed it within ten seconds is killed.
func (p *process) end(sig os.Signal) error {
	p.meant = true
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("%s did not end within ten seconds", p.name)
	}
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// endAll ends whatever still runs: first the replicas, which need the nodes to take their leave, then the nodes.
func (d *demo) endAll() {
	isNode := func(p *process) bool { return slices.Contains(d.ids, p.name) }
	for _, nodes := range []bool{false, true} {
		var ending sync.WaitGroup
		for _, p := range d.children {
			if isNode(p) == nodes {
				ending.Go(func() { _ = p.end(syscall.SIGTERM) })
			}
		}
		ending.Wait()
	}
}

// until polls until the condition holds. It fails where that takes too long, or a child ended that the
// demo did not end.
func (d *demo) until(ctx context.Context, what string, limit time.Duration, every time.Duration, holds func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %v for this: %s", limit, what))
	defer cancel()
	for {
		ok, err := holds(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case ok:
			return nil
		}
		for _, p := range d.children {
			if !p.running() && !p.meant && !p.cmd.ProcessState.Success() {
				return fmt.Errorf("%s ended by itself (%s) while the demo waited for this: %s\n%s", p.name, p.cmd.ProcessState, what, lastLines(p.log))
			}
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
		}
	}
}

func lastLines(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "     | " + strings.Join(lines[max(0, len(lines)-5):], "\n     | ")
}

// freePorts finds ports on loopback that nobody listens on, below the range from which the system gives
// ports to connections: a node that is restarted finds its own still free.
func freePorts(n int) ([]string, error) {
	var addrs []string
	first := 15000 + os.Getpid()%8000
	for port := first; port < first+2000 && len(addrs) < n; port++ {
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
		addrs = append(addrs, addr)
	}
	if len(addrs) < n {
		return nil, fmt.Errorf("no %d free ports between %d and %d", n, first, first+2000)
	}
	return addrs, nil
}
