package raftgroup

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestG11_Lease: it begins with a Barrier, lasts less than LeaderLease, and is nobody's but the leader's.
func TestG11_Lease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := found(t, 3, usual)
		l, f := c.leader(), c.follower()
		require.NoError(t, l.group.Barrier(ctx(t)))
		span := l.group.o.LeaderLease - l.group.o.LeaderLease/leaseDrift
		require.True(t, l.group.Leased())
		require.False(t, f.group.Leased())
		<-time.After(span - time.Millisecond)
		require.True(t, l.group.Leased())
		<-time.After(time.Millisecond)
		require.True(t, l.group.IsLeader())
		require.False(t, l.group.Leased(), "heartbeats do not make it longer")
		c.apply("no Barrier, and no answer to one")
		require.NoError(t, l.group.Barrier(ctx(t)))
		require.True(t, l.group.Leased())
	})
}

// TestG11_NotAfterATransfer: whoever was told to take over may do so at any time, also when that failed.
func TestG11_NotAfterATransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := found(t, 3, usual)
		l, f := c.leader(), c.follower()
		c.net.isolate(f.address, true)
		c.apply("behind")
		require.NoError(t, l.group.Barrier(ctx(t)))
		require.True(t, l.group.Leased())
		require.ErrorIs(t, l.group.TransferLeadership(ctx(t), f.opts.Self), ErrTransferFailed)
		require.Equal(t, l, c.leader(), "it goes on, and has answered a Barrier")
		require.False(t, l.group.Leased())
	})
}

// TestG11_NobodyElseLeads: a leader that is cut off right after a Barrier has no lease any more when another one
// leads, also where the others have just been restarted and remember no leader.
func TestG11_NobodyElseLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := found(t, 3, usual)
		for round := range 6 {
			l := c.leader()
			require.NoError(t, l.group.Barrier(ctx(t)))
			c.net.isolate(l.address, true)
			for _, s := range c.s {
				if s != l && round%2 == 1 {
					s.stop()
					s.start()
				}
			}
			c.until("another one leads", func() bool {
				led := false
				for _, s := range c.s {
					led = led || s != l && s.group.IsLeader()
				}
				require.False(t, led && l.group.Leased())
				return led
			})
			c.net.isolate(l.address, false)
			c.apply("on")
			c.alike()
		}
	})
}
