package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/examples/namespace/tree"
	"github.com/quorumjournal/qjm/journalnode/local"
	"github.com/quorumjournal/qjm/libqjm"
)

const patience = 30 * time.Second

// serve starts a replica behind HTTP, as run does, and waits until it has a role.
func serve(t *testing.T, client *libqjm.Client, role libqjm.Role) (url string, replica *libqjm.Replica) {
	t.Helper()
	web := httptest.NewUnstartedServer(nil)
	s := &server{tree: tree.New()}
	o := libqjm.ReplicaOptions{Addr: web.Listener.Addr().String(), LeaseTTL: time.Second}
	var err error
	s.replica, err = client.OpenReplica("namespace", s.tree, o)
	require.NoError(t, err)
	web.Config.Handler = s.handler()
	web.Start()
	t.Cleanup(web.Close)
	t.Cleanup(func() { require.NoError(t, s.replica.Close(context.Background())) })
	await(t, s.replica, role)
	return web.URL, s.replica
}

func await(t *testing.T, r *libqjm.Replica, role libqjm.Role) {
	t.Helper()
	require.Eventually(t, func() bool { return r.Status().Role == role }, patience, 5*time.Millisecond, role.String())
}

func ask(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req) // it follows redirects, as curl -L does
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func TestService(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cluster, err := local.Start(ctx, local.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop(context.Background())) })
	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: cluster.Endpoints()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	require.NoError(t, client.CreateJournal(ctx, "namespace"))
	a, first := serve(t, client, libqjm.RoleActive)
	b, second := serve(t, client, libqjm.RoleStandby)

	for _, c := range []struct {
		method, url string
		code        int
		body        string
	}{
		{"POST", a + "/mkdir?path=/d", 200, "1"},
		{"POST", b + "/create?path=/d/f&meta=m", 200, "2"}, // redirected
		{"POST", a + "/create?path=/d/f", 409, "exists"},
		{"POST", a + "/delete?path=/d", 409, "not empty"},
		{"POST", a + "/rename?path=/d&to=/e", 200, "5"},
		{"POST", a + "/mkdir?path=x", 400, `invalid operation: mkdir "x" ""`},
		{"POST", a + "/link?path=/x", 400, `invalid operation: link "/x" ""`},
		{"GET", b + "/stat?path=/e/f", 200, `{"name":"f","meta":"m","txid":2}`},
		{"GET", b + "/stat?path=/e", 200, `{"name":"e","dir":true,"txid":1}`},
		{"GET", b + "/ls?path=/", 200, `{"dir":true,"children":[{"name":"e","dir":true,"txid":1,"children":[{"name":"f","meta":"m","txid":2}]}]}`},
		{"GET", a + "/stat?path=/d", 404, "not found"},
		{"POST", a + "/delete?path=/e/f", 200, "6"},
		{"GET", b + "/status", 200, "standby epoch 0 txid 6 applied 6"},
	} {
		if strings.HasSuffix(c.url, "/status") {
			_, err := second.AwaitLinearizable(ctx)
			require.NoError(t, err)
		}
		code, body := ask(t, c.method, c.url)
		require.Equal(t, c.code, code, "%s: %s", c.url, body)
		require.Equal(t, c.body, body, c.url)
	}

	require.NoError(t, first.Close(ctx))
	await(t, second, libqjm.RoleActive)
	code, body := ask(t, "POST", b+"/mkdir?path=/e/g")
	require.Equal(t, 200, code, body)
	code, _ = ask(t, "POST", a+"/mkdir?path=/e/h")
	require.Equal(t, 503, code, "one that has stopped takes nothing")
}

// TestExampleIsShort: what is to be copied stays what one reads at a sitting.
func TestExampleIsShort(t *testing.T) {
	lines := 0
	for _, name := range []string{"main.go", "tree/tree.go"} {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		lines += bytes.Count(b, []byte("\n"))
	}
	require.Less(t, lines, 300)
}
