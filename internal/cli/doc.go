// Package cli is what the two programs share: exit codes and what errors say, output as table or JSON,
// flags from the environment, the progress line, signals.
//
// A program is a thin main around a function that tests call as well:
//
//	func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
//		return cli.Run(ctx, newRoot(), args, stdin, stdout, stderr)
//	}
//
// Invariants, cited by tests:
//
//	X1 Data goes to stdout, everything else to stderr.
//	X2 Every error has one exit code, by the one table in exit.go.
//	X3 In JSON every 64-bit number and every id is a string, and every object names its schema.
package cli
