// Command journalnode runs one node of a qjm cluster; `journalnode dev` a whole cluster in one process.
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

// run is the whole program: tests call it in-process. It ends when the context does.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{}
	return cli.Run(ctx, a.root(), args, stdin, stdout, stderr, &a.subject)
}
