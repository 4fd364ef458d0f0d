package journalnode_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
)

// lastLog is how long the log of the catalog's group is on a node.
func (b *bed) lastLog(i int) uint64 {
	b.Helper()
	w := httptest.NewRecorder()
	b.Nodes[i].Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/raft_stat/catalog?format=json", nil))
	var s struct {
		LastLog string `json:"last_log_index"`
	}
	require.NoError(b, json.Unmarshal(w.Body.Bytes(), &s))
	n, err := strconv.ParseUint(s.LastLog, 10, 64)
	require.NoError(b, err)
	return n
}

// A lease read is the leader's, whoever is asked, and needs no entry of the log while the lease lasts; a
// linearizable one always does. What was decided before it is in it.
func TestCatalog_LeaseRead(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		leader := b.led()
		reads := func(s rpc.ReadStrength) (entries uint64) {
			before := b.lastLog(leader)
			for i := range 30 {
				v, err := b.catalog(i%3, s)
				require.NoError(b, err)
				require.Equal(b, s, v.Strength)
				if s == rpc.LeaseRead {
					require.Equal(b, b.ID(leader), string(v.AnsweredBy))
				}
			}
			return b.lastLog(leader) - before
		}
		b.wait(10 * time.Second) // what comes with a start is over, and so is the lease: that it leads is not enough
		require.Equal(b, b.led(), leader)
		require.Equal(b, uint64(1), reads(rpc.LeaseRead))
		require.GreaterOrEqual(b, reads(rpc.Linearizable), uint64(30))
		for _, name := range []string{"a", "b", "c"} {
			b.place((leader+1)%3, name)
			v, err := b.catalog((leader+2)%3, rpc.LeaseRead)
			require.NoError(b, err)
			require.Equal(b, name, v.Journals[len(v.Journals)-1].Name)
		}
	})
}

// A leader that was deposed does not answer from what it has; one is waited for, and where there is none that is said.
func TestCatalog_LeaseReadOfADeposedLeader(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		old := b.led()
		_, err := b.catalog(old, rpc.LeaseRead)
		require.NoError(b, err)
		for i := range b.Nodes {
			b.Net.Partition(b.ID(old), b.ID(i))
		}
		b.place((old+1)%3, "new")
		v, err := b.catalog(old, rpc.LeaseRead)
		require.ErrorIs(b, err, rpc.ErrNoLeader, "%+v", v.Journals)
		v, err = b.catalog((old+1)%3, rpc.LeaseRead)
		require.NoError(b, err)
		require.Len(b, v.Journals, 1)
		b.Net.Partition(b.ID((old+1)%3), b.ID((old+2)%3))
		b.wait(time.Minute)
		for i := range b.Nodes {
			_, err := b.catalog(i, rpc.LeaseRead)
			require.ErrorIs(b, err, rpc.ErrNoLeader)
		}
	})
}

// A copy that holds what nobody may have decided answers no linearizable read, however many entries it has, until a
// leader has gone on beyond these.
func TestCatalog_LinearizableAfterAForce(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		i := b.other()
		require.NoError(b, b.Nodes[i].SetForcedIndex(b.lastLog(b.led())+3)) // as if its log had been longer than the leader's
		ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
		defer cancel()
		b.Until(time.Minute, "the leader goes on", func() bool {
			_, err := b.Nodes[i].Catalog(ctx, rpc.Linearizable)
			return err == nil
		})
		require.NoError(b, b.Nodes[i].SetForcedIndex(1<<60))
		_, err := b.Nodes[i].Catalog(ctx, rpc.Linearizable)
		require.ErrorIs(b, err, rpc.ErrUnavailable)
	})
}
