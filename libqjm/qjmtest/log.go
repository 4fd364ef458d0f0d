package qjmtest

import (
	"bytes"
	"log/slog"
	"sync"
)

// testLog writes to a test's log until the test ends; what comes later would be a panic of the testing package.
type testLog struct {
	mu    sync.Mutex
	t     TB
	ended bool // guarded by mu
}

func testLogger(t TB) *slog.Logger {
	l := &testLog{t: t}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended = true
	})
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Write implements io.Writer.
func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.t.Logf("%s", bytes.TrimSuffix(line, []byte("\n")))
	}
	return len(line), nil
}
