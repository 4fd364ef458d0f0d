package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

var updateGolden = flag.Bool("update-golden", false, "write testdata/v1 anew; a change there is a change of the format (docs/format.md)")

// everyCommand has one command of each kind. Applied in this order, all are accepted, and lead to a state
// that has something of everything.
func everyCommand() []Command {
	founders := []Node{node(member("n1", 1)), node(member("n2", 1)), node(member("n3", 1))}
	j3, j4 := segments.JournalID{0xa3}, segments.JournalID{0xa4}
	at := func(j segments.JournalID, v uint64) Target { return Target{j, v} }
	change := func(j segments.JournalID, v, started uint64) Step { return Step{at(j, v), started} }
	two := func(j segments.JournalID, name string) Command {
		return &CreateJournal{ID: j, Name: name, Members: members("n1", "n2"), Policy: Policy{1, 2, 3, 4, 5, 6, 7, true}, Quota: 8}
	}
	return []Command{
		&Init{Cluster: testCluster, Nodes: founders},                                 // 1
		&SetLevel{Level: LevelFirst},                                                 // 2
		&PutNode{Node: node(member("n4", 1))},                                        // 3
		&PutNode{Node: node(member("n3", 2)), Replaces: member("n3", 1).Incarnation}, // 4
		&PutNode{Node: node(member("n5", 1))},                                        // 5
		&RemoveNode{"n5", member("n5", 1).Incarnation},                               // 6
		&SetVoter{"n4", member("n4", 1).Incarnation, true},                           // 7
		two(j1, "ns1"),            // 8
		two(j2, "ns2"),            // 9
		two(j3, "ns3"),            // 10
		two(j4, "ns4"),            // 11
		&DeleteJournal{at(j2, 1)}, // 12
		&Reclaim{j2, 2},           // 13
		&Forget{"n1", member("n1", 1).Incarnation, j2, 2},         // 14
		&SetPolicy{at(j1, 1), Policy{SnapshotBytes: 9}},           // 15
		&SetQuota{at(j1, 1), 10},                                  // 16
		&ListSnapshot{at(j1, 1), image(100), members("n1", "n2")}, // 17
		&BeginChange{at(j1, 1), members("n1", "n4")},              // 18
		&SetNote{change(j1, 1, 18), "n4 is on its way"},           // 19
		&Joint{change(j1, 1, 18)},                                 // 20
		&InForce{at(j1, 2)},                                       // 21
		&Sealed{change(j1, 2, 18), testSeal},                      // 22
		&Final{change(j1, 2, 18), testSeal},                       // 23
		&InForce{at(j1, 3)},                                       // 24
		&Finish{change(j1, 3, 18)},                                // 25
		&BeginChange{at(j3, 1), members("n4")},                    // 26
		&Abort{change(j3, 1, 26), "of no use"},                    // 27
		&Adopt{j3, quorum.Config{Version: 5, Sets: [][]quorum.Member{members("n1", "n2"), members("n4")}}}, // 28
		&ForceConfig{at(j4, 1), quorum.NewConfig(7, members("n2")...), "n1 is ashes"},                      // 29
		&Grant{j1, "a", "a:1", 1000, testNonce},                                                            // 30
		&KeepAlive{[]LeaseRef{{j1, 30}}},                                                                   // 31
		&Resign{LeaseRef{j1, 30}},                                                                          // 32
		&Grant{j1, "a", "a:1", 2000, testNonce},                                                            // 33
		&Expire{LeaseRef{j1, 33}, 33},                                                                      // 34
		&Grant{j1, "a", "a:1", 3000, testNonce},                                                            // 35
		&Transfer{LeaseRef{j1, 35}, "b"},                                                                   // 36
		&Grant{j4, "c", "", 4000, testNonce},                                                               // 37
		&ListSnapshot{at(j1, 3), image(200), members("n1", "n4")},                                          // 38
		&Sealed{change(j3, 5, 28), testSeal},                                                               // 39
		two(segments.JournalID{0xa5}, "ns5"),                                                               // 40
		&DropLost{at(segments.JournalID{0xa5}, 1), 1001, "both are ashes"},                                 // 41
	}
}

// goldenFiles are encodings of version 1: what is written today must be these bytes, and they must be
// understood for ever.
func goldenFiles(t require.TestingT) map[string][]byte {
	files := map[string][]byte{}
	c := New()
	for i, cmd := range everyCommand() {
		b, err := EncodeCommand(cmd)
		require.NoError(t, err)
		res, err := c.ApplyBytes(uint64(i)+1, b)
		require.NoError(t, err, "%d: %T", i+1, cmd)
		require.Equal(t, uint64(i)+1, res.Index)
		name := fmt.Sprintf("command-%T", cmd)
		if _, ok := files[name]; !ok {
			files[name] = b
		}
	}
	named := map[string][]byte{"state": encoded(t, c), "state-empty": encoded(t, New())}
	for k, b := range files {
		named["command-"+k[len("command-*catalog."):]] = b
	}
	return named
}

