package libqjm_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

// promptly appends until the returned function is called. No append may fail, or take long.
func (b *bed) promptly(w *libqjm.Writer) (stop func()) {
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			if _, err := w.Append(b.within(500*time.Millisecond), []byte("x")); err != nil {
				b.Errorf("an append failed: %v", err)
				return
			}
			pass(10 * time.Millisecond)
		}
	}()
	return func() { over.Store(true); <-done }
}

// M6: a new member that the leader reaches, and the live writer does not, does not become one: the change waits
// before it is joint, and says for what; appends do not notice. When the writer reaches it, the change goes on.
func TestM6_WriterReachesTheNewMemberFirst(t *testing.T) {
	for _, way := range []string{"drop", "hang"} {
		t.Run(way, func(t *testing.T) {
			run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
				old := b.filled()
				fourth := b.others(old)[0]
				w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
				require.NoError(b, err)
				epoch := w.Epoch()
				verdict := map[string]memnet.Verdict{"drop": memnet.Drop, "hang": memnet.Hang}[way]
				b.Net.Fault(func(c memnet.Call) memnet.Verdict {
					if c.From == "client" && c.To == fourth {
						return verdict
					}
					return memnet.Deliver
				})
				stop := b.promptly(w)
				_, err = b.cl.ChangeMembers(b.ctx, "m", []string{old[0], old[1], fourth}, libqjm.ChangeOptions{})
				require.NoError(b, err)
				b.Until(time.Minute, "the change says why it waits", func() bool {
					ch := b.inCatalog("m").Change
					require.Equal(b, "learning", ch.Stage)
					return containsAll(ch.Note, "the writer at epoch", "cannot reach "+fourth, "("+fourth+")")
				})
				pass(2 * time.Minute)
				require.Equal(b, "learning", b.inCatalog("m").Change.Stage)
				require.EqualValues(b, 1, b.inCatalog("m").Config.Version)

				b.Net.Fault(nil)
				require.NoError(b, b.cl.WaitForChange(b.ctx, "m", nil))
				stop()
				require.ElementsMatch(b, []string{old[0], old[1], fourth}, b.membersOf("m"))
				require.Equal(b, epoch, w.Epoch())
				require.NoError(b, w.Close(b.ctx))
			})
		})
	}
}

// M6: such a change can be given up, and one whose writer has gone does not wait for it.
func TestM6_UnreachedMemberCanBeGivenUp(t *testing.T) {
	run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
		old := b.filled()
		fourth := b.others(old)[0]
		w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		b.Net.Partition("client", fourth)
		to := []string{old[0], old[1], fourth}
		begin := func() {
			_, err := b.cl.ChangeMembers(b.ctx, "m", to, libqjm.ChangeOptions{})
			require.NoError(b, err)
			b.Until(time.Minute, "the change waits", func() bool {
				ch := b.inCatalog("m").Change
				return ch == nil || containsAll(ch.Note, "cannot reach "+fourth)
			})
		}
		begin()
		require.NoError(b, b.cl.AbortChange(b.ctx, "m", 0))
		require.Nil(b, b.inCatalog("m").Change)
		_, err = w.Append(b.ctx, []byte("x"))
		require.NoError(b, err)
		begin()
		require.NoError(b, w.Close(b.ctx))
		require.NoError(b, b.cl.WaitForChange(b.ctx, "m", nil))
		require.ElementsMatch(b, to, b.membersOf("m"))
	})
}

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// M6: nobody waits for a writer that has said that it leaves, nor for the leader's own opening of the journal: a
// change of an idle journal is over long before a writer that is merely silent would be taken for gone.
func TestM6_IdleJournalWaitsForNobody(t *testing.T) {
	const gone = 2 * time.Minute
	tune := func(_ int, o *journalnode.Options) { o.WriterGoneAfter = gone }
	for _, since := range []time.Duration{0, 2 * gone} {
		run(t, testcluster.Options{Nodes: 4, Tune: tune}, func(b *bed) {
			pass(2 * gone) // a node that is not up for long cannot tell
			old := b.filled()
			pass(since)
			to := []string{old[0], old[1], b.others(old)[0]}
			_, err := b.cl.ChangeMembers(b.ctx, "m", to, libqjm.ChangeOptions{})
			require.NoError(b, err)
			require.NoError(b, b.cl.WaitForChange(b.within(gone/4), "m", nil))
			require.ElementsMatch(b, to, b.membersOf("m"))
		})
	}
}
