// Command qjmmodel explores the model of the data-plane rules. It exits with 0 if nothing was found,
// 3 on a violation, whose trace it prints, and 2 if it was asked for something it does not have.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/quorumjournal/qjm/internal/model"
)

const (
	exitFound = 3
	exitUsage = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

type options struct {
	cfg    model.Config
	limit  int
	walk   model.WalkOptions
	script string
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{cfg: model.Config{Rules: model.Strong()}}
	fs := flag.NewFlagSet("qjmmodel", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.cfg.Writers, "writers", 2, "writers, 1 to 3")
	fs.IntVar(&o.cfg.TxIDs, "txids", 2, "txids, 1 to 3")
	drop := fs.String("drop", "", "rules to weaken, by field name of model.Rules: a,b")
	fault := fs.String("fault", "", "faults to allow, by field name of model.Faults: a,b")
	skip := fs.String("skip", "", "checks to leave out: D1,Probe")
	reader := fs.String("reader", "", "a reader that infers commitment from copies: count or ballot")
	fs.IntVar(&o.limit, "limit", 20_000_000, "stop a search after so many states")
	fs.IntVar(&o.walk.Runs, "walk", 0, "take so many random runs instead of searching")
	fs.IntVar(&o.walk.Steps, "steps", 80, "longest random run")
	fs.Uint64Var(&o.walk.Seed, "seed", 1, "seed of the random runs")
	fs.StringVar(&o.script, "script", "", `replay actions given by the beginning of their text: "a; b"`)
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("qjmmodel: unexpected argument %q", fs.Arg(0))
	}
	if err := o.cfg.Rules.Drop(list(*drop)...); err != nil {
		return o, err
	}
	if err := o.cfg.Faults.Add(list(*fault)...); err != nil {
		return o, err
	}
	if err := o.cfg.Skipped.Skip(list(*skip)...); err != nil {
		return o, err
	}
	var err error
	o.cfg.Reader, err = model.ParseReader(*reader)
	return o, err
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err == flag.ErrHelp {
		return 0
	}
	var res model.Result
	began := time.Now()
	if err == nil {
		res, err = explore(o)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	fmt.Fprintf(stdout, "%s: states=%d transitions=%d depth=%d complete=%v seconds=%.1f\n",
		strings.Join(args, " "), res.States, res.Transitions, res.Depth, res.Complete, time.Since(began).Seconds())
	if res.Violation == nil {
		fmt.Fprintln(stdout, "no violation")
		return 0
	}
	for k, line := range res.Violation.Trace {
		fmt.Fprintf(stdout, "  %2d %s\n", k+1, line)
	}
	fmt.Fprintf(stdout, "  => %s\n", res.Violation)
	return exitFound
}

func explore(o options) (model.Result, error) {
	switch {
	case o.script != "":
		return model.Replay(o.cfg, model.ParseScript(o.script))
	case o.walk.Runs > 0:
		return model.Walk(o.cfg, o.walk)
	}
	return model.Search(o.cfg, o.limit)
}
