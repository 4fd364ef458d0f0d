package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Who looks after journals is told of those that changed since the last look, and of all after a restore.
func TestChanged(t *testing.T) {
	w := newWorld(t)
	names := func(c *Catalog, since uint64) (out []string) {
		for _, j := range c.Changed(since) {
			out = append(out, j.Name)
		}
		return out
	}
	at := w.c.Index()
	w.ok(&CreateJournal{ID: j1, Name: "one", Members: members("n1", "n2", "n3")})
	w.ok(&CreateJournal{ID: j2, Name: "two", Members: members("n1", "n2", "n3")})
	require.Equal(t, []string{"one", "two"}, names(w.c, at))
	at = w.c.Index()
	require.Empty(t, names(w.c, at))
	w.ok(&SetQuota{Target: Target{j2, 1}, Quota: 7})
	require.Equal(t, []string{"two"}, names(w.c, at))
	w.no(ErrConflict, &SetQuota{Target: Target{j1, 9}, Quota: 7})
	require.Equal(t, []string{"two"}, names(w.c, at), "what was refused changed nothing")

	b, err := w.c.AppendBinary(nil)
	require.NoError(t, err)
	restored, err := Restore(b)
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two"}, names(restored, at))
	require.Empty(t, names(restored, restored.Index()))
}
