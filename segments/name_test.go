package segments

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestNames(t *testing.T) {
	for s, n := range map[string]Name{
		"00000000000000000001-00000000000000000400.seg":                 {Kind: NameFinalized, First: 1, Last: 400},
		"00000000000000000401.inprogress":                               {Kind: NameInProgress, First: 401},
		"00000000000000000401.inprogress.torn-2":                        {Kind: NameAside, First: 401, Reason: ReasonTorn, N: 2},
		"00000000000000000001-00000000000000000400.seg.damaged-1":       {Kind: NameAside, First: 1, Last: 400, Reason: ReasonDamaged, N: 1},
		"00000000000000000401.inprogress.install-replaced":              {Kind: NameInstall, First: 401, Reason: ReasonReplaced},
		"00000000000000000001-00000000000000000400.seg.install-damaged": {Kind: NameInstall, First: 1, Last: 400, Reason: ReasonDamaged},
		"incoming-00000000000000000401-peer2.tmp":                       {Kind: NameTemporary, First: 401, Tag: "peer2"},
		"18446744073709551614-18446744073709551615.seg":                 {Kind: NameFinalized, First: 1<<64 - 2, Last: 1<<64 - 1},
	} {
		require.Equal(t, s, n.String())
		got, ok := ParseName(s)
		require.True(t, ok, s)
		require.Equal(t, n, got)
	}
	for _, s := range []string{
		"", "x", ".seg", "1-2.seg", "00000000000000000000.inprogress", "00000000000000000002-00000000000000000001.seg",
		"00000000000000000001.inprogress.tmp", "00000000000000000001.inprogress.torn-0", "00000000000000000001.inprogress.torn-01",
		"00000000000000000001.inprogress.other-1", "00000000000000000001.inprogress.torn-1.x", "00000000000000000001.inprogress.",
		"incoming-00000000000000000001-.tmp", "incoming-00000000000000000001-A.tmp", "incoming-00000000000000000001-a/b.tmp",
		"99999999999999999999.inprogress", "+0000000000000000001.inprogress", "00000000000000000001.inprogress.install-x",
	} {
		_, ok := ParseName(s)
		require.False(t, ok, s)
	}
}

func TestNameRoundTrip(t *testing.T) {
	reasons := []Reason{ReasonStale, ReasonTorn, ReasonLeftover, ReasonDamaged, ReasonReplaced}
	rapid.Check(t, func(rt *rapid.T) {
		n := Name{Kind: NameKind(rapid.IntRange(1, 5).Draw(rt, "kind")), First: TxID(rapid.Uint64Range(1, 1<<63).Draw(rt, "first"))}
		last := n.First + TxID(rapid.Uint64Range(0, 1<<62).Draw(rt, "len"))
		finalized := rapid.Bool().Draw(rt, "finalized")
		switch n.Kind {
		case NameFinalized:
			n.Last = last
		case NameAside, NameInstall:
			if finalized {
				n.Last = last
			}
			n.Reason = rapid.SampledFrom(reasons).Draw(rt, "reason")
			if n.Kind == NameAside {
				n.N = rapid.Uint64Range(1, 1<<63).Draw(rt, "n")
			}
		case NameTemporary:
			n.Tag = rapid.StringMatching(`[a-z0-9]{1,64}`).Draw(rt, "tag")
		}
		got, ok := ParseName(n.String())
		require.True(t, ok)
		require.Equal(t, n, got)
	})
}
