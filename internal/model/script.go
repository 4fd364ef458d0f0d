package model

import (
	"fmt"
	"strings"
)

// UnavailableError says that a script asks for an action that the rules do not allow where it stands.
type UnavailableError struct {
	Line string   // the script's line
	Done []string // the actions before it
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("model: no action %q after %d steps", e.Line, len(e.Done))
}

// ParseScript splits a script at semicolons and line ends.
func ParseScript(s string) []string {
	var lines []string
	for _, line := range strings.FieldsFunc(s, func(r rune) bool { return r == ';' || r == '\n' }) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// Replay takes the actions that lines name, checking every state on the way. A line names the
// action whose text it is, else the first whose text begins with it. The replay ends at the first
// violation, wherever in the script it is.
func Replay(cfg Config, lines []string) (Result, error) {
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	var s state
	var trace []string
	for _, line := range lines {
		steps, v := successors(&cfg, &s)
		k := match(steps, line)
		if k < 0 {
			return Result{States: len(trace) + 1, Transitions: len(trace), Depth: len(trace)}, &UnavailableError{line, trace}
		}
		trace = append(trace, steps[k].by.String())
		s = steps[k].next
		if v == nil || k < len(steps)-1 {
			v = cfg.check(&s)
		}
		if v != nil {
			v.Trace = trace
			return Result{States: len(trace) + 1, Transitions: len(trace), Depth: len(trace), Violation: v}, nil
		}
	}
	return Result{States: len(trace) + 1, Transitions: len(trace), Depth: len(trace)}, nil
}

func match(steps []step, line string) int {
	prefix := -1
	for k := range steps {
		switch text := steps[k].by.String(); {
		case text == line:
			return k
		case prefix < 0 && strings.HasPrefix(text, line):
			prefix = k
		}
	}
	return prefix
}
