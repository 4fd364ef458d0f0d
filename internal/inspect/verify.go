package inspect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/quorumjournal/qjm/segments"
)

// Kind says what a finding is.
type Kind string

// The kinds. Info is no fault.
const (
	Corrupt   Kind = "corrupt"
	Torn      Kind = "torn"
	Divergent Kind = "divergent"
	Info      Kind = "info"
)

// Finding is one thing that Verify found.
type Finding struct {
	Kind    Kind
	Node    string // the node's id, or the path that was given
	Journal string
	File    string
	Offset  int64         // -1: none
	TxID    segments.TxID // the first one that is affected; 0: unknown
	What    string
}

// Report is the outcome of Verify.
type Report struct {
	Findings []Finding
	Journals int
	Segments int
	Txns     uint64
	Bytes    int64
}

// Count returns how many findings are of a kind.
func (r *Report) Count(k Kind) int {
	n := 0
	for _, f := range r.Findings {
		if f.Kind == k {
			n++
		}
	}
	return n
}

// Bad reports whether anything is wrong.
func (r *Report) Bad() bool { return r.Count(Info) < len(r.Findings) }

// verifier gathers a report.
type verifier struct {
	Report
	read func(int64) // told the bytes read; nil: nobody
	ends map[endKey][]nodeEnd
}

type endKey struct {
	journal segments.JournalID
	first   segments.TxID
}

type nodeEnd struct {
	node, journal, file string
	end                 segments.End
}

// Verify reads everything of the trees in full, and compares finalized segments between them. progress,
// if not nil, is told of every read how many bytes it was.
func Verify(trees []*Tree, progress func(int64)) *Report {
	v := &verifier{read: progress, ends: map[endKey][]nodeEnd{}}
	for _, t := range trees {
		v.node(t)
		for _, j := range t.Journals {
			v.Journals++
			v.journal(t, j)
		}
	}
	v.compare()
	return &v.Report
}

// Bytes returns how much Verify is going to read, about.
func (t *Tree) Bytes() int64 {
	var n int64
	for _, j := range t.Journals {
		for _, f := range j.Files {
			if info, err := t.fs.Stat(f.Path); err == nil {
				n += info.Size()
			}
		}
	}
	return n
}

func (v *verifier) add(f Finding) { v.Findings = append(v.Findings, f) }

func (v *verifier) node(t *Tree) {
	if t.Node == nil {
		return
	}
	for name, err := range t.Node.Bad {
		v.add(Finding{Kind: Corrupt, Node: t.Label(), File: path.Join(t.Path, name), Offset: -1, What: missingOr(err)})
	}
	for _, id := range t.Node.Listed {
		if !slices.Contains(t.Node.Present, id.String()) {
			dir := path.Join(t.Path, "journals", id.String())
			v.add(Finding{Kind: Corrupt, Node: t.Label(), File: dir, Offset: -1, What: "the manifest lists this journal and it is not here"})
		}
	}
	for _, name := range t.Node.Extra {
		v.add(Finding{Kind: Info, Node: t.Label(), File: path.Join(t.Path, name), Offset: -1, What: extra(name)})
	}
}

func (v *verifier) journal(t *Tree, j *Journal) {
	note := func(k Kind, file, what string) {
		v.add(Finding{Kind: k, Node: t.Label(), Journal: j.Name(), File: file, Offset: -1, What: what})
	}
	if j.Meta != nil {
		unlisted := t.Node != nil && t.Node.Bad["manifest"] == nil &&
			!slices.ContainsFunc(t.Node.Listed, func(id segments.JournalID) bool { return id.String() == path.Base(j.Dir) })
		if unlisted {
			note(Info, j.Dir, "a journal that the manifest does not list: its creation was cut off")
		}
		for name, err := range j.Meta.Bad {
			kind := Corrupt
			if unlisted && errors.Is(err, fs.ErrNotExist) {
				kind = Info
			}
			note(kind, path.Join(j.Dir, name), missingOr(err))
		}
		for _, a := range j.Meta.Accepted {
			note(Info, j.Dir, fmt.Sprintf("an accepted recovery of epoch %d: %s", a.Epoch, a.End))
		}
		if p := j.Meta.Purged; p.TxID != 0 {
			note(Info, j.Dir, fmt.Sprintf("purged up to %s; %d snapshots are here (their content is not verified)", p, len(j.Meta.Snapshots)))
		}
		for _, name := range j.Meta.Extra {
			note(Info, path.Join(j.Dir, name), extra(name))
		}
	}
	for _, name := range j.Others {
		note(Info, path.Join(j.SegDir, name), leftover(name))
	}
	for _, name := range j.Alien {
		note(Info, path.Join(j.SegDir, name), extra(name))
	}
	var prev *segment
	for _, f := range j.Files {
		s := v.segment(t, j, f)
		if s == nil {
			prev = nil
			continue
		}
		v.chain(t, j, prev, s)
		prev = s
	}
}

