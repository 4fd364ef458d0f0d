package libqjm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
)

// The scenarios are numbered as in the list that was re-stated from Hadoop's tests (Given / When / Then).

func TestScenario01_SingleWriter(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 3)
		b.writeFinal(w, 4, 4)
		b.finalized(1, 3)
		b.finalized(4, 4)
		require.NoError(b, w.Close(b.ctx))
		b.Until(time.Minute, "all hold both", func() bool { return b.copies(1, 3) == 3 && b.copies(4, 4) == 3 })
	})
}
