package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hold starts a process that holds the lease of "a", and returns when it has it.
func (p *processes) hold(holder, ttl string) *exec.Cmd {
	p.t.Helper()
	cmd := p.command("lease", "acquire", "a", "--holder", holder, "--ttl", ttl, "--wait", "-o", "json")
	out, err := cmd.StdoutPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(p.t, err)
	require.Contains(p.t, line, `"result":"acquired"`)
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return cmd
}

type leaseShown struct{ State, Revision, Holder string }

func (p *processes) lease() (l leaseShown) {
	p.t.Helper()
	require.NoError(p.t, json.Unmarshal([]byte(p.must("lease", "show", "a", "-o", "json")), &l))
	return l
}

// TestL2_StoppedHolder: a process that is stopped loses its lease to the next one. When it goes on, it knows.
func TestL2_StoppedHolder(t *testing.T) {
	p := startProcesses(t)
	p.must("journal", "create", "a")
	first := p.hold("p", "300ms")
	require.NoError(t, first.Process.Signal(syscall.SIGSTOP))
	second := p.hold("q", "5s")
	require.Equal(t, "q", p.lease().Holder)
	require.NoError(t, first.Process.Signal(syscall.SIGCONT))
	_ = first.Wait() // its exit code says more
	require.Equal(t, 4, first.ProcessState.ExitCode())
	require.Equal(t, "q", p.lease().Holder)
	require.NoError(t, second.Process.Signal(syscall.SIGTERM))
	_ = second.Wait()
	require.Equal(t, "free", p.lease().State)
}

// TestL2_LeaderKilledUnderALease: it is the same lease under the next leader.
func TestL2_LeaderKilledUnderALease(t *testing.T) {
	p := startProcesses(t)
	p.must("journal", "create", "a")
	holder := p.hold("p", "1s")
	before := p.lease()
	var v struct{ Leader string }
	require.NoError(t, json.Unmarshal([]byte(p.must("cluster", "status", "-o", "json")), &v))
	i := strings.Index("n1n2n3", v.Leader) / 2
	p.kill(i)
	require.Eventually(t, func() bool { // it waits for the next leader, which takes longer than the lease lasts
		_, _, code := p.client(nil, "lease", "show", "a")
		return code == 0
	}, time.Minute, 100*time.Millisecond)
	require.Equal(t, before, p.lease())
	require.NoError(t, holder.Process.Signal(syscall.SIGTERM))
	_ = holder.Wait()
	require.Equal(t, "free", p.lease().State)
}
