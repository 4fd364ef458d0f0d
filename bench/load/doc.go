// Package load puts a load on one system and measures it. It knows nothing of which systems there are.
//
//		sys, err := spec.Start(ctx, load.Env{Dir: dir, Callers: 2048, Size: 256})
//		sample, err := load.Run(ctx, spec, sys, load.Cell{Callers: 2048, Size: 256, Warm: time.Second, Duration: 3 * time.Second})
//
//	 1. Every system gets the same payloads, random and never changed while it runs: a system may keep them.
//	 2. An operation counts if it completes inside the window; CPU time, allocations and bytes written are those
//	    of the whole process over the same window, so client and nodes together.
//	 3. The window ends early when the system has written what it may (Cell.WrittenMax).
package load
