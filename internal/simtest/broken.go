package simtest

import (
	"bytes"
	"path"
	"strings"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/replication"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/membership"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Rule is a rule of docs/protocol.md that a run goes without, to see that the oracle notices. The product
// has no such switch: what a node or a writer without the rule would do is put around it here.
type Rule string

// The rules that a run can drop.
const (
	RuleF1  Rule = "F1"  // a promise does not survive a restart
	RuleN1  Rule = "N1"  // a wiped node comes back as the one it was
	RuleN2  Rule = "N2"  // what cannot be read is answered as absent
	RuleN2a Rule = "N2a" // a tail is cut where it cannot be read, below a mark, too
	RuleR2  Rule = "R2"  // accepted records do not raise a copy's ballot
	RuleR2a Rule = "R2a" // an attempt that chose is made again in its own epoch
	RuleR3  Rule = "R3"  // floors are ignored
	RuleR4  Rule = "R4"  // the accepted record does not reach the disk, the content does
	RuleW2  Rule = "W2"  // acks leave before the sync
	RuleW2a Rule = "W2a" // a tail is not written again when it is opened
	RuleW3  Rule = "W3"  // acks count whatever digest they carry

	RuleC2Peer   Rule = "C2 peer"   // a peer's purge point raises a node's own
	RuleC2Held   Rule = "C2 held"   // what is listed allows a purge, held or not
	RuleC5Newest Rule = "C5 newest" // the newest finalized segment is purged, too
	RuleC5Point  Rule = "C5 point"  // the purge point does not reach the disk, the deletes do

	RuleL2Renewal Rule = "L2 renewal" // an expiry does not name the renewal that it was counted from
	RuleL2Sent    Rule = "L2 sent"    // a holder counts from when it was answered

	RuleM3Newest Rule = "M3 newest" // a writer counts its open segment by the newest config, old acks, too
	RuleM3Union  Rule = "M3 union"  // a writer counts by all members of a config as one set
	RuleM4       Rule = "M4"        // final is proposed without a seal
	RuleM4Held   Rule = "M4 held"   // final is proposed as soon as there is a seal
	RuleM7Epoch  Rule = "M7 epoch"  // who hears of a newer config starts over in the same epoch
	RuleM7Counts Rule = "M7 counts" // and counts what it gathered under the one before
	RuleM8       Rule = "M8"        // who leaves forgets config and promise
)

// distort makes of an answer what a node without the rule would have answered, or what a coordinator
// without it would have made of it.
func (w *world) distort(a recovery.Answer) recovery.Answer {
	switch w.cfg.Broken {
	case RuleN2:
		if a.Copy.State == recovery.Unknown {
			a.Copy = recovery.Copy{Segment: a.Copy.Segment, State: recovery.Absent}
			a.Newest = 0
		}
	case RuleR2:
		a.Copy.Accepted = recovery.Accepted{}
	case RuleR3:
		a.Floor = recovery.Floor{}
	}
	return a
}

func (w *world) distortPromise(r rpc.PromiseReply) rpc.PromiseReply {
	if w.cfg.Broken == RuleN2 && !r.DataKnown {
		return rpc.PromiseReply{DataKnown: true}
	}
	return r
}

// distortReply: the writer does not look at the digest of an ack.
func (c *client) distortReply(r rpc.WriteReply) rpc.WriteReply {
	if c.w.cfg.Broken != RuleW3 {
		return r
	}
	for _, p := range c.sealed {
		if p.TxID == r.At.TxID {
			r.At = p
		}
	}
	return r
}

// as returns the claim that an attempt goes by: without R2a, that of the attempt before.
func (c *client) as(claim fencing.Claim) fencing.Claim {
	if c.reuse.Epoch != 0 {
		return c.reuse
	}
	return claim
}

// lacking wraps the disk of a running node.
func (n *simNode) lacking(fsys vfs.FS) vfs.FS {
	switch n.w.cfg.Broken {
	case RuleW2:
		return lyingFS{fsys}
	case RuleF1:
		return newForgetfulFS(fsys, "/fence")
	case RuleR4:
		return newForgetfulFS(fsys, "/accepted-")
	case RuleC5Point:
		return newForgetfulFS(fsys, "/purged")
	case RuleW2a:
		return unwrittenFS{fsys, &n.opening}
	}
	return fsys
}

// open is what happens to the disk before the journal is opened: a node that knows no marks (N2a) takes
// all that it cannot read for torn.
func (w *world) open(disk *memfs.FS) {
	if w.cfg.Broken != RuleN2a {
		return
	}
	sub := path.Join(dir, "segments")
	names, err := disk.List(sub)
	w.try(err)
	for _, x := range names {
		if n, ok := segments.ParseName(x); !ok || n.Kind != segments.NameInProgress {
			continue
		}
		name := path.Join(sub, x)
		data, err := disk.ReadAll(name)
		w.try(err)
		res := segments.Scan(bytes.NewReader(data), int64(len(data)), segments.ScanOptions{})
		if res.Stop == segments.StopCorrupt && res.Header.First != 0 {
			w.try(disk.Overwrite(name, res.EndOffset, make([]byte, int64(len(data))-res.EndOffset)))
		}
	}
}

// lyingFS loses what is synced: Sync and SyncDir do nothing.
type lyingFS struct{ vfs.FS }

func (l lyingFS) SyncDir(string) error { return nil }

func (l lyingFS) Create(name string) (vfs.File, error) {
	f, err := l.FS.Create(name)
	return lyingFile{f}, err
}

func (l lyingFS) OpenWrite(name string) (vfs.File, error) {
	f, err := l.FS.OpenWrite(name)
	return lyingFile{f}, err
}

type lyingFile struct{ vfs.File }

func (lyingFile) Sync() error { return nil }

// forgetfulFS lets what is saved under some names go nowhere: it is there until the process ends.
type forgetfulFS struct {
	vfs.FS
	nowhere *memfs.FS
	part    string
}

func newForgetfulFS(fsys vfs.FS, part string) forgetfulFS {
	f := forgetfulFS{fsys, memfs.New(), part}
	_ = f.nowhere.MkdirAll(dir) // cannot fail: it is empty
	return f
}

func (f forgetfulFS) of(name string) vfs.FS {
	if strings.Contains(name, f.part) {
		return f.nowhere
	}
	return f.FS
}

func (f forgetfulFS) Create(name string) (vfs.File, error) { return f.of(name).Create(name) }

func (f forgetfulFS) Rename(from, to string) error {
	if f.of(from) == f.nowhere {
		_ = f.nowhere.Remove(to) // it may not be there
	}
	return f.of(from).Rename(from, to)
}

func (f forgetfulFS) Remove(name string) error { return f.of(name).Remove(name) }

// unwrittenFS leaves a write out, while the journal is being opened, where the bytes are there already:
// in the page cache, maybe, only.
type unwrittenFS struct {
	vfs.FS
	opening *bool
}

func (u unwrittenFS) OpenWrite(name string) (vfs.File, error) {
	f, err := u.FS.OpenWrite(name)
	return unwrittenFile{f, u.opening}, err
}

type unwrittenFile struct {
	vfs.File
	opening *bool
}

func (u unwrittenFile) WriteAt(p []byte, off int64) (int, error) {
	have := make([]byte, len(p))
	if n, _ := u.ReadAt(have, off); *u.opening && n == len(p) && bytes.Equal(have, p) {
		return n, nil
	}
	return u.File.WriteAt(p, off)
}

// recount is RuleM3Newest and RuleM3Union: what the writer has sent is counted by the newest config, or by
// all members of it as one set, and the acks from before go on counting.
func (c *client) recount(cfg quorum.Config) error {
	old, frames := c.core, c.frames
	prev := c.prev
	counted := cfg
	if c.w.cfg.Broken == RuleM3Union {
		counted.Sets = [][]quorum.Member{cfg.Members()}
	}
	core := replication.New(counted, old.Claim(), prev, replication.Options{RingBytes: 1 << 20, WindowBytes: 4000, MessageBytes: 500})
	for _, f := range frames {
		if err := core.Add(f); err != nil {
			return err
		}
	}
	for _, s := range old.Status() {
		k := s.Member.Key()
		if _, ok := counted.Find(k); !ok || s.Acked == 0 {
			continue
		}
		core.Linked(k)
		core.Next(k)
		for _, p := range c.sealed {
			if p.TxID == s.Acked {
				_, _ = core.Handle(k, rpc.WriteReply{Kind: rpc.Started, Segment: core.Segment(), Epoch: core.Claim().Epoch,
					ConfigVersion: cfg.Version, Incarnation: k.Incarnation, At: p})
			}
		}
		core.Unlinked(k, errMoved)
	}
	core.Roll()
	c.core = core
	c.w.oracle.ack(core)
	return nil
}

// goOn is RuleM7Counts: the attempt goes on under the newer config, and what it gathered under the older
// one counts. That takes the same epoch: a promise counts for none other. So what it costs is R2a's: a second
// choice in one epoch. An attempt that had not chosen yet would lose nothing: what it was promised binds a
// node under any config, and what a node told before is no less than it had when it promised.
func (c *client) goOn(cfg quorum.Config) {
	claim, kept := c.as(c.co.Claim()), c.kept
	c.cfg, c.reuse = cfg, claim
	c.co = recovery.NewCoordinator(cfg, c.writer, recovery.Options{MinEpoch: claim.Epoch})
	c.step(recovery.Begin{})
	for _, ev := range kept {
		if p, ok := ev.(recovery.Promised); ok && c.co != nil {
			c.step(recovery.Stated{Node: p.Node, Promised: claim.Epoch - 1})
		}
	}
	for _, ev := range kept {
		if c.co != nil {
			c.step(ev)
		}
	}
}

// next is what a driver does: with M4 dropped, final comes without a seal, or without what it rests on.
func (d *driver) next(v membership.View) membership.Action {
	broken := d.w.cfg.Broken
	ch := v.Journal.Change
	if ch != nil && ch.Stage == catalog.StageJoint && broken == RuleM4 {
		installed := func(m quorum.Member) bool { return v.Reports[m.Key()].Config.Version >= v.Journal.Config.Version }
		if (quorum.Config{Sets: [][]quorum.Member{ch.Old}}).Majority(installed) {
			return membership.Propose{Command: &catalog.Sealed{Step: step(v.Journal), Seal: catalog.Seal{Epoch: 1, Segment: 1}}}
		}
	}
	if broken == RuleM4 || broken == RuleM4Held {
		for k, r := range v.Reports {
			r.HoldsBefore = true
			v.Reports[k] = r
		}
	}
	return membership.Next(v, membership.Options{})
}

// forget is RuleM8: nothing is left of the journal, though the disk is the same.
func (n *simNode) forget() {
	n.j, n.inbox, n.none = nil, nil, false
	n.disk, n.seen = memfs.New(), -1
	n.w.oracle.forget(n.at)
	n.w.note("n%d has forgotten the journal", n.at+1)
	n.start()
}
