package journalnode_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/catalog"
)

// joining is a cluster of which the last of n nodes joins the others.
func joining(n int) testcluster.Options {
	return testcluster.Options{Nodes: n, Idle: true, Tune: func(i int, o *journalnode.Options) {
		o.InitialCluster = o.InitialCluster[:n-1]
		if i == n-1 {
			o.Join, o.InitialCluster, o.Advertise = []string{"n1"}, nil, string(o.ID)
		}
	}}
}

func (b *bed) voters() (ids []string) {
	v, err := b.catalog(0, rpc.Linearizable)
	require.NoError(b, err)
	for _, x := range v.Nodes {
		if x.Voter {
			ids = append(ids, string(x.ID))
		}
	}
	return ids
}

// started brings up all but the last node, and then that one.
func (b *bed) started(n int) {
	for i := range n - 1 {
		b.StartNode(i)
	}
	for i := range n - 1 {
		b.Until(time.Minute, "founded", func() bool { return b.info(i).Phase == rpc.Founded })
	}
	b.StartNode(n - 1)
	b.Until(time.Minute, "it votes", func() bool { return len(b.voters()) == n })
}

// N4: a node that comes later asks to be let in; it gets a vote when it has caught up, holds journals as any
// other, and needs nobody's word after a restart. When no journal needs it, it can be taken out.
func TestJoin(t *testing.T) {
	run(t, joining(4), func(b *bed) {
		b.started(4)
		require.Equal(b, b.info(0).Cluster, b.info(3).Cluster)
		b.KillNode(3)
		b.StartNode(3)
		require.NoError(b, b.Nodes[3].Ready())
		id := b.place(3, "a")
		st, err := b.node(3).State(b.ctx, id)
		require.NoError(b, err)
		require.True(b, st.Member)
		err = b.node(1).RemoveNode(b.ctx, rpc.RemoveRequest{Node: "n4"})
		var used *catalog.InUseError
		require.ErrorAs(b, err, &used)
		require.Equal(b, []string{"a"}, used.Journals)
		_, err = b.node(2).DropJournal(b.ctx, rpc.DropRequest{Name: "a"})
		require.NoError(b, err)
		require.NoError(b, b.node(1).RemoveNode(b.ctx, rpc.RemoveRequest{Node: "n4"}))
		b.Until(time.Minute, "it is gone", func() bool { return len(b.voters()) == 3 })
		require.ErrorIs(b, b.node(1).RemoveNode(b.ctx, rpc.RemoveRequest{Node: "n4"}), catalog.ErrNoNode)
	})
}

// N1, N4: a wiped node is another storage under a known id: it stays out and says so, whichever way it was
// let in before, and does not take part in the group.
func TestJoin_WipedNodeStaysOut(t *testing.T) {
	run(t, joining(4), func(b *bed) {
		b.started(4)
		b.WipeNode(3)
		b.StartNode(3)
		b.Until(time.Minute, "it says so", func() bool {
			return b.Nodes[3].Ready() != nil && strings.Contains(b.Nodes[3].Ready().Error(), "another storage incarnation")
		})
		require.ErrorIs(b, b.Nodes[3].Ready(), journalnode.ErrNotAdmitted)
		require.Equal(b, rpc.Blank, b.info(3).Phase)
		conn, err := b.node(3).RaftStream(b.ctx)
		require.NoError(b, err)
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(b, err, io.EOF, "a blank node would vote")
		require.NoError(b, conn.Close())
		b.WipeNode(1) // a founder
		b.StartNode(1)
		b.Until(time.Minute, "it says so", func() bool { return b.Nodes[1].Ready() != nil })
		b.wait(time.Minute)
		require.ErrorIs(b, b.Nodes[1].Ready(), journalnode.ErrNotAdmitted)
	})
}

