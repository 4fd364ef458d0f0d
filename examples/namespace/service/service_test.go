package service_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/examples/namespace/service"
	"github.com/quorumjournal/qjm/examples/namespace/tree"
	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/wire"
	"github.com/quorumjournal/qjm/libqjm"
)

const journal = "namespace"

// cable is a process's connections to the nodes. While it is cut, none lives and none is made.
type cable struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (c *cable) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, errors.Join(errors.New("cut"), conn.Close())
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

// set cuts the cable, abruptly, or mends it.
func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// process is a replica with connections of its own.
func process(t *testing.T, c *testcluster.Cluster) (*service.Service, *cable) {
	cb := &cable{}
	client, err := libqjm.Dial(t.Context(), libqjm.Options{Endpoints: c.Endpoints(), Dialer: wire.Dialer{DialContext: cb.dial}})
	require.NoError(t, err)
	s := service.New(client, journal)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, s.Close(ctx))
		require.NoError(t, client.Close())
	})
	return s, cb
}

func start(t *testing.T) (*testcluster.Cluster, context.Context) {
	c := testcluster.Start(t, testcluster.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	require.NoError(t, c.Client().CreateJournal(ctx, journal))
	return c, ctx
}

func file(i int) tree.Op {
	return tree.Op{Kind: tree.Create, Path: fmt.Sprintf("/f%04d", i), Entry: tree.Entry{Kind: tree.File, Size: int64(i)}}
}

// sameTree checks that replicas agree, and that a new one, from the journal alone, agrees with them.
func sameTree(t *testing.T, ctx context.Context, c *testcluster.Cluster, replicas ...*service.Service) {
	t.Helper()
	fresh, _ := process(t, c)
	require.NoError(t, fresh.CatchUp(ctx))
	want, at := fresh.Snapshot()
	for _, r := range replicas {
		require.NoError(t, r.CatchUp(ctx))
		got, applied := r.Snapshot()
		require.Equal(t, at, applied)
		require.Equal(t, want.Digest(), got.Digest())
	}
}

func TestActiveAndStandby(t *testing.T) {
	c, ctx := start(t)
	a, _ := process(t, c)
	b, _ := process(t, c)
	_, err := a.Do(ctx, file(1))
	require.ErrorIs(t, err, service.ErrNotActive)
	require.False(t, libqjm.MayHaveCommitted(err))
	require.NoError(t, a.TakeOver(ctx))

	mkdir := tree.Op{Kind: tree.Mkdir, Path: "/d", Entry: tree.Entry{Kind: tree.Dir}}
	id, err := a.Do(ctx, mkdir)
	require.NoError(t, err)
	require.EqualValues(t, 1, id)
	_, err = a.Do(ctx, mkdir)
	require.ErrorIs(t, err, fs.ErrExist)
	require.False(t, libqjm.MayHaveCommitted(err))
	id, err = a.Do(ctx, tree.Op{Kind: tree.Rename, Path: "/d", To: "/e"})
	require.NoError(t, err)
	require.EqualValues(t, 2, id, "a refusal uses up no txid")
	_, err = a.Do(ctx, tree.Op{Kind: tree.Delete, Path: "relative"})
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = a.Stat("/e")
	require.NoError(t, err)
	sameTree(t, ctx, c, a, b)

	// An orderly change of roles, there and back.
	require.NoError(t, a.Close(ctx))
	_, err = a.Do(ctx, file(1))
	require.ErrorIs(t, err, service.ErrNotActive)
	require.NoError(t, b.TakeOver(ctx))
	_, err = b.Do(ctx, file(1))
	require.NoError(t, err)
	require.NoError(t, b.Close(ctx))
	require.NoError(t, a.TakeOver(ctx))
	_, err = a.Do(ctx, file(2))
	require.NoError(t, err)
	sameTree(t, ctx, c, a, b)
}

// Changes under way are checked against those before them, and a refusal waits for what it rests on.
func TestPipelined(t *testing.T) {
	c, ctx := start(t)
	a, _ := process(t, c)
	require.NoError(t, a.TakeOver(ctx))
	var changes []*service.Change
	for i := range 3 * service.InFlightMax {
		op := file(i / 2) // each twice
		ch, err := a.Start(ctx, op)
		require.NoError(t, err)
		changes = append(changes, ch)
	}
	for i, ch := range changes {
		id, err := ch.Wait(ctx)
		if i%2 == 1 {
			require.ErrorIs(t, err, fs.ErrExist)
			_, err = a.Stat(file(i / 2).Path)
			require.NoError(t, err, "the refusal rests on what is committed")
			continue
		}
		require.NoError(t, err)
		require.EqualValues(t, i/2+1, id)
	}
	sameTree(t, ctx, c, a)
}

// The active one is cut off with appends under way; the standby takes over; the old one comes back.
func TestTakeOver(t *testing.T) {
	c, ctx := start(t)
	a, cableA := process(t, c)
	b, _ := process(t, c)
	require.NoError(t, a.TakeOver(ctx))
	following, stop := context.WithCancel(ctx)
	followed := make(chan error, 1)
	go func() { followed <- b.Follow(following) }()

	const n = 600
	changes := make([]*service.Change, n)
	for i := range n {
		var err error
		changes[i], err = a.Start(ctx, file(i))
		require.NoError(t, err)
		if i == n/2 {
			_, err := changes[n/4].Wait(ctx) // some are acknowledged
			require.NoError(t, err)
			cableA.set(true)
		}
	}
	stop()
	require.NoError(t, <-followed)
	require.NoError(t, b.TakeOver(ctx))

	// b goes on where a was, without knowing where that is: what is there is skipped.
	for i := range n {
		if _, err := b.Stat(file(i).Path); errors.Is(err, fs.ErrNotExist) {
			_, err := b.Do(ctx, file(i))
			require.NoError(t, err)
		}
	}
	cableA.set(false) // a comes back, and hears that it is deposed
	acked, unknown := 0, 0
	for i, ch := range changes {
		id, err := ch.Wait(ctx)
		switch {
		case err == nil:
			acked++
			require.EqualValues(t, i+1, id)
		case libqjm.MayHaveCommitted(err):
			unknown++
			require.ErrorIs(t, err, libqjm.ErrFenced)
		default:
			require.ErrorIs(t, err, libqjm.ErrFenced)
		}
	}
	require.GreaterOrEqual(t, acked, n/4)
	require.NotZero(t, unknown)
	_, err := a.Do(ctx, file(n))
	require.ErrorIs(t, err, service.ErrNotActive)
	fenced, ok := errors.AsType[*fencing.FencedError](err)
	require.True(t, ok)
	require.Equal(t, b.Writer().Epoch(), fenced.Promised.Epoch)
	require.Equal(t, a.Writer().Epoch(), fenced.Got.Epoch)
	require.False(t, libqjm.MayHaveCommitted(err), "refused before it was handed to anybody")

	_, applied := b.Snapshot()
	require.EqualValues(t, n, applied, "every file once")
	sameTree(t, ctx, c, b)
}

// Without a quorum a change stays under way; the caller who gives up waiting does not know, and it may
// be made all the same.
func TestNoQuorum(t *testing.T) {
	c, ctx := start(t)
	a, cableA := process(t, c)
	require.NoError(t, a.TakeOver(ctx))
	cableA.set(true)
	ch, err := a.Start(ctx, file(1))
	require.NoError(t, err)
	again, err := a.Start(ctx, file(1))
	require.NoError(t, err)
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = ch.Wait(over)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, libqjm.MayHaveCommitted(err))
	_, err = again.Wait(over)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, libqjm.MayHaveCommitted(err), "it was refused, only why is not certain yet")
	cableA.set(false)
	_, err = ch.Wait(ctx)
	require.NoError(t, err)
	_, err = again.Wait(ctx)
	require.ErrorIs(t, err, fs.ErrExist)
}
