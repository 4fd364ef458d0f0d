package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

var columns = []string{"system", "callers", "ops/s", "spread", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/op", "disk B/op", "memory MiB", "allocs/op"}

func (r Row) fields() []string {
	if r.Rounds == 0 {
		return []string{r.System, strconv.Itoa(r.Callers), "failed", "", "", "", "", "", "", "", ""}
	}
	ops := grouped(r.OpsPerSec)
	if r.Error != "" {
		ops += " !"
	}
	if r.Cut {
		ops += " *"
	}
	return []string{
		r.System, strconv.Itoa(r.Callers), ops, fmt.Sprintf("±%.0f %%", 50*(r.OpsMax-r.OpsMin)/r.OpsPerSec),
		grouped(r.P50), grouped(r.P99), grouped(r.P999), fmt.Sprintf("%.1f", r.CPU), grouped(r.Device),
		grouped(float64(r.MemoryPeak) / (1 << 20)), fmt.Sprintf("%.1f", r.Allocs),
	}
}

// Table writes rows for a terminal.
func Table(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(cells []string) { fmt.Fprintln(t, strings.Join(cells, "\t")+"\t") } //nolint:errcheck // Flush returns it
	line(columns)
	for i, r := range rows {
		if i > 0 && rows[i-1].System != r.System {
			line(make([]string, len(columns)))
		}
		line(r.fields())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, notes(rows))
	return err
}

// notes explains the marks of a table.
func notes(rows []Row) string {
	var b strings.Builder
	for _, r := range rows {
		if r.Cut {
			b.WriteString("* the window ended early, when the system's files had grown to what they may\n")
			break
		}
	}
	for _, r := range rows {
		if r.Error != "" {
			fmt.Fprintf(&b, "! %s, %d callers: %s\n", r.System, r.Callers, r.Error)
		}
	}
	return b.String()
}

// MarkdownTable writes rows as Markdown.
func MarkdownTable(w io.Writer, rows []Row) error {
	var b strings.Builder
	b.WriteString("| " + strings.Join(columns, " | ") + " |\n|---" + strings.Repeat("|---:", len(columns)-1) + "|\n")
	for _, r := range rows {
		b.WriteString("| " + strings.Join(r.fields(), " | ") + " |\n")
	}
	if n := notes(rows); n != "" {
		b.WriteString("\n" + n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// grouped writes a number with as many digits as are of use, thousands apart.
func grouped(v float64) string {
	if v > 0 && v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
