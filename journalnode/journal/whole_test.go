package journal

import (
	"errors"
	"path"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// What a node lacks is told without a list where nothing is wrong, and is what the list would tell.
func TestIncomplete_IsWhatTheListTells(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fs := memfs.New()
		require.NoError(rt, fs.MkdirAll(dir))
		at := segments.TxID(rapid.IntRange(1, 5).Draw(rt, "oldest"))
		for range rapid.IntRange(0, 5).Draw(rt, "segments") {
			n := segments.Name{Kind: segments.NameFinalized, First: at, Last: at + segments.TxID(rapid.IntRange(0, 2).Draw(rt, "length"))}
			at = n.Last + 1
			switch rapid.IntRange(0, 9).Draw(rt, "kind") {
			case 0:
				n.Kind, n.Last = segments.NameInProgress, 0
			case 1:
				continue // missing
			}
			f, err := fs.Create(path.Join(dir, n.String()))
			require.NoError(rt, err)
			require.NoError(rt, f.Close())
		}
		d, err := store.Open(fs, dir, journalID, small.Store)
		require.NoError(rt, err)
		if rapid.IntRange(0, 4).Draw(rt, "damage") == 0 {
			for _, in := range d.Infos()[:min(1, len(d.Infos()))] {
				d.MarkDamaged(in.First, errors.New("rotten"))
			}
		}
		j := &Journal{store: d}
		for purged := range segments.TxID(16) {
			j.view.Purged.TxID = purged
			require.Equal(rt, incomplete(d.Infos(), purged), j.Incomplete(), "purged up to %d: %v", purged, d.Infos())
			require.Equal(rt, needs(d.Infos(), purged), j.Needs(), "purged up to %d: %v", purged, d.Infos())
		}
	})
}
