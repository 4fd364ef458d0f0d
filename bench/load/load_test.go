package load

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHistogram_BucketsAreNarrow(t *testing.T) {
	last := -1
	for v := time.Duration(1); v < time.Hour/4; v += max(1, v/100) {
		b := bucketOf(v)
		require.GreaterOrEqual(t, b, last, "%d ns", v)
		require.InEpsilon(t, float64(v), float64(middleOf(b)), 1.0/128, "%d ns", v)
		last = b
	}
	require.Equal(t, histBuckets-1, bucketOf(1<<62))
	require.Zero(t, bucketOf(-1))
}

func TestHistogram_Quantile(t *testing.T) {
	var a, b Histogram
	require.Zero(t, a.Quantile(0.5))
	for i := range 1000 {
		h := &a
		if i%2 == 1 {
			h = &b
		}
		h.Add(time.Duration(i+1)*time.Microsecond, 1)
	}
	b.Add(time.Second, 1)
	a.Merge(&b)
	require.EqualValues(t, 1001, a.Count())
	for q, want := range map[float64]time.Duration{0: time.Microsecond, 0.5: 501 * time.Microsecond, 0.99: 991 * time.Microsecond, 1: time.Second} {
		require.InEpsilon(t, float64(want), float64(a.Quantile(q)), 0.01, "quantile %v", q)
	}
}

// fake is a system that does nothing, and may fail.
type fake struct {
	appended, submitted atomic.Uint64
	fail                error
	failAfter           uint64
	prepared            int
}

func (f *fake) Append(_ context.Context, txn []byte) error {
	if n := f.appended.Add(1); f.fail != nil && n > f.failAfter {
		return f.fail
	}
	<-time.After(100 * time.Microsecond)
	return nil
}

func (f *fake) Submit(_ context.Context, txns [][]byte) (Pending, error) {
	f.submitted.Add(uint64(len(txns)))
	return f, nil
}

func (f *fake) Wait(context.Context) error { <-time.After(100 * time.Microsecond); return f.fail }

func (f *fake) Prepare(callers int) error                  { f.prepared = callers; return nil }
func (f *fake) Contents(context.Context) ([][]byte, error) { return nil, nil }
func (f *fake) Close() error                               { return nil }

func cell(t *testing.T) Cell {
	return Cell{Callers: 8, Size: 64 << 10, Warm: time.Millisecond, Duration: 20 * time.Millisecond, Dir: t.TempDir()}
}

func TestRun_CountsWhatCompletesInTheWindow(t *testing.T) {
	for mode, name := range map[Mode]string{Callers: "callers", Window: "window", Raw: "raw"} {
		t.Run(name, func(t *testing.T) {
			f := &fake{}
			s, err := Run(t.Context(), Spec{Name: "fake", Mode: mode}, f, cell(t))
			require.NoError(t, err)
			require.Equal(t, 8, f.prepared)
			require.Positive(t, s.Ops)
			require.Equal(t, s.Ops, s.Latency.Count())
			handed := f.appended.Load() + f.submitted.Load()
			if mode == Raw {
				handed *= 8
				require.Zero(t, s.Ops%8, "each piece counts for all callers")
			}
			require.LessOrEqual(t, s.Ops, handed)
			require.Positive(t, s.Elapsed)
			require.Positive(t, s.CPU)
			require.False(t, s.Cut)
		})
	}
}

func TestRun_LeavesTheWarmUpOut(t *testing.T) {
	f, c := &fake{}, cell(t)
	c.Warm = 50 * time.Millisecond
	before := uint64(0)
	c.Opened = func() error { before = f.appended.Load(); return nil }
	s, err := Run(t.Context(), Spec{Name: "fake"}, f, c)
	require.NoError(t, err)
	// What was under way when the window opened counts, too: at most one for each caller.
	require.LessOrEqual(t, s.Ops, f.appended.Load()-before+uint64(c.Callers))
}

func TestRun_AFailureEndsIt(t *testing.T) {
	broken := errors.New("broken")
	for _, mode := range []Mode{Callers, Window, Raw} {
		c := cell(t)
		c.Duration = time.Hour
		_, err := Run(t.Context(), Spec{Name: "fake", Mode: mode}, &fake{fail: broken, failAfter: 5}, c)
		require.ErrorIs(t, err, broken)
	}
}

func TestRun_EndsEarlyWhenFilesHaveGrown(t *testing.T) {
	c := cell(t)
	c.Dir, c.Duration, c.BytesMax = ".", time.Hour, 1 // this directory holds more than a byte
	s, err := Run(t.Context(), Spec{Name: "fake"}, &fake{}, c)
	require.NoError(t, err)
	require.True(t, s.Cut)
}

func TestRun_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := cell(t)
	c.Duration = time.Hour
	c.Opened = func() error { cancel(); return nil }
	_, err := Run(ctx, Spec{Name: "fake"}, &fake{}, c)
	require.ErrorIs(t, err, context.Canceled)
}

func TestPayloads_AreTheSameInEveryRun(t *testing.T) {
	a, b := Payloads(3, 100), Payloads(3, 100)
	require.Equal(t, a, b)
	require.NotEqual(t, a[0], a[1])
}
