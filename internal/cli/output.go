package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
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

// PrintTable prints rows with aligned columns; the first row is the heading.
func PrintTable(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, c := range r {
			if c == "" {
				c = "-"
			}
			cells[i] = c
		}
		if _, err := fmt.Fprintln(tw, strings.TrimRight(strings.Join(cells, "\t"), " ")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

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

// Wrap breaks text into lines of at most LineMax columns where it can; all but the first are indented.
func Wrap(text, indent string) string {
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		for len(line) > LineMax {
			cut := strings.LastIndexByte(line[:LineMax+1], ' ')
			if cut <= len(indent) {
				break // one word: it is not broken, so that it can be copied
			}
			b.WriteString(line[:cut] + "\n")
			line = indent + line[cut+1:]
		}
		b.WriteString(line)
	}
	return b.String()
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
