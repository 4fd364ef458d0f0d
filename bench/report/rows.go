package report

import (
	"slices"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
)

// Row is the outcome of one system at one number of callers.
type Row struct {
	System  string `json:"system"`
	Callers int    `json:"callers"`
	Size    int    `json:"size"`

	OpsPerSec  float64 `json:"ops_per_sec"`
	OpsMin     float64 `json:"ops_min"`
	OpsMax     float64 `json:"ops_max"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	P999       float64 `json:"p999_us"`
	CPU        float64 `json:"cpu_us_per_op"`
	Device     float64 `json:"disk_bytes_per_op"`    // of the whole machine
	Dirtied    float64 `json:"dirtied_bytes_per_op"` // as /proc/self/io counts, whole page groups
	MemoryPeak uint64  `json:"memory_peak_bytes"`
	Allocs     float64 `json:"allocs_per_op"`
	AllocBytes float64 `json:"alloc_bytes_per_op"`
	Rounds     int     `json:"rounds"`
	Seconds    float64 `json:"seconds"` // all windows together
	Cut        bool    `json:"cut,omitempty"`
	Error      string  `json:"error,omitempty"`
}

// Brief is the part of a row that bench/out/latest.json holds. Others read it: names stay.
type Brief struct {
	System    string  `json:"system"`
	Callers   int     `json:"callers"`
	Size      int     `json:"size"`
	OpsPerSec float64 `json:"ops_per_sec"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	CPU       float64 `json:"cpu_us_per_op"`
}

// Briefs leaves out what failed.
func Briefs(rows []Row) []Brief {
	out := []Brief{}
	for _, r := range rows {
		if r.Error == "" {
			out = append(out, Brief{r.System, r.Callers, r.Size, r.OpsPerSec, r.P50, r.P99, r.CPU})
		}
	}
	return out
}

// Results gathers samples of all rounds. The zero value is empty.
type Results struct {
	cells []*cell
}

type cell struct {
	system        string
	callers, size int
	samples       []load.Sample
	err           error
}

// Add notes the outcome of one round; s counts only if err is nil.
func (r *Results) Add(system string, callers, size int, s load.Sample, err error) {
	at := slices.IndexFunc(r.cells, func(c *cell) bool {
		return c.system == system && c.callers == callers && c.size == size
	})
	if at < 0 {
		at = len(r.cells)
		r.cells = append(r.cells, &cell{system: system, callers: callers, size: size})
	}
	if c := r.cells[at]; err != nil {
		c.err = err
	} else {
		c.samples = append(c.samples, s)
	}
}

// Rows returns a row for each system and number of callers: systems in the given order, then by size and callers.
func (r *Results) Rows(order []string) []Row {
	var out []Row
	for _, c := range r.cells {
		out = append(out, c.row())
	}
	slices.SortStableFunc(out, func(a, b Row) int {
		if a.Size != b.Size {
			return a.Size - b.Size
		}
		if i, j := slices.Index(order, a.System), slices.Index(order, b.System); i != j {
			return i - j
		}
		return a.Callers - b.Callers
	})
	return out
}

func (c *cell) row() Row {
	row := Row{System: c.system, Callers: c.callers, Size: c.size, Rounds: len(c.samples)}
	if c.err != nil {
		row.Error = c.err.Error()
	}
	var all load.Histogram
	var rates []float64
	var sum load.Sample
	for _, s := range c.samples {
		all.Merge(s.Latency)
		rates = append(rates, float64(s.Ops)/s.Elapsed.Seconds())
		sum.Ops += s.Ops
		sum.Elapsed += s.Elapsed
		sum.CPU += s.CPU
		sum.Device += s.Device
		sum.Dirtied += s.Dirtied
		sum.Allocs += s.Allocs
		sum.AllocBytes += s.AllocBytes
		sum.MemoryPeak = max(sum.MemoryPeak, s.MemoryPeak)
		sum.Cut = sum.Cut || s.Cut
	}
	if len(rates) == 0 {
		return row
	}
	ops := float64(sum.Ops)
	row.OpsPerSec, row.OpsMin, row.OpsMax = median(rates), slices.Min(rates), slices.Max(rates)
	row.P50, row.P99, row.P999 = micros(all.Quantile(0.5)), micros(all.Quantile(0.99)), micros(all.Quantile(0.999))
	row.CPU, row.Device, row.Dirtied = micros(sum.CPU)/ops, float64(sum.Device)/ops, float64(sum.Dirtied)/ops
	row.Allocs, row.AllocBytes = float64(sum.Allocs)/ops, float64(sum.AllocBytes)/ops
	row.MemoryPeak, row.Seconds, row.Cut = sum.MemoryPeak, sum.Elapsed.Seconds(), sum.Cut
	return row
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
