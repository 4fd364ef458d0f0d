package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:]))
}

// Exit codes.
const (
	exitOK     = 0
	exitBroken = 1 // something was found
	exitUsage  = 2
	exitFailed = 3 // it could not be run
)

func command(ctx context.Context, args []string) int {
	cfg := config{screen: newScreen(os.Stdout)}
	f := flag.NewFlagSet("linear", flag.ContinueOnError)
	f.DurationVar(&cfg.duration, "duration", time.Minute, "how long clients and nemesis work")
	f.Uint64Var(&cfg.seed, "seed", 1, "of the clients' and the nemesis's choices")
	f.IntVar(&cfg.clients, "clients", 8, "concurrent clients")
	f.IntVar(&cfg.keys, "keys", 8, "keys in use at a time")
	f.IntVar(&cfg.opsPerKey, "ops-per-key", 400, "operations until a key is replaced by another")
	f.Float64Var(&cfg.rate, "rate", 800, "operations a second, at most, of all clients")
	f.StringVar(&cfg.dir, "dir", "", "an empty `directory` for everything (default: a temporary one)")
	f.StringVar(&cfg.bin, "bin", "", "`directory` with journalnode and kv (default: they are built)")
	f.BoolVar(&cfg.race, "race", false, "build them with the race detector")
	keep := f.Bool("keep", false, "keep the directory, whatever is found")
	file := f.String("check", "", "check the history in this `file` only")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if f.NArg() > 0 || cfg.duration < time.Second || cfg.clients < 2 || cfg.keys < 1 || cfg.opsPerKey < 1 || cfg.rate <= 0 {
		fmt.Fprintln(os.Stderr, "linear: no arguments, -duration from 1s, -clients from 2, -keys, -ops-per-key and -rate above 0")
		return exitUsage
	}
	var code int
	var err error
	if *file != "" {
		code, err = recheck(cfg, *file)
	} else {
		code, err = whole(ctx, cfg, *keep)
	}
	if err != nil {
		cfg.screen.line("linear: %v", err)
		return exitFailed
	}
	return code
}

// whole runs and reports. What may be needed later is kept.
func whole(ctx context.Context, cfg config, keep bool) (int, error) {
	if cfg.dir == "" {
		dir, err := os.MkdirTemp("", "qjm-linear-")
		if err != nil {
			return 0, err
		}
		cfg.dir = dir
	} else {
		keep = true
		if err := os.MkdirAll(cfg.dir, 0o755); err != nil {
			return 0, err
		}
	}
	res, err := run(ctx, cfg)
	if err != nil {
		return 0, fmt.Errorf("%w\neverything is in %s", err, cfg.dir)
	}
	res.print(cfg.screen)
	if len(res.violations) == 0 && !keep {
		return exitOK, os.RemoveAll(cfg.dir)
	}
	cfg.screen.line("everything is in %s", cfg.dir)
	if err := res.keep(cfg.dir); err != nil {
		return 0, err
	}
	if len(res.violations) > 0 {
		return exitBroken, nil
	}
	return exitOK, nil
}

// recheck checks a history that was kept.
func recheck(cfg config, file string) (int, error) {
	ops, err := readHistory(file)
	if err != nil {
		return 0, err
	}
	res := &result{config: cfg, ops: ops, violations: checkAll(ops)}
	if len(ops) > 0 {
		res.ran = byReturn(ops)[len(ops)-1].Return
	}
	res.print(cfg.screen)
	if len(res.violations) == 0 {
		return exitOK, nil
	}
	return exitBroken, res.keep(filepath.Dir(file))
}
