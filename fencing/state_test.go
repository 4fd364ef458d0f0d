package fencing

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	alice = WriterID{1}
	bob   = WriterID{2}
)

func TestF2_NewEpoch(t *testing.T) {
	held := State{Promised: Claim{5, alice}}
	for _, tc := range []struct {
		name string
		from State
		c    Claim
		want State
		err  error
	}{
		{"first promise", State{}, Claim{1, alice}, State{Claim{1, alice}}, nil},
		{"above the promise", held, Claim{6, bob}, State{Claim{6, bob}}, nil},
		{"the same again changes nothing", held, Claim{5, alice}, held, nil},
		{"the same epoch, another writer: a lost race, not fencing", held, Claim{5, bob}, held, ErrLostRace},
		{"below the promise", held, Claim{4, alice}, held, ErrFenced},
		{"epoch zero", State{}, Claim{0, alice}, State{}, ErrZeroEpoch},
		{"no writer id", State{}, Claim{1, WriterID{}}, State{}, ErrZeroEpoch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.from.Propose(tc.c)
			require.Equal(t, tc.want, got)
			if tc.err == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tc.err)
			if tc.err == ErrLostRace {
				require.NotErrorIs(t, err, ErrFenced)
			}
		})
	}
}

func TestF3_EqualEpochOfAnotherWriterIsRefused(t *testing.T) {
	s := State{Promised: Claim{5, alice}}
	_, err := s.Admit(Claim{5, bob})
	require.ErrorIs(t, err, ErrLostRace)
	race, ok := errors.AsType[*LostRaceError](err)
	require.True(t, ok)
	require.Equal(t, Claim{5, alice}, race.Holder)
}

func TestF3_HigherEpochPromisesFirst(t *testing.T) {
	s, err := State{Promised: Claim{5, alice}}.Admit(Claim{7, bob})
	require.NoError(t, err)
	require.Equal(t, Claim{7, bob}, s.Promised)
}

func TestW1_FrameNeedsTheVeryPromise(t *testing.T) {
	s := State{Promised: Claim{5, alice}}
	require.NoError(t, s.Holds(Claim{5, alice}))
	require.ErrorIs(t, s.Holds(Claim{6, alice}), ErrNotPromised)
	require.ErrorIs(t, s.Holds(Claim{4, alice}), ErrFenced)
	require.ErrorIs(t, s.Holds(Claim{5, bob}), ErrLostRace)
}

// TestF1_AllSequences runs every sequence of up to six operations over three epochs and two writers,
// crashes included, against the one promise that F1 makes: what was answered is never taken back.
func TestF1_AllSequences(t *testing.T) {
	type op struct {
		c     Claim
		crash bool // after the new state is computed, before it is saved
	}
	var ops []op
	for e := Epoch(1); e <= 3; e++ {
		for _, w := range []WriterID{alice, bob} {
			ops = append(ops, op{Claim{e, w}, false}, op{Claim{e, w}, true})
		}
	}
	var run func(saved State, answered Claim, depth int)
	n := 0
	run = func(saved State, answered Claim, depth int) {
		if depth == 0 {
			return
		}
		for _, o := range ops {
			n++
			next, err := saved.Admit(o.c)
			if err != nil {
				require.Equal(t, saved, next)
				refusedRightly := o.c.Epoch < saved.Promised.Epoch ||
					o.c.Epoch == saved.Promised.Epoch && o.c.Writer != saved.Promised.Writer
				require.True(t, refusedRightly, "%v refused at %v", o.c, saved)
				run(saved, answered, depth-1)
				continue
			}
			if o.crash {
				run(saved, answered, depth-1) // nothing saved, nothing answered
				continue
			}
			if next.Promised.Epoch < answered.Epoch ||
				next.Promised.Epoch == answered.Epoch && next.Promised.Writer != answered.Writer {
				t.Fatalf("answered %v, then %v", answered, next.Promised)
			}
			run(next, next.Promised, depth-1)
		}
	}
	run(State{}, Claim{}, 5)
	require.Greater(t, n, 200_000)
}

func TestStateRoundTrip(t *testing.T) {
	for _, s := range []State{{}, {Claim{1, alice}}, {Claim{1 << 63, bob}}} {
		b, err := s.AppendBinary(nil)
		require.NoError(t, err)
		require.Len(t, b, EncodedSize)
		got, err := ParseState(b)
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
}

func FuzzParseState(f *testing.F) {
	b, _ := State{Claim{7, alice}}.AppendBinary(nil)
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseState(b)
		if err != nil {
			return
		}
		again, err := s.AppendBinary(nil)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

func TestWriterIDText(t *testing.T) {
	got, err := ParseWriterID(alice.String())
	require.NoError(t, err)
	require.Equal(t, alice, got)
	for _, bad := range []string{"", "01", fmt.Sprintf("%032x!", 1), "zz000000000000000000000000000000"} {
		_, err := ParseWriterID(bad)
		require.Error(t, err)
	}
}

func ExampleState_Admit() {
	s := State{Promised: Claim{Epoch: 5, Writer: WriterID{1}}}
	_, err := s.Admit(Claim{Epoch: 4, Writer: WriterID{2}})
	fmt.Println(errors.Is(err, ErrFenced))
	// Output: true
}
