package journalnode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
)

// M6: a leader counts answers to its own questions only, and only while they are new.
func TestM6_Questions(t *testing.T) {
	var a asking
	at := time.Now()
	first := a.ask(7, at)
	require.NotZero(t, first)
	require.Equal(t, first, a.ask(7, at.Add(askEvery-1)), "not with each round")
	second := a.ask(7, at.Add(askEvery))
	require.Greater(t, second, first)
	require.True(t, a.knows(first))
	require.True(t, a.knows(second))
	require.False(t, a.knows(second+1))
	require.False(t, a.knows(0), "no answer")
	third := a.ask(7, at.Add(answerFresh+1))
	require.False(t, a.knows(first), "too old")
	require.True(t, a.knows(third))
	a.ask(8, at.Add(answerFresh+2))
	require.False(t, a.knows(third), "another change")
}

// M6: only a writer that never answers is one that does not know the question.
func TestM6_AskedInVain(t *testing.T) {
	var a asking
	at := time.Now()
	w, next := fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}, fencing.Claim{Epoch: 2, Writer: fencing.WriterID{2}}
	require.False(t, a.inVain(w, false, at))
	require.False(t, a.inVain(w, false, at.Add(answerPatience-1)))
	require.True(t, a.inVain(w, false, at.Add(answerPatience)))
	require.False(t, a.inVain(next, false, at.Add(answerPatience)), "another writer is waited for anew")
	require.False(t, a.inVain(next, true, at.Add(answerPatience+1)))
	require.False(t, a.inVain(next, false, at.Add(10*answerPatience)), "it has answered before: it knows the question")
}
