package quorum

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func member(i int) Member {
	return Member{ID: NodeID(fmt.Sprintf("n%02d", i)), Incarnation: Incarnation{byte(i), 1}, Addr: fmt.Sprintf("h%d:1", i)}
}

func config(sizes ...[]int) Config {
	c := Config{Version: 3}
	for _, s := range sizes {
		var set []Member
		for _, i := range s {
			set = append(set, member(i))
		}
		c.Sets = append(c.Sets, set)
	}
	return c
}

// naiveMajority counts the slow way.
func naiveMajority(c Config, has map[NodeID]bool) bool {
	if len(c.Sets) == 0 {
		return false
	}
	for _, set := range c.Sets {
		yes, no := 0, 0
		for _, m := range set {
			if has[m.ID] {
				yes++
			} else {
				no++
			}
		}
		if yes <= no {
			return false
		}
	}
	return true
}

func TestMajorityAgainstNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var sizes [][]int
		for range 1 + rng.IntN(2) {
			perm := rng.Perm(9)[:1+rng.IntN(7)]
			sizes = append(sizes, perm)
		}
		c := config(sizes...)
		has, val := map[NodeID]bool{}, map[NodeID]uint64{}
		for i := range 9 {
			has[member(i).ID] = rng.IntN(2) == 0
			val[member(i).ID] = rng.Uint64N(6)
		}
		require.Equal(t, naiveMajority(c, has), c.Majority(func(m Member) bool { return has[m.ID] }))
		require.Equal(t, naiveMajority(c, has), c.MajorityPossible(func(m Member) bool { return !has[m.ID] }))

		want := uint64(0)
		for v := uint64(1); v <= 6; v++ {
			reached := map[NodeID]bool{}
			for id, x := range val {
				reached[id] = x >= v
			}
			if naiveMajority(c, reached) {
				want = v
			}
		}
		require.Equal(t, want, c.Common(func(m Member) uint64 { return val[m.ID] }))
	}
}

func TestTwoMajoritiesMeet(t *testing.T) {
	for n := 1; n <= 7; n++ {
		ids := make([]int, n)
		for i := range ids {
			ids[i] = i
		}
		c := config(ids)
		for a := range 1 << n {
			for b := range 1 << n {
				in := func(mask int) func(Member) bool {
					return func(m Member) bool { var i int; fmt.Sscanf(string(m.ID), "n%d", &i); return mask>>i&1 == 1 }
				}
				if c.Majority(in(a)) && c.Majority(in(b)) {
					require.NotZero(t, a&b)
				}
			}
			if n > 5 {
				break // the pairs of larger sets take long and say nothing new
			}
		}
	}
}

func TestDeletedJournalHasNoMajority(t *testing.T) {
	c := Config{Version: 2}
	require.True(t, c.IsEmpty())
	require.NoError(t, c.Validate())
	require.False(t, c.Majority(func(Member) bool { return true }))
	require.Zero(t, c.Common(func(Member) uint64 { return 9 }))
}

// TestN1_IncarnationIsIdentity: a wiped disk under the old name is no member.
func TestN1_IncarnationIsIdentity(t *testing.T) {
	c := config([]int{1, 2, 3})
	require.True(t, c.Has(member(1).ID, member(1).Incarnation))
	require.False(t, c.Has(member(1).ID, Incarnation{9}))
}

func TestDigestIgnoresAddresses(t *testing.T) {
	a, b := config([]int{1, 2, 3}), config([]int{1, 2, 3})
	b.Sets[0][1].Addr = "elsewhere:1"
	require.Equal(t, a.Digest(), b.Digest())
	b.Sets[0][1].Incarnation[5]++
	require.NotEqual(t, a.Digest(), b.Digest())
}

func TestConfigRoundTripAndBounds(t *testing.T) {
	for _, c := range []Config{config([]int{1}), config([]int{1, 2, 3}), config([]int{1, 2, 3}, []int{3, 4, 5}), {Version: 9}} {
		b, err := c.AppendBinary(nil)
		require.NoError(t, err)
		got, err := ParseConfig(b)
		require.NoError(t, err)
		require.Equal(t, c, got)
		for i := range b {
			_, err := ParseConfig(b[:i])
			require.Error(t, err)
		}
		_, err = ParseConfig(append(b, 0))
		require.Error(t, err)
	}
	for _, bad := range []Config{{}, config([]int{2, 1}), config([]int{1, 1}), config([]int{1}, []int{1}, []int{1}), config([]int{})} {
		require.Error(t, bad.Validate())
	}
	for _, id := range []NodeID{"", "a/b", "a b", "é", NodeID(make([]byte, 65))} {
		require.Error(t, id.Validate())
	}
}

func FuzzParseConfig(f *testing.F) {
	b, _ := config([]int{1, 2, 3}, []int{3, 4}).AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		again, err := c.AppendBinary(nil)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}
