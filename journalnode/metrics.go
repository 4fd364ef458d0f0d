package journalnode

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one node.
type metrics struct {
	gatherer    prometheus.Gatherer
	commits     prometheus.Histogram
	messages    prometheus.Counter
	bytes       prometheus.Counter
	repaired    prometheus.Counter
	scrubbed    prometheus.Counter
	damages     prometheus.Counter
	divergences prometheus.Counter
}

func newMetrics(n *Node) *metrics {
	reg, gatherer := n.opts.Registerer, n.opts.Gatherer
	if reg == nil {
		r := prometheus.NewRegistry()
		reg, gatherer = r, r
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		gatherer: gatherer,
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "qjm_commit_seconds", Help: "Duration of a group commit: write and sync.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
		}),
		messages:    counter("qjm_commit_messages_total", "Messages of write streams handled."),
		bytes:       counter("qjm_commit_bytes_total", "Bytes of frames handled."),
		repaired:    counter("qjm_repaired_segments_total", "Segments pulled from peers."),
		scrubbed:    counter("qjm_scrubbed_segments_total", "Segments read in full by the scrub."),
		damages:     counter("qjm_scrub_damages_total", "Damaged segments found by the scrub."),
		divergences: counter("qjm_divergences_total", "Finalized copies seen that differ between nodes."),
	}
	ready := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "qjm_ready", Help: "1 while the node serves."}, func() float64 {
		if n.Ready() != nil {
			return 0
		}
		return 1
	})
	journals := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "qjm_journals", Help: "Journals on this node."}, func() float64 {
		n.mu.Lock()
		defer n.mu.Unlock()
		return float64(len(n.manifest.Journals))
	})
	low := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "qjm_disk_low", Help: "1 while new transactions are refused for lack of room."}, func() float64 {
		if n.reserve != nil && n.reserve.Low() {
			return 1
		}
		return 0
	})
	reg.MustRegister(low, m.commits, m.messages, m.bytes, m.repaired, m.scrubbed, m.damages, m.divergences, ready, journals)
	return m
}

func (m *metrics) commit(took time.Duration, messages, bytes int) {
	m.commits.Observe(took.Seconds())
	m.messages.Add(float64(messages))
	m.bytes.Add(float64(bytes))
}
