package store

import "github.com/quorumjournal/qjm/segments"

// Infos returns what is known of all segments, by first txid. It reads no file: digest, epoch and
// previous end are there only where Loaded says so. It costs as much as there are segments: what is asked
// often is asked of the other methods here.
func (d *Dir) Infos() []Info {
	return d.sized(d.infos(func(x *index) []*segment { return x.all }))
}

// Page returns what Infos says of up to limit segments, those that begin behind a txid, and whether there are more.
func (d *Dir) Page(after segments.TxID, limit int) (infos []Info, more bool) {
	infos = d.infos(func(x *index) []*segment {
		rest := x.all[x.upTo(after):]
		more = len(rest) > limit
		return rest[:min(limit, len(rest))]
	})
	return d.sized(infos), more
}

// InProgress returns what Infos says of the segments that are in progress by name, damaged ones, too.
func (d *Dir) InProgress() []Info {
	return d.sized(d.infos(func(x *index) []*segment { return x.progress }))
}

// Damaged returns what Infos says of the damaged segments, but for their sizes.
func (d *Dir) Damaged() []Info {
	return d.infos(func(x *index) []*segment { return x.damaged })
}

// infos describes the segments that pick picks. Sizes are there as far as they are known.
func (d *Dir) infos(pick func(*index) []*segment) []Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := pick(&d.segs)
	if len(list) == 0 {
		return nil
	}
	infos := make([]Info, len(list))
	for i, s := range list {
		infos[i] = s.info()
	}
	return infos
}

// sized asks for the sizes that are not known, or grow.
func (d *Dir) sized(infos []Info) []Info {
	for i := range infos {
		if infos[i].Open || infos[i].Bytes < 0 {
			infos[i].Bytes = d.statBytes(infos[i])
		}
	}
	return infos
}

// Newest returns what Infos says of the last segment, but for its size.
func (d *Dir) Newest() (Info, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.segs.all) == 0 {
		return Info{}, false
	}
	return d.segs.all[len(d.segs.all)-1].info(), true
}

// FinalizedUpTo returns what Infos says, but for its size, of the last segment that begins at or before a txid and is
// finalized by name: if any that is finalized holds the txid, this one does.
func (d *Dir) FinalizedUpTo(t segments.TxID) (Info, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.segs.finalizedUpTo(t); s != nil {
		return s.info(), true
	}
	return Info{}, false
}

// Holding returns what Infos says, but for its size, of the segment that holds a txid: a finalized one, else the one
// that begins at open, if it is in progress by name, and does not begin behind the txid.
func (d *Dir) Holding(t, open segments.TxID) (Info, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.segs.finalizedUpTo(t); s != nil && s.name.Last >= t {
		return s.info(), true
	}
	if s := d.segs.get(open); s != nil && open <= t && !s.finalized() {
		return s.info(), true
	}
	return Info{}, false
}

// Run returns the first txid of the oldest segment, 0 where there is none, what Infos says, but for its size, of the
// newest, and whether they are one run: none damaged, and each but the newest finalized and ending where the next one
// begins.
func (d *Dir) Run() (oldest segments.TxID, newest Info, whole bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.segs.all
	if len(all) == 0 {
		return 0, Info{}, true
	}
	return all[0].name.First, all[len(all)-1].info(), d.segs.gaps == 0 && len(d.segs.damaged) == 0
}

// FinalizedBytes returns the size of the files of all segments that are finalized by name. It is the owner's.
func (d *Dir) FinalizedBytes() int64 {
	d.mu.Lock()
	todo := d.segs.unsized
	d.segs.unsized = nil
	d.mu.Unlock()
	for _, s := range todo {
		d.size(s)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.segs.bytes
}

// size asks for the size of a finalized segment's file. Where it cannot be had now, it is asked for again.
func (d *Dir) size(s *segment) {
	d.mu.Lock()
	name, wanted := s.name, s.bytes < 0 && d.segs.get(s.name.First) == s
	d.mu.Unlock()
	if !wanted {
		return
	}
	st, err := d.fs.Stat(d.path(name))
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.segs.unsized = append(d.segs.unsized, s)
		return
	}
	d.segs.setBytes(s, st.Size())
}

// statBytes returns the size of a segment's file, 0 if it is gone meanwhile.
func (d *Dir) statBytes(i Info) int64 {
	n := segments.Name{Kind: segments.NameInProgress, First: i.First}
	if i.Finalized {
		n = segments.Name{Kind: segments.NameFinalized, First: i.First, Last: i.Last}
	}
	st, err := d.fs.Stat(d.path(n))
	if err != nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.segs.get(i.First); s != nil && s.name == n && s.finalized() && s.bytes < 0 {
		d.segs.setBytes(s, st.Size())
	}
	return st.Size()
}
