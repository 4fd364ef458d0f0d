package report

import (
	"fmt"
	"io"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"
)

// Metric is a column that two builds are compared by.
type Metric struct {
	Name  string
	Value func(Row) float64
}

// Metrics are those of a comparison.
var Metrics = []Metric{
	{"ops/s", func(r Row) float64 { return r.OpsPerSec }},
	{"p50 µs", func(r Row) float64 { return r.P50 }},
	{"p99 µs", func(r Row) float64 { return r.P99 }},
	{"CPU µs/op", func(r Row) float64 { return r.CPU }},
	{"allocs/op", func(r Row) float64 { return r.Allocs }},
}

// confidence of the intervals, and the level at which a difference counts, as in benchstat.
const (
	confidence   = 0.95
	significance = 0.05
)

// Compare writes, for each system, number of callers and metric, both builds' medians and their ratio. Each
// element of before and after is one run, with one row per cell. A difference that chance explains well
// enough (Mann-Whitney U test) is a ~.
func Compare(w io.Writer, before, after [][]Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, m := range Metrics {
		fmt.Fprintf(t, "%s\tbase\t\tnew\t\tnew ÷ base\t\t\n", m.Name) //nolint:errcheck // Flush returns it
		for _, r := range cellsOf(before, after) {
			fmt.Fprintln(t, m.line(r, before, after)) //nolint:errcheck // Flush returns it
		}
		fmt.Fprintln(t, "\t\t\t\t\t\t\t") //nolint:errcheck // Flush returns it
	}
	return t.Flush()
}

func (m Metric) line(r Row, before, after [][]Row) string {
	name := fmt.Sprintf("%s/%d", r.System, r.Callers)
	b, a := m.values(r, before), m.values(r, after)
	if len(b) == 0 || len(a) == 0 {
		return fmt.Sprintf("%s\t–\t\t–\t\tnot in both\t\t", name)
	}
	sb, sa := benchmath.NewSample(b, &benchmath.DefaultThresholds), benchmath.NewSample(a, &benchmath.DefaultThresholds)
	cb, ca := benchmath.AssumeNothing.Summary(sb, confidence), benchmath.AssumeNothing.Summary(sa, confidence)
	c := benchmath.AssumeNothing.Compare(sb, sa)
	ratio := "~"
	switch {
	case cb.Center == ca.Center:
		ratio = "1.00"
	case c.P <= significance:
		ratio = fmt.Sprintf("%.2f", ca.Center/cb.Center)
	}
	return fmt.Sprintf("%s\t%s\t±%s\t%s\t±%s\t%s\t(p=%.3f n=%d+%d)\t",
		name, grouped(cb.Center), spread(cb), grouped(ca.Center), spread(ca), ratio, c.P, c.N1, c.N2)
}

// spread is the larger half of the interval; with few runs there is no interval, and it is ∞.
func spread(s benchmath.Summary) string { return s.PctRangeString() }

func (m Metric) values(r Row, runs [][]Row) (out []float64) {
	for _, rows := range runs {
		for _, x := range rows {
			if same(x, r) && x.Rounds > 0 && x.Error == "" {
				out = append(out, m.Value(x))
			}
		}
	}
	return out
}

func same(a, b Row) bool { return a.System == b.System && a.Callers == b.Callers && a.Size == b.Size }

// cellsOf lists every cell that any run has, in the order of the first that has it.
func cellsOf(sides ...[][]Row) (out []Row) {
	for _, runs := range sides {
		for _, rows := range runs {
			for _, r := range rows {
				known := false
				for _, o := range out {
					known = known || same(o, r)
				}
				if !known {
					out = append(out, r)
				}
			}
		}
	}
	return out
}