// Whoever joins must be reached at the address that it gives, as itself.
func TestJoin_IsChecked(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.led()
		for _, x := range []rpc.CatalogNode{
			{ID: "n9", Incarnation: quorum.Incarnation{1}, Addr: "nowhere", Level: 1},
			{ID: "n9", Incarnation: quorum.Incarnation{1}, Addr: "n1", Level: 1},
		} {
			_, err := b.node(1).Join(b.ctx, rpc.JoinRequest{Node: x})
			require.ErrorIs(b, err, rpc.ErrBadRequest)
		}
		_, err := b.node(1).Join(b.ctx, rpc.JoinRequest{Node: rpc.CatalogNode{ID: "n2", Incarnation: quorum.Incarnation{1}, Addr: "x", Level: 1}})
		require.ErrorIs(b, err, catalog.ErrIncarnation)
	})
}

// Leadership goes where it is sent, asked of any node.
func TestTransferLeader(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.led()
		for i := range b.Nodes {
			to, err := b.node((i+1)%3).TransferLeader(b.ctx, rpc.TransferRequest{To: quorum.NodeID(b.ID(i))})
			require.NoError(b, err)
			require.Equal(b, b.ID(i), string(to))
			b.Until(time.Minute, "it leads", func() bool { return b.led() == i })
		}
	})
}

// N5: a raft store that is listed and missing is damaged: the node says so, and its journals go on.
func TestN5_RaftStoreIsGone(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.led()
		id := b.place(0, "a")
		b.KillNode(2)
		b.Raft[2] = nil // a blank one is made for it
		b.StartNode(2)
		b.Until(time.Minute, "it says so", func() bool {
			_, err := b.catalog(2, rpc.Linearizable)
			return err != nil && strings.Contains(err.Error(), "takes no part")
		})
		_, err := b.catalog(2, rpc.Linearizable)
		require.ErrorIs(b, err, rpc.ErrCatalogDown)
		st, err := b.node(2).State(b.ctx, id)
		require.NoError(b, err)
		require.True(b, st.Member)
		require.NoError(b, b.Nodes[2].Ready())
	})
}

func TestRaftStat(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		leader := b.led()
		for format, want := range map[string]string{"": "state: Leader\n", "json": `"state":"Leader"`, "html": "<td>Leader</td>"} {
			w := httptest.NewRecorder()
			b.Nodes[leader].Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/raft_stat?format="+format, nil))
			require.Equal(b, http.StatusOK, w.Code)
			require.Contains(b, w.Body.String(), want)
		}
	})
}

// TestRaftStat_Journals: each journal has a section, and a page of its own.
func TestRaftStat_Journals(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		leader := b.led()
		b.place(leader, "a")
		get := func(path string) (int, string) {
			w := httptest.NewRecorder()
			b.Nodes[leader].Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			return w.Code, w.Body.String()
		}
		_, text := get("/raft_stat")
		for _, want := range []string{"[catalog]\n", "peer_id: n", "state_machine: ", "replicator_0@n", "[a]\n", "promised_epoch: 0\n", "stage: none\n", "storage: [0, 0]\n"} {
			require.Contains(b, text, want)
		}
		code, one := get("/raft_stat/a?format=json")
		require.Equal(b, http.StatusOK, code)
		require.Contains(b, one, `{"schema":"qjm.v1/journal-stat","journal":"a",`)
		require.Contains(b, one, `"member_sets":[["n1","n2","n3"]]`)
		code, _ = get("/raft_stat/catalog?format=html")
		require.Equal(b, http.StatusOK, code)
		for line := range strings.SplitSeq(text, "\n") {
			require.LessOrEqual(b, len(line), 100, line)
		}
		require.Regexp(b, `(?m)^peers: n1/[0-9a-f]{32} n2/[0-9a-f]{32}\n {2}n3/`, text, "a long line goes on where a word ends")
		for _, path := range []string{"/raft_stat?format=xml", "/raft_stat/a?format=yaml", "/raft_stat/catalog?format=JSON"} {
			code, said := get(path)
			require.Equal(b, http.StatusBadRequest, code)
			require.Contains(b, said, "want one of text, json, html")
		}
		code, _ = get("/raft_stat?format=text")
		require.Equal(b, http.StatusOK, code)
		code, _ = get("/raft_stat/nope")
		require.Equal(b, http.StatusNotFound, code)
	})
}