func TestGoldenIsWhatIsWritten(t *testing.T) {
	dir := filepath.Join("testdata", "v1")
	files := goldenFiles(t)
	if *updateGolden {
		require.NoError(t, os.MkdirAll(dir, 0o755))
		for name, b := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
		}
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, len(files))
	for name, want := range files {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(b, want), "%s: the format has changed", name)
	}
}

// TestEveryCommandThereAndBack walks all kinds: none is without a golden file, and none loses a field.
func TestEveryCommandThereAndBack(t *testing.T) {
	kinds := map[kind]bool{}
	for _, cmd := range everyCommand() {
		kinds[cmd.kind()] = true
		b, err := EncodeCommand(cmd)
		require.NoError(t, err)
		got, err := DecodeCommand(b)
		require.NoError(t, err)
		require.Equal(t, cmd, got)
		for n := range b {
			_, err := DecodeCommand(b[:n])
			require.ErrorIs(t, err, ErrBadCommand, "%T cut to %d bytes", cmd, n)
		}
		_, err = DecodeCommand(append(slices.Clone(b), 0))
		require.ErrorIs(t, err, ErrBadCommand)
	}
	require.Len(t, kinds, len(commands))
	for k, known := range commands {
		require.Equal(t, k, known.make().kind())
		require.True(t, kinds[k], "kind %d", k)
	}
}

func TestBadCommands(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":         {},
		"other version": {2, 1, 0, byte(kindSetLevel), 1, 0},
		"level 0":       {1, 0, 0, byte(kindSetLevel), 1, 0},
		"unknown kind":  {1, 1, 0, 250},
		"kind 0":        {1, 1, 0, 0},
		"too long":      make([]byte, MaxCommandBytes+1),
		"false count":   {1, 1, 0, byte(kindKeepAlive), 255, 3, 0, 0},
		"over a bound":  {1, 1, 0, byte(kindKeepAlive), 255, 255, 255, 255},
	} {
		_, err := DecodeCommand(b)
		require.ErrorIs(t, err, ErrBadCommand, name)
	}
	_, err := EncodeCommand(&SetNote{Note: string(make([]byte, MaxTextBytes+1))})
	require.ErrorIs(t, err, ErrInvalid)
	_, err = EncodeCommand(&CreateJournal{})
	require.ErrorIs(t, err, ErrInvalid, "what is invalid is refused before it is proposed")
}

func TestRestoreNoticesEveryFlippedByte(t *testing.T) {
	good := goldenFiles(t)["state"]
	_, err := Restore(good)
	require.NoError(t, err)
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x40
		_, err := Restore(bad)
		require.Error(t, err, "byte %d", i)
		require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnsupported), "byte %d: %v", i, err)
		_, err = Restore(good[:i])
		require.ErrorIs(t, err, ErrCorrupt, "cut to %d bytes", i)
	}
	_, err = Restore(append(slices.Clone(good), 0))
	require.ErrorIs(t, err, ErrCorrupt)
}

// TestRestoreKnowsItsVersion: what later software wrote is not taken for damage.
func TestRestoreKnowsItsVersion(t *testing.T) {
	for offset, v := range map[int]uint16{4: stateVersion + 1, 6: LevelMax + 1} {
		b := goldenFiles(t)["state"]
		binary.LittleEndian.PutUint16(b[offset:], v)
		_, err := Restore(b)
		require.ErrorIs(t, err, ErrUnsupported)
	}
}

// seal puts length and checksum right, so that the fuzzer gets past them.
func seal(b []byte) []byte {
	if len(b) < stateHeader {
		return b
	}
	b = slices.Clone(b)
	body := b[stateHeader:]
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(body, castagnoli))
	binary.LittleEndian.PutUint64(b[12:], uint64(len(body)))
	return b
}

