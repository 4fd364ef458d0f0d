package inspect

import (
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/segments"
)

// Row is one transaction as it lies on the disk. An opaque one stands for all txids of its frame. Data
// is valid during the call only.
type Row struct {
	Journal string
	Segment segments.TxID
	TxID    segments.TxID
	Epoch   fencing.Epoch
	Frame   segments.Range
	Digest  segments.Digest // of the frame
	Opaque  bool
	Data    []byte
}

// DumpOptions of Dump.
type DumpOptions struct {
	After  segments.TxID // only txids above it
	Before segments.TxID // only txids below it; 0: all
	Each   func(Row) error
	// Note is told where each file ends and why; bad: it is damage.
	Note func(text string, bad bool)
}

func (o DumpOptions) wants(t segments.TxID) bool {
	return t > o.After && (o.Before == 0 || t < o.Before)
}

// overlaps reports whether any of the range is wanted.
func (o DumpOptions) overlaps(r segments.Range) bool {
	return r.Last > o.After && (o.Before == 0 || r.First < o.Before)
}

var errEnough = errors.New("inspect: enough")

// Dump hands over every transaction of a tree, by journal and txid, as far as it can be read. Damage is
// noted and the next file is gone on with; the error is of reading at all, or of Each.
func Dump(t *Tree, opts DumpOptions) error {
	for _, j := range t.Journals {
		for _, f := range j.Files {
			if f.Name.Kind == segments.NameFinalized && !opts.overlaps(segments.Range{First: f.Name.First, Last: f.Name.Last}) ||
				opts.Before != 0 && f.Name.First >= opts.Before {
				continue
			}
			if err := dumpSettled(t, j, f, opts); err != nil {
				return err
			}
		}
	}
	return nil
}

// dumpSettled dumps a file, and goes on behind what it has while a running node changes the file: damage
// is noted of a file that stands still.
func dumpSettled(t *Tree, j *Journal, f File, opts DumpOptions) error {
	for try := 1; ; try++ {
		from := t.stampOf(f)
		text, last, bad, err := dumpFile(t, j, f, opts)
		if bad && try < settleTries {
			<-time.After(settlePause)
			if t.stampOf(f) != from {
				opts.After = max(opts.After, last)
				continue
			}
		}
		if err == nil && text != "" {
			opts.Note(text, bad)
		}
		return err
	}
}

// dumpFile dumps a file once. text says where it ended; "": not at its end.
func dumpFile(t *Tree, j *Journal, f File, opts DumpOptions) (text string, last segments.TxID, bad bool, err error) {
	o, err := t.open(f)
	if err != nil {
		return err.Error(), 0, true, nil
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	h, err := segments.ReadHeader(o, o.size)
	if err != nil {
		return fmt.Sprintf("%s: header: %v", o.path, err), 0, true, nil
	}
	var failed error
	res := segments.Scan(o, o.size, segments.ScanOptions{Each: func(r segments.Record) error {
		if r.Kind != segments.RecordFrame || !opts.overlaps(r.Frame.Range()) {
			if opts.Before != 0 && r.Kind == segments.RecordFrame && r.Frame.First() >= opts.Before {
				return errEnough
			}
			return nil
		}
		var bad error
		bad, failed = dumpFrame(j.Name(), h.First, r.Frame, opts)
		return errors.Join(bad, failed)
	}})
	switch {
	case failed != nil:
		return "", 0, false, failed
	case errors.Is(res.Err, errEnough):
		return "", 0, false, nil
	}
	text, bad = describe(o, res)
	return text, res.Last.TxID, bad, nil
}

func dumpFrame(name string, segment segments.TxID, f segments.Frame, opts DumpOptions) (bad, failed error) {
	row := Row{Journal: name, Segment: segment, Epoch: f.Epoch(), Frame: f.Range(), Digest: f.Digest(), Opaque: f.Opaque()}
	if f.Opaque() {
		row.TxID = f.First()
		if row.Data, bad = f.Payload(); bad != nil {
			return bad, nil
		}
		return nil, opts.Each(row)
	}
	bad = f.EachTxn(func(id segments.TxID, data []byte) error {
		if failed != nil || !opts.wants(id) {
			return nil
		}
		row.TxID, row.Data = id, data
		failed = opts.Each(row)
		return nil
	})
	return bad, failed
}

// describe says where a file ended and why.
func describe(o *opened, res segments.Result) (text string, bad bool) {
	at := fmt.Sprintf("%s: txids %d to %d", path.Base(o.path), res.Header.First, res.Last.TxID)
	if res.Last.TxID < res.Header.First {
		at = fmt.Sprintf("%s: no transaction", path.Base(o.path))
	}
	switch res.Stop {
	case segments.StopFooter:
		if res.Footer == nil {
			return fmt.Sprintf("%s, then a footer that was cut off at offset %d", at, res.EndOffset), o.name.Kind == segments.NameFinalized
		}
		return at + ", finalized", false
	case segments.StopPadding:
		return fmt.Sprintf("%s, then padding from offset %d", at, res.EndOffset), false
	case segments.StopEnd:
		return fmt.Sprintf("%s, the end of the file", at), o.name.Kind == segments.NameFinalized
	case segments.StopTorn:
		cause := res.Err
		if t, ok := errors.AsType[*segments.TornError](res.Err); ok {
			cause = t.Cause
		}
		return fmt.Sprintf("%s, then a torn tail at offset %d: %v", at, res.EndOffset, cause), o.name.Kind == segments.NameFinalized
	}
	return fmt.Sprintf("%s, then damage (%s) at offset %d: %v", at, res.Stop, res.EndOffset, root(res.Err)), true
}

// root is the innermost cause of damage: the outer text repeats segment and offset.
func root(err error) error {
	if c, ok := errors.AsType[*segments.CorruptionError](err); ok && c.Err != nil {
		return c.Err
	}
	return err
}
