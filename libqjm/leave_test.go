package libqjm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// M8: a node removes a journal's data by the config that its own copy of the catalog has, whoever says that it has
// left. A copy that stands still removes nothing.
func TestM8_LeaveIsOfTheCatalog(t *testing.T) {
	run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
		old := b.filled()
		gone, fourth := old[2], b.others(old)[0]
		j := b.inCatalog("m")
		node, err := b.Net.Dialer("client").Dial(gone)
		require.NoError(b, err)
		leave := func(version uint64, members ...quorum.Member) error {
			return node.LeaveJournal(b.ctx, rpc.JournalSummary{ID: j.ID, Name: "m", Config: quorum.NewConfig(version, members...)})
		}
		held := func() int {
			list, err := rpc.AllSegments(b.ctx, j.ID, node.Segments)
			require.NoError(b, err)
			return len(list)
		}
		two := j.Config.Members()[:2] // by id: old[0] and old[1]
		for _, version := range []uint64{1, 2, 99} {
			require.ErrorIs(b, leave(version, two...), rpc.ErrNotInCatalog)
		}
		require.GreaterOrEqual(b, held(), 2)
		require.EqualValues(b, 1, b.inCatalog("m").Config.Version)

		for i := range b.Nodes { // from here on its copy of the catalog stands still
			b.Net.Partition(gone, b.ID(i))
		}
		_, err = b.cl.ChangeMembers(b.ctx, "m", []string{old[0], old[1], fourth}, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "m", nil))
		now := b.inCatalog("m").Config
		require.ErrorIs(b, leave(now.Version, now.Members()...), rpc.ErrNotInCatalog, "it is so, and this node cannot know")
		require.GreaterOrEqual(b, held(), 2)

		b.Net.HealAll()
		b.Until(3*time.Minute, "it has heard of it, and holds nothing", func() bool { return held() == 0 })
		require.NoError(b, leave(now.Version, now.Members()...), "again")
		require.NoError(b, node.Close())
	})
}
