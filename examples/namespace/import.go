package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorumjournal/qjm/examples/namespace/runlog"
	"github.com/quorumjournal/qjm/examples/namespace/scan"
	"github.com/quorumjournal/qjm/examples/namespace/service"
	"github.com/quorumjournal/qjm/examples/namespace/tree"
)

// readSource reads the metadata of everything below a directory.
func readSource(ctx context.Context, root string) (source []tree.Op, err error) {
	for op, err := range scan.Walk(root) {
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		source = append(source, op)
	}
	return source, nil
}

// doImport makes every entry of the source that the service does not have yet, a transaction each, with
// many under way. Where an earlier run left off, or how its last changes ended, need not be known: the
// tree says it.
func doImport(ctx context.Context, svc *service.Service, source []tree.Op, o options) (skipped int, err error) {
	log, err := runlog.Create(o.log)
	if err != nil {
		return 0, err
	}
	type started struct {
		path   string
		change *service.Change
	}
	under := make(chan started, service.InFlightMax)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(under)
		wait := pace(o.rate, o.rateFor)
		for _, op := range source {
			if there, err := present(svc, op); err != nil {
				return err
			} else if there {
				skipped++
				continue
			}
			wait(ctx)
			if err := log.Started(op.Path); err != nil {
				return err
			}
			c, err := svc.Start(ctx, op)
			if err != nil {
				return fmt.Errorf("%s was not made: %w", op.Path, err)
			}
			under <- started{op.Path, c} // the collector never stops before it is closed
		}
		return nil
	})
	group.Go(func() (first error) {
		for s := range under {
			id, err := s.change.Wait(ctx)
			if err == nil {
				err = log.Acked(uint64(id), s.path)
			}
			if err != nil && first == nil {
				first = fmt.Errorf("%s: %w", s.path, err)
			}
		}
		return first
	})
	err = group.Wait()
	return skipped, err
}

// present reports whether the tree has the entry already; having another one there is an error.
func present(svc *service.Service, op tree.Op) (bool, error) {
	have, err := svc.Stat(op.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case have != op.Entry:
		return false, fmt.Errorf("%s is there already and differs: was the directory changed meanwhile?", op.Path)
	}
	return true, nil
}

// pace returns a function that waits for the next entry's turn: rate a second, for the first n.
func pace(rate, n int) func(context.Context) {
	if rate <= 0 {
		return func(context.Context) {}
	}
	begin, i := time.Now(), 0
	return func(ctx context.Context) {
		if i++; n > 0 && i > n {
			return
		}
		select {
		case <-time.After(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate)))):
		case <-ctx.Done():
		}
	}
}
