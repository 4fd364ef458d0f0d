package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	columns         = 100
	violationsShown = 12
	pagesMax        = 8 // of keys that are not linearizable
)

// screen prints lines that fit, and on a terminal one that changes.
type screen struct {
	w       io.Writer
	tty     bool
	pending bool
}

func newScreen(f *os.File) *screen {
	info, err := f.Stat()
	return &screen{w: f, tty: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

// live shows what goes on, on a terminal only.
func (s *screen) live(format string, args ...any) {
	if s.tty {
		fmt.Fprintf(s.w, "\r\x1b[K%.*s", columns-1, fmt.Sprintf(format, args...))
		s.pending = true
	}
}

// line prints text; what is too wide goes on in the next line, further to the right.
func (s *screen) line(format string, args ...any) {
	if s.pending {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.pending = false
	}
	for text := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		indent := text[:len(text)-len(strings.TrimLeft(text, " "))] + "    "
		for len(text) > columns {
			at := strings.LastIndex(text[:columns+1], " ")
			if at <= len(indent) {
				at = columns
			}
			fmt.Fprintln(s.w, strings.TrimRight(text[:at], " "))
			text = indent + strings.TrimLeft(text[at:], " ")
		}
		fmt.Fprintln(s.w, text)
	}
}

// print is the summary.
func (r *result) print(s *screen) {
	s.line("linear: seed %d, %.0f s, %d clients, %d operations, %d faults", r.config.seed, r.ran.Seconds(), r.config.clients, len(r.ops), len(r.faults))
	r.printOps(s)
	r.printFaults(s)
	if r.strangers > 0 {
		s.line("%d connections to nodes were of unknown origin: cuts did not touch them", r.strangers)
	}
	broken := map[string]int{}
	for _, v := range r.violations {
		broken[v.Check]++
	}
	s.line("checks")
	for _, c := range append(checks(), check{"H9", runsAsMeant, nil}) {
		verdict := "ok"
		if broken[c.what] > 0 {
			verdict = "BROKEN"
		}
		s.line("  %-6s %-3s %s", verdict, c.rule, c.what)
	}
	for i, v := range r.violations {
		if i == violationsShown {
			s.line("and %d more: violations.jsonl", len(r.violations)-i)
			break
		}
		s.line("%s: %s", v.Rule, strings.ReplaceAll(v.Text, "\n", "\n    "))
	}
}

func (r *result) printOps(s *screen) {
	outcomes := []Outcome{OK, Failed, Absent, NotDone, Unknown}
	count := map[string]map[Outcome]int{}
	for _, o := range r.ops {
		kind := string(o.Kind)
		switch {
		case o.Kind == Get:
			kind += " " + string(o.Read)
		case o.IfMatch != 0 || o.IfAbsent:
			kind += " if"
		}
		if o.Session != "" && o.Kind != Again {
			kind += ", session"
		}
		if count[kind] == nil {
			count[kind] = map[Outcome]int{}
		}
		count[kind][o.Outcome]++
	}
	head := fmt.Sprintf("  %-20s", "operations")
	for _, o := range outcomes {
		head += fmt.Sprintf("%10s", o)
	}
	s.line("%s", strings.TrimPrefix(head, "  ")+"  ")
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		row := fmt.Sprintf("  %-18s", kind)
		for _, o := range outcomes {
			row += fmt.Sprintf("%10d", count[kind][o])
		}
		s.line("%s", row)
	}
}

func (r *result) printFaults(s *screen) {
	var acked []*Op
	for _, o := range r.ops {
		if o.isWrite() && o.Outcome == OK {
			acked = append(acked, o)
		}
	}
	acked = byReturn(acked)
	gaps := map[string][]time.Duration{}
	for _, f := range r.faults {
		gaps[f.Kind] = append(gaps[f.Kind], f.gap(acked, r.ran))
	}
	s.line("%-24s%8s%42s", "faults", "times", "longest without a write: median, most")
	for _, kind := range slices.Sorted(maps.Keys(gaps)) {
		g := slices.Sorted(slices.Values(gaps[kind]))
		s.line("  %-24s%6d%20s%14s", kind, len(g), millis(g[len(g)/2]), millis(g[len(g)-1]))
	}
}

func millis(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// keep writes down what was found: the violations, and pages that show keys which are not linearizable.
func (r *result) keep(dir string) error {
	f, err := os.Create(filepath.Join(dir, "violations.jsonl"))
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	known := newFacts(r.ops).txidOf
	_, of := byKey(r.ops)
	pages := 0
	for _, v := range r.violations {
		err = errors.Join(err, enc.Encode(v))
		if v.Key == "" || pages == pagesMax {
			continue
		}
		pages++
		_, info := linearize(only(of[v.Key], Linearizable, Lease), known, searchLimit)
		err = errors.Join(err, porcupine.VisualizePath(model, info, filepath.Join(dir, v.Key+".html")))
	}
	return errors.Join(err, f.Close())
}
