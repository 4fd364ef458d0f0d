package libqjm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/session"
)

// echo is a state machine that remembers what it was given, batch by batch.
type echo struct {
	batches []string
	fail    error
	results int // how many results are missing
	sum     uint64
}

func (e *echo) Apply(batch []Entry) (out [][]byte, err error) {
	s := ""
	for _, x := range batch {
		s += fmt.Sprintf("%d=%s ", x.TxID, x.Data)
		out = append(out, fmt.Appendf(nil, "r%d", x.TxID))
	}
	if e.sum += uint64(len(s)); len(e.batches) < 100 {
		e.batches = append(e.batches, s)
	}
	return out[:len(out)-e.results], e.fail
}

func (e *echo) SaveSnapshot() (func(io.Writer) error, error) {
	all := fmt.Sprint(e.batches)
	return func(w io.Writer) error { _, err := io.WriteString(w, all); return err }, e.fail
}

func (e *echo) LoadSnapshot(r io.Reader) error {
	b, err := io.ReadAll(r)
	e.batches = []string{string(b)}
	return errors.Join(err, e.fail)
}

func (e *echo) Digest() uint64 { return e.sum }

func entries(first TxID, es ...logEntry) (out []Txn) {
	for i, e := range es {
		id := first + TxID(i)
		out = append(out, Txn{ID: id, Last: id, Epoch: 7, Data: e.append(nil)})
	}
	return out
}

func plain(s string) logEntry { return logEntry{kind: entryPlain, data: []byte(s)} }

func inOrder(id byte, seq, awaited uint64, s string) logEntry {
	return logEntry{kind: entryInOrder, stamp: 5, session: session.ID{id}, seq: seq, awaited: awaited, data: []byte(s)}
}

func TestMachine_BatchesAndSessions(t *testing.T) {
	user := &echo{}
	m := newMachine(user, SessionLimits{}, false)
	open := logEntry{kind: entryOpen, stamp: 5, session: session.ID{1}, ttl: 10_000}
	outs, err := m.apply(entries(1, plain("a"), open, plain("b"), inOrder(1, 1, 1, "c"), inOrder(2, 1, 1, "nobody")))
	require.NoError(t, err)
	require.Equal(t, []string{"1=a 3=b 4=c "}, user.batches, "one batch for all")
	require.Equal(t, "r4", string(outs[3].result))
	require.ErrorIs(t, outs[4].err, ErrSession)

	outs, err = m.apply(entries(6, inOrder(1, 2, 1, "d"), inOrder(1, 2, 1, "again"), inOrder(1, 1, 1, "again"), plain("e")))
	require.NoError(t, err)
	require.Equal(t, []string{"6=d ", "9=e "}, user.batches[1:], "a retry in the same batch is none of the user's")
	require.Equal(t, "r6", string(outs[1].result))
	require.Equal(t, "r4", string(outs[2].result))
	require.EqualValues(t, 9, m.applied)

	outs, err = m.apply(entries(10, logEntry{kind: entryClose, stamp: 6, session: session.ID{1}}, inOrder(1, 3, 1, "f")))
	require.NoError(t, err)
	require.ErrorIs(t, outs[1].err, ErrSession)
}

