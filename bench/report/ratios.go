package report

import (
	"fmt"
	"io"
	"strings"
)

// Ratio compares qjm with the others at one number of callers and one size. Zero: there was nothing to compare with.
type Ratio struct {
	Callers, Size int
	BestRival     string
	ToBestRival   float64 // ops/s over those of the fastest rival
	ToFloors      float64 // ops/s over those of the disk floor and the gRPC floor one after the other
	LowestP99     string
	P99ToLowest   float64 // p99 over the lowest p99 of a rival
}

// Ratios computes them for each number of callers that qjm was measured with. rival says who counts as one.
func Ratios(rows []Row, rival func(string) bool) []Ratio {
	var out []Ratio
	for _, q := range rows {
		if q.System != "qjm" || q.Rounds == 0 {
			continue
		}
		r := Ratio{Callers: q.Callers, Size: q.Size}
		var best, p99, series float64
		floors := 0
		for _, o := range rows {
			if o.Callers != q.Callers || o.Size != q.Size || o.Rounds == 0 {
				continue
			}
			if strings.HasPrefix(o.System, "floor-") {
				series += 1 / o.OpsPerSec
				floors++
			}
			if !rival(o.System) {
				continue
			}
			if o.OpsPerSec > best {
				best, r.BestRival, r.ToBestRival = o.OpsPerSec, o.System, q.OpsPerSec/o.OpsPerSec
			}
			if p99 == 0 || o.P99 < p99 {
				p99, r.LowestP99, r.P99ToLowest = o.P99, o.System, q.P99/o.P99
			}
		}
		if floors == 2 {
			r.ToFloors = q.OpsPerSec * series
		}
		out = append(out, r)
	}
	return out
}

// RatioTable writes ratios as Markdown, which reads well on a terminal, too.
func RatioTable(w io.Writer, ratios []Ratio) error {
	var b strings.Builder
	for _, r := range ratios {
		if r.BestRival == "" && r.ToFloors == 0 {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("| callers | size | qjm ÷ best rival, ops/s | qjm ÷ lowest p99 of a rival | qjm ÷ both floors in series, ops/s |\n|---:|---:|---:|---:|---:|\n")
		}
		fmt.Fprintf(&b, "| %d | %d | %s | %s | %s |\n", r.Callers, r.Size,
			against(r.ToBestRival, r.BestRival), against(r.P99ToLowest, r.LowestP99), against(r.ToFloors, ""))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func against(ratio float64, name string) string {
	switch {
	case ratio == 0:
		return "–"
	case name == "":
		return fmt.Sprintf("%.2f", ratio)
	}
	return fmt.Sprintf("%.2f (%s)", ratio, name)
}
