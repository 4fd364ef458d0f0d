package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// fits checks that no line is wider than it may be. What a bar replaces does not add to its line.
func fits(t *testing.T, out string) {
	t.Helper()
	for line := range strings.SplitSeq(out, "\n") {
		for part := range strings.SplitSeq(line, "\r\x1b[K") {
			require.LessOrEqual(t, utf8.RuneCountInString(part), columns, part)
		}
	}
}

// TestScreen_NoLineIsTooWide: neither what the demo says nor what it quotes, with directory names of any
// length, in a pipe and on a terminal.
func TestScreen_NoLineIsTooWide(t *testing.T) {
	for _, dir := range []string{"/tmp", "/var/" + strings.Repeat("long/", 19) + "tmp", strings.Repeat("/very-long", 40), strings.Repeat("/ä", 150)} {
		for _, tty := range []bool{false, true} {
			var out bytes.Buffer
			s := &screen{w: &out, tty: tty}
			s.step(2, "a writer (pid 4194304, epoch 1) imports the 12,801 entries below %s, a transaction each; a standby follows", dir)
			s.bar("walking "+dir+" again", 3, 12801)
			s.line("     | namespace: %s: %s\n     | short", dir, strings.Repeat("refused ", 30))
			s.last = time.Time{}
			s.bar("importing", 3, 12801)
			s.line("\ndata and logs are in %s", dir)
			s.line("\nFAILED after 1.0 s: %v", fmt.Errorf("open %s: %w", dir, errors.New("no\tsuch\nfile")))
			fits(t, out.String())
			require.Equal(t, tty, strings.Contains(out.String(), "walking"))
			plain := strings.Join(strings.Fields(out.String()), "")
			require.Contains(t, plain, "dataandlogsarein"+dir, "nothing of it is left out")
		}
	}
}

// TestScreen_Margins: what goes on below a step, a quotation or a check stands below its text.
func TestScreen_Margins(t *testing.T) {
	var out bytes.Buffer
	s := &screen{w: &out}
	long := strings.TrimSpace(strings.Repeat("123456789 ", 11))
	ten := strings.TrimSpace(strings.Repeat("123456789 ", 9))
	s.step(3, "%s", long)
	s.line("     | %s", long)
	s.line("%s", strings.Repeat("x", 101))
	s.line("")
	require.Equal(t, "3/8  "+ten+"\n     123456789 123456789\n     | "+ten+"\n     | 123456789 123456789\n"+
		strings.Repeat("x", 100)+"\nx\n\n", out.String())
}

// TestReport_Fits: the table and the checks, with large numbers, and with everything wrong.
func TestReport_Fits(t *testing.T) {
	path := strings.Repeat("long-name/", 30)
	acks := []ack{{1 << 62, 1, path}}
	d := &demo{result: result{
		entries: 1 << 40, acked: acks, found: acks, doubt: []string{path}, journal: []record{{1, 1, path}},
		failover: time.Hour, catchUp: time.Hour,
		holdings: []holding{{"n1", 1 << 62, strings.Repeat("a", 32)}, {"n2", 1 << 62, strings.Repeat("b", 32)}},
	}}
	var out bytes.Buffer
	d.screen = &screen{w: &out}
	require.Error(t, d.report())
	fits(t, out.String())
	require.Contains(t, out.String(), "most of it is the lease")
	require.Contains(t, out.String(), strings.Repeat("a", 32)+"   of the whole journal")
}
