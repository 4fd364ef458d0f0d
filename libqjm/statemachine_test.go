package libqjm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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

// TestMachine_BatchesDoNotMatter: replicas get the same transactions in other batches, and have the same state and the
// same outcomes all the same.
func TestMachine_BatchesDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := SessionLimits{Sessions: 2, Window: 4, ResultBytes: 64}
		one, many := newMachine(&echo{}, limits, false), newMachine(&echo{}, limits, false)
		txns := entries(1, rapid.SliceOfN(rapid.Custom(anyEntry), 20, 60).Draw(t, "log")...)
		for at := 0; at < len(txns); {
			end := rapid.IntRange(at+1, len(txns)).Draw(t, "batch")
			got, err := one.apply(txns[at:end])
			require.NoError(t, err)
			for i := at; i < end; i++ {
				want, err := many.apply(txns[i : i+1])
				require.NoError(t, err)
				require.Equal(t, want[0], got[i-at], "txid %d", txns[i].ID)
			}
			at = end
		}
		require.Equal(t, many.sessions.Append(nil), one.sessions.Append(nil))
		require.Equal(t, strings.Join(many.user.(*echo).batches, ""), strings.Join(one.user.(*echo).batches, ""))
	})
}

func anyEntry(t *rapid.T) logEntry {
	e := logEntry{
		kind:    rapid.SampledFrom([]byte{entryPlain, entryInOrder, entryInOrder, entryOpen, entryOpen, entryClose}).Draw(t, "kind"),
		stamp:   session.Millis(rapid.Int64Range(0, 5000).Draw(t, "stamp")),
		session: session.ID{rapid.ByteRange(1, 2).Draw(t, "session")},
		ttl:     session.Millis(rapid.Int64Range(1000, 3000).Draw(t, "ttl")),
		seq:     rapid.Uint64Range(1, 3).Draw(t, "seq"),
	}
	e.awaited = rapid.Uint64Range(1, e.seq).Draw(t, "awaited")
	if e.kind != entryOpen && e.kind != entryClose {
		e.data = []byte(rapid.SampledFrom([]string{"", "a", strings.Repeat("b", 40)}).Draw(t, "data"))
	}
	return e
}

// TestMachine_ReadingFails: it is no fault of the state machine, and may be tried again; what is left of a snapshot is read, for
// its checksum is compared at the end.
func TestMachine_ReadingFails(t *testing.T) {
	m := newMachine(&echo{}, SessionLimits{}, false)
	_, err := m.apply(entries(1, plain("a")))
	require.NoError(t, err)
	write, err := m.save()
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, write(&b))
	away := errors.New("the node is away")
	for name, user := range map[string]StateMachine{"reads on": &echo{}, "stops early": lazy{&echo{}}} {
		m := newMachine(user, SessionLimits{}, false)
		err := m.load(1, int64(b.Len()), io.MultiReader(bytes.NewReader(b.Bytes()), iotest.ErrReader(away)))
		require.ErrorIs(t, err, away, name)
		require.NotErrorIs(t, err, ErrStateMachine, name)
		require.EqualValues(t, 0, m.applied)
		require.NoError(t, m.load(1, int64(b.Len()), bytes.NewReader(b.Bytes())))
		require.EqualValues(t, 1, m.applied)
	}
}

// lazy loads without reading to the end.
type lazy struct{ StateMachine }

func (lazy) LoadSnapshot(io.Reader) error { return nil }
