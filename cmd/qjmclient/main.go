// Command qjmclient is the command line of qjm: journals, writers, and what nodes left on disk.
package main

import (
	"context"
	"io"
	"os"

	"github.com/quorumjournal/qjm/internal/cli"
)

func main() {
	os.Exit(run(cli.Signals(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: tests call it in-process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{format: cli.Table, onTerminal: cli.IsTerminal, subject: cli.Subject{Program: "qjmclient"}}
	return cli.Run(ctx, a.root(), braftArgs(args), stdin, stdout, stderr, &a.subject)
}
