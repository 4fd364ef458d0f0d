package snapshot

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/segments"
)

func snap(txid segments.TxID) Snapshot {
	at := segments.Position{TxID: txid, Digest: segments.Digest{byte(txid), 1}}
	return Snapshot{TxID: txid, At: at, Size: int64(txid), Checksum: Checksum{byte(txid)}, Epoch: 3}
}

func TestDue(t *testing.T) {
	for _, test := range []struct {
		policy Policy
		since  Progress
		want   Reason
	}{
		{Policy{}, Progress{Bytes: 1 << 40, Txns: 1 << 40, Millis: 1 << 40, LastSize: 1}, ReasonNone},
		{Policy{Bytes: 100}, Progress{Bytes: 99, Txns: 1}, ReasonNone},
		{Policy{Bytes: 100}, Progress{Bytes: 100, Txns: 1}, ReasonBytes},
		{Policy{Txns: 10}, Progress{Bytes: 1000, Txns: 9}, ReasonNone},
		{Policy{Txns: 10}, Progress{Txns: 10}, ReasonTxns},
		{Policy{IntervalMillis: 5}, Progress{Txns: 1, Millis: 4}, ReasonNone},
		{Policy{IntervalMillis: 5}, Progress{Txns: 1, Millis: 5}, ReasonInterval},
		{Policy{IntervalMillis: 5}, Progress{Millis: 500}, ReasonNone}, // nothing new
		{Policy{Growth: 50}, Progress{Txns: 1, Bytes: 499, LastSize: 1000}, ReasonNone},
		{Policy{Growth: 50}, Progress{Txns: 1, Bytes: 500, LastSize: 1000}, ReasonGrowth},
		{Policy{Growth: 50}, Progress{Txns: 1, Bytes: 500}, ReasonNone}, // no snapshot to grow from
		{Policy{Growth: math.MaxInt}, Progress{Txns: 1, Bytes: math.MaxInt64, LastSize: math.MaxInt64}, ReasonNone},
		{Policy{Growth: 100}, Progress{Txns: 1, Bytes: math.MaxInt64, LastSize: math.MaxInt64}, ReasonGrowth},
		{Policy{Growth: 1}, Progress{Txns: 1, Bytes: -5, LastSize: 100}, ReasonNone},
		{Policy{Bytes: 1, Txns: 1, Growth: 1, IntervalMillis: 1}, Progress{Bytes: 1, Txns: 1, Millis: 1, LastSize: 1}, ReasonBytes},
	} {
		due, why := Due(test.policy, test.since)
		require.Equal(t, test.want, why, "%+v", test)
		require.Equal(t, test.want != ReasonNone, due)
		require.NotEqual(t, "invalid", why.String())
	}
	require.NoError(t, Policy{Bytes: 1}.Validate())
	require.ErrorIs(t, Policy{Growth: -1}.Validate(), ErrInvalid)
}

func TestSnapshotCodec(t *testing.T) {
	s := snap(300)
	s.At.TxID, s.Size = 310, SizeMax
	b, err := s.AppendBinary([]byte("x"))
	require.NoError(t, err)
	require.Len(t, b, 1+EncodedSize)
	got, err := ParseSnapshot(b[1:])
	require.NoError(t, err)
	require.Equal(t, s, got)
	for n := range EncodedSize {
		_, err := ParseSnapshot(b[1 : 1+n])
		require.ErrorIs(t, err, ErrInvalid)
	}
	_, err = ParseSnapshot(append(slices.Clone(b[1:]), 0))
	require.ErrorIs(t, err, ErrInvalid)
	later := slices.Clone(b[1:])
	later[0]++
	_, err = ParseSnapshot(append(later, 1, 2, 3))
	require.ErrorIs(t, err, ErrUnsupported)
	for name, change := range map[string]func(s *Snapshot){
		"txid":   func(s *Snapshot) { s.TxID = 0 },
		"at":     func(s *Snapshot) { s.At.TxID = s.TxID - 1 },
		"digest": func(s *Snapshot) { s.At.Digest = segments.Digest{} },
		"epoch":  func(s *Snapshot) { s.Epoch = 0 },
		"size":   func(s *Snapshot) { s.Size = SizeMax + 1 },
		"minus":  func(s *Snapshot) { s.Size = -1 },
	} {
		bad := s
		change(&bad)
		_, err := bad.AppendBinary(nil)
		require.ErrorIs(t, err, ErrInvalid, name)
	}
}

func FuzzParseSnapshot(f *testing.F) {
	b, err := snap(300).AppendBinary(nil)
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSnapshot(b)
		if err != nil {
			require.True(t, errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnsupported))
			return
		}
		again, err := s.AppendBinary(nil)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}
