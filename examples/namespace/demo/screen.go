package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// screen tells the story: a line per step, and on a terminal a bar for what takes a while.
type screen struct {
	w    io.Writer
	tty  bool
	live bool // a bar stands on the last line
	last time.Time
}

func newScreen(f *os.File) *screen {
	info, err := f.Stat()
	return &screen{w: f, tty: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

const steps = 7

func (s *screen) step(n int, format string, args ...any) {
	s.line("%d/%d  %s", n, steps, fmt.Sprintf(format, args...))
}

func (s *screen) line(format string, args ...any) {
	if s.live {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.live = false
	}
	fmt.Fprintf(s.w, format+"\n", args...)
}

// bar shows progress, ten times a second at most.
func (s *screen) bar(what string, done, total int) {
	if !s.tty || time.Since(s.last) < 100*time.Millisecond {
		return
	}
	const width = 30
	full := width * min(done, total) / max(total, 1)
	fmt.Fprintf(s.w, "\r\x1b[K     [%s%s] %s of %s  %s", strings.Repeat("=", full), strings.Repeat(" ", width-full),
		commas(done), commas(total), what)
	s.live, s.last = true, time.Now()
}

// commas writes 12801 as 12,801.
func commas[T int | uint64](n T) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func millis(d time.Duration) string { return commas(int(d.Milliseconds())) + " ms" }
