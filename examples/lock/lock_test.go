package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/journalnode/local"
	"github.com/quorumjournal/qjm/libqjm"
)

// TestAPI: statuses, of the active and of a standby that sends everybody there.
func TestAPI(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := local.Start(ctx, local.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, cluster.Stop(context.WithoutCancel(ctx))) }()
	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: cluster.Endpoints()})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	var webs []*httptest.Server
	for _, role := range []libqjm.Role{libqjm.RoleActive, libqjm.RoleStandby} {
		web := httptest.NewUnstartedServer(nil)
		s, err := open(ctx, client, "http://"+web.Listener.Addr().String())
		require.NoError(t, err)
		web.Config.Handler = s.handler()
		web.Start()
		defer web.Close()
		defer func() { require.NoError(t, s.replica.Close(context.WithoutCancel(ctx))) }()
		require.NoError(t, s.replica.AwaitRole(ctx, role))
		webs = append(webs, web)
	}
	do := func(method, what string) (status int, token string) {
		r, err := http.NewRequestWithContext(ctx, method, webs[1].URL+"/locks/"+what, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		var a struct{ Token string }
		_ = json.Unmarshal(b, &a) // some are no JSON
		return resp.StatusCode, a.Token
	}
	status := func(method, what string) int { s, _ := do(method, what); return s }
	code, first := do("POST", "a?holder=x&ttl=1h")
	require.Equal(t, 200, code)
	require.Regexp(t, `^[1-9]\d*-[1-9]\d*$`, first)
	code, again := do("POST", "a?holder=x&ttl=1h")
	require.Equal(t, 200, code)
	require.Equal(t, first, again, "who asks again has it already")
	code, theirs := do("POST", "a?holder=y")
	require.Equal(t, 409, code)
	require.Equal(t, first, theirs)
	require.Equal(t, 200, status("GET", "a"))
	require.Equal(t, 410, status("PUT", "a?token=99-99"))
	require.Equal(t, 410, status("DELETE", "a"))
	require.Equal(t, 200, status("PUT", "a?ttl=50ms&token="+first))
	require.Eventually(t, func() bool { return status("GET", "a") == 404 }, time.Minute, 10*time.Millisecond)
	require.Equal(t, 410, status("DELETE", "a?token="+first))
	code, second := do("POST", "a?holder=y")
	require.Equal(t, 200, code)
	require.NotEqual(t, first, second)
	require.Equal(t, 204, status("DELETE", "a?token="+second))
	require.Equal(t, 404, status("GET", "a"))
	long := strings.Repeat("x", nameMax+1)
	bad := []string{"a?ttl=never", "a?ttl=0s", "a?ttl=2h", "a?holder=" + long, long, "a?token=x", "a?token=1-2x"}
	for _, what := range bad {
		require.Equal(t, 400, status("POST", what), what)
	}
	require.Equal(t, 405, status("PATCH", "a"))
}

// TestRun: it starts nodes of its own, ends well when it is told to, and says so when a port is taken.
func TestRun(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	require.ErrorContains(t, run(t.Context(), "", taken.Addr().String()), "address already in use")

	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, free.Close())
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, "", free.Addr().String()) }()
	require.Eventually(t, func() bool {
		resp, err := http.Post(fmt.Sprintf("http://%s/locks/a?holder=x", free.Addr()), "", nil)
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == 200
	}, time.Minute, 10*time.Millisecond)
	stop()
	require.NoError(t, <-done)
}

func at(txid libqjm.TxID, c command) libqjm.Entry {
	b, _ := json.Marshal(c)
	return libqjm.Entry{TxID: txid, Epoch: 1, Data: b}
}

// TestTable: time is what the log says, it never goes back, and batches and snapshots make no difference.
func TestTable(t *testing.T) {
	log := []libqjm.Entry{
		at(1, command{Op: "acquire", Name: "a", Holder: "x", TTL: 100, Now: 1000}),
		at(2, command{Op: "acquire", Name: "a", Holder: "y", TTL: 100, Now: 1099}),
		at(3, command{Op: "renew", Name: "a", Token: Token{1, 1}, TTL: 100, Now: 1099}),
		at(4, command{Op: "acquire", Name: "a", Holder: "y", TTL: 100, Now: 500}), // a clock that is behind
		at(5, command{Op: "acquire", Name: "b", Holder: "z", TTL: 100, Now: 1198}),
		at(6, command{Op: "renew", Name: "a", Token: Token{1, 1}, TTL: 1, Now: 1198}),
		at(7, command{Op: "acquire", Name: "a", Holder: "y", TTL: 100, Now: 1199}),
		at(8, command{Op: "renew", Name: "a", Token: Token{1, 1}, TTL: 100, Now: 1199}),
		at(9, command{Op: "release", Name: "a", Token: Token{1, 7}, Now: 1200}),
		at(10, command{Op: "acquire", Name: "a", Holder: "x", TTL: 100, Now: 900}), // it ends at 1300
		at(11, command{Op: "acquire", Name: "a", Holder: "y", TTL: 100, Now: 1299}),
		at(12, command{Op: "acquire", Name: "a", Holder: "y", TTL: 100, Now: 1300}),
	}
	one, many := &table{Locks: map[string]lock{}}, &table{Locks: map[string]lock{}}
	results, err := one.Apply(log)
	require.NoError(t, err)
	var got []int
	for i, e := range log {
		r, err := many.Apply([]libqjm.Entry{e})
		require.NoError(t, err)
		require.Equal(t, results[i], r[0])
		var x answer
		require.NoError(t, json.Unmarshal(r[0], &x))
		got = append(got, x.Status)
		if i == 3 {
			require.Equal(t, 200, many.get("a", 1198).Status)
			require.Equal(t, 404, many.get("a", 1199).Status, "its time is over, though the log does not say so yet")
		}
		write, err := many.SaveSnapshot()
		require.NoError(t, err)
		var b bytes.Buffer
		require.NoError(t, write(&b))
		many = &table{}
		require.NoError(t, many.LoadSnapshot(&b))
	}
	require.Equal(t, []int{200, 409, 200, 409, 200, 200, 200, 410, 204, 200, 409, 200}, got)
	require.Equal(t, one, many)
	for _, later := range []libqjm.Entry{{Data: []byte("?")}, at(13, command{Op: "steal", Name: "b", Now: 1400})} {
		_, err = one.Apply([]libqjm.Entry{later})
		require.Error(t, err)
	}
	require.True(t, Token{1, 9}.Less(Token{2, 1}))
	require.True(t, Token{2, 1}.Less(Token{2, 2}))
	require.False(t, Token{2, 2}.Less(Token{2, 2}), "the holder writes again")
}