// segment is what was found of one segment.
type segment struct {
	file      string
	header    segments.Header
	end       segments.End
	finalized bool
}

// A running node writes, cuts and renames files while they are read: what looks wrong is looked at again.
const (
	settleTries = 20
	settlePause = 10 * time.Millisecond
)

// segment verifies one segment in full; nil: it cannot be read. What is wrong with a file is reported
// only if it stood still, or if it looks the same time and again.
func (v *verifier) segment(t *Tree, j *Journal, f File) *segment {
	v.Segments++
	var before *look
	same := true
	for try := 1; ; try++ {
		l := v.look(t, j, f, try == 1)
		if before != nil {
			same = same && slices.Equal(before.v.Findings, l.v.Findings)
		}
		switch {
		case l.settled(before):
		case try < settleTries:
			before = l
			<-time.After(settlePause)
			continue
		case !same:
			l.v.Findings = []Finding{{
				Kind: Info, Node: t.Label(), Journal: j.Name(), File: l.to.path, Offset: -1,
				What: "it is being written to all the time; look again later, or on a stopped node",
			}}
		}
		v.merge(&l.v)
		return l.seg
	}
}

// look is one reading of a file.
type look struct {
	v        verifier
	seg      *segment
	from, to stamp // how the file was before and after
}

// stamp tells whether a file changed.
type stamp struct {
	path string
	size int64
	mod  time.Time
}

func (t *Tree) stampOf(f File) stamp {
	info, err := t.fs.Stat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if again, ok := t.becameOf(f); ok {
			f = again
			info, err = t.fs.Stat(f.Path)
		}
	}
	if err != nil {
		return stamp{path: f.Path}
	}
	return stamp{f.Path, info.Size(), info.ModTime()}
}

func (v *verifier) look(t *Tree, j *Journal, f File, first bool) *look {
	l := &look{v: verifier{ends: map[endKey][]nodeEnd{}}, from: t.stampOf(f)}
	if first {
		l.v.read = v.read
	}
	l.seg = l.v.readOnce(t, j, f)
	l.to = t.stampOf(f)
	return l
}

// settled reports whether what was found can be told: nothing is wrong, or the file did not change and a
// look before says the same. A finalized file never changes, so one look is enough.
func (l *look) settled(before *look) bool {
	if !l.v.Bad() {
		return true
	}
	if n, _ := segments.ParseName(path.Base(l.to.path)); n.Kind == segments.NameFinalized && l.from == l.to {
		return true
	}
	return before != nil && before.from == before.to && before.to == l.from && l.from == l.to &&
		slices.Equal(before.v.Findings, l.v.Findings)
}

func (v *verifier) merge(l *verifier) {
	v.Findings = append(v.Findings, l.Findings...)
	v.Txns += l.Txns
	v.Bytes += l.Bytes
	for k, e := range l.ends {
		v.ends[k] = append(v.ends[k], e...)
	}
}

