package raftgroup

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// logLines is how many lines of one text upstream may log as a warning or an error per logWindow;
	// the others are counted. It logs every request that fails.
	logLines  = 3
	logWindow = 30 * time.Second
	// logTexts bounds how many texts are told apart, logValueBytes the length of a value.
	logTexts      = 256
	logValueBytes = 512
)

// logger lets upstream log to slog: its chatter as debug, warnings and errors bounded in number.
type logger struct {
	hclog.Logger // the null logger, for what nobody calls
	out          *slog.Logger
	limit        *logLimit
}

func newLogger(out *slog.Logger) hclog.Logger {
	if out == nil {
		return hclog.NewNullLogger()
	}
	return &logger{Logger: hclog.NewNullLogger(), out: out, limit: &logLimit{texts: map[string]logCount{}}}
}

// streamEnded is said of every stream whose other side went away: no error of this node's.
const streamEnded = "failed to decode incoming command"

// aboutPeer is said of a peer that does not answer, which is its trouble and not this node's.
var aboutPeer = map[string]bool{
	"failed to heartbeat to": true, "failed to appendEntries to": true, "failed to start pipeline replication to": true,
	"failed to pipeline appendEntries": true, "failed to make requestVote RPC": true,
}

// ordinary says what upstream warns of, and is no news: that nobody leads yet, when the first leader is elected;
// and, again and again, that a server was taken out, which the node finds out and says once.
func ordinary(msg string, args []any) bool {
	switch msg {
	case "not part of stable configuration, aborting election",
		"heartbeat timeout reached, not part of a stable configuration or a non-voter, not triggering a leader election":
		return true
	case "heartbeat timeout reached, starting election":
		for i := 0; i+1 < len(args); i += 2 {
			if args[i] == "last-leader-id" {
				return fmt.Sprint(args[i+1]) == ""
			}
		}
	}
	return false
}

// Log implements hclog.Logger.
func (l *logger) Log(level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Trace, hclog.NoLevel, hclog.Off:
		return
	case hclog.Warn:
		to = slog.LevelWarn
	case hclog.Error:
		to = slog.LevelError
	}
	switch {
	case msg == streamEnded, ordinary(msg, args):
		to = slog.LevelDebug
	case aboutPeer[msg]:
		to = slog.LevelWarn
	}
	if !l.out.Enabled(context.Background(), to) {
		return
	}
	if to >= slog.LevelWarn {
		pass, dropped := l.limit.pass(msg, time.Now())
		if !pass {
			return
		}
		if dropped > 0 {
			args = append(args[:len(args):len(args)], "not_logged", dropped)
		}
	}
	l.out.Log(context.Background(), to, "raft: "+msg, bounded(args)...)
}

// bounded formats the values, which upstream may not want kept, and cuts them.
func bounded(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		var s string
		switch v := a.(type) {
		case hclog.Format:
			if len(v) > 0 {
				s = fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
			}
		default:
			s = fmt.Sprint(v)
		}
		if len(s) > logValueBytes {
			s = s[:logValueBytes] + "..."
		}
		out[i] = s
	}
	return out
}

type logCount struct {
	since   time.Time
	n       int
	dropped int
}

type logLimit struct {
	mu    sync.Mutex // guards texts
	texts map[string]logCount
}

// pass decides about one line; dropped is how many were left out before it.
func (l *logLimit) pass(text string, now time.Time) (pass bool, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, known := l.texts[text]
	if !known && len(l.texts) >= logTexts {
		text = "" // all further texts share one count
		c, known = l.texts[text]
	}
	if !known || now.Sub(c.since) >= logWindow {
		dropped, c = c.dropped, logCount{since: now}
	}
	if c.n++; c.n > logLines {
		c.dropped++
	}
	l.texts[text] = c
	return c.n <= logLines, dropped
}

func (l *logger) Trace(string, ...any)       {}
func (l *logger) Debug(msg string, a ...any) { l.Log(hclog.Debug, msg, a...) }
func (l *logger) Info(msg string, a ...any)  { l.Log(hclog.Info, msg, a...) }
func (l *logger) Warn(msg string, a ...any)  { l.Log(hclog.Warn, msg, a...) }
func (l *logger) Error(msg string, a ...any) { l.Log(hclog.Error, msg, a...) }

func (l *logger) IsTrace() bool { return false }
func (l *logger) IsDebug() bool { return l.out.Enabled(context.Background(), slog.LevelDebug) }
func (l *logger) IsInfo() bool  { return l.IsDebug() }
func (l *logger) IsWarn() bool  { return l.out.Enabled(context.Background(), slog.LevelWarn) }
func (l *logger) IsError() bool { return l.out.Enabled(context.Background(), slog.LevelError) }

func (l *logger) With(args ...any) hclog.Logger {
	return &logger{Logger: l.Logger, out: l.out.With(bounded(args)...), limit: l.limit}
}
func (l *logger) Named(string) hclog.Logger      { return l }
func (l *logger) ResetNamed(string) hclog.Logger { return l }

func (l *logger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(io.Discard, "", 0)
}
