package main

import (
	"bufio"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo answers each line with itself, and notes when each came.
func echo(t *testing.T, heard func()) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					line, err := in.ReadBytes('\n')
					if err != nil {
						return
					}
					heard()
					_, _ = c.Write(line)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestCutHoldsBytes: what is sent on a cut way arrives after it is healed, in both directions.
func TestCutHoldsBytes(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  way
	}{{"there", way{"a", "n"}}, {"back", way{"n", "a"}}} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork()
			var healed, early atomic.Bool
			addr := echo(t, func() {
				if !healed.Load() && c.name == "there" {
					early.Store(true)
				}
			})
			f, err := n.front("n", addr, func(net.Addr) string { return "a" })
			require.NoError(t, err)
			defer f.listener.Close()
			go f.accept()
			conn, err := net.Dial("tcp", f.addr())
			require.NoError(t, err)
			defer conn.Close()
			in := bufio.NewReader(conn)
			healed.Store(true)
			say(t, conn, in)
			healed.Store(false)
			n.set([]way{c.cut}, true)
			_, err = conn.Write([]byte("x\n"))
			require.NoError(t, err)
			go func() {
				for range 1000 { // let it try
					n.pass(way{"other", "way"}, nil)
				}
				healed.Store(true)
				n.set([]way{c.cut}, false)
			}()
			_, err = in.ReadString('\n')
			require.NoError(t, err)
			require.True(t, healed.Load(), "it came back through a cut")
			require.False(t, early.Load(), "it came through a cut")
		})
	}
}

func say(t *testing.T, conn net.Conn, in *bufio.Reader) {
	t.Helper()
	_, err := conn.Write([]byte("x\n"))
	require.NoError(t, err)
	_, err = in.ReadString('\n')
	require.NoError(t, err)
}

func TestResetEndsConnections(t *testing.T) {
	n := newNetwork()
	f, err := n.front("n", echo(t, func() {}), func(net.Addr) string { return "a" })
	require.NoError(t, err)
	defer f.listener.Close()
	go f.accept()
	conn, err := net.Dial("tcp", f.addr())
	require.NoError(t, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	say(t, conn, in)
	n.set([]way{{"a", "n"}}, true)
	n.reset() // what is cut ends, too
	_, err = in.ReadString('\n')
	require.Error(t, err)
}

// TestCutsAddUp: a way that two faults cut is open when both are over.
func TestCutsAddUp(t *testing.T) {
	n := newNetwork()
	w := way{"a", "b"}
	gone := make(chan struct{})
	close(gone)
	n.set([]way{w}, true)
	n.set([]way{w, {"b", "a"}}, true)
	n.set([]way{w}, false)
	require.False(t, n.pass(w, gone))
	n.set([]way{w, {"b", "a"}}, false)
	require.True(t, n.pass(w, nil))
	require.True(t, n.pass(way{"b", "a"}, nil))
}

func TestOwnerOf(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	if _, err := os.Stat("/proc/net/tcp"); err == nil {
		require.Equal(t, "me", ownerOf(conn.LocalAddr(), map[int]string{os.Getpid(): "me"}))
	}
	require.Empty(t, ownerOf(conn.LocalAddr(), nil))
}

// TestSeedChooses: a seed makes the same choices.
func TestSeedChooses(t *testing.T) {
	choices := func(seed uint64) (out []string) {
		n := &nemesis{rnd: rand.New(rand.NewPCG(seed, 1)), most: time.Second}
		for i := range 50 {
			f := n.choose(classes[i%len(classes)])
			require.LessOrEqual(t, f.lasts, 2*time.Second)
			out = append(out, f.Kind+f.lasts.String())
		}
		return out
	}
	require.Equal(t, choices(1), choices(1))
	require.NotEqual(t, choices(1), choices(2))
}

func TestGap(t *testing.T) {
	acked := []*Op{{Return: ms(10)}, {Return: ms(20)}, {Return: ms(90)}, {Return: ms(95)}}
	gap := func(begin, end int) time.Duration {
		return (&fault{Begin: ms(begin), End: ms(end)}).gap(acked, ms(200))
	}
	require.Equal(t, ms(70), gap(30, 40))
	require.Equal(t, ms(10), gap(12, 14))
	require.Equal(t, ms(105), gap(96, 97))
	require.Equal(t, ms(105), gap(91, 150))
}

// TestKeysAreReplaced: each key is used so often, and so many are in use.
func TestKeysAreReplaced(t *testing.T) {
	k, rnd, used := newKeyring(3, 5), rand.New(rand.NewPCG(1, 1)), map[string]int{}
	for range 300 {
		used[k.pick(rnd)]++
	}
	require.GreaterOrEqual(t, len(used), 60)
	for key, n := range used {
		require.LessOrEqual(t, n, 5, key)
	}
}
