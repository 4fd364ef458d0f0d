package report

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Plot is a picture of one column over the number of callers, both axes logarithmic.
type Plot struct {
	Name, Title, Unit string
	Value             func(Row) float64
}

// Plots are the pictures that documents show.
var Plots = []Plot{
	{"throughput", "Throughput", "operations per second", func(r Row) float64 { return r.OpsPerSec }},
	{"latency", "Latency, 99th percentile", "microseconds", func(r Row) float64 { return r.P99 }},
	{"cpu", "CPU time per operation, client and nodes together", "microseconds", func(r Row) float64 { return r.CPU }},
}

const (
	svgWidth, svgHeight       = 760, 440
	svgLeft, svgRight         = 80, 150
	svgTop, svgBottom         = 50, 55
	svgPlotWidth, svgPlotHigh = svgWidth - svgLeft - svgRight, svgHeight - svgTop - svgBottom
)

// Colours that can be told apart with the common kinds of colour blindness; floors are grey and dashed.
var colours = []string{"#d55e00", "#882255", "#0072b2", "#56b4e9", "#009e73", "#cc79a7"}

type point struct{ callers, value float64 }

type line struct {
	name   string
	points []point
}

// SVG draws the rows.
func (p Plot) SVG(rows []Row) string {
	lines := p.lines(rows)
	var all []point
	for _, l := range lines {
		all = append(all, l.points...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", svgWidth, svgHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", svgWidth, svgHeight)
	text(&b, svgLeft, 24, "start", 15, p.Title)
	text(&b, svgLeft, 42, "start", 12, p.Unit)
	text(&b, svgLeft+svgPlotWidth/2, svgHeight-12, "middle", 12, "callers")
	if len(all) > 0 {
		x := newAxis(all, func(p point) float64 { return p.callers }, svgLeft, svgLeft+svgPlotWidth)
		y := newAxis(all, func(p point) float64 { return p.value }, svgTop+svgPlotHigh, svgTop)
		grid(&b, x, y, all)
		for i, l := range lines {
			l.draw(&b, i, x, y)
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p Plot) lines(rows []Row) (out []line) {
	for _, r := range rows {
		if r.Rounds == 0 || p.Value(r) <= 0 {
			continue
		}
		if len(out) == 0 || out[len(out)-1].name != r.System {
			out = append(out, line{name: r.System})
		}
		l := &out[len(out)-1]
		l.points = append(l.points, point{float64(r.Callers), p.Value(r)})
	}
	return out
}

// axis maps logarithms of values to places.
type axis struct{ low, high, from, to float64 }

func newAxis(points []point, of func(point) float64, from, to float64) axis {
	a := axis{low: math.Inf(1), high: math.Inf(-1), from: from, to: to}
	for _, p := range points {
		a.low, a.high = min(a.low, math.Log10(of(p))), max(a.high, math.Log10(of(p)))
	}
	margin := max(0.1, (a.high-a.low)/20)
	a.low, a.high = a.low-margin, a.high+margin
	return a
}

func (a axis) at(v float64) float64 {
	return a.from + (math.Log10(v)-a.low)/(a.high-a.low)*(a.to-a.from)
}

// grid draws a line for each number of callers measured, and for each power of ten.
func grid(b *strings.Builder, x, y axis, points []point) {
	var callers []float64
	for _, p := range points {
		if !slices.Contains(callers, p.callers) {
			callers = append(callers, p.callers)
		}
	}
	for _, c := range callers {
		stroke(b, x.at(c), svgTop, x.at(c), svgTop+svgPlotHigh)
		text(b, x.at(c), svgTop+svgPlotHigh+18, "middle", 12, grouped0(c))
	}
	for e := math.Floor(y.low); e <= y.high; e++ {
		for _, m := range []float64{1, 2, 5} {
			v := m * math.Pow(10, e)
			if l := math.Log10(v); l < y.low || l > y.high || m != 1 && y.high-y.low > 2.5 {
				continue
			}
			stroke(b, svgLeft, y.at(v), svgLeft+svgPlotWidth, y.at(v))
			text(b, svgLeft-6, y.at(v)+4, "end", 12, grouped0(v))
		}
	}
}

func grouped0(v float64) string { return strings.TrimSuffix(grouped(v), ".0") }

func (l line) draw(b *strings.Builder, i int, x, y axis) {
	colour, dash := colours[i%len(colours)], ""
	if floor, ok := strings.CutPrefix(l.name, "floor-"); ok {
		colour, dash = "#888888", ` stroke-dasharray="8 4"`
		if floor == "grpc" {
			dash = ` stroke-dasharray="2 3"`
		}
	}
	var path []string
	for _, p := range l.points {
		path = append(path, fmt.Sprintf("%.1f,%.1f", x.at(p.callers), y.at(p.value)))
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x.at(p.callers), y.at(p.value), colour)
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.Join(path, " "), colour, dash)
	at := float64(svgTop + 10 + 20*i)
	fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="2"%s/>`+"\n",
		svgWidth-svgRight+14, at, svgWidth-svgRight+38, at, colour, dash)
	text(b, svgWidth-svgRight+44, at+4, "start", 12, l.name)
}

func stroke(b *strings.Builder, x1, y1, x2, y2 float64) {
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#dddddd"/>`+"\n", x1, y1, x2, y2)
}

func text(b *strings.Builder, x, y float64, anchor string, size int, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d">%s</text>`+"\n", x, y, anchor, size, html.EscapeString(s))
}
