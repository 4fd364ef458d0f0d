package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/journalnode/local"
	"github.com/quorumjournal/qjm/libqjm"
)

// TestDemonstrate: a holder that slept is refused by the storage, and tokens grow over a failover.
func TestDemonstrate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	require.NoError(t, demonstrate(ctx, &out), &out)
	text := out.String()
	require.Regexp(t, `alice wakes up, and writes: storage: the token is old`, text)
	require.Regexp(t, `bob writes: storage: the token is old`, text)
	require.Contains(t, text, `the storage has "carol was here"`)
	require.Contains(t, text, "is killed")
	var last Token
	for _, m := range regexp.MustCompile(`with token (\S+); writes: <nil>`).FindAllStringSubmatch(text, -1) {
		var next Token
		_, err := fmt.Sscanf(m[1], "%d-%d", &next.Epoch, &next.TxID)
		require.NoError(t, err)
		require.True(t, last.Less(next), "%v, then %v", last, next)
		last = next
	}
	require.Greater(t, last.Epoch, libqjm.Epoch(1), text)
}

// TestAPI: statuses, on one replica.
func TestAPI(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := local.Start(ctx, local.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, cluster.Stop(context.WithoutCancel(ctx))) }()
	stopping, stop := context.WithCancel(ctx)
	started, done := make(chan member, 1), make(chan error, 1)
	go func() {
		done <- serve(stopping, cluster.Endpoints(), "127.0.0.1:0", func(m member) { started <- m })
	}()
	m := <-started
	first, err := ask(ctx, []string{m.addr}, "POST", "a?holder=x&ttl=1h", 200)
	require.NoError(t, err)
	do := func(method, what string) int {
		r, err := http.NewRequestWithContext(ctx, method, m.addr+"/locks/"+what, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	again, err := ask(ctx, []string{m.addr}, "POST", "a?holder=x&ttl=1h", 200)
	require.NoError(t, err)
	require.Equal(t, first, again, "who asks again has it already")
	require.Equal(t, 409, do("POST", "a?holder=y"))
	require.Equal(t, 410, do("PUT", "a?token=99-99"))
	require.Equal(t, 200, do("PUT", "a?ttl=50ms&token="+first.String()))
	require.Eventually(t, func() bool { return do("GET", "a") == 404 }, time.Minute, 10*time.Millisecond, "the active proposes that it has ended")
	require.Equal(t, 410, do("DELETE", "a?token="+first.String()))
	require.Equal(t, 404, do("GET", "b"))
	for _, what := range []string{"a?ttl=never", "a?ttl=0s", "a?ttl=2h", "a?holder=" + strings.Repeat("x", nameMax+1)} {
		require.Equal(t, 400, do("POST", what), what)
	}
	require.Equal(t, 400, do("DELETE", "a?token=x"))
	stop()
	require.NoError(t, <-done)
}

func at(txid libqjm.TxID, c command) libqjm.Entry {
	b, _ := json.Marshal(c)
	return libqjm.Entry{TxID: txid, Epoch: 1, Data: b}
}

// TestTable: time is what the log says, it never goes back, and batches make no difference.
func TestTable(t *testing.T) {
	log := []libqjm.Entry{
		at(1, command{Op: "acquire", Name: "a", Holder: "x", TTL: 100, Now: 1000}),
		at(2, command{Op: "acquire", Name: "a", Holder: "y", TTL: 100, Now: 1099}),
		at(3, command{Op: "renew", Name: "a", Token: Token{1, 1}, TTL: 100, Now: 1099}),
		at(4, command{Op: "acquire", Name: "a", Holder: "y", TTL: 100, Now: 500}), // a clock that is behind
		at(5, command{Op: "expire", Now: 1198}),
		at(6, command{Op: "renew", Name: "a", Token: Token{1, 1}, TTL: 1, Now: 1198}),
		at(7, command{Op: "acquire", Name: "a", Holder: "y", TTL: 100, Now: 1199}),
		at(8, command{Op: "renew", Name: "a", Token: Token{1, 1}, TTL: 100, Now: 1199}),
		at(9, command{Op: "release", Name: "a", Token: Token{1, 7}, Now: 1200}),
	}
	one, many := &table{Locks: map[string]lock{}}, &table{Locks: map[string]lock{}}
	results, err := one.Apply(log)
	require.NoError(t, err)
	var got []int
	for i, e := range log {
		r, err := many.Apply([]libqjm.Entry{e})
		require.NoError(t, err)
		require.Equal(t, results[i], r[0])
		var x reply
		require.NoError(t, json.Unmarshal(r[0], &x))
		got = append(got, x.Status)
		if i == 3 { // and a snapshot on the way
			write, err := many.SaveSnapshot()
			require.NoError(t, err)
			var b bytes.Buffer
			require.NoError(t, write(&b))
			require.True(t, many.due(1199))
			require.False(t, many.due(1198))
			many = &table{}
			require.NoError(t, many.LoadSnapshot(&b))
		}
	}
	require.Equal(t, []int{200, 409, 200, 409, 200, 200, 200, 410, 204}, got)
	_, err = one.Apply([]libqjm.Entry{{Data: []byte("?")}})
	require.Error(t, err)
	require.True(t, errors.Is((&storage{newest: Token{2, 1}}).write(Token{1, 9}, ""), errOldToken))
}
