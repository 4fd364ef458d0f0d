package segments

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		prev := Position{TxID: TxID(rapid.Uint64Range(0, 1<<60).Draw(rt, "prev"))}
		copy(prev.Digest[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "digest"))
		txns := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, 40).Draw(rt, "txns")
		var b Builder
		b.Reset(prev.TxID+1, 3)
		for _, txn := range txns {
			require.NoError(t, b.Add(txn))
		}
		size := b.Size()
		f, err := b.Seal(prev.Digest, SealOptions{Compress: rapid.Bool().Draw(rt, "compress")})
		require.NoError(t, err)
		require.LessOrEqual(t, f.Size(), size)

		got, err := ParseFrame(append(bytes.Clone(f.Bytes()), "behind"...))
		require.NoError(t, err)
		require.Equal(t, f.Header(), got.Header())
		require.NoError(t, got.Verify(prev.Digest))
		require.NoError(t, got.CheckPayload())
		require.Equal(t, Range{prev.TxID + 1, prev.TxID + TxID(len(txns))}, got.Range())
		all, err := got.Txns()
		require.NoError(t, err)
		for i, txn := range all {
			require.Equal(t, prev.TxID+1+TxID(i), txn.ID)
			require.Equal(t, string(txns[i]), string(txn.Data))
		}
	})
}

func TestFrameOpaque(t *testing.T) {
	for _, compress := range []bool{false, true} {
		blob := []byte(strings.Repeat("opaque ", 100))
		f, err := SealOpaque(Digest{9}, 2, 50, 1000, blob, SealOptions{Compress: compress})
		require.NoError(t, err)
		require.True(t, f.Opaque())
		require.Equal(t, compress, f.Compressed())
		require.Equal(t, Range{50, 1049}, f.Range())
		require.NoError(t, f.Verify(Digest{9}))
		require.NoError(t, f.CheckPayload())
		got, err := f.Payload()
		require.NoError(t, err)
		require.Equal(t, blob, got)
		require.ErrorIs(t, f.EachTxn(nil), ErrUnsupported)
	}
	_, err := SealOpaque(Digest{}, 1, 1, MaxFrameTxns+1, nil, SealOptions{})
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = SealOpaque(Digest{}, 1, 1, 1, make([]byte, MaxFramePayload+1), SealOptions{})
	require.ErrorIs(t, err, ErrTooLarge)
}

// The digest is what docs/format.md says, computed the slow way.
func TestG2_ChainDigestByTheBook(t *testing.T) {
	prev := Digest{0xff, 2, 3}
	for _, n := range []int{0, 1, 200, 300, 1024, 1100, 5000, 100_000} {
		f := frameOf(t, Position{4, prev}, 9, strings.Repeat("x", n))
		raw := f.Bytes()
		book := append([]byte(nil), prev[:]...)
		book = append(book, raw[0:12]...)
		book = append(book, raw[16:40]...)
		book = append(book, raw[56:]...)
		require.Equal(t, Digest(xxh3.Hash128(book).Bytes()), f.Digest(), n)
		require.Equal(t, f.Digest(), chainDigest(prev, raw), n)
		require.NoError(t, f.VerifyChain(prev))
		require.ErrorIs(t, f.VerifyChain(Digest{}), ErrGap)
	}
}

// Every flipped bit is found, by the header checks or by the checksum, and all but those in the
// stored digest's own checksum field by the chain, too.
func TestFrameEveryBitFlipIsFound(t *testing.T) {
	f := frameOf(t, Position{4, Digest{1}}, 9, "one", "two", strings.Repeat("three", 20))
	for i := range f.Bytes() {
		for bit := range 8 {
			b := bytes.Clone(f.Bytes())
			b[i] ^= 1 << bit
			got, err := ParseFrame(b)
			if err == nil {
				err = got.VerifyChecksum()
				if i < frameOffCRC || i >= frameOffFirst {
					require.Error(t, got.VerifyChain(Digest{1}), "chain, byte %d bit %d", i, bit)
				}
			}
			require.Error(t, err, "byte %d bit %d", i, bit)
		}
	}
}

func TestParseFrameClasses(t *testing.T) {
	good := frameOf(t, Position{4, Digest{1}}, 9, "one", "two").Bytes()
	change := func(off int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[off:], v)
		return b
	}
	le32 := func(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
	le64 := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"empty":            {nil, ErrTorn},
		"half a header":    {good[:55], ErrTorn},
		"half a payload":   {good[:len(good)-1], ErrTorn},
		"zeros":            {make([]byte, 100), ErrZeroed},
		"other magic":      {change(0, 'Q', 'J', 'M', 'X'), ErrCorrupt},
		"later version":    {change(4, 2), ErrUnsupported},
		"version 0":        {change(4, 0), ErrCorrupt},
		"unknown flag":     {change(5, 4), ErrUnsupported},
		"reserved":         {change(7, 1), ErrCorrupt},
		"payload too long": {change(8, le32(MaxFramePayload+1)...), ErrCorrupt},
		"raw too long":     {change(28, le32(MaxFramePayload+1)...), ErrCorrupt},
		"raw not payload":  {change(28, le32(1)...), ErrCorrupt},
		"no txns":          {change(24, le32(0)...), ErrCorrupt},
		"too many txns":    {change(24, le32(MaxFrameTxns+1)...), ErrCorrupt},
		"more than bytes":  {change(24, le32(1000)...), ErrCorrupt},
		"txid 0":           {change(16, le64(0)...), ErrCorrupt},
		"txid overflow":    {change(16, le64(1<<64-2)...), ErrCorrupt},
		"epoch 0":          {change(32, le64(0)...), ErrCorrupt},
	} {
		_, err := ParseFrame(c.b)
		require.ErrorIs(t, err, c.want, name)
		for _, other := range []error{ErrTorn, ErrZeroed, ErrCorrupt, ErrGap, ErrUnsupported} {
			if other != c.want {
				require.NotErrorIs(t, err, other, name)
			}
		}
	}
}

