package memfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestSpans compares the set with one that is obviously right.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 40
		var set spans
		var naive [size]bool
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			lo := rapid.Int64Range(0, size).Draw(t, "lo")
			hi := rapid.Int64Range(0, size).Draw(t, "hi")
			if cut := rapid.IntRange(0, 4).Draw(t, "kind") == 0; cut {
				set = set.below(hi)
				clear(naive[hi:])
				continue
			}
			set = set.add(span{lo, hi})
			for i := lo; i < hi; i++ {
				naive[i] = true
			}
		}
		var got [size]bool
		end := int64(-1)
		for _, sp := range set {
			require.Less(t, end, sp.lo, "sorted, disjoint, not touching: %v", set)
			require.Less(t, sp.lo, sp.hi)
			end = sp.hi
			for i := sp.lo; i < sp.hi; i++ {
				got[i] = true
			}
		}
		require.Equal(t, naive, got)
	})
}

// TestContentModel runs random operations on one file and checks what every crash must satisfy: 0
// percent gives what was synced, 100 percent what was written, anything between only sectors of
// either (M1, M2, M3).
func TestContentModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newFile().content
		var written, synced []byte
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			size := rapid.Int64Range(0, 5*sectorBytes).Draw(t, "size")
			switch rapid.SampledFrom([]string{"write", "write", "truncate", "sync"}).Draw(t, "op") {
			case "write":
				p := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, rapid.IntRange(0, 2*sectorBytes).Draw(t, "n"))
				c.write(p, size)
				if end := int(size) + len(p); len(p) > 0 && end > len(written) {
					written = append(written, make([]byte, end-len(written))...)
				}
				copy(written[min(int(size), len(written)):], p)
			case "truncate":
				c.truncate(size)
				written = append(bytes.Clone(written[:min(int(size), len(written))]), make([]byte, max(0, int(size)-len(written)))...)
			case "sync":
				c.sync()
				synced = bytes.Clone(written)
			}
			checkCrashes(t, &c, written, synced)
		}
	})
}

func checkCrashes(t *rapid.T, c *content, written, synced []byte) {
	require.True(t, bytes.Equal(written, c.data), "written content")
	require.True(t, bytes.Equal(synced, c.afterCrash(func() bool { return false })), "all lost")
	require.True(t, bytes.Equal(written, c.afterCrash(func() bool { return true })), "all kept")

	dice := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "dice"), 0))
	disk := c.afterCrash(func() bool { return dice.IntN(2) == 0 })
	require.LessOrEqual(t, len(disk), max(len(written), len(synced)))
	for i, got := range disk {
		possible := []byte{0}
		if i < len(written) {
			possible = append(possible, written[i])
		}
		if i < len(synced) {
			possible = append(possible, synced[i])
		}
		require.Contains(t, possible, got, "byte %d", i)
	}
}

// TestTreeModel runs random entry operations and checks every crash against M4: a file whose entry
// was synced, and that was neither removed nor replaced since, is there exactly once; no file is
// there twice; what all kept and all lost mean is exact. Files tell who they are by their content.
func TestTreeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := New()
		dirs := []string{"", "d/", "e/"}
		require.NoError(t, disk.MkdirAll("d"))
		require.NoError(t, disk.MkdirAll("e"))
		require.NoError(t, disk.SyncDir(""))
		var names []string
		for _, dir := range dirs {
			names = append(names, dir+"x", dir+"y")
		}
		for step := range rapid.IntRange(1, 25).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			switch rapid.SampledFrom([]string{"create", "rename", "rename", "remove", "syncdir", "clone"}).Draw(t, "op") {
			case "create":
				createNumbered(t, disk, name, step)
			case "rename":
				requireOrNotExist(t, disk.Rename(name, rapid.SampledFrom(names).Draw(t, "to")))
			case "remove":
				requireOrNotExist(t, disk.Remove(name))
			case "syncdir":
				require.NoError(t, disk.SyncDir(rapid.SampledFrom(dirs).Draw(t, "dir")))
			case "clone":
				disk = disk.ProcessCrashClone()
			}
			checkTreeCrash(t, disk, rapid.Uint64().Draw(t, "dice"))
		}
	})
}

func createNumbered(t *rapid.T, disk *FS, name string, number int) {
	f, err := disk.Create(name)
	if errors.Is(err, fs.ErrExist) {
		return
	}
	require.NoError(t, err)
	_, err = fmt.Fprintf(writerAt{f}, "%d", number)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
}

type writerAt struct {
	f interface {
		WriteAt(p []byte, off int64) (int, error)
	}
}

func (w writerAt) Write(p []byte) (int, error) { return w.f.WriteAt(p, 0) }

func requireOrNotExist(t *rapid.T, err error) {
	if err != nil {
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

func checkTreeCrash(t *rapid.T, disk *FS, seed uint64) {
	kept := tree(disk.CrashClone(CrashOptions{UnsyncedPercent: 100}).root, written)
	require.Equal(t, tree(disk.root, written), kept, "all kept")
	lost := tree(disk.CrashClone(CrashOptions{}).root, written)
	require.Equal(t, tree(disk.root, synced), lost, "all lost")

	half := CrashOptions{UnsyncedPercent: 50, Rand: rand.New(rand.NewPCG(seed, 0))}
	places := map[string][]string{}
	for name, id := range tree(disk.CrashClone(half).root, written) {
		places[id] = append(places[id], name)
	}
	for id, names := range places {
		require.Len(t, names, 1, "file %s is there twice", id)
	}
	alive := map[string]bool{}
	for _, id := range kept {
		alive[id] = true
	}
	for name, id := range lost {
		if alive[id] {
			require.Contains(t, places, id, "file %s was synced as %s and still exists", id, name)
		}
	}
}

// tree maps the names of files to their contents.
func tree(dir *node, entries func(*node) map[string]*node) map[string]string {
	files := map[string]string{}
	for name, child := range entries(dir) {
		if !child.isDir {
			files[name] = string(child.data)
			continue
		}
		for below, content := range tree(child, entries) {
			files[name+"/"+below] = content
		}
	}
	return files
}

// TestEqualDiceGiveEqualTrees is M6.
func TestEqualDiceGiveEqualTrees(t *testing.T) {
	dump := func() string {
		disk := New()
		for i := range 50 {
			f, err := disk.Create(fmt.Sprintf("%d", i))
			require.NoError(t, err)
			_, err = f.WriteAt(bytes.Repeat([]byte{byte('a' + i%26)}, 2000), 0)
			require.NoError(t, err)
		}
		after := disk.CrashClone(CrashOptions{UnsyncedPercent: 50, Rand: rand.New(rand.NewPCG(7, 7))})
		names, err := after.List("")
		require.NoError(t, err)
		var out strings.Builder
		for _, name := range names {
			data, err := after.ReadAll(name)
			require.NoError(t, err)
			fmt.Fprintf(&out, "%s %q\n", name, data)
		}
		return out.String()
	}
	want := dump()
	for range 5 {
		require.Equal(t, want, dump())
	}
}
