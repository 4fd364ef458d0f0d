package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Progress is one line on a terminal that says how far long work is. On anything that is no terminal it
// prints nothing. Its methods may be called concurrently.
type Progress struct {
	w io.Writer

	mu    sync.Mutex
	last  time.Time // guarded by mu
	shown int       // length of the line that stands there; guarded by mu
	began time.Time
}

const (
	progressEvery = 200 * time.Millisecond
	barWidth      = 30
)

// NewProgress returns a progress line on w.
func NewProgress(w io.Writer) *Progress {
	p := &Progress{began: time.Now()}
	if IsTerminal(w) {
		p.w = w
	}
	return p
}

// Enabled reports whether anything is shown at all.
func (p *Progress) Enabled() bool { return p.w != nil }

// Show prints the line anew, at most a few times a second: a bar where total is known, and text.
func (p *Progress) Show(done, total int64, text string) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.last) >= progressEvery {
		p.last = now
		p.print(bar(done, total) + text)
	}
}

// Done takes the line away.
func (p *Progress) Done() {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown > 0 {
		p.print("")
		_, _ = fmt.Fprint(p.w, "\r")
		p.shown = 0
	}
}

// Rate says how many a second, since the beginning.
func (p *Progress) Rate(n int64) string {
	s := max(time.Since(p.began).Seconds(), 0.001)
	return Count(int64(float64(n)/s)) + "/s"
}

func (p *Progress) print(line string) {
	pad := max(0, p.shown-len(line))
	_, _ = fmt.Fprint(p.w, "\r"+line+strings.Repeat(" ", pad))
	p.shown = len(line)
}

func bar(done, total int64) string {
	if total <= 0 {
		return ""
	}
	part := min(max(float64(done)/float64(total), 0), 1)
	n := int(part * barWidth)
	return fmt.Sprintf("[%s%s] %3.0f %%  ", strings.Repeat("#", n), strings.Repeat(".", barWidth-n), 100*part)
}
