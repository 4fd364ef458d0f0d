package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	tests := []struct {
		name string
		args []string
		exit int
		want string // part of the output
	}{
		{"holds", []string{"-writers", "1", "-txids", "1"}, 0, "complete=true"},
		{"violated", []string{"-writers", "1", "-txids", "1", "-drop", "W0Idempotent"}, exitFound, "   9 w1 Append(1) at B\n  => LOST: "},
		{"fault", []string{"-writers", "1", "-txids", "1", "-fault", "Reuse"}, exitFound, "=> DIVERGENCE: "},
		{"limit", []string{"-limit", "100"}, 0, "complete=false"},
		{"walk", []string{"-walk", "5", "-steps", "9", "-seed", "2"}, 0, "no violation"},
		{"script", []string{"-script", "w1 NewEpoch+Prepare(1) at C; w2 NewEpoch"}, 0, "depth=2"},
		{"unavailable", []string{"-script", "w1 sends"}, exitUsage, `no action "w1 sends"`},
		{"unknown rule", []string{"-drop", "nope"}, exitUsage, `unknown rule "nope"`},
		{"unknown fault", []string{"-fault", "nope"}, exitUsage, `unknown fault "nope"`},
		{"unknown check", []string{"-skip", "nope"}, exitUsage, `unknown check "nope"`},
		{"unknown reader", []string{"-reader", "nope"}, exitUsage, `unknown reader "nope"`},
		{"too large", []string{"-writers", "4"}, exitUsage, "writers (got 4, want 1 to 3)"},
		{"argument", []string{"more"}, exitUsage, `unexpected argument "more"`},
		{"help", []string{"-h"}, 0, "-reader"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			require.Equal(t, tt.exit, run(tt.args, &out, &out), out.String())
			require.Contains(t, out.String(), tt.want)
		})
	}
}