// TestRestoreRefusesWhatNoCommandsLeadTo breaks the state in ways that no checksum notices.
func TestRestoreRefusesWhatNoCommandsLeadTo(t *testing.T) {
	journal := func(f func(*Journal)) func(*Catalog) {
		return func(c *Catalog) { f(c.journals[j1]) }
	}
	for name, spoil := range map[string]func(*Catalog){
		"no cluster":        func(c *Catalog) { c.cluster = ClusterID{} },
		"level 0":           func(c *Catalog) { c.level = 0 },
		"three of a node":   func(c *Catalog) { addNode(c, 2, true); addNode(c, 3, true) },
		"two that stay":     func(c *Catalog) { addNode(c, 2, false) },
		"node's level":      func(c *Catalog) { c.current("n1").Level = 0 },
		"one name twice":    func(c *Catalog) { c.journals[j2] = c.journals[j1].clone(); c.journals[j2].ID = j2 },
		"name":              journal(func(j *Journal) { j.Name = "a/b" }),
		"config":            journal(func(j *Journal) { j.Config.Version = 0 }),
		"in force":          journal(func(j *Journal) { j.InForce = j.Config.Version + 1 }),
		"joint, no change":  journal(func(j *Journal) { j.Change = nil }),
		"stage":             journal(func(j *Journal) { j.Change.Stage = StageFinal }),
		"stage 9":           journal(func(j *Journal) { j.Change.Stage = 9 }),
		"base version":      journal(func(j *Journal) { j.Change.BaseVersion++ }),
		"other new set":     journal(func(j *Journal) { j.Change.New = members("n1") }),
		"sealed, no seal":   journal(func(j *Journal) { j.Change.Seal = Seal{} }),
		"joint with seal":   journal(func(j *Journal) { j.Change.Stage = StageJoint }),
		"change to come":    journal(func(j *Journal) { j.Change.StartedIndex = 1 << 40 }),
		"deleted":           journal(func(j *Journal) { j.Deleted = true }),
		"reclaimed":         journal(func(j *Journal) { j.Reclaimed = true }),
		"former member":     journal(func(j *Journal) { j.Former = []Former{{member("n1", 1), 1}} }),
		"former's version":  journal(func(j *Journal) { j.Former = []Former{{member("n6", 1), 99}} }),
		"former, unsorted":  journal(func(j *Journal) { j.Former = []Former{{member("n7", 1), 1}, {member("n6", 1), 1}} }),
		"snapshots' order":  journal(func(j *Journal) { slices.Reverse(j.Snapshots) }),
		"snapshot's config": journal(func(j *Journal) { j.Snapshots[0].ConfigVersion = 99 }),
		"lease of nobody":   journal(func(j *Journal) { j.Lease.Holder = "" }),
		"lease's ttl":       journal(func(j *Journal) { j.Lease.TTLMillis = 1 }),
		"lease renewed":     journal(func(j *Journal) { j.Lease.Renewed = 1 << 40 }),
		"renewed before":    journal(func(j *Journal) { j.Lease.Renewed = j.Lease.Revision - 1 }),
		"lease to come":     journal(func(j *Journal) { j.Lease.Revision = 1 << 40 }),
		"history's kind":    journal(func(j *Journal) { j.History[0].Kind = 99 }),
		"history's order":   journal(func(j *Journal) { j.History = append(j.History, j.History[0]) }),
	} {
		t.Run(name, func(t *testing.T) {
			w := withJournal(t)
			w.ok(&ListSnapshot{w.target(), image(1), members("n1", "n2")})
			w.ok(&ListSnapshot{w.target(), image(2), members("n1", "n2")})
			w.ok(grant("a", 1))
			w.changeUpTo(StageSealed)
			spoil(w.c)
			_, err := Restore(encoded(t, w.c))
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
}

func addNode(c *Catalog, generation byte, leaving bool) {
	n := node(member("n1", generation))
	n.Leaving = leaving
	c.nodes[nodeKey{n.ID, n.Incarnation}] = &n
}

func FuzzDecodeCommand(f *testing.F) {
	for name, b := range goldenFiles(f) {
		if name[:5] != "state" {
			f.Add(b)
		}
	}
	f.Add([]byte{7, 2, 0, 9, 1})
	state := goldenFiles(f)["state"]
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd, err := DecodeCommand(b)
		if err != nil {
			require.ErrorIs(t, err, ErrBadCommand)
			return
		}
		again, err := encode(cmd)
		require.NoError(t, err)
		require.True(t, bytes.Equal(b, again), "one value, two encodings: %x and %x", b, again)
		c, err := Restore(state)
		require.NoError(t, err)
		_, err = c.Apply(c.Index()+1, cmd)
		if errors.Is(err, ErrUnsupported) {
			return
		}
		require.NoError(t, c.consistent())
		_, err = Restore(encoded(t, c))
		require.NoError(t, err)
	})
}

func FuzzRestore(f *testing.F) {
	f.Add(goldenFiles(f)["state"])
	f.Add(goldenFiles(f)["state-empty"])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = seal(b)
		c, err := Restore(b)
		if err != nil {
			require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnsupported), "%v", err)
			return
		}
		require.True(t, bytes.Equal(b, encoded(t, c)), "one state, two encodings")
	})
}
