package main

import (
	"context"
	"fmt"

	"github.com/quorumjournal/qjm/examples/namespace/runlog"
	"github.com/quorumjournal/qjm/examples/namespace/tree"
	"github.com/quorumjournal/qjm/libqjm"
)

// The checkers. Each returns a line per thing that is wrong, none if all is well. They are apart from
// the code that runs the demo, so that tests can show them a journal that is wrong.

// record is one transaction as the journal has it.
type record struct {
	txid, epoch uint64
	op          tree.Op
}

// readJournal reads all that was acknowledged.
func readJournal(ctx context.Context, client *libqjm.Client, name string) ([]record, error) {
	r, err := client.OpenReader(ctx, name, libqjm.ReaderOptions{Linearizable: true})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var all []record
	for txn, err := range r.All(ctx) {
		if err != nil {
			return nil, err
		}
		op, err := tree.Decode(txn.Data)
		if err != nil {
			return nil, fmt.Errorf("txid %d: %w", txn.ID, err)
		}
		all = append(all, record{uint64(txn.ID), uint64(txn.Epoch), op})
	}
	return all, nil
}

// rebuild makes the tree that the journal describes.
func rebuild(journal []record) (*tree.Tree, error) {
	t := tree.New()
	for _, r := range journal {
		if err := t.Apply(r.op); err != nil {
			return nil, fmt.Errorf("txid %d: %w", r.txid, err)
		}
	}
	return t, nil
}

// lost: what was acknowledged must be in the journal, at its txid.
func lost(journal []record, acked []runlog.Ack) (wrong []string) {
	at := map[uint64]string{}
	for _, r := range journal {
		at[r.txid] = r.op.Path
	}
	for _, a := range acked {
		if p, ok := at[a.TxID]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s was acknowledged as txid %d, which the journal does not have", a.Path, a.TxID))
		} else if p != a.Path {
			wrong = append(wrong, fmt.Sprintf("%s was acknowledged as txid %d, where the journal has %s", a.Path, a.TxID, p))
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
		if first, ok := made[r.op.Path]; ok {
			wrong = append(wrong, fmt.Sprintf("%s is made twice, as txid %d and as %d", r.op.Path, first, r.txid))
		}
		made[r.op.Path] = r.txid
	}
	return wrong
}

// invented: nothing is in the journal that no writer ever started.
func invented(journal []record, started ...[]string) (wrong []string) {
	known := map[string]bool{}
	for _, paths := range started {
		for _, p := range paths {
			known[p] = true
		}
	}
	for _, r := range journal {
		if !known[r.op.Path] {
			wrong = append(wrong, fmt.Sprintf("txid %d makes %s, which no writer ever started", r.txid, r.op.Path))
		}
	}
	return wrong
}

// interleaved: the first writer's transactions end where the second one's begin.
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
func differences(t *tree.Tree, disk map[string]tree.Entry) (wrong []string) {
	seen := 0
	for p, e := range t.All() {
		want, ok := disk[p]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%s is in the journal and not on disk", p))
			continue
		case e != want:
			wrong = append(wrong, fmt.Sprintf("%s differs: the journal has %+v, the disk %+v", p, e, want))
		}
		seen++
	}
	if seen == len(disk) {
		return wrong
	}
	for p := range disk {
		if _, err := t.Stat(p); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s is on disk and not in the journal", p))
		}
	}
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
