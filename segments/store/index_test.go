package store

import (
	"errors"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorumjournal/qjm/segments"
)

// checkLists compares all that can be asked of a directory's segments with Infos.
func checkLists(t testingT, d *Dir) {
	t.Helper()
	counted, infos := d.FinalizedBytes(), d.Infos()
	bytes := int64(0)
	var progress, damaged []Info
	asked := []segments.TxID{0, 1, math.MaxUint64}
	for i, in := range infos {
		require.True(t, i == 0 || infos[i-1].First < in.First, "sorted, each once")
		asked = append(asked, in.First-1, in.First, in.Last, in.Last+1)
		if in.Finalized {
			bytes += in.Bytes
		} else {
			progress = append(progress, in)
		}
		if in.State == StateDamaged {
			damaged = append(damaged, in)
		}
	}
	require.Equal(t, progress, d.InProgress())
	require.Equal(t, sizeless(damaged...), sizeless(d.Damaged()...))
	require.Equal(t, bytes, counted)
	checkRun(t, d, infos)
	for _, x := range asked {
		for _, limit := range []int{1, 2, len(infos) + 1} {
			rest := slices.DeleteFunc(slices.Clone(infos), func(in Info) bool { return in.First <= x })
			page, more := d.Page(x, limit)
			require.Equal(t, len(rest) > limit, more)
			require.Equal(t, append([]Info{}, rest[:min(limit, len(rest))]...), append([]Info{}, page...))
		}
		upTo, found := d.FinalizedUpTo(x)
		require.Equal(t, sizeless(last(infos, func(in Info) bool { return in.Finalized && in.First <= x })), sizeless(upTo))
		require.Equal(t, upTo.First != 0, found)
		for _, open := range append(progress, Info{}, Info{First: 1}) {
			holds := Info{}
			if upTo.First != 0 && upTo.Last >= x {
				holds = upTo
			} else {
				holds = last(infos, func(in Info) bool { return !in.Finalized && in.First == open.First && in.First <= x })
			}
			got, found := d.Holding(x, open.First)
			require.Equal(t, sizeless(holds), sizeless(got))
			require.Equal(t, holds.First != 0, found)
		}
	}
}

func checkRun(t testingT, d *Dir, infos []Info) {
	t.Helper()
	first, isRun := Info{}, true
	for i, in := range infos {
		isRun = isRun && in.State != StateDamaged && (i == 0 || infos[i-1].Finalized && infos[i-1].Last+1 == in.First)
		first = infos[0]
	}
	oldest, newest, whole := d.Run()
	require.Equal(t, first.First, oldest)
	require.Equal(t, sizeless(last(infos, func(Info) bool { return true })), sizeless(newest))
	require.Equal(t, isRun, whole)
	alone, found := d.Newest()
	require.Equal(t, newest, alone)
	require.Equal(t, len(infos) > 0, found)
}

// last returns the last one that is meant, or none.
func last(infos []Info, meant func(Info) bool) Info {
	for _, in := range slices.Backward(infos) {
		if meant(in) {
			return in
		}
	}
	return Info{}
}

func sizeless(infos ...Info) []Info {
	out := append([]Info{}, infos...)
	for i := range out {
		out[i].Bytes = 0
	}
	return out
}

// The index says of each segment what a map of them says, whatever came, went, ended or was damaged, in which order,
// with holes, with leftovers, and with copies that overlap.
func TestIndexIsItsMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d, model := &Dir{}, map[segments.TxID]*segment{}
		pick := func() *segment {
			if len(model) == 0 {
				rt.Skip("no segment")
			}
			return model[rapid.SampledFrom(slices.Sorted(maps.Keys(model))).Draw(rt, "segment")]
		}
		made := func() *segment {
			s := &segment{name: segments.Name{Kind: segments.NameInProgress, First: segments.TxID(rapid.IntRange(1, 12).Draw(rt, "first"))}, bytes: -1}
			if rapid.IntRange(0, 3).Draw(rt, "kind") > 0 {
				finalizeAt(rt, s)
			}
			return s
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put":    func(*rapid.T) { s := made(); model[s.name.First] = s; d.segs.put(s) },
			"remove": func(*rapid.T) { s := pick(); delete(model, s.name.First); d.segs.remove(s.name.First) },
			"damage": func(*rapid.T) { d.segs.damage(pick(), errors.New("rotten")) },
			"finalize": func(*rapid.T) {
				if s := pick(); !s.finalized() {
					d.segs.change(s, func(s *segment) { finalizeAt(rt, s) })
				}
			},
			"replaced": func(*rapid.T) { d.segs.damage(&segment{name: pick().name}, errors.New("of a copy that is gone")) },
			"": func(*rapid.T) {
				require.Len(rt, d.segs.all, len(model))
				for _, s := range d.segs.all {
					require.Same(rt, model[s.name.First], s)
					s.bytes = max(s.bytes, 0) // of those in progress, which nobody counts; the others have theirs
				}
				checkLists(rt, d)
			},
		})
	})
}

func finalizeAt(rt *rapid.T, s *segment) {
	s.name.Kind, s.name.Last = segments.NameFinalized, s.name.First+segments.TxID(rapid.IntRange(0, 3).Draw(rt, "length"))
	s.bytes = rapid.Int64Range(0, 9).Draw(rt, "bytes")
}
