package session

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const hour Millis = 3600 * 1000

func id(n int) (id ID) {
	id[0], id[15] = byte(n), byte(n>>8)
	return id
}

func TestS1_RetryIsAnsweredNotApplied(t *testing.T) {
	s := New(Limits{})
	require.NoError(t, s.Open(id(1), hour))
	require.Equal(t, Answer{Verdict: Apply}, s.Begin(id(1), 1, 1))
	s.Done(id(1), 1, []byte("one"))
	require.Equal(t, Answer{Verdict: Again, Result: []byte("one")}, s.Begin(id(1), 1, 1))

	require.Equal(t, Apply, s.Begin(id(1), 3, 1).Verdict, "proposals overtake each other")
	s.Done(id(1), 3, nil)
	require.Equal(t, Apply, s.Begin(id(1), 2, 1).Verdict)
	s.Done(id(1), 2, []byte("two"))

	require.Equal(t, Apply, s.Begin(id(1), 4, 3).Verdict)
	require.ErrorIs(t, s.Begin(id(1), 2, 1).Err, ErrForgotten, "a retry that comes late says less than is known")
	require.Equal(t, Again, s.Begin(id(1), 3, 1).Verdict)
}

func TestBadInput(t *testing.T) {
	s := New(Limits{Window: 4, Sessions: 1})
	require.ErrorIs(t, s.Begin(id(1), 1, 1).Err, ErrUnknown)
	require.ErrorIs(t, s.Open(id(1), 1), ErrBad)
	require.ErrorIs(t, s.Open(id(1), MaxTTL+1), ErrBad)
	require.NoError(t, s.Open(id(1), hour))
	require.NoError(t, s.Open(id(1), hour), "again")
	require.ErrorIs(t, s.Open(id(2), hour), ErrTooMany)
	for _, c := range [][2]uint64{{0, 0}, {0, 1}, {1, 0}, {1, 2}} {
		require.ErrorIs(t, s.Begin(id(1), c[0], c[1]).Err, ErrBad, "%v", c)
	}
	require.ErrorIs(t, s.Begin(id(1), 5, 1).Err, ErrWindow)
	require.Equal(t, Apply, s.Begin(id(1), 4, 1).Verdict)
	require.ErrorIs(t, s.Begin(id(1), ^uint64(0), 1).Err, ErrWindow)
	s.Done(id(9), 1, nil)
	s.Close(id(9))
	s.Close(id(1))
	require.Zero(t, s.Len())
}

func TestS3_ResultsAreBounded(t *testing.T) {
	s := New(Limits{ResultBytes: 10})
	require.NoError(t, s.Open(id(1), hour))
	for seq := range uint64(3) {
		require.Equal(t, Apply, s.Begin(id(1), seq+1, 1).Verdict)
		s.Done(id(1), seq+1, []byte("4444"))
	}
	require.Equal(t, Again, s.Begin(id(1), 2, 1).Verdict)
	a := s.Begin(id(1), 3, 1)
	require.Equal(t, Again, a.Verdict, "it was applied")
	require.ErrorIs(t, a.Err, ErrResultDropped)
	require.Equal(t, Apply, s.Begin(id(1), 4, 2).Verdict)
	s.Done(id(1), 4, []byte("4444"))
	require.Equal(t, []byte("4444"), s.Begin(id(1), 4, 2).Result, "what was forgotten made room")
}

func TestS4_TimeOnlyEndsSessions(t *testing.T) {
	const start = 1_700_000_000_000
	s := New(Limits{})
	s.Advance(start)
	require.NoError(t, s.Open(id(1), 90_000))
	require.NoError(t, s.Open(id(2), hour))
	s.Advance(start + 1000*3600*24*365) // a clock that is a year ahead moves it by StepMax
	require.Equal(t, 2, s.Len())
	s.Advance(start + 1) // and the right one, after it, by nothing
	require.Equal(t, 2, s.Len())
	s.Advance(start + 1 + 29_000)
	require.Equal(t, 2, s.Len())
	s.Advance(start + 1 + 30_000)
	require.Equal(t, 1, s.Len())
	require.ErrorIs(t, s.Begin(id(1), 1, 1).Err, ErrUnknown)

	s.Advance(-1 << 63)
	s.Advance(1<<63 - 1) // the difference overflows
	require.Equal(t, 1, s.Len())
	require.Equal(t, Apply, s.Begin(id(2), 1, 1).Verdict, "and its use keeps it")
	for i := range Millis(59) {
		s.Advance(i * 60_000)
		require.Equal(t, 1, s.Len(), i)
	}
	for i := range Millis(3) {
		s.Advance((60 + i) * 60_000)
	}
	require.Zero(t, s.Len())
}

