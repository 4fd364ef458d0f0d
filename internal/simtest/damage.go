package simtest

import (
	"bytes"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

// Damage is what disks do to what they had synced. The rules promise safety while at most a minority of
// every member set in force is damaged at once: mayDamage keeps to that. A full disk, a failed sync and a crash lose
// nothing that was synced; they may strike any node.

// Harm is a fault of disks.
type Harm string

// The faults that a run may have more of.
const (
	HarmWipe Harm = "wipe"
	HarmRot  Harm = "rot"
	HarmSync Harm = "sync" // that fails
	// No harm to disks:
	HarmAway   Harm = "away"   // writers are cut off for long
	HarmNews   Harm = "news"   // attempts hear of newer configs in their middle (overtake)
	HarmStrand Harm = "strand" // writers are cut off with one node while members change (strand)
)

// harm is one fault of a disk.
func (w *world) harm() {
	n := w.nodes[w.rng.IntN(w.cfg.Nodes)]
	switch k := w.rng.IntN(10); {
	case w.cfg.Harm == HarmWipe:
		if w.rng.IntN(8) == 0 { // it is the only one: not too early
			n.wipe()
		}
	case w.cfg.Harm == HarmRot:
		n.rot()
	case w.cfg.Harm == HarmSync:
		n.failSync()
	case w.cfg.Harm == HarmAway:
		w.sendAway()
	case w.cfg.Harm == HarmNews, w.cfg.Harm == HarmStrand:
	case k < 2:
		n.fill()
	case k < 4:
		n.failSync()
	case k == 4 && w.wipes && w.rng.IntN(3) == 0:
		n.wipe()
	case k > 4 && w.rots:
		n.rot()
	}
}

// fill leaves little or no room on the disk, for a while.
func (n *simNode) fill() {
	w := n.w
	if n.full {
		return
	}
	n.full = true
	w.result.Fulls++
	n.disk.SetCapacity(n.used() + w.rng.Int64N(12<<10))
	w.note("n%d: disk full", n.at+1)
	w.after(100+w.rng.Int64N(600), n.makeRoom)
}

func (n *simNode) makeRoom() {
	if n.full {
		n.full = false
		n.disk.SetCapacity(-1)
		n.w.note("n%d: room again", n.at+1)
	}
}

// used returns the bytes that count against the disk's capacity.
func (n *simNode) used() int64 {
	const bound = 1 << 40
	n.disk.SetCapacity(bound)
	free, err := n.disk.Free(".")
	if err != nil {
		n.w.fail(err)
	}
	n.disk.SetCapacity(-1)
	return bound - free
}

// failSync makes one of the next syncs fail and lose what it should have kept, as Linux does. The node is
// poisoned then, and started again a while later (see tick).
func (n *simNode) failSync() {
	if n.j == nil {
		return
	}
	n.fault.Inject(faultfs.Rule{Op: faultfs.OpSync, Nth: 1 + n.w.rng.Int64N(4), DropUnsynced: true})
	n.w.result.FailedSyncs++
	n.w.note("n%d: a sync will fail", n.at+1)
}

// mayDamage reports whether this node may lose what it had synced: only as long as a minority is damaged.
func (n *simNode) mayDamage() bool {
	w := n.w
	if w.cfg.Changes {
		return w.mayLose(n)
	}
	damaged := 0
	for i, x := range w.nodes {
		if x.damaged && !x.wiped && !x.latent && x.j != nil && w.oracle.whole(i) { // up: what it had not synced counts, too
			x.damaged, x.owes = false, nil
			w.note("n%d is whole again", i+1)
		}
		if x.damaged {
			damaged++
		}
	}
	return n.damaged || damaged < (w.cfg.Nodes-1)/2
}

// harmed remembers what the node had: it is whole again when it has that, or what was decided instead.
func (n *simNode) harmed() {
	n.damaged = true
	n.owes = append(n.owes, n.w.oracle.high[n.at].last)
	n.seen = -1 // the oracle has to look again
}

// wipe takes the disk away. The node comes back blank, as a new incarnation: N1 says that it counts
// nowhere. Its journal has been made again, with the config that it heard of from a peer, so that it is
// the journal's own gate that keeps it out.
func (n *simNode) wipe() {
	w := n.w
	if n.wiped || n.j == nil || w.up() <= w.cfg.Nodes/2 || !n.mayDamage() {
		return
	}
	if w.cfg.Changes && !w.tidy(n) {
		return
	}
	n.harmed()
	w.result.Wipes++
	if w.cfg.Changes {
		n.newDisk()
		return
	}
	n.wiped, n.full = true, false
	w.note("n%d is wiped", n.at+1)
	n.j, n.inbox = nil, nil
	n.disk = memfs.New()
	if w.cfg.Broken != RuleN1 {
		n.incarnation = quorum.Incarnation{byte(0x80 + n.at)}
	}
	n.create()
	w.after(20+w.rng.Int64N(300), n.restart)
}

// rot flips or zeroes bytes of a file, on a machine that is up or down. An inspection that reads the file
// later finds it, or nobody ever does.
func (n *simNode) rot() {
	w := n.w
	if n.wiped || n.off || !n.mayDamage() {
		return
	}
	name, data := n.rotting()
	if len(data) == 0 {
		return
	}
	n.harmed()
	w.result.Rots++
	n.rotten = true
	if x, ok := segments.ParseName(path.Base(name)); ok && x.Kind >= segments.NameInstall {
		n.latent = true // a copy on its way: nobody can tell when it will be in place
	}
	off := w.rng.Int64N(int64(len(data)))
	if frames := int64(len(data)) - segments.HeaderSize; frames > 0 && w.rng.IntN(8) != 0 { // not the header
		if w.rng.IntN(2) == 0 {
			frames = min(frames, 400) // the newest: above the last mark, maybe
		}
		off = int64(len(data)) - 1 - w.rng.Int64N(frames)
	}
	switch w.rng.IntN(3) {
	case 0:
		w.note("n%d: a bit of %s at %d flips", n.at+1, name, off)
		w.try(n.disk.FlipBit(name, off, w.rng.IntN(8)))
	case 1:
		size := min(1+w.rng.Int64N(40), int64(len(data))-off)
		w.note("n%d: %s loses %d bytes at %d", n.at+1, name, size, off)
		w.try(n.disk.Overwrite(name, off, make([]byte, size)))
	default: // a sector
		const sector = 512
		off = off / sector * sector
		size := min(sector, int64(len(data))-off)
		w.note("n%d: %s loses the sector at %d", n.at+1, name, off)
		w.try(n.disk.Overwrite(name, off, make([]byte, size)))
	}
}

// rotting picks a file, and returns it without the zeros at its end. The files without which a node is out
// for good are picked seldom.
func (n *simNode) rotting() (string, []byte) {
	w := n.w
	sub, small := dir, w.rng.IntN(4) == 0
	if w.cfg.Snapshots && w.rng.IntN(5) == 0 {
		sub = path.Join(dir, "snapshots")
		if _, err := n.disk.List(sub); err != nil {
			return "", nil // there never were any
		}
	} else if !small {
		sub = path.Join(dir, "segments")
	}
	names, err := n.disk.List(sub)
	w.try(err)
	var from []string
	for _, x := range names {
		forGood := x == "fence" || x == "config" || x == "VERSION" || x == "purged"
		if x == "segments" || x == "snapshots" || forGood && w.rng.IntN(6) != 0 {
			continue
		}
		from = append(from, path.Join(sub, x))
	}
	if len(from) == 0 {
		return "", nil
	}
	name := from[w.rng.IntN(len(from))]
	open := segments.Name{Kind: segments.NameInProgress, First: w.oracle.high[n.at].segment}.String()
	if slices.Contains(names, open) && w.rng.IntN(2) == 0 {
		name = path.Join(sub, open)
	}
	data, err := n.disk.ReadAll(name)
	w.try(err)
	return name, bytes.TrimRight(data, "\x00")
}

// try is for what cannot fail but for a bug of the simulation.
func (w *world) try(err error) {
	if err != nil {
		w.fail(err)
	}
}

// poisonedRestart starts a node again whose journal is poisoned, or an upload of a snapshot there, as an operator or
// its supervisor would: most often only the process dies, and what the failed sync left in the page cache is there again (W2a).
func (n *simNode) poisonedRestart() bool {
	if n.j == nil || !n.sick && !errors.Is(n.j.Usable(), rpc.ErrPoisoned) {
		return false
	}
	n.w.note("n%d is poisoned, and started again", n.at+1)
	n.fault.Crash()
	n.die(n.w.rng.IntN(3) != 0)
	return true
}

// outForGood: the node cannot come back without an operator (N1, N2).
func (n *simNode) outForGood() bool { return n.damaged && n.j != nil && !n.j.State().Member }

// scrub reads one finalized segment in full, when all is calm every one (A2).
func (n *simNode) scrub() {
	firsts := n.j.FinalizedFirsts()
	if len(firsts) == 0 {
		return
	}
	if !n.w.calm {
		i := n.w.rng.IntN(len(firsts))
		firsts = firsts[i : i+1]
	}
	for _, s := range firsts {
		if err := n.j.Verify(s, nil); err != nil {
			n.w.note("n%d: scrub of %d: %v", n.at+1, s, err)
		}
	}
}

// highestMark returns the highest synced mark that can still be read in the file of the open segment s
// (N2a): frames above it may pass for torn, whoever made them unreadable.
func highestMark(disk *memfs.FS, s segments.TxID) segments.Position {
	data, err := disk.ReadAll(path.Join(dir, "segments", segments.Name{Kind: segments.NameInProgress, First: s}.String()))
	if err != nil {
		return segments.Position{}
	}
	h, err := segments.ReadHeader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return segments.Position{}
	}
	highest := h.Start()
	for at := 0; ; at++ {
		i := bytes.Index(data[at:], []byte("QJMM"))
		if i < 0 {
			return highest
		}
		at += i
		if m, err := segments.ParseMark(data[at:], h, int64(at)); err == nil && m.Synced.TxID > highest.TxID {
			highest = m.Synced
		}
	}
}

// lostRename reports whether a crash brought a name back, or made one vanish, that a rename had moved.
func lostRename(before, after *memfs.FS) bool {
	for _, sub := range []string{dir, path.Join(dir, "segments")} {
		a, err1 := before.List(sub)
		b, err2 := after.List(sub)
		if err1 != nil || err2 != nil || strings.Join(a, " ") != strings.Join(b, " ") {
			return true
		}
	}
	return false
}