func TestCheckPayload(t *testing.T) {
	seal := func(count uint32, payload ...byte) Frame {
		buf := append(make([]byte, FrameHeaderSize), payload...)
		f, err := sealFrame(buf, FrameHeader{First: 1, Count: count, Epoch: 1, RawLen: uint32(len(payload))}, Digest{})
		require.NoError(t, err)
		return f
	}
	require.NoError(t, seal(2, 1, 'a', 0).CheckPayload())
	require.ErrorIs(t, seal(1, 1, 'a', 0).CheckPayload(), ErrCorrupt, "trailing bytes")
	require.ErrorIs(t, seal(2, 1, 'a').CheckPayload(), ErrCorrupt, "too few")
	require.ErrorIs(t, seal(1, 2, 'a').CheckPayload(), ErrCorrupt, "cut short")
	require.ErrorIs(t, seal(1, 0x81, 0, 'a').CheckPayload(), ErrCorrupt, "another spelling of 1")
	require.ErrorIs(t, seal(1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff).CheckPayload(), ErrCorrupt, "overflow")
}

// A frame that inflates beyond the raw length it names fails, and takes no memory for it (G1).
func TestG1_ZstdBombIsBounded(t *testing.T) {
	enc, err := zstdEncoder()
	require.NoError(t, err)
	bomb := enc.EncodeAll(make([]byte, MaxFramePayload*4), nil)
	buf := append(make([]byte, FrameHeaderSize), bomb...)
	f, err := sealFrame(buf, FrameHeader{Flags: FlagZstd, First: 1, Count: 1, Epoch: 1, RawLen: 100}, Digest{})
	require.NoError(t, err)
	_, err = f.Payload()
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = f.Payload()
	require.ErrorIs(t, err, ErrCorrupt)
}

func TestBuilderLimits(t *testing.T) {
	var b Builder
	b.Reset(1, 1)
	_, err := b.Seal(Digest{}, SealOptions{})
	require.Error(t, err, "empty")
	b.Reset(1, 1)
	require.ErrorIs(t, b.Add(make([]byte, MaxFramePayload)), ErrTooLarge)
	require.NoError(t, b.Add(make([]byte, MaxFramePayload-4)))
	require.ErrorIs(t, b.Add(nil), ErrTooLarge)
	require.Equal(t, 1, b.Count())
	f, err := b.Seal(Digest{}, SealOptions{})
	require.NoError(t, err)
	require.Equal(t, MaxFrameSize, f.Size())
	require.NoError(t, f.CheckPayload())

	b.Reset(1, 1)
	for range MaxFrameTxns {
		require.NoError(t, b.Add(nil))
	}
	require.ErrorIs(t, b.Add(nil), ErrTooLarge)
}

// The frame owns its buffer: the builder's next frame is somewhere else.
func TestSealGivesTheBufferAway(t *testing.T) {
	var b Builder
	b.Reset(1, 1)
	require.NoError(t, b.Add([]byte("first")))
	f, err := b.Seal(Digest{}, SealOptions{})
	require.NoError(t, err)
	want := bytes.Clone(f.Bytes())
	b.Reset(2, 1)
	require.NoError(t, b.Add([]byte("other")))
	_, err = b.Seal(f.Digest(), SealOptions{})
	require.NoError(t, err)
	require.Equal(t, want, f.Bytes())
}

func randomTxns(n, size int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	txns := make([][]byte, n)
	for i := range txns {
		txns[i] = make([]byte, size)
		for j := range txns[i] {
			txns[i][j] = byte(rng.Uint32())
		}
	}
	return txns
}

func benchSizes(b *testing.B, run func(b *testing.B, txns [][]byte)) {
	for _, c := range []struct {
		name    string
		n, size int
	}{{"1x256B", 1, 256}, {"80x256B", 80, 256}, {"256x4KiB", 256, 4 << 10}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(c.n * c.size))
			b.ReportAllocs()
			run(b, randomTxns(c.n, c.size))
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	benchSizes(b, func(b *testing.B, txns [][]byte) {
		var bld Builder
		var f Frame
		for b.Loop() {
			bld.Reuse(f.Bytes())
			bld.Reset(1, 1)
			for _, txn := range txns {
				_ = bld.Add(txn)
			}
			var err error
			if f, err = bld.Seal(Digest{}, SealOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	benchSizes(b, func(b *testing.B, txns [][]byte) {
		var bld Builder
		bld.Reset(1, 1)
		for _, txn := range txns {
			_ = bld.Add(txn)
		}
		f, err := bld.Seal(Digest{}, SealOptions{})
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := f.Verify(Digest{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
