// Command bench measures qjm beside other replicated logs and beside what the machine allows, in one process,
// with the same payloads, callers and durability. See docs/benchmarks.md.
//
//	go run . -systems qjm,nats -callers 1,2048 -duration 3s
//	go run . compare -base ./bench-before -new ./bench-now
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// revision of qjm; set when it is built.
var revision = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "compare" {
		c, err := parseCompare(args[1:])
		if err != nil {
			return err
		}
		return c.run(ctx)
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	s, err := newSession(o)
	if err != nil {
		return err
	}
	return errors.Join(s.run(ctx), s.close())
}
