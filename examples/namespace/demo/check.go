package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/examples/namespace/tree"
	"github.com/quorumjournal/qjm/libqjm"
)

// The checkers. Each returns a line per thing that is wrong, none if all is well. They are apart from
// the code that runs the demo, so that tests can show them a journal that is wrong.

// record is one transaction as the journal has it.
type record struct {
	txid, epoch uint64
	path        string // what it made; empty: nothing that is in the tree
}

// node is what the tree says of a path.
type node struct {
	txid uint64
	dir  bool
	meta string
}

func (n node) op(p string) tree.Op {
	kind := "create"
	if n.dir {
		kind = "mkdir"
	}
	return tree.Op{Kind: kind, Path: p, Meta: n.meta}
}

// flatten returns every path of a tree.
func flatten(root *tree.Node) map[string]node {
	all := map[string]node{}
	var walk func(string, *tree.Node)
	walk = func(at string, n *tree.Node) {
		for _, c := range n.Children {
			p := at + "/" + c.Name
			all[p] = node{uint64(c.TxID), c.Dir, c.Meta}
			walk(p, c)
		}
	}
	walk("", root)
	return all
}

// rebuild makes the tree as a replica does that begins now: with the newest snapshot, and what the journal has behind it.
func rebuild(ctx context.Context, client *libqjm.Client) (all map[string]node, err error) {
	t := tree.New()
	r, err := client.OpenReplica(journal, t, libqjm.ReplicaOptions{Observer: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	_, err = r.AwaitLinearizable(ctx)
	return flatten(t.Find("/")), err
}

// readJournal reads all transactions, from the first one on. A transaction has made a path of the tree if the tree says
// so, and if it ends with just that operation, byte for byte: what the replica puts before that is its own business.
func readJournal(ctx context.Context, client *libqjm.Client, all map[string]node) ([]record, error) {
	r, err := client.OpenReader(ctx, journal, libqjm.ReaderOptions{Linearizable: true})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	madeBy := map[uint64]string{}
	for p, n := range all {
		madeBy[n.txid] = p
	}
	var records []record
	for txn, err := range r.All(ctx) {
		if err != nil {
			return nil, err
		}
		rec := record{txid: uint64(txn.ID), epoch: uint64(txn.Epoch)}
		if p := madeBy[rec.txid]; made(txn.Data, p, all[p]) {
			rec.path = p
		}
		records = append(records, rec)
	}
	return records, nil
}

func made(data []byte, p string, n node) bool {
	op, err := n.op(p).Encode()
	return err == nil && bytes.HasSuffix(data, op)
}

// lost: what was acknowledged must be in the journal, at its txid.
func lost(journal []record, acked []ack) (wrong []string) {
	at := map[uint64]string{}
	for _, r := range journal {
		at[r.txid] = r.path
	}
	for _, a := range acked {
		if p, ok := at[a.txid]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s was acknowledged as txid %d, which the journal does not have", a.path, a.txid))
		} else if p != a.path {
			wrong = append(wrong, fmt.Sprintf("%s was acknowledged as txid %d, where the journal has %q", a.path, a.txid, p))
		}
	}
	return wrong
}

// duplicated: txids run from 1 without gap or repetition, and no path is made twice.
func duplicated(journal []record) (wrong []string) {
	made := map[string]uint64{}
	for i, r := range journal {
		if r.txid != uint64(i)+1 {
			wrong = append(wrong, fmt.Sprintf("txid %d stands where %d belongs", r.txid, i+1))
		}
		if first, ok := made[r.path]; ok {
			wrong = append(wrong, fmt.Sprintf("%q is made twice, as txid %d and as %d", r.path, first, r.txid))
		}
		made[r.path] = r.txid
	}
	return wrong
}

// invented: every transaction made a path that was asked for.
func invented(journal []record, asked map[string]bool) (wrong []string) {
	for _, r := range journal {
		if r.path == "" {
			wrong = append(wrong, fmt.Sprintf("txid %d made nothing that is in the tree", r.txid))
		} else if !asked[r.path] {
			wrong = append(wrong, fmt.Sprintf("txid %d makes %s, which nobody asked for", r.txid, r.path))
		}
	}
	return wrong
}

// interleaved: the first active's transactions end where the second one's begin.
func interleaved(journal []record, oldEpoch, newEpoch, firstNew uint64) (wrong []string) {
	for _, r := range journal {
		want := oldEpoch
		if r.txid >= firstNew {
			want = newEpoch
		}
		if r.epoch != want {
			wrong = append(wrong, fmt.Sprintf("txid %d is of epoch %d, not %d", r.txid, r.epoch, want))
		}
	}
	return wrong
}

// differences: the tree is what is on disk, in all metadata.
func differences(all map[string]node, disk map[string]tree.Op) (wrong []string) {
	for p, n := range all {
		want, ok := disk[p]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%s is in the tree and not on disk", p))
		case n.op(p) != want:
			wrong = append(wrong, fmt.Sprintf("%s differs: the tree has %+v, the disk %+v", p, n.op(p), want))
		}
	}
	for p := range disk {
		if _, ok := all[p]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s is on disk and not in the tree", p))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// unequal: all nodes hold the journal up to the same transaction, with the same chain digest.
func unequal(holdings []holding) (wrong []string) {
	for _, h := range holdings {
		if first := holdings[0]; h.last != first.last || h.digest != first.digest {
			wrong = append(wrong, fmt.Sprintf("%s ends at txid %d with digest %s, %s at txid %d with %s",
				first.node, first.last, first.digest, h.node, h.last, h.digest))
		}
	}
	return wrong
}

// holding is what one node holds: the end of its newest segment, whose digest covers the whole journal.
type holding struct {
	node   string
	last   uint64
	digest string
}

func holdings(segments []libqjm.SegmentInfo) (all []holding) {
	for _, s := range segments { // by node and first txid
		h := holding{s.Node, uint64(s.Last), s.Digest}
		if n := len(all); n > 0 && all[n-1].node == s.Node {
			all[n-1] = h
		} else {
			all = append(all, h)
		}
	}
	return all
}
