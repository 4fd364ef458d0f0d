package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Signals returns a context that the first SIGINT or SIGTERM ends, with the cause ErrInterrupted; the
// second one ends the process at once. A write into a closed pipe is an error from then on, not the end
// of the process.
func Signals() context.Context {
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-ch
		cancel(ErrInterrupted)
		<-ch
		os.Exit(ExitInterrupted)
	}()
	return ctx
}
