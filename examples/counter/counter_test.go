package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/journalnode/local"
)

// TestDemonstrate: ten numbers in order, five by each replica.
func TestDemonstrate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	require.NoError(t, demonstrate(ctx, &out))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 12)
	first, second := lines[0][:len("replica 1")], lines[6][:len("replica 1")]
	require.NotEqual(t, first, second)
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprintf("%s: %d", []string{first, second}[i/5], i+1))
		if i%5 == 4 {
			want = append(want, []string{first, second}[i/5]+" is killed")
		}
	}
	require.Equal(t, want, lines)
}

// TestServe: one after the other, on nodes elsewhere.
func TestServe(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := local.Start(ctx, local.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, cluster.Stop(context.WithoutCancel(ctx))) }()
	for want := 1; want < 4; want += 2 {
		stop, interrupt := context.WithCancel(ctx)
		in, keys := io.Pipe()
		screen, out := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- serve(stop, cluster.Endpoints(), in, out) }()
		answers := bufio.NewScanner(screen)
		for n := want; n < want+2; {
			_, err := fmt.Fprintln(keys)
			require.NoError(t, err)
			require.True(t, answers.Scan())
			if strings.HasPrefix(answers.Text(), "not counted") { // it is not active yet
				continue
			}
			require.Equal(t, fmt.Sprint(n), answers.Text())
			n++
		}
		if want == 1 {
			interrupt()
		} else {
			require.NoError(t, keys.Close())
		}
		require.NoError(t, <-done)
		interrupt()
	}
}