func TestMachine_Refuses(t *testing.T) {
	for name, txns := range map[string][]Txn{
		"a gap":   entries(2, plain("a")),
		"opaque":  {{ID: 1, Last: 3, Opaque: true, Data: plain("a").append(nil)}},
		"empty":   {{ID: 1, Last: 1}},
		"kind":    {{ID: 1, Last: 1, Data: []byte{99}}},
		"cut off": {{ID: 1, Last: 1, Data: []byte{entryOpen, 1, 2}}},
		"digests": {{ID: 1, Last: 1, Data: []byte{entryDigests, 1, 2}}},
	} {
		_, err := newMachine(&echo{}, SessionLimits{}, false).apply(txns)
		require.ErrorIs(t, err, ErrNotOurs, name)
	}
	_, err := newMachine(&echo{results: 1}, SessionLimits{}, false).apply(entries(1, plain("a"), plain("b")))
	require.ErrorIs(t, err, ErrStateMachine)
	_, err = newMachine(&echo{fail: io.ErrClosedPipe}, SessionLimits{}, false).apply(entries(1, plain("a")))
	require.ErrorIs(t, err, ErrStateMachine)
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

func TestMachine_Snapshot(t *testing.T) {
	m := newMachine(&echo{}, SessionLimits{}, false)
	_, err := m.apply(entries(1, plain("a"), logEntry{kind: entryOpen, session: session.ID{1}, ttl: 5000}, inOrder(1, 1, 1, "b")))
	require.NoError(t, err)
	write, err := m.save()
	require.NoError(t, err)
	_, err = m.apply(entries(4, plain("later")))
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, write(&b))
	content := b.Bytes()

	user := &echo{}
	twin := newMachine(user, SessionLimits{}, false)
	require.NoError(t, twin.load(3, int64(len(content)), bytes.NewReader(content)))
	require.Equal(t, []string{"[1=a 3=b ]"}, user.batches)
	outs, err := twin.apply(entries(4, inOrder(1, 1, 1, "b")))
	require.NoError(t, err)
	require.Equal(t, "r3", string(outs[0].result))

	for cut := range content {
		if cut >= len(content)-len("[1=a 3=b ]") {
			break // the user's own
		}
		err := twin.load(3, int64(cut), bytes.NewReader(content[:cut]))
		require.ErrorIs(t, err, ErrBadSnapshot, cut)
	}
	for i := range 21 { // the head
		bad := bytes.Clone(content)
		bad[i] ^= 0x80
		require.Error(t, twin.load(3, int64(len(bad)), bytes.NewReader(bad)), i)
	}
	require.ErrorIs(t, twin.load(4, int64(len(content)), bytes.NewReader(content)), ErrBadSnapshot, "of another txid")
	user.fail = io.ErrClosedPipe
	require.ErrorIs(t, twin.load(3, int64(len(content)), bytes.NewReader(content)), ErrStateMachine)
}

func TestDigests_NameTheFirst(t *testing.T) {
	a, b := newMachine(&echo{}, SessionLimits{}, true), newMachine(&echo{}, SessionLimits{}, true)
	next := TxID(1)
	both := func(es ...logEntry) error {
		txns := entries(next, es...)
		next += TxID(len(es))
		_, err := a.apply(txns)
		require.NoError(t, err)
		_, err = b.apply(txns)
		return err
	}
	tell := func(told TxID) (logEntry, TxID) {
		first, data := a.digests.pending(told)
		return logEntry{kind: entryDigests, first: first, data: data}, first + TxID(len(data)/digestSize) - 1
	}
	told := TxID(0)
	for range 3 * digestsKept / digestsPerEntry {
		for range digestsPerEntry - 1 {
			require.NoError(t, both(plain("x")))
		}
		var e logEntry
		e, told = tell(told)
		require.NoError(t, both(e))
		require.Equal(t, next-2, told)
		require.LessOrEqual(t, len(a.digests.sums), digestsKept)
	}
	b.user.(*echo).sum++
	require.NoError(t, both(plain("x")))
	first := next - 1
	require.NoError(t, both(plain("x")))
	e, _ := tell(told)
	err := both(e)
	require.ErrorIs(t, err, ErrStateDiverges)
	require.Contains(t, err.Error(), fmt.Sprintf("txid %d is the first", first))
}

func FuzzParseEntry(f *testing.F) {
	for _, e := range []logEntry{
		plain("a"), inOrder(1, 2, 1, "b"), {kind: entryOpen, stamp: 1, ttl: 5}, {kind: entryClose, stamp: -1},
		{kind: entryDigests, first: 9, data: make([]byte, 16)},
	} {
		f.Add(e.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err != nil {
			require.ErrorIs(t, err, ErrNotOurs)
			return
		}
		again, err := parseEntry(e.append(nil))
		require.NoError(t, err)
		require.Equal(t, e, again)
		require.LessOrEqual(t, len(e.append(nil))-len(e.data), entryHeadMax)
	})
}