// readOnce reads one segment once.
func (v *verifier) readOnce(t *Tree, j *Journal, f File) *segment {
	fail := func(file string, err error) {
		out := Finding{Kind: Corrupt, Node: t.Label(), Journal: j.Name(), File: file, Offset: -1, What: root(err).Error()}
		if c, ok := errors.AsType[*segments.CorruptionError](err); ok {
			out.Offset, out.TxID = c.Offset, c.TxID
		}
		v.add(out)
	}
	o, err := t.open(f)
	if err != nil {
		if _, again := t.becameOf(f); errors.Is(err, fs.ErrNotExist) && !again {
			return nil // removed by the node while we looked
		}
		fail(f.Path, err)
		return nil
	}
	defer func() { _ = o.Close() }() // it was only read
	v.Bytes += o.size
	if o.name.Kind == segments.NameFinalized || o.name.Kind == 0 && hasFooter(o) {
		return v.finalized(t, j, o, fail)
	}
	return v.inProgress(t, j, o, fail)
}

func hasFooter(o *opened) bool {
	_, err := segments.ReadFooter(o, o.size)
	return err == nil
}

func (v *verifier) finalized(t *Tree, j *Journal, o *opened, fail func(string, error)) *segment {
	footer, err := segments.Verify(v.counted(o), o.size)
	if err != nil {
		fail(o.path, err)
		return nil
	}
	res := segments.Scan(o, o.size, segments.ScanOptions{Each: payloads})
	switch {
	case res.Err != nil:
		fail(o.path, res.Err)
		return nil
	case o.name.Kind != 0 && (footer.End.First != o.name.First || footer.End.Last != o.name.Last):
		fail(o.path, fmt.Errorf("the file is named for txids %d to %d and holds %d to %d", o.name.First, o.name.Last, footer.End.First, footer.End.Last))
		return nil
	case !v.ownJournal(j, footer.Header):
		fail(o.path, fmt.Errorf("the segment belongs to another journal (%s)", footer.Header.Journal))
		return nil
	}
	v.Txns += segments.Range{First: footer.End.First, Last: footer.End.Last}.Len()
	key := endKey{footer.Header.Journal, footer.End.First}
	v.ends[key] = append(v.ends[key], nodeEnd{t.Label(), j.Name(), o.path, footer.End})
	return &segment{file: o.path, header: footer.Header, end: footer.End, finalized: true}
}

func (v *verifier) inProgress(t *Tree, j *Journal, o *opened, fail func(string, error)) *segment {
	res := segments.Scan(v.counted(o), o.size, segments.ScanOptions{Each: payloads})
	if res.Stop == segments.StopTorn {
		var cause error = res.Err
		if torn, ok := errors.AsType[*segments.TornError](res.Err); ok {
			cause = torn.Cause
		}
		v.add(Finding{Kind: Torn, Node: t.Label(), Journal: j.Name(), File: o.path, Offset: res.EndOffset, TxID: res.Last.TxID + 1,
			What: fmt.Sprintf("torn tail, the last whole txid is %d: %v", res.Last.TxID, cause)})
	} else if res.Err != nil {
		fail(o.path, res.Err)
		return nil
	}
	switch {
	case o.name.First != 0 && o.name.First != res.Header.First:
		fail(o.path, fmt.Errorf("the file is named for txid %d and starts at %d", o.name.First, res.Header.First))
		return nil
	case !v.ownJournal(j, res.Header):
		fail(o.path, fmt.Errorf("the segment belongs to another journal (%s)", res.Header.Journal))
		return nil
	case res.Stop == segments.StopFooter && o.name.Kind == segments.NameInProgress:
		v.add(Finding{Kind: Info, Node: t.Label(), Journal: j.Name(), File: o.path, Offset: res.EndOffset, What: "its finalization was cut off"})
	}
	v.Txns += uint64(res.Last.TxID + 1 - res.Header.First)
	end := segments.End{First: res.Header.First, Last: res.Last.TxID, Digest: res.Last.Digest}
	return &segment{file: o.path, header: res.Header, end: end}
}

func payloads(r segments.Record) error {
	if r.Kind != segments.RecordFrame {
		return nil
	}
	return r.Frame.CheckPayload()
}

func (v *verifier) ownJournal(j *Journal, h segments.Header) bool {
	return j.Meta == nil || j.Meta.ID.IsZero() || j.Meta.ID == h.Journal
}

