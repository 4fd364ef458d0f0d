package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/quorumjournal/qjm/bench/report"
)

// comparison runs two builds of this program in turn.
type comparison struct {
	base, now string
	runs      int
	args      []string // for both
	dir       string
}

func parseCompare(args []string) (comparison, error) {
	var c comparison
	f := flag.NewFlagSet("bench compare", flag.ContinueOnError)
	f.StringVar(&c.base, "base", "", "this program, built before")
	f.StringVar(&c.now, "new", "", "this program, built now")
	f.IntVar(&c.runs, "runs", 6, "how often each is run; fewer than 4 can show nothing")
	f.StringVar(&c.dir, "dir", "out/tmp", "where the systems' files lie while they run")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	c.args = f.Args()
	if c.base == "" || c.now == "" || c.runs < 1 {
		return c, fmt.Errorf("compare needs -base and -new, and -runs of at least 1 (got %q, %q, %d)", c.base, c.now, c.runs)
	}
	return c, nil
}

// run alternates: base first in one pair, new first in the next.
func (c comparison) run(ctx context.Context) (err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	var before, after [][]report.Row
	for i := range c.runs {
		sides := []struct {
			bin  string
			rows *[][]report.Row
		}{{c.base, &before}, {c.now, &after}}
		if i%2 == 1 {
			sides[0], sides[1] = sides[1], sides[0]
		}
		for _, s := range sides {
			rows, err := c.once(ctx, s.bin)
			if err != nil {
				return err
			}
			*s.rows = append(*s.rows, rows)
		}
		fmt.Fprintf(os.Stderr, "pair %d of %d\n", i+1, c.runs)
	}
	return report.Compare(os.Stdout, before, after)
}

func (c comparison) once(ctx context.Context, bin string) ([]report.Row, error) {
	path := filepath.Join(c.dir, "compare.json")
	defer os.Remove(path) //nolint:errcheck // a leftover is overwritten
	args := append([]string{"-rounds", "1", "-quiet", "-latest", "", "-full", path, "-dir", c.dir}, c.args...)
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that it removes its files
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", bin, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f fullFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f.Rows, nil
}
