package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// Format is how data is printed.
type Format string

// The formats. JSON prints one object; JSONL prints one object a line where there are several.
const (
	Table Format = "table"
	JSON  Format = "json"
	JSONL Format = "jsonl"
)

// String returns the format's name.
func (f *Format) String() string { return string(*f) }

// Set reads a format's name.
func (f *Format) Set(s string) error {
	switch Format(s) {
	case Table, JSON, JSONL:
		*f = Format(s)
		return nil
	}
	return errors.New("want table, json or jsonl")
}

// Type names the values for help texts.
func (f *Format) Type() string { return "table|json|jsonl" }

// Schema names the schema of an object of a kind.
func Schema(kind string) string { return "qjm.v1/" + kind }

// PrintJSON prints one object on one line.
func PrintJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// PrintTable prints rows with aligned columns; the first row is the heading. Where the columns do not fit
// LineMax, each row is a block of its own instead, one cell a line.
func PrintTable(w io.Writer, rows [][]string) error {
	rows = slices.Clone(rows)
	for i, r := range rows {
		rows[i] = slices.Clone(r)
		for col, cell := range r {
			if cell == "" {
				rows[i][col] = "-"
			}
		}
	}
	if tableWidth(rows) > LineMax {
		return printBlocks(w, rows[0], rows[1:])
	}
	tw := tabwriter.NewWriter(w, 0, 8, tableGap, ' ', 0)
	for _, r := range rows {
		if _, err := fmt.Fprintln(tw, strings.TrimRight(strings.Join(r, "\t"), " ")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

const tableGap = 2 // columns between two cells

func tableWidth(rows [][]string) int {
	width := -tableGap
	for col := range rows[0] {
		widest := 0
		for _, r := range rows {
			widest = max(widest, columns(r[col]))
		}
		width += widest + tableGap
	}
	return width
}

// printBlocks prints every row as lines of a heading and a cell, with an empty line between two rows.
func printBlocks(w io.Writer, heads []string, rows [][]string) error {
	label := 0
	for _, h := range heads {
		label = max(label, columns(h)+tableGap)
	}
	indent := strings.Repeat(" ", tableGap)
	var b strings.Builder
	for i, r := range rows {
		if i > 0 {
			b.WriteByte('\n')
		}
		for col, cell := range r {
			line := heads[col] + strings.Repeat(" ", label-columns(heads[col])) + cell
			b.WriteString(Wrap(line, indent) + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// columns is how wide text is on a terminal.
func columns(text string) int { return utf8.RuneCountInString(text) }

// U64 is a 64-bit number the way JSON carries it (X3).
func U64[T ~uint64](v T) string { return strconv.FormatUint(uint64(v), 10) }

// Count prints a number with commas, for people.
func Count[T ~int | ~int64 | ~uint64](v T) string {
	s := strconv.FormatUint(uint64(v), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Bytes prints a size, for people.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n)/unit, "KMGTP"
	i := 0
	for ; v >= unit && i < len(units)-1; i++ {
		v /= unit
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}

// Wrap breaks text into lines of at most LineMax columns where it can; all but the first are indented. A
// word that is wider alone has a line of its own, and is not broken, so that it can be copied.
func Wrap(text, indent string) string {
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		for columns(line) > LineMax {
			cut := breakAt(line)
			if cut < 0 {
				break
			}
			b.WriteString(strings.TrimRight(line[:cut], " ") + "\n")
			line = indent + strings.TrimLeft(line[cut:], " ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// breakAt returns the last space at which a line can be broken so that its front fits, else the first one
// at all, and -1 where there is none.
func breakAt(line string) int {
	start := len(line) - len(strings.TrimLeft(line, " "))
	best, at := -1, 0
	for i, r := range line {
		if r == ' ' && i > start {
			if at > LineMax && best >= 0 {
				break
			}
			best = i
			if at > LineMax {
				break
			}
		}
		at++
	}
	return best
}

// LineMax is how wide a terminal is taken to be.
const LineMax = 100

// Plural prints "1 node", "2 nodes".
func Plural[T ~int | ~int64 | ~uint64](n T, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Count(n) + " " + what + "s"
}

// IsTerminal reports whether v is a file on a terminal: a character device other than the null device.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// CheckAddress checks the form of a host:port that somebody is to connect to, or with anyHost, of one to
// listen on, whose host may be left out.
func CheckAddress(addr string, anyHost bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" || host == "" && !anyHost {
		return fmt.Errorf("%q is not host:port", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q: the port is not a number from 1 to 65535", addr)
	}
	return nil
}
