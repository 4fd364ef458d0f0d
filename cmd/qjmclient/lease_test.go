package main

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// withoutRevisions replaces revisions, which depend on what else the catalog was told before.
func withoutRevisions(s string) string {
	s = regexp.MustCompile(`"(revision|index)":"[1-9]\d*"`).ReplaceAllString(s, `"$1":"N"`)
	return regexp.MustCompile(`revision \d+`).ReplaceAllString(strings.Join(strings.Fields(s), " "), "revision N")
}

// TestLease pins the objects and the texts of a lease's life, and the exit codes.
func TestLease(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{}))
	c.ok("journal", "create", "a")
	step := func(code int, args, want string) string {
		t.Helper()
		r := c.do(nil, strings.Fields(args)...)
		require.Equal(t, code, r.code, "%s: %s", args, r.err)
		require.Equal(t, want, withoutRevisions(r.out), args)
		if !strings.HasPrefix(r.out, "{") {
			fits(t, r.out)
		}
		fits(t, r.err)
		return r.err
	}
	step(0, "lease show a -o json", `{"schema":"qjm.v1/lease","journal":"a","state":"free","revision":"0","index":"N"}`)
	step(0, "lease show a", `lease of "a": free`)
	step(4, "lease show nope", "")
	step(4, "lease resign a", "")
	step(2, "lease transfer a", "")
	require.Contains(t, step(2, "lease acquire a --ttl 299ms", ""), "--ttl is 299ms, want 300ms to 10m0s")
	step(2, "lease acquire a --for -1s", "")
	step(0, "lease acquire a --holder m --dry-run -o json",
		`{"schema":"qjm.v1/plan","action":"lease-acquire","journal":"a","plan":"acquire the lease of \"a\" as \"m\" for 10s after each renewal; it is free now","dry_run":true}`)
	step(0, "lease show a", `lease of "a": free`)
	said := step(0, "lease acquire a --holder m --for 10ms -o json",
		`{"schema":"qjm.v1/lease-acquire","journal":"a","result":"acquired","revision":"N","holder":"m"}`)
	require.Contains(t, said, "lease resigned")
	step(0, "lease show a", `lease of "a": free`)

	hold := c.start(t.Context(), nil, "lease", "acquire", "a", "--holder", "m", "--address", "h:1", "--ttl", "5s")
	c.sees("held")
	step(0, "lease show a -o json",
		`{"schema":"qjm.v1/lease","journal":"a","state":"held","revision":"N","holder":"m","address":"h:1","ttl_ms":5000,"index":"N"}`)
	step(0, "lease show a", `lease of "a": held by "m" at h:1 for 5s after each renewal, revision N`)
	require.Contains(t, step(4, "lease acquire a --holder x", ""), `held by "m"`)
	step(4, "lease acquire a --holder x --dry-run", "")
	step(4, "lease resign a --revision 1", "")
	step(4, "lease transfer a --to m", "")
	step(0, "lease resign a --dry-run", "plan (nothing was changed): end the lease of \"a\", which is held by \"m\" at h:1 for 5s after each renewal, revision N")
	step(0, "lease transfer a --to x --dry-run -o json",
		`{"schema":"qjm.v1/plan","action":"lease-transfer","journal":"a","plan":"end the lease of \"a\", which is held by \"m\" at h:1 for 5s after each renewal, revision N, and reserve the next one for \"x\"","dry_run":true}`)
	step(0, "lease transfer a --to x -o json",
		`{"schema":"qjm.v1/lease-transfer","journal":"a","result":"transferred","revision":"N","holder":"m","to":"x"}`)
	lost := hold.wait()
	require.Equal(t, 4, lost.code, lost.err)
	require.Contains(t, lost.err, "is over")
	step(0, "lease show a -o json",
		`{"schema":"qjm.v1/lease","journal":"a","state":"reserved","revision":"N","reserved_for":"x","ttl_ms":5000,"index":"N"}`)
	require.Contains(t, step(4, "lease acquire a --holder y", ""), `reserved for "x"`)
	step(0, "lease resign a -o json", `{"schema":"qjm.v1/lease-resign","journal":"a","result":"resigned","revision":"N"}`)
	step(0, "lease show a", `lease of "a": free`)
}

// sees waits until the lease is in a state.
func (c client) sees(state string) {
	c.t.Helper()
	for range 1000 {
		var l leaseJSON
		require.NoError(c.t, json.Unmarshal([]byte(c.ok("lease", "show", "a", "-o", "json")), &l))
		if l.State == state {
			return
		}
	}
	require.Fail(c.t, "the lease was never "+state)
}

// TestLease_Wait: a command that waits gets the lease of one that is interrupted, which resigns it. A watch has
// seen it all.
func TestLease_Wait(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{}))
	c.ok("journal", "create", "a")
	watch := c.start(t.Context(), nil, "lease", "show", "a", "--watch")
	first := c.start(t.Context(), nil, "lease", "acquire", "a", "--holder", "m", "--ttl", "10m")
	c.sees("held")
	second := c.start(t.Context(), nil, "lease", "acquire", "a", "--holder", "n", "--wait", "--for", "1ms")
	second.says(t, `waiting for the lease of "a", which is held by "m"`)
	r := c.do(nil, "lease", "acquire", "a", "--holder", "o", "--wait", "--timeout", "300ms")
	require.Equal(t, 3, r.code, r.err)
	first.interrupt()
	require.Equal(t, 130, first.wait().code)
	require.Contains(t, first.err.String(), "lease resigned")
	require.Equal(t, 0, second.wait().code, second.err.String())
	c.sees("free")
	watch.interrupt()
	require.Equal(t, 130, watch.wait().code, watch.err.String())
	require.Contains(t, watch.out.String(), `held by "m"`)
}

// TestWidth_Lease: long names and addresses.
func TestWidth_Lease(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{}))
	name, holder := strings.Repeat("n", rpc.JournalNameMax), strings.Repeat("h", rpc.LeaseNameMax)
	c.ok("journal", "create", name)
	cl := testClient(t, c)
	_, err := cl.AcquireLease(t.Context(), name, libqjm.LeaseOptions{Holder: holder, Addr: strings.Repeat("a", rpc.LeaseAddrMax)})
	require.NoError(t, err)
	for _, step := range []struct {
		code int
		args string
	}{
		{0, "lease show"}, {0, "lease acquire --wait --dry-run"}, {4, "lease acquire"}, {4, "lease resign --revision 1"},
		{4, "lease acquire --dry-run"}, {0, "lease resign --dry-run"}, {0, "lease transfer --to " + strings.Repeat("x", rpc.LeaseNameMax)},
		{0, "lease show"}, {4, "lease acquire"}, {0, "lease resign"}, {4, "lease resign"},
	} {
		r := c.do(nil, append(strings.Fields(step.args), name)...)
		require.Equal(t, step.code, r.code, "%s: %s", step.args, r.err)
		laidOut(t, r.out)
		laidOut(t, r.err)
	}
}

func testClient(t *testing.T, c client) *libqjm.Client {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: strings.Split(c.endpoints, ",")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cl.Close()) })
	return cl
}
