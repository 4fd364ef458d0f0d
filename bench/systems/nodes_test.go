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
		figures.addNodes("callers", sizes, func(n int) float64 { return measure(b, qjmSpec, clusters[n], 256, 256) })
		figures.addNodes("async", sizes, func(n int) float64 { return measure(b, qjmAsyncSpec, clusters[n], 1, 256) })
	}
	figures.report(b)
}

func (t *table) addNodes(name string, sizes []int, run func(n int) float64) {
	var three float64
	for _, n := range sizes {
		rate := run(n)
		t.add(fmt.Sprintf("%s-%d-txns/s", name, n), rate)
		if n == nodes {
			three = rate
			continue
		}
		t.add(fmt.Sprintf("x-3-%s-%d", name, n), rate/three)
		t.add(fmt.Sprintf("x-bytes-%s-%d", name, n), rate/three*float64(n)/nodes)
	}
}
