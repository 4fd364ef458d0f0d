package load

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts durations in buckets that are at most 1/128 of their value wide. Adding is one atomic
// add, so that measuring thousands of callers costs little of what is measured.
type Histogram struct {
	counts [histBuckets]atomic.Uint64
}

const (
	histSubBits = 7
	histSub     = 1 << histSubBits
	histOctaves = 34 // up to 2^(34+7) ns, half an hour
	histBuckets = histSub * (histOctaves + 1)
)

// Add counts n operations that took d.
func (h *Histogram) Add(d time.Duration, n uint64) { h.counts[bucketOf(d)].Add(n) }

// Merge adds what another one counted.
func (h *Histogram) Merge(o *Histogram) {
	for i := range o.counts {
		if n := o.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
}

// Count returns how many operations were counted.
func (h *Histogram) Count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Quantile returns the duration that the fraction q of the operations did not exceed; 0 of none.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(total)), total-1)
	for i := range h.counts {
		n := h.counts[i].Load()
		if rank < n {
			return middleOf(i)
		}
		rank -= n
	}
	return middleOf(histBuckets - 1)
}

// bucketOf: below histSub each nanosecond has a bucket; above, each power of two has histSub of them.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < histSub {
		return int(v)
	}
	octave := bits.Len64(v) - histSubBits - 1
	return min((octave+1)*histSub+int(v>>octave)-histSub, histBuckets-1)
}

func middleOf(bucket int) time.Duration {
	if bucket < histSub {
		return time.Duration(bucket)
	}
	octave := bucket/histSub - 1
	low := uint64(bucket%histSub+histSub) << octave
	return time.Duration(low + (uint64(1)<<octave)/2)
}
