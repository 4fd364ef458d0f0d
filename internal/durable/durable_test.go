package durable

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
)

var magic = [8]byte{'Q', 'J', 'M', 'T', 'E', 'S', 'T', 0}

func TestSealOpen(t *testing.T) {
	for _, payload := range []string{"", "x", "some payload"} {
		b := Seal(magic, 3, []byte(payload))
		require.Len(t, b, Overhead+len(payload))
		got, version, err := Open(magic, 3, b)
		require.NoError(t, err)
		require.EqualValues(t, 3, version)
		require.Equal(t, payload, string(got))

		_, version, err = Open(magic, 2, b)
		require.ErrorIs(t, err, ErrUnsupported)
		require.NotErrorIs(t, err, ErrDamaged)
		require.EqualValues(t, 3, version)
		_, _, err = Open([8]byte{}, 3, b)
		require.ErrorIs(t, err, ErrForeign)
		for i := range b {
			bad := bytes.Clone(b)
			bad[i] ^= 0x20
			_, _, err := Open(magic, 9, bad)
			require.ErrorIs(t, err, ErrDamaged, "byte %d", i)
			require.NotErrorIs(t, err, ErrUnsupported, "byte %d", i)
			_, _, err = Open(magic, 9, b[:i])
			require.ErrorIs(t, err, ErrDamaged, "cut to %d", i)
		}
		_, _, err = Open(magic, 3, append(bytes.Clone(b), 0))
		require.ErrorIs(t, err, ErrDamaged)
	}
	_, _, err := Open(magic, 1, make([]byte, 100))
	require.ErrorIs(t, err, ErrZeroed)
	_, _, err = Open(magic, 1, Seal(magic, 0, nil))
	require.ErrorIs(t, err, ErrDamaged)
}

func TestSaveLoad(t *testing.T) {
	disk := memfs.New()
	require.NoError(t, disk.MkdirAll("d"))
	require.NoError(t, disk.SyncDir("."))
	_, _, err := Load(disk, "d/fence", magic, 1)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, ErrDamaged)
	require.NoError(t, Save(disk, "d/fence", magic, 1, []byte("epoch 5")))
	after := disk.CrashClone(memfs.CrashOptions{})
	got, _, err := Load(after, "d/fence", magic, 1)
	require.NoError(t, err)
	require.Equal(t, "epoch 5", string(got))

	require.NoError(t, after.FlipBit("d/fence", 25, 0))
	_, _, err = Load(after, "d/fence", magic, 1)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorIs(t, Save(disk, "d/fence", magic, 1, make([]byte, PayloadMax+1)), ErrTooLarge)
	f, err := disk.Create("d/large")
	require.NoError(t, err)
	require.NoError(t, f.Truncate(Overhead+PayloadMax+1))
	_, _, err = Load(disk, "d/large", magic, 1)
	require.ErrorIs(t, err, ErrDamaged)
}

// F1: old content or new after a crash at every operation; new once Save has returned.
func TestSaveCrashes(t *testing.T) {
	for k := int64(1); ; k++ {
		disk := memfs.New()
		require.NoError(t, disk.MkdirAll("d"))
		require.NoError(t, disk.SyncDir("."))
		require.NoError(t, Save(disk, "d/fence", magic, 1, []byte("old")))
		f := faultfs.New(disk)
		f.CrashAt(k)
		err := Save(f, "d/fence", magic, 1, []byte("new"))
		for _, percent := range []int{0, 100} {
			got, _, lerr := Load(disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: percent}), "d/fence", magic, 1)
			require.NoError(t, lerr)
			if err == nil {
				require.Equal(t, "new", string(got))
			} else {
				require.Contains(t, []string{"old", "new"}, string(got))
			}
		}
		if err == nil {
			return
		}
		require.True(t, errors.Is(err, faultfs.ErrCrashed))
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(Seal(magic, 1, []byte("payload")))
	f.Add(Seal(magic, 2, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, version, err := Open(magic, 2, b)
		if err != nil {
			require.True(t, errors.Is(err, ErrDamaged) || errors.Is(err, ErrUnsupported))
			return
		}
		require.Equal(t, b, Seal(magic, version, payload))
	})
}
