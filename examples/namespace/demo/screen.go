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

const steps = 8

// columns is how wide a line may be, on a terminal and elsewhere.
const columns = 100

func (s *screen) step(n int, format string, args ...any) {
	s.put(fmt.Sprintf("%d/%d  ", n, steps), fmt.Sprintf(format, args...))
}

// line prints text; what is too wide goes on in the next line, below where the text began.
func (s *screen) line(format string, args ...any) {
	for text := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		rest := strings.TrimLeft(text, " |")
		s.put(text[:len(text)-len(rest)], rest)
	}
}

// put prints what stands in the margin, and text next to it.
func (s *screen) put(margin, text string) {
	if s.live {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.live = false
	}
	for _, part := range wrap(text, columns-len(margin)) {
		fmt.Fprintln(s.w, strings.TrimRight(margin+part, " "))
		margin = strings.Map(blank, margin)
	}
}

// blank keeps a margin's bars, and nothing else, for the lines below the first.
func blank(r rune) rune {
	if r == '|' {
		return r
	}
	return ' '
}

// wrap breaks text into lines of at most width columns: at spaces, and within a word only where the word
// alone is wider than a line.
func wrap(text string, width int) (lines []string) {
	rest := []rune(strings.ReplaceAll(text, "\t", "    "))
	for len(rest) > width {
		cut := width
		for cut > 0 && rest[cut] != ' ' {
			cut--
		}
		if cut == 0 {
			lines, rest = append(lines, string(rest[:width])), rest[width:]
			continue
		}
		lines, rest = append(lines, strings.TrimRight(string(rest[:cut]), " ")), rest[cut+1:]
	}
	return append(lines, string(rest))
}

// bar shows progress, ten times a second at most.
func (s *screen) bar(what string, done, total int) {
	if !s.tty || time.Since(s.last) < 100*time.Millisecond {
		return
	}
	const width = 30
	full := width * min(done, total) / max(total, 1)
	text := fmt.Sprintf("     [%s%s] %s of %s  %s", strings.Repeat("=", full), strings.Repeat(" ", width-full),
		commas(done), commas(total), what)
	fmt.Fprint(s.w, "\r\x1b[K", wrap(text, columns)[0]) // it stays one line
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
