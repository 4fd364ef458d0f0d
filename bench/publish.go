package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/quorumjournal/qjm/bench/report"
	"github.com/quorumjournal/qjm/bench/systems"
)

// fullFile is what bench/out/full.json holds.
type fullFile struct {
	Machine machine      `json:"machine"`
	Rows    []report.Row `json:"rows"`
}

// publish prints the table and writes the files that are asked for.
func (s *session) publish(rows []report.Row) error {
	if !s.opts.quiet {
		if err := report.Table(os.Stdout, rows); err != nil {
			return err
		}
		fmt.Println()
		if err := report.RatioTable(os.Stdout, report.Ratios(rows, systems.Rival)); err != nil {
			return err
		}
	}
	if err := writeJSON(s.opts.latest, report.Briefs(rows)); err != nil {
		return err
	}
	if err := writeJSON(s.opts.full, fullFile{s.machine, rows}); err != nil {
		return err
	}
	if s.opts.docs == "" {
		return nil
	}
	return s.document(rows)
}

func writeJSON(path string, v any) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'))
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// document writes a page for each size: table, ratios, plots.
func (s *session) document(rows []report.Row) error {
	var page bytes.Buffer
	fmt.Fprintf(&page, "# Measured figures\n\nMade by `make bench-full CALLERS=%s SIZE=%s ROUNDS=%d DURATION=%s`, not written by hand; how to read them: [../benchmarks.md](../benchmarks.md).\n\n",
		joined(s.opts.callers), joined(s.opts.sizes), s.opts.rounds, s.opts.duration)
	fmt.Fprintf(&page, "```\n%s```\n\n%d rounds of %s a cell, after %s of the same load.\n", s.machine, s.opts.rounds, s.opts.duration, s.opts.warm)
	for _, size := range s.opts.sizes {
		var of []report.Row
		for _, r := range rows {
			if r.Size == size {
				of = append(of, r)
			}
		}
		fmt.Fprintf(&page, "\n## %d bytes\n\n", size)
		if err := report.MarkdownTable(&page, of); err != nil {
			return err
		}
		page.WriteString("\n")
		if err := report.RatioTable(&page, report.Ratios(of, systems.Rival)); err != nil {
			return err
		}
		for _, p := range report.Plots {
			name := fmt.Sprintf("%s-%d.svg", p.Name, size)
			fmt.Fprintf(&page, "\n![%s](%s)\n", p.Title, name)
			if err := writeFile(filepath.Join(s.opts.docs, name), []byte(p.SVG(of))); err != nil {
				return err
			}
		}
	}
	return writeFile(filepath.Join(s.opts.docs, "README.md"), page.Bytes())
}

// joined writes numbers as flags take them.
func joined(ns []int) string {
	out := make([]string, len(ns))
	for i, n := range ns {
		out[i] = strconv.Itoa(n)
	}
	return strings.Join(out, ",")
}
