package journalnode

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/segments"
)

// A1: a comparison is left out only where everybody who answers tells what was told before the last one, which was in
// order.
func TestA1_WhatIsNews(t *testing.T) {
	id, other := segments.JournalID{1}, segments.JournalID{2}
	own, b1, b2, c1 := rpc.Holding{9}, rpc.Holding{1}, rpc.Holding{2}, rpc.Holding{3}
	var silent rpc.Holding
	type told map[quorum.NodeID]*rpc.Holding // nil: it did not answer
	listen := func(id segments.JournalID, said told) *holdings {
		h := &holdings{}
		for p, x := range said {
			switch x {
			case nil:
				h.note(p, false, nil)
			default:
				h.note(p, true, []rpc.JournalSummary{{ID: id, Holding: *x}})
			}
		}
		return h
	}
	settled := listen(id, told{"b": &b1, "c": &c1}).of("a", id, threeMembers, own)
	v2 := threeMembers
	v2.Version = 2
	for name, tc := range map[string]struct {
		h     *holdings
		last  matched
		cfg   quorum.Config
		own   rpc.Holding
		ask   []quorum.NodeID
		quiet bool
	}{
		"nothing was compared yet": {h: listen(id, told{"b": &b1, "c": &c1}), cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"}},
		"all the same":             {h: listen(id, told{"b": &b1, "c": &c1}), last: settled, cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"}, quiet: true},
		"a peer's changed":         {h: listen(id, told{"b": &b2, "c": &c1}), last: settled, cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"}},
		"this node's changed":      {h: listen(id, told{"b": &b1, "c": &c1}), last: settled, cfg: threeMembers, own: rpc.Holding{8}, ask: []quorum.NodeID{"b", "c"}},
		"the config changed":       {h: listen(id, told{"b": &b1, "c": &c1}), last: settled, cfg: v2, own: own, ask: []quorum.NodeID{"b", "c"}},
		"a peer does not tell":     {h: listen(id, told{"b": &silent, "c": &c1}), last: settled, cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"}},
		"a peer was not asked":     {h: listen(id, told{"b": &b1}), last: settled, cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"}},
		"a peer is away":           {h: listen(id, told{"b": &b1, "c": nil}), last: settled, cfg: threeMembers, own: own, ask: []quorum.NodeID{"b"}, quiet: true},
		"all are away":             {h: listen(id, told{"b": nil, "c": nil}), cfg: threeMembers, own: own, quiet: true},
		"they do not have it":      {h: listen(other, told{"b": &b1, "c": &c1}), cfg: threeMembers, own: own, quiet: true},
		"a peer was away when it was settled": {
			h: listen(id, told{"b": &b1, "c": &c1}), last: listen(id, told{"b": &b1, "c": nil}).of("a", id, threeMembers, own),
			cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"},
		},
		"a peer did not tell when it was settled": {
			h: listen(id, told{"b": &silent, "c": &c1}), last: listen(id, told{"b": &silent, "c": &c1}).of("a", id, threeMembers, own),
			cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := tc.h.of("a", id, tc.cfg, tc.own)
			require.Equal(t, !tc.quiet, m.news(tc.last))
			var ask []quorum.NodeID
			for _, p := range []quorum.NodeID{"a", "b", "c"} {
				if _, in := m.peers[p]; in {
					ask = append(ask, p)
				}
			}
			require.Equal(t, tc.ask, ask)
		})
	}
}

// What is counted begins anew with each opening: the same count in another run names another state.
func TestA1_HoldingsOfTwoRunsDiffer(t *testing.T) {
	_, o, disk := ownerBed(t)
	again, err := journal.Open(disk, "j", o.j.Self(), o.j.ID(), journal.Options{})
	require.NoError(t, err)
	other := newOwner(again, o.opts, o.log, o.metrics)
	t.Cleanup(other.close)
	require.Equal(t, o.j.Changes(), again.Changes())
	require.NotEqual(t, o.holding(), other.holding())
	require.Equal(t, o.holding(), o.holding())
	require.False(t, o.holding().IsZero())
}

// M9: who has another config than the catalog, of that version or not, or none at all, is looked at; who does not answer
// cannot be.
func TestM9_Astray(t *testing.T) {
	id := segments.JournalID{1}
	j := catalog.Journal{ID: id, Config: threeMembers}
	older, newer, other := threeMembers, threeMembers, quorum.NewConfig(1, threeMembers.Members()[:1]...)
	older.Version, newer.Version = 0, 2
	has := func(cfg quorum.Config) map[segments.JournalID]quorum.Config {
		return map[segments.JournalID]quorum.Config{id: cfg}
	}
	for name, tc := range map[string]struct {
		told   installedOn
		astray bool
	}{
		"all have it":              {told: installedOn{"a": has(threeMembers), "b": has(threeMembers), "c": has(threeMembers)}},
		"nobody answers":           {told: installedOn{}},
		"a node that is no member": {told: installedOn{"a": has(threeMembers), "d": has(older)}},
		"one is behind":            {told: installedOn{"a": has(threeMembers), "b": has(older)}, astray: true},
		"one is ahead":             {told: installedOn{"a": has(threeMembers), "c": has(newer)}, astray: true},
		"another of that version":  {told: installedOn{"a": has(other)}, astray: true},
		"one does not have it":     {told: installedOn{"a": has(threeMembers), "b": {}}, astray: true},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.astray, astray(j, tc.told)) })
	}
}

// A2: however small its segments are, a scrub of very many of them takes its time, reads each once in ScrubEvery, and
// does not even list them where nothing came and nothing is due.
func TestA2_ScrubOfManySmallSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, o, _ := ownerBed(t)
		n.metrics = o.metrics
		const count = 50
		require.NoError(t, o.do(t.Context(), func(j *journal.Journal) error { return fill(j, count) }))
		scrubs := func(log scrubLog) (scrubLog, time.Duration) {
			began := time.Now()
			log = n.scrubJournal(o, log)
			return log, time.Since(began)
		}
		log, took := scrubs(scrubLog{})
		require.GreaterOrEqual(t, took, count*scrubFileTime)
		require.Len(t, log.done, count)
		for range 10 {
			<-time.After(time.Minute)
			var again scrubLog
			again, took = scrubs(log)
			require.Zero(t, took)
			require.Equal(t, log, again)
		}
		require.NoError(t, o.do(t.Context(), func(j *journal.Journal) error { return fill(j, 1) }))
		log, took = scrubs(log)
		require.Equal(t, scrubFileTime, took, "the new one alone")
		require.Len(t, log.done, count+1)
		<-time.After(n.opts.ScrubEvery - time.Hour)
		log, took = scrubs(log)
		require.Zero(t, took)
		<-time.After(55 * time.Minute)
		_, took = scrubs(log)
		require.Equal(t, count*scrubFileTime, took, "all again, but the new one, which was read ten minutes later")
	})
}

// fill puts finalized segments of a transaction each behind what is there.
func fill(j *journal.Journal, count int) error {
	prev := segments.End{}
	for _, s := range j.Segments() {
		prev = segments.End{First: s.First, Last: s.Last.TxID, Digest: s.Last.Digest}
	}
	for range count {
		var b segments.Builder
		b.Reset(prev.Next(), 1)
		err := b.Add([]byte("x"))
		if err != nil {
			return err
		}
		f, err := b.Seal(prev.Digest, segments.SealOptions{})
		if err != nil {
			return err
		}
		inc, err := j.NewIncoming(prev, 1)
		if err != nil {
			return err
		}
		if err := inc.Append(f); err != nil {
			return err
		}
		prev = segments.End{First: f.First(), Last: f.Last(), Digest: f.Digest()}
		if err := j.InstallFinalized(inc, prev); err != nil {
			return err
		}
	}
	return nil
}
