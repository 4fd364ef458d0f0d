package membership

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// M4, C5: what counts as "all before the seal" on a node whose log begins at a purge point: the run of finalized
// segments behind that, and the newest listed snapshot, whole and verified there.
func TestM4_WhatANodeHoldsBeforeTheSeal(t *testing.T) {
	at := func(txid segments.TxID) segments.Position {
		return segments.Position{TxID: txid, Digest: segments.Digest{byte(txid)}}
	}
	seg := func(first, last segments.TxID) rpc.SegmentInfo {
		return rpc.SegmentInfo{First: first, Last: at(last), State: recovery.Finalized}
	}
	list := func(purged segments.TxID, segs ...rpc.SegmentInfo) rpc.SegmentsPage {
		l := rpc.SegmentsPage{Segments: segs}
		if purged > 0 {
			l.Purged = at(purged)
		}
		return l
	}
	other := list(60, seg(61, 70))
	other.Purged.Digest[1]++
	rotten := seg(51, 60)
	rotten.State = recovery.Unknown
	fork := seg(51, 60)
	fork.Last.Digest[1]++
	for name, test := range map[string]struct {
		list      rpc.SegmentsPage
		unknown   bool // the end before the seal
		snapless  bool
		finalized segments.TxID
		holds     bool
	}{
		"from the start":                       {list: list(0, seg(1, 50), seg(51, 60)), finalized: 60, holds: true},
		"from the start, no snapshot":          {list: list(0, seg(1, 50), seg(51, 60)), snapless: true, finalized: 60, holds: true},
		"the end is not known":                 {list: list(0, seg(1, 50), seg(51, 60)), unknown: true, finalized: 60},
		"a hole":                               {list: list(0, seg(1, 40), seg(51, 60)), finalized: 40},
		"nothing below, and no purge point":    {list: list(0, seg(51, 60))},
		"another end":                          {list: list(0, seg(1, 50), fork), finalized: 60},
		"damaged":                              {list: list(0, seg(1, 50), rotten), finalized: 50},
		"purged below":                         {list: list(50, seg(51, 60)), finalized: 60, holds: true},
		"purged below, no snapshot":            {list: list(50, seg(51, 60)), snapless: true, finalized: 60},
		"purged in the middle of a segment":    {list: list(55, seg(51, 60)), finalized: 60, holds: true},
		"about to go, and behind it":           {list: list(50, seg(1, 20), seg(31, 50), seg(51, 60)), finalized: 60, holds: true},
		"purged below, a hole":                 {list: list(40, seg(51, 60)), finalized: 40},
		"purged to the end, and goes on":       {list: list(60, seg(61, 70)), finalized: 70, holds: true},
		"purged to the end of another history": {list: other, finalized: 70},
		"purged to the end, nothing behind it": {list: list(60), finalized: 60},
		"purged beyond":                        {list: list(65, seg(61, 70)), unknown: true, finalized: 70, holds: true},
		"purged beyond, no snapshot":           {list: list(65, seg(61, 70)), snapless: true, finalized: 70},
		"purged beyond, nothing behind it":     {list: list(70), finalized: 70},
	} {
		t.Run(name, func(t *testing.T) {
			snap := snapshot.Snapshot{TxID: 80, At: at(80), Size: 8, Epoch: 3}
			j := catalog.Journal{
				Change:    &catalog.Change{Seal: catalog.Seal{Epoch: 3, Segment: 61}},
				Snapshots: []catalog.Snapshot{{TxID: 80, FrameLast: at(80), Size: 8, Epoch: 3}, {TxID: 70, FrameLast: at(70), Size: 7, Epoch: 3}},
			}
			report := func(held ...rpc.HeldSnapshot) Report {
				return Told{List: test.list, Held: held}.Report(j, segments.End{First: 51, Last: 60, Digest: at(60).Digest}, !test.unknown, rpc.Seal{})
			}
			good := rpc.HeldSnapshot{Snapshot: snap, Verified: true}
			bad, old, unverified := good, good, good
			bad.Problem = "damaged"
			old.Snapshot.TxID, old.Snapshot.At, old.Snapshot.Size = 70, at(70), 7
			unverified.Verified = false
			r := report(bad, old, unverified)
			if !test.snapless {
				r = report(old, good)
			}
			require.Equal(t, test.finalized, r.Finalized)
			require.Equal(t, test.holds, r.HoldsBefore)
		})
	}
}

// M8: whose data is nobody's to remove: that of members whom a majority never let go.
func TestM8_OutByForce(t *testing.T) {
	n1, n2 := quorum.Member{ID: "n1"}, quorum.Member{ID: "n2"}
	left := func(kind catalog.HistoryKind) catalog.Journal {
		return catalog.Journal{
			Former:  []catalog.Former{{Member: n1, Version: 7}},
			History: []catalog.HistoryEntry{{Kind: catalog.Created, Version: 1}, {Kind: kind, Version: 7}, {Kind: catalog.Changed, Version: 9}},
		}
	}
	require.True(t, OutByForce(left(catalog.Forced), n1))
	require.True(t, OutByForce(left(catalog.Adopted), n1), "a reset on one node alone, as the catalog heard of it (M9)")
	require.False(t, OutByForce(left(catalog.Changed), n1))
	require.False(t, OutByForce(left(catalog.Forced), n2), "it never was a member")
}
