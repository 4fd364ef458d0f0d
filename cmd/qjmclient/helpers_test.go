package main

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/testcluster"
)

// buffer is an output that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// client runs commands against a cluster.
type client struct {
	t         *testing.T
	endpoints string
}

func clientOf(t *testing.T, c *testcluster.Cluster) client {
	return client{t, strings.Join(c.Endpoints(), ",")}
}

type result struct {
	code     int
	out, err string
}

// do runs a command to its end.
func (c client) do(stdin io.Reader, args ...string) result {
	c.t.Helper()
	return c.start(c.t.Context(), stdin, args...).wait()
}

// ok runs a command that must succeed, and returns what it printed.
func (c client) ok(args ...string) string {
	c.t.Helper()
	r := c.do(strings.NewReader(""), args...)
	require.Equal(c.t, 0, r.code, "%v: %s", args, r.err)
	return r.out
}

// running is a command under way.
type running struct {
	out, err buffer
	code     int
	done     chan struct{}
	cancel   context.CancelCauseFunc
}

func (c client) start(ctx context.Context, stdin io.Reader, args ...string) *running {
	ctx, cancel := context.WithCancelCause(ctx)
	r := &running{done: make(chan struct{}), cancel: cancel}
	if c.endpoints != "" {
		args = append(args, "--endpoints", c.endpoints)
	}
	go func() {
		defer close(r.done)
		r.code = run(ctx, args, stdin, &r.out, &r.err)
	}()
	return r
}

func (r *running) interrupt() { r.cancel(cli.ErrInterrupted) }

func (r *running) wait() result {
	<-r.done
	return result{r.code, r.out.String(), r.err.String()}
}

// says waits until the command has said that on standard error. Where a line is wrapped depends on how
// long the ports are that the test was given.
func (r *running) says(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return strings.Contains(strings.Join(strings.Fields(r.err.String()), " "), text)
	}, time.Minute, 10*time.Millisecond)
}

// normal replaces what differs from run to run: ids, digests and times.
func normal(s string) string {
	for _, r := range []struct{ re, with string }{
		{`"[0-9a-f]{32}"`, `"HEX"`},
		{`"(sync_ms|duration_s|ops_per_sec|mb_per_sec|mean|p50|p90|p99|p999|max)":[0-9.e+-]+`, `"$1":N`},
		{`127\.0\.0\.1:\d+`, `ADDR`},
	} {
		s = regexp.MustCompile(r.re).ReplaceAllString(s, r.with)
	}
	return s
}
