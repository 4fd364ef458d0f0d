package tree

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpRoundTrip(t *testing.T) {
	long := "/" + strings.Repeat("a", PathBytesMax-1)
	for _, op := range []Op{
		mkdir("/a"), create("/a/b c\n"), remove("/x"), rename("/a", "/b"), rename(long, long),
		{Kind: Create, Path: "/l", Entry: Entry{Kind: Symlink, Size: 1 << 40, MTime: -5, Hash: [32]byte{31: 9}}},
	} {
		b, err := op.Encode()
		require.NoError(t, err)
		require.LessOrEqual(t, len(b), OpBytesMax)
		got, err := Decode(b)
		require.NoError(t, err)
		require.Equal(t, op, got)
		for n := range b { // cut anywhere
			_, err := Decode(b[:n])
			require.Error(t, err)
		}
		_, err = Decode(append(b, 0))
		require.ErrorIs(t, err, ErrMalformed)
		b[0]++
		_, err = Decode(b)
		require.ErrorIs(t, err, ErrVersion)
	}
	_, err := Op{Kind: Delete, Path: "x"}.Encode()
	require.Error(t, err)
}

// The bytes of version 1 stand in journals: they must be readable for ever.
func TestOpBytesAreFixed(t *testing.T) {
	b, err := rename("/a", "/b/c").Encode()
	require.NoError(t, err)
	require.Equal(t, "\x01\x03\x00\x02/a\x00\x04/b/c", string(b))
	b, err = create("/f").Encode()
	require.NoError(t, err)
	require.Equal(t, "\x01\x02\x00\x02/f\x02\x00\x00\x01\xa4"+strings.Repeat("\x00", 7)+"\x03"+strings.Repeat("\x00", 7)+"\x02\x01"+strings.Repeat("\x00", 31), string(b))
}

func FuzzOp(f *testing.F) {
	for _, op := range []Op{mkdir("/a"), create("/a/b"), remove("/x"), rename("/a", "/b")} {
		b, err := op.Encode()
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		op, err := Decode(b)
		if err != nil {
			require.Zero(t, op)
			return
		}
		again, err := op.Encode()
		require.NoError(t, err)
		require.Equal(t, b, again, "there is one encoding of each operation")
		_ = New().Apply(op)
	})
}