// S4: proposers take their stamps, and then wait for their turn: entries are not quite in the order of their stamps. That makes
// no time pass.
func TestHole_S4_StampsOutOfOrder(t *testing.T) {
	const start = 1_700_000_000_000
	s := New(Limits{})
	s.Advance(start)
	require.NoError(t, s.Open(id(1), hour))
	for i := range Millis(1000) {
		s.Advance(start + i)
		s.Advance(start + i - 30_000)
	}
	require.Equal(t, 1, s.Len())
	s.Advance(start + 999 - BackMax)
	for i := range Millis(58) {
		s.Advance(start + 999 - BackMax + (i+1)*StepMax)
	}
	require.Equal(t, 1, s.Len(), "a clock that is that far behind is another one: it counts from there")
	for i := range Millis(3) {
		s.Advance(start + 999 - BackMax + (i+59)*StepMax)
	}
	require.Zero(t, s.Len())
}

// TestS1_S2_S3_Random steps a table beside a model that forgets nothing, and a copy that is encoded and decoded after
// each step.
func TestS1_S2_S3_Random(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{Sessions: 3, Window: 4, ResultBytes: 12}
		tab, twin := New(limits), New(limits)
		applied := map[string]string{} // "reign of session/number": its result
		reign := map[ID]int{}          // an id that is opened again is another session
		stamp := Millis(1000)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				require.Equal(t, tab.Append(nil), twin.Append(nil))
				require.LessOrEqual(t, tab.Len(), limits.Sessions)
				again, err := Decode(twin.Append(nil), limits)
				require.NoError(t, err)
				twin = again
				for i, s := range tab.due {
					require.Equal(t, i, s.at)
					require.LessOrEqual(t, len(s.applied), int(limits.Window))
					require.LessOrEqual(t, s.bytes, limits.ResultBytes)
					require.Greater(t, s.end, tab.now)
				}
			},
			"advance": func(t *rapid.T) {
				stamp += Millis(rapid.Int64Range(-2000, 3000).Draw(t, "by"))
				tab.Advance(stamp)
				twin.Advance(stamp)
			},
			"open": func(t *rapid.T) {
				s, ttl := id(rapid.IntRange(0, 4).Draw(t, "id")), Millis(rapid.IntRange(0, 9).Draw(t, "s"))*1000
				was := tab.open[s] != nil
				err := tab.Open(s, ttl)
				require.Equal(t, fmt.Sprint(err), fmt.Sprint(twin.Open(s, ttl)))
				if err == nil && !was {
					reign[s]++
				}
			},
			"close": func(t *rapid.T) {
				s := id(rapid.IntRange(0, 4).Draw(t, "id"))
				tab.Close(s)
				twin.Close(s)
			},
			"propose": func(t *rapid.T) {
				s := id(rapid.IntRange(0, 4).Draw(t, "id"))
				seq, awaited := rapid.Uint64Range(0, 12).Draw(t, "seq"), rapid.Uint64Range(0, 12).Draw(t, "awaited")
				a := tab.Begin(s, seq, awaited)
				b := twin.Begin(s, seq, awaited)
				require.Equal(t, fmt.Sprint(a), fmt.Sprint(b))
				key := fmt.Sprintf("%v.%d/%d", s, reign[s], seq)
				had, was := applied[key]
				switch a.Verdict {
				case Apply:
					require.False(t, was, "%s is applied twice", key)
					result := rapid.StringN(0, 6, 6).Draw(t, "result")
					applied[key] = result
					tab.Done(s, seq, []byte(result))
					twin.Done(s, seq, []byte(result))
				case Again:
					require.True(t, was)
					if !errors.Is(a.Err, ErrResultDropped) {
						require.Equal(t, had, string(a.Result))
					}
				default:
					require.Error(t, a.Err)
				}
			},
		})
	})
}

func FuzzDecode(f *testing.F) {
	s := New(Limits{})
	s.Advance(5)
	_ = s.Open(id(1), hour)
	_ = s.Begin(id(1), 1, 1)
	s.Done(id(1), 1, []byte("result"))
	_ = s.Open(id(2), 60_000)
	f.Add(s.Append(nil))
	f.Add(New(Limits{}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Decode(b, Limits{})
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		again, err := Decode(got.Append(nil), Limits{})
		require.NoError(t, err)
		require.Equal(t, got.Append(nil), again.Append(nil))
	})
}
