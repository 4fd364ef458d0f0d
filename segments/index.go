package segments

import "sort"

const (
	// IndexSpacing is how far apart, in bytes, the entries of a sparse index are at first.
	IndexSpacing = 64 << 10
	// MaxIndexEntries bounds an index. When it is full, every second entry goes and the spacing
	// doubles: a segment of any size has an index of at most 512 KiB.
	MaxIndexEntries = 1 << 14
)

// IndexEntry says where a frame starts.
type IndexEntry struct {
	TxID   TxID   // first txid of the frame
	Offset int64  // where the frame starts in the file
	Prev   Digest // chain digest before the frame, so that verifying can start here
}

// Index is a sparse, bounded map from txids to offsets. The zero Index is empty and ready.
type Index struct {
	entries []IndexEntry
	spacing int64
}

// Add tells the index of a frame; frames come in order. It is remembered if it is the first, or far
// enough from the last that was.
func (x *Index) Add(e IndexEntry) {
	if x.spacing == 0 {
		x.spacing = IndexSpacing
	}
	if n := len(x.entries); n > 0 && e.Offset-x.entries[n-1].Offset < x.spacing {
		return
	}
	if len(x.entries) == MaxIndexEntries {
		for i := range MaxIndexEntries / 2 {
			x.entries[i] = x.entries[2*i]
		}
		x.entries = x.entries[:MaxIndexEntries/2]
		x.spacing *= 2
	}
	x.entries = append(x.entries, e)
}

// Find returns the last remembered frame that starts at or before txid.
func (x *Index) Find(txid TxID) (IndexEntry, bool) {
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].TxID > txid })
	if i == 0 {
		return IndexEntry{}, false
	}
	return x.entries[i-1], true
}

// Entries returns the remembered frames in order. The slice is shared and changes with the next Add.
func (x *Index) Entries() []IndexEntry { return x.entries }
