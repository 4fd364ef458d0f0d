// Command demo shows what qjm promises, with real processes and real input: it starts three JournalNodes and two replicas
// of the namespace example, imports the metadata of a source tree through them, kills a node and then the active replica
// on the way, and checks afterwards that nothing acknowledged is missing and nothing is there twice. It exits with 0 only
// if everything held.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	var d demo
	var keep bool
	flag.StringVar(&d.nodeBin, "journalnode", "bin/journalnode", "the `program` that is a JournalNode")
	flag.StringVar(&d.nsBin, "namespace", "bin/namespace", "the `program` of the namespace example")
	flag.StringVar(&d.root, "root", "", "the `directory` to import; $(go env GOROOT)/src if empty")
	flag.BoolVar(&keep, "keep", false, "keep the data and logs")
	flag.Parse()
	d.screen = newScreen(os.Stdout)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	began := time.Now()
	err := d.prepare(ctx)
	if err == nil {
		err = d.run(ctx)
	}
	d.endAll()
	interrupted := ctx.Err() != nil
	if d.dir != "" && !keep && (err == nil || interrupted) {
		err = errors.Join(err, os.RemoveAll(d.dir))
	} else if d.dir != "" {
		d.screen.line("\ndata and logs are in %s", d.dir)
	}
	switch took := time.Since(began).Seconds(); {
	case interrupted:
		d.screen.line("\ninterrupted after %.1f s; all processes are ended", took)
		os.Exit(130)
	case err != nil:
		d.screen.line("\nFAILED after %.1f s: %v", took, err)
		os.Exit(1)
	default:
		d.screen.line("\nEverything held (%.1f s).", took)
	}
}

// prepare finds the input, the programs and a directory.
func (d *demo) prepare(ctx context.Context) (err error) {
	if d.root == "" {
		out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil {
			return fmt.Errorf("go env GOROOT: %w (say --root DIR instead)", err)
		}
		d.root = filepath.Join(strings.TrimSpace(string(out)), "src")
	}
	for _, bin := range []string{d.nodeBin, d.nsBin} {
		if _, err := exec.LookPath(bin); err != nil {
			return fmt.Errorf("%w: run make build first", err)
		}
	}
	d.dir, err = os.MkdirTemp("", "qjm-demo-")
	return err
}
