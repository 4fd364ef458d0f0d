package qjmtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

func TestNodes_StopAndStart(t *testing.T) {
	run(t, func(b bed) {
		w := b.writer("app")
		b.StopNode(0)
		b.StopNode(0)
		require.Nil(b, b.Node(0))
		require.NoError(b, b.try(w, time.Minute), "a majority is there")
		b.StopNode(1)
		require.Error(b, b.try(w, time.Minute))
		b.StartNode(0)
		b.StartNode(0)
		require.NoError(b, b.try(w, time.Minute))
		require.NotNil(b, b.Node(0))
		b.AwaitReady()
	})
}

// What was acknowledged survives that all nodes lose their power, or are killed, at once.
func TestNodes_CrashAndKillAll(t *testing.T) {
	for name, end := range map[string]func(bed, int){
		"crash": func(b bed, i int) { b.CrashNode(i) },
		"kill":  func(b bed, i int) { b.KillNode(i) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(b bed) {
				w := b.writer("app")
				for range 10 {
					require.NoError(b, b.try(w, time.Second))
				}
				for i := range b.Nodes() {
					end(b, i)
				}
				require.Error(b, b.try(w, time.Minute))
				for i := range b.Nodes() {
					b.StartNode(i)
				}
				require.NoError(b, b.try(w, time.Minute))
				require.GreaterOrEqual(b, b.txns(b.Client("other")), 11)
			})
		})
	}
}

func TestWipeNode(t *testing.T) {
	run(t, func(b bed) {
		w := b.writer("app")
		require.NoError(b, b.try(w, time.Second))
		b.WipeNode(2)
		require.Nil(b, b.Node(2))
		b.StartNode(2)
		<-time.After(time.Minute)
		require.ErrorIs(b, b.Node(2).Ready(), journalnode.ErrNotAdmitted)
		ctx, cancel := context.WithTimeout(b.T.Context(), 10*time.Minute)
		defer cancel()
		_, err := b.Client("admin").ReplaceMember(ctx, "n3", "n3", libqjm.ReplaceOptions{})
		require.NoError(b, err)
		b.AwaitReady()
		b.StopNode(0)
		require.NoError(b, b.try(w, time.Minute), "the new storage counts")
	})
}

func TestFillDisk(t *testing.T) {
	run(t, func(b bed) {
		w := b.writer("app")
		big := make([]byte, 1<<20)
		write := func(d time.Duration) error {
			ctx, cancel := context.WithTimeout(b.T.Context(), d)
			defer cancel()
			_, err := w.Append(ctx, big)
			return err
		}
		b.FillDisk(0)
		for range 5 {
			require.NoError(b, write(time.Minute), "a majority has room")
		}
		b.FillDisk(1)
		var err error
		for range 5 { // what was preallocated is room, too
			if err = write(time.Minute); err != nil {
				break
			}
		}
		require.ErrorIs(b, err, context.DeadlineExceeded)
		ctx, cancel := context.WithTimeout(b.T.Context(), time.Minute)
		defer cancel()
		_, err = b.Client("operator").Recover(ctx, "j")
		require.NoError(b, err, "promises and recovery have the reserve")
		b.FreeDisk(0)
		w = b.writer("app")
		require.NoError(b, write(time.Hour))
	})
}
