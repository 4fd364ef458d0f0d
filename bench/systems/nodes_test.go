package systems

import (
	"fmt"
	"testing"
)

// BenchmarkNodes compares clusters of 3, 5 and 7 nodes under the same load: 256 callers of 256 B, and one writer that
// hands batches over. The writer sends every byte to every node, so 3/5 and 3/7 of the rate is what the bytes alone
// leave: x-bytes is the rate over that, at least 1 by the bar. All nodes of all clusters are on this machine, and share
// its processors and its disk; those of the other two clusters are idle meanwhile.
func BenchmarkNodes(b *testing.B) {
	sizes := []int{3, 5, 7}
	clusters := map[int]*qjm{}
	for _, n := range sizes {
		clusters[n] = newWriter(b, n, nil)
	}
	var figures table
	for b.Loop() {
		for load, run := range map[string]func(q *qjm) float64{
			"callers": func(q *qjm) float64 { return measure(b, qjmSpec, q, 256, 256) },
			"async":   func(q *qjm) float64 { return measure(b, qjmAsyncSpec, q, 1, 256) },
		} {
			var three float64
			for _, n := range sizes {
				rate := run(clusters[n])
				figures.add(fmt.Sprintf("%d-%s-txns/s", n, load), rate)
				if n == nodes {
					three = rate
					continue
				}
				figures.add(fmt.Sprintf("x-3-%s-%d", load, n), rate/three)
				figures.add(fmt.Sprintf("x-bytes-%s-%d", load, n), rate/three*float64(n)/nodes)
			}
		}
	}
	figures.report(b)
}