// chain checks that a segment continues the one before it.
func (v *verifier) chain(t *Tree, j *Journal, prev, s *segment) {
	out := Finding{Kind: Info, Node: t.Label(), Journal: j.Name(), File: s.file, Offset: -1, TxID: s.header.First}
	want := s.header.Prev
	var purged segments.Position
	if j.Meta != nil {
		purged = j.Meta.Purged
	}
	switch {
	case purged.TxID != 0 && want.Last == purged.TxID && want.Digest != purged.Digest:
		out.Kind, out.What = Divergent, fmt.Sprintf("was written behind %s, and what was purged ends %s", want, purged)
	case want.Last <= purged.TxID && (prev == nil || prev.end.Last < want.Last):
		return // purged, which is no hole
	case len(j.Files) < 2 && j.Dir == "" && j.Meta == nil:
		return // a single file
	case prev == nil && want.Last > 0:
		out.What = fmt.Sprintf("the segments before it, up to txid %d, are not here", want.Last)
	case prev == nil:
		return
	case prev.header.First == s.header.First:
		if prev.finalized && s.finalized {
			out.Kind, out.What = Divergent, fmt.Sprintf("two finalized copies of one segment, the other one is %s", path.Base(prev.file))
			break
		}
		out.What = "an in-progress copy of a segment that is finalized"
	case prev.end == want:
		return
	case prev.finalized && prev.end.Last >= s.header.First:
		out.Kind, out.What = Divergent, fmt.Sprintf("starts at txid %d, and the finalized segment before it ends at %d", s.header.First, prev.end.Last)
	case prev.end.Last == want.Last && prev.finalized:
		out.Kind = Divergent
		out.What = fmt.Sprintf("does not continue the segment before it: that one ends %s, this one was written behind %s", prev.end, want)
	case prev.end.Last < want.Last && prev.finalized:
		out.What = fmt.Sprintf("txids %d to %d are not here", prev.end.Last+1, want.Last)
	default:
		out.File, out.What = prev.file, fmt.Sprintf("an in-progress copy that ends %s; the segment was finalized elsewhere as %s", prev.end, want)
	}
	v.add(out)
}

// compare names finalized copies that differ between nodes.
func (v *verifier) compare() {
	var bad []Finding
	for _, copies := range v.ends {
		votes := map[segments.End]int{}
		for _, c := range copies {
			votes[c.end]++
		}
		if len(votes) < 2 {
			continue
		}
		for _, c := range copies {
			if 2*votes[c.end] > len(copies) {
				continue // most have it like that
			}
			var others []string
			for _, o := range copies {
				if o.end != c.end {
					others = append(others, fmt.Sprintf("%s has %s", o.node, o.end))
				}
			}
			bad = append(bad, Finding{
				Kind: Divergent, Node: c.node, Journal: c.journal, File: c.file, Offset: -1, TxID: c.end.First,
				What: fmt.Sprintf("finalized as %s, while %s", c.end, strings.Join(others, ", ")),
			})
		}
	}
	slices.SortFunc(bad, func(a, b Finding) int { return strings.Compare(a.File, b.File) })
	v.Findings = append(v.Findings, bad...)
}

// counted tells progress what is read.
func (v *verifier) counted(r io.ReaderAt) io.ReaderAt {
	if v.read == nil {
		return r
	}
	return &countingReader{r, v.read}
}

type countingReader struct {
	io.ReaderAt
	read func(int64)
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.read(int64(n))
	return n, err
}

func missingOr(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "missing"
	}
	return err.Error()
}

func extra(name string) string {
	if strings.HasSuffix(name, ".tmp") {
		return "a temporary that a crash left behind; the next write removes it"
	}
	return "not a file of ours"
}

func leftover(name string) string {
	n, _ := segments.ParseName(name)
	switch n.Kind {
	case segments.NameAside:
		return fmt.Sprintf("a copy put aside (%s); nothing reads it", n.Reason)
	case segments.NameInstall:
		return "a copy on its way into place; the node finishes it when it starts"
	case segments.NameTemporary:
		return "a copy being built; the node removes it when it starts"
	case segments.NameKept:
		return "a copy kept for an accepted recovery"
	}
	return "a leftover"
}
