package snapshots

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

// digestAt is the digest of the one true history.
func digestAt(txid segments.TxID) segments.Digest {
	return segments.Digest{byte(txid), byte(txid >> 8), 1}
}

func at(txid segments.TxID) segments.Position {
	return segments.Position{TxID: txid, Digest: digestAt(txid)}
}

func endOf(first, last segments.TxID) segments.End {
	return segments.End{First: first, Last: last, Digest: digestAt(last)}
}

// seg is a finalized segment of the true history.
func seg(first, last segments.TxID) Segment {
	s := Segment{End: endOf(first, last), Finalized: true, Bytes: int64(last-first) + 1}
	if first > 1 {
		s.Prev = endOf(first-1, first-1) // its first txid is nobody's business here
	}
	return s
}

func open(first, last segments.TxID) Segment {
	s := seg(first, last)
	s.Finalized = false
	return s
}

func snap(txid segments.TxID) Snapshot {
	return Snapshot{TxID: txid, At: at(txid), Size: int64(txid), Checksum: Checksum{byte(txid)}, Epoch: 3}
}

func firsts(f ...segments.TxID) []segments.TxID { return f }

func TestC2_Purge(t *testing.T) {
	segs := []Segment{open(401, 450), seg(101, 200), seg(1, 100), seg(201, 300), seg(301, 400)}
	base := PurgeInput{Segments: segs, Listed: []Snapshot{snap(250), snap(400)}, Held: []Snapshot{snap(250), snap(400)}}
	with := func(change func(in *PurgeInput)) PurgeInput {
		in := base
		in.Segments = slices.Clone(segs)
		change(&in)
		return in
	}
	for name, test := range map[string]struct {
		in    PurgeInput
		want  []segments.TxID
		point segments.TxID
	}{
		"all but the newest finalized (C5)":    {base, firsts(1, 101, 201), 300},
		"not listed":                           {with(func(in *PurgeInput) { in.Listed = nil }), nil, 0},
		"not held":                             {with(func(in *PurgeInput) { in.Held = nil }), nil, 0},
		"held is older than listed":            {with(func(in *PurgeInput) { in.Held = in.Held[:1] }), firsts(1, 101), 200},
		"listed is older than held":            {with(func(in *PurgeInput) { in.Listed = in.Listed[:1] }), firsts(1, 101), 200},
		"another content":                      {with(func(in *PurgeInput) { s := snap(400); s.Checksum[9]++; in.Held = []Snapshot{s} }), nil, 0},
		"another epoch's":                      {with(func(in *PurgeInput) { s := snap(400); s.Epoch++; in.Held = []Snapshot{s} }), nil, 0},
		"a segment covered in part":            {with(func(in *PurgeInput) { in.Held = []Snapshot{snap(299)}; in.Listed = in.Held }), firsts(1, 101), 200},
		"margin of txns":                       {with(func(in *PurgeInput) { in.Margin.Txns = 101 }), firsts(1, 101), 200},
		"margin of txns, exactly":              {with(func(in *PurgeInput) { in.Margin.Txns = 100 }), firsts(1, 101, 201), 300},
		"margin of txns, all":                  {with(func(in *PurgeInput) { in.Margin.Txns = math.MaxInt64 }), nil, 0},
		"margin of bytes":                      {with(func(in *PurgeInput) { in.Margin.Bytes = 1 }), firsts(1, 101), 200},
		"margin of bytes, two segments":        {with(func(in *PurgeInput) { in.Margin.Bytes = 101 }), firsts(1), 100},
		"margin of bytes, all":                 {with(func(in *PurgeInput) { in.Margin.Bytes = math.MaxInt64 }), nil, 0},
		"pin":                                  {with(func(in *PurgeInput) { in.Pins = []Pin{{"n4", 150}}; in.PinBytesMax = 200 }), firsts(1), 100},
		"pin at a boundary":                    {with(func(in *PurgeInput) { in.Pins = []Pin{{"n4", 201}}; in.PinBytesMax = 100 }), firsts(1, 101), 200},
		"pin beyond the bound":                 {with(func(in *PurgeInput) { in.Pins = []Pin{{"n4", 150}}; in.PinBytesMax = 199 }), firsts(1, 101, 201), 300},
		"one pin beyond the bound, one within": {with(func(in *PurgeInput) { in.Pins = []Pin{{"n4", 250}, {"n5", 1}}; in.PinBytesMax = 100 }), firsts(1, 101), 200},
		"the lowest pin counts":                {with(func(in *PurgeInput) { in.Pins = []Pin{{"n4", 250}, {"n5", 150}, {"n6", 260}}; in.PinBytesMax = 1000 }), firsts(1), 100},
		"stops at one in progress":             {with(func(in *PurgeInput) { in.Segments[1].Finalized = false }), firsts(1), 100},
		"stops at one whose end is not known":  {with(func(in *PurgeInput) { in.Segments[1].End.Digest = segments.Digest{} }), firsts(1), 100},
		"damage, its end known":                {with(func(in *PurgeInput) { in.Segments[1].Damaged = true }), firsts(1, 101, 201), 300},
		"newest finalized is damaged":          {with(func(in *PurgeInput) { in.Segments[4].Damaged = true }), firsts(1, 101), 200},
		"the point does not go back":           {with(func(in *PurgeInput) { in.Purged = at(390) }), firsts(1, 101, 201), 390},
		"nothing new, the point stays":         {with(func(in *PurgeInput) { in.Purged, in.Held = at(100), nil }), nil, 100},
		"one segment only (C5)":                {with(func(in *PurgeInput) { in.Segments = []Segment{seg(1, 100)} }), nil, 0},
		"one finalized and one open (C5)":      {with(func(in *PurgeInput) { in.Segments = []Segment{seg(1, 100), open(101, 101)} }), nil, 0},
		"no segments":                          {with(func(in *PurgeInput) { in.Segments = nil }), nil, 0},
	} {
		plan, err := PurgeDecision(test.in)
		require.NoError(t, err, name)
		require.Equal(t, test.want, plan.Remove, name)
		want := segments.Position{}
		if test.point != 0 {
			want = at(test.point)
		}
		require.Equal(t, want, plan.Point, name)
	}
	plan, err := PurgeDecision(with(func(in *PurgeInput) { in.Pins = []Pin{{"n4", 150}}; in.PinBytesMax = 199 }))
	require.NoError(t, err)
	require.Equal(t, []Pin{{"n4", 150}}, plan.Overrun)
}

// C1: a snapshot of another history covers nothing.
func TestC1_PurgeWithASnapshotOfAnotherHistory(t *testing.T) {
	s := snap(300)
	s.At.Digest[5]++
	plan, err := PurgeDecision(PurgeInput{
		Segments: []Segment{seg(1, 100), seg(101, 300), seg(301, 400)},
		Listed:   []Snapshot{s}, Held: []Snapshot{s}, Purged: at(50),
	})
	var d *DivergenceError
	require.ErrorAs(t, err, &d)
	require.ErrorIs(t, err, ErrDivergence)
	require.EqualValues(t, 101, d.Segment)
	require.Equal(t, PurgePlan{Point: at(50)}, plan)
}

// C2, C5 on random inputs, each sentence of the rules checked by itself.
func TestC2_C5_PurgeRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	purged := 0
	for range 20000 {
		in := randomPurge(rng)
		plan, err := PurgeDecision(in)
		require.NoError(t, err)
		purged += len(plan.Remove)
		require.GreaterOrEqual(t, plan.Point.TxID, in.Purged.TxID)
		checkPurge(t, in, plan)
	}
	require.Greater(t, purged, 1000)
}

func checkPurge(t *testing.T, in PurgeInput, plan PurgePlan) {
	t.Helper()
	cover, newest := segments.TxID(0), segments.TxID(0)
	for _, s := range in.Held {
		if slices.Contains(in.Listed, s) {
			cover = max(cover, s.TxID)
		}
	}
	left, last := map[segments.TxID]Segment{}, segments.TxID(0)
	for _, s := range in.Segments {
		left[s.End.First] = s
		if s.Finalized {
			newest = max(newest, s.End.First)
		}
	}
	for i, first := range plan.Remove {
		s := left[first]
		delete(left, first)
		require.True(t, s.Finalized)
		require.NotEqual(t, newest, first)
		require.LessOrEqual(t, uint64(s.End.Last)+uint64(in.Margin.Txns), uint64(cover))
		require.LessOrEqual(t, s.End.Last, plan.Point.TxID)
		require.Greater(t, s.End.Last, last)
		last = s.End.Last
		for _, p := range in.Pins {
			require.True(t, s.End.Last < p.From || slices.Contains(plan.Overrun, p))
		}
		for _, other := range plan.Remove[i+1:] {
			require.Less(t, first, other, "oldest first")
		}
	}
	behind := int64(0)
	for first, s := range left {
		require.Greater(t, first, last, "no hole is made")
		if s.Finalized && s.End.Last <= cover {
			behind += s.Bytes
		}
	}
	if len(plan.Remove) > 0 {
		require.GreaterOrEqual(t, behind, in.Margin.Bytes)
	}
	if plan.Point != in.Purged {
		require.Equal(t, at(last), plan.Point)
	}
}

func randomPurge(rng *rand.Rand) (in PurgeInput) {
	first := segments.TxID(1 + rng.IntN(20))
	for range rng.IntN(8) {
		last := first + segments.TxID(rng.IntN(20))
		in.Segments = append(in.Segments, seg(first, last))
		first = last + 1
	}
	if n := len(in.Segments); n > 0 && rng.IntN(2) == 0 {
		in.Segments[n-1].Finalized = false
	}
	rng.Shuffle(len(in.Segments), func(i, j int) { in.Segments[i], in.Segments[j] = in.Segments[j], in.Segments[i] })
	for range rng.IntN(4) {
		s := snap(segments.TxID(1 + rng.IntN(int(first))))
		if rng.IntN(4) > 0 {
			in.Listed = append(in.Listed, s)
		}
		if rng.IntN(4) > 0 {
			in.Held = append(in.Held, s)
		}
	}
	if rng.IntN(2) == 0 {
		in.Margin = Margin{Txns: rng.Int64N(30), Bytes: rng.Int64N(30)}
	}
	for range rng.IntN(3) {
		in.Pins = append(in.Pins, Pin{From: segments.TxID(rng.IntN(int(first)))})
	}
	in.PinBytesMax = rng.Int64N(60)
	if rng.IntN(2) == 0 {
		in.Purged = at(segments.TxID(1 + rng.IntN(40)))
	}
	return in
}

// Nothing covers what stands behind the transaction in its frame: without the segment that holds it no purge
// point may lie behind the frame. A node that took one would lack those, and not know it.
func TestC3_InstallNeedsTheRestOfTheFrame(t *testing.T) {
	inFrame := snap(250) // its frame ends at 255
	inFrame.At = at(255)
	for _, segs := range [][]Segment{nil, {seg(1, 100), seg(101, 200), open(201, 260)}, {seg(1, 200), open(201, 252)}, {seg(301, 400)}} {
		plan, err := InstallDecision(InstallInput{Snapshot: inFrame, Segments: segs})
		require.ErrorIs(t, err, ErrHolderMissing)
		require.Equal(t, InstallPlan{}, plan)
	}
}

func TestC3_Install(t *testing.T) {
	stale := open(201, 260) // of a writer that was fenced
	beyondOther := seg(301, 350)
	beyondOther.Prev.Digest[7]++
	damaged := func(s Segment) Segment {
		s.Damaged = true
		s.Prev = segments.End{}
		return s
	}
	inFrame := snap(250) // its frame ends at 255
	inFrame.At = at(255)
	for name, test := range map[string]struct {
		snap                Snapshot
		segs                []Segment
		ownAt               segments.Digest
		purged              segments.Position
		keep, aside, remove []segments.TxID
		point               segments.Position
		divergences         int
		err                 error
	}{
		"blank: nothing to go on from (C5)": {snap: snap(250), err: ErrHolderMissing},
		"nothing finalized to go on from":   {snap: snap(250), segs: []Segment{open(251, 260)}, err: ErrHolderMissing},
		"holder agrees": {
			snap: snap(250), segs: []Segment{seg(101, 200), seg(1, 100), seg(201, 300), open(301, 310)}, ownAt: digestAt(250),
			keep: firsts(201, 301), remove: firsts(1, 101), point: at(200),
		},
		"holder in progress agrees": {
			snap: snap(250), segs: []Segment{seg(1, 100), seg(101, 200), stale}, ownAt: digestAt(250),
			keep: firsts(101, 201), remove: firsts(1), point: at(100),
		},
		"holder in progress disagrees": {
			snap: snap(250), segs: []Segment{seg(1, 100), seg(101, 200), stale, seg(301, 400)}, ownAt: digestAt(251),
			keep: firsts(301), remove: firsts(1, 101), aside: firsts(201), point: at(250),
		},
		"a hole before the holder: it begins there": {
			snap: inFrame, segs: []Segment{seg(201, 300), open(301, 310)}, ownAt: digestAt(255),
			keep: firsts(201, 301), point: at(200),
		},
		"the same, a leftover below": {
			snap: inFrame, segs: []Segment{open(1, 50), seg(101, 200), seg(201, 300)}, ownAt: digestAt(255),
			keep: firsts(201), aside: firsts(1), remove: firsts(101), point: at(200),
		},
		"in progress, ends below": {
			snap: snap(250), segs: []Segment{seg(1, 100), seg(101, 200), open(201, 240), seg(301, 400)},
			keep: firsts(301), remove: firsts(1, 101), aside: firsts(201), point: at(250),
		},
		"finalized holder disagrees": {
			snap: snap(250), segs: []Segment{seg(1, 100), seg(101, 200), seg(201, 300), seg(401, 500)}, ownAt: digestAt(251),
			keep: firsts(1, 101, 401), aside: firsts(201), point: at(250), divergences: 1,
		},
		"what is chained to it disagrees, too": {
			snap: snap(250), ownAt: digestAt(251),
			segs: []Segment{seg(201, 300), {End: endOf(301, 400), Prev: endOf(201, 300), Finalized: true}, {End: endOf(401, 410), Prev: endOf(301, 400)}, seg(411, 420)},
			keep: firsts(411), aside: firsts(201, 301, 401), point: at(250), divergences: 2,
		},
		"right behind, agrees": {
			snap: snap(300), segs: []Segment{seg(301, 350), open(351, 360)},
			keep: firsts(301, 351), point: at(300),
		},
		"right behind, disagrees": {
			snap: snap(300), segs: []Segment{seg(1, 100), beyondOther, seg(401, 500)},
			keep: firsts(1, 401), aside: firsts(301), point: at(300), divergences: 1,
		},
		"beyond a hole: cannot be compared, stays": {
			snap: snap(300), segs: []Segment{seg(1, 100), seg(400, 500)},
			keep: firsts(400), remove: firsts(1), point: at(300),
		},
		"newest finalized stays (C5)": {
			snap: snap(250), segs: []Segment{seg(1, 100), seg(101, 200), stale}, ownAt: digestAt(250),
			keep: firsts(101, 201), remove: firsts(1), point: at(100),
		},
		"ends below the snapshot, whole from the start: nothing to gain": {
			snap: snap(300), segs: []Segment{seg(1, 100), seg(101, 200)}, err: ErrHolderMissing,
		},
		"ends below the snapshot, a hole: what is held stays, and begins behind it": {
			snap: snap(300), segs: []Segment{seg(1, 50), seg(101, 150), seg(151, 200), open(201, 210)},
			keep: firsts(1, 101, 151, 201), point: at(100),
		},
		"damaged holder is unknown": {
			snap: snap(250), segs: []Segment{seg(1, 100), seg(101, 200), damaged(seg(201, 300))},
			keep: firsts(101, 201), remove: firsts(1), point: at(100),
		},
		"damaged below goes aside, beyond it stays": {
			snap: snap(250), segs: []Segment{damaged(seg(1, 100)), seg(101, 200), seg(201, 300), damaged(seg(301, 400))}, ownAt: digestAt(250),
			keep: firsts(201, 301), aside: firsts(1), remove: firsts(101), point: at(200),
		},
		"the point does not go back": {
			snap: snap(250), segs: []Segment{seg(401, 500)}, purged: at(400),
			keep: firsts(401), point: at(400),
		},
	} {
		plan, err := InstallDecision(InstallInput{Snapshot: test.snap, Segments: test.segs, OwnAt: test.ownAt, Purged: test.purged})
		require.ErrorIs(t, err, test.err, name)
		require.Equal(t, test.keep, plan.Keep, name)
		require.Equal(t, test.aside, plan.SetAside, name)
		require.Equal(t, test.remove, plan.Remove, name)
		require.Equal(t, test.point, plan.Point, name)
		require.Len(t, plan.Divergences, test.divergences, name)
		for _, d := range plan.Divergences {
			require.ErrorIs(t, d, ErrDivergence)
		}
	}
	_, err := InstallDecision(InstallInput{})
	require.ErrorIs(t, err, ErrInvalid)
	_, err = InstallDecision(InstallInput{Snapshot: snap(250), Segments: []Segment{{End: segments.End{First: 201}}}})
	require.ErrorIs(t, err, ErrInvalid, "an in-progress copy that nobody opened")
}

func TestC2_TwoNewestListedStay(t *testing.T) {
	held := func(txid segments.TxID) HeldFile { return HeldFile{Snapshot: snap(txid), Verified: true} }
	listed := []Snapshot{snap(400), snap(200), snap(100), snap(300)}
	other := held(350) // never listed, and too late for it
	damaged := held(100)
	damaged.Damaged = true
	unverified := func(h HeldFile) HeldFile { h.Verified = false; return h }
	changed := held(400)
	changed.Snapshot.Checksum[0]++
	for name, test := range map[string]struct {
		held        []HeldFile
		listed      []Snapshot
		downloading []segments.TxID
		want        []segments.TxID
	}{
		"older ones go":                  {held: []HeldFile{held(400), held(100), held(300), held(200)}, listed: listed, want: firsts(100, 200)},
		"nothing listed":                 {held: []HeldFile{held(100), held(200)}},
		"being downloaded":               {held: []HeldFile{held(100), held(200), held(300), held(400)}, listed: listed, downloading: firsts(100), want: firsts(200)},
		"not listed yet":                 {held: []HeldFile{held(500), held(400)}, listed: listed},
		"not listed, superseded":         {held: []HeldFile{other, held(400)}, listed: listed, want: firsts(350)},
		"another content than listed":    {held: []HeldFile{changed, held(300)}, listed: listed, want: firsts(400)},
		"the purge point rests on it":    {held: []HeldFile{held(100), held(200)}, listed: listed, want: firsts(100)},
		"newer ones are not verified":    {held: []HeldFile{held(200), unverified(held(300)), unverified(held(400))}, listed: listed},
		"no listed one is here yet":      {held: []HeldFile{held(50), held(60), unverified(held(70))}, listed: listed, want: firsts(50, 60)},
		"a listed one is not verified":   {held: []HeldFile{held(50), unverified(held(300)), unverified(held(400))}, listed: listed},
		"nor is that, but damaged":       {held: []HeldFile{held(50), damaged}, listed: listed},
		"damaged ones are never removed": {held: []HeldFile{damaged, held(400)}, listed: listed},
	} {
		require.Equal(t, test.want, Disposable(test.held, test.listed, test.downloading), name)
	}
}

// C5: the purge point is durable, and damage is not "nothing was purged".
func TestC5_PurgedRecord(t *testing.T) {
	disk := memfs.New()
	require.NoError(t, disk.MkdirAll("d"))
	require.NoError(t, disk.SyncDir("."))
	p, err := LoadPurged(disk, "d/purged")
	require.NoError(t, err)
	require.Zero(t, p)
	require.ErrorIs(t, SavePurged(disk, "d/purged", segments.Position{}), ErrInvalid)
	require.NoError(t, SavePurged(disk, "d/purged", at(300)))
	disk = disk.CrashClone(memfs.CrashOptions{})
	p, err = LoadPurged(disk, "d/purged")
	require.NoError(t, err)
	require.Equal(t, at(300), p)
	require.NoError(t, disk.FlipBit("d/purged", 30, 1))
	_, err = LoadPurged(disk, "d/purged")
	require.ErrorIs(t, err, durable.ErrDamaged)
	require.NoError(t, durable.Save(disk, "d/purged", purgedMagic, 1, make([]byte, purgedSize)))
	_, err = LoadPurged(disk, "d/purged")
	require.ErrorIs(t, err, durable.ErrDamaged)
	require.NoError(t, durable.Save(disk, "d/purged", purgedMagic, 1, nil))
	_, err = LoadPurged(disk, "d/purged")
	require.ErrorIs(t, err, durable.ErrDamaged)
}

// C3: a damaged segment whose end is not known, but which ends before another that lies below the snapshot, lies
// below it, too. It is covered, and none of the peers has it any more: it is set aside. Left where it was, it kept
// the node from purging for good. Where it may reach beyond the snapshot it stays (N2).
func TestC3_InstallSetsDamageBelowAside(t *testing.T) {
	damaged := Segment{End: segments.End{First: 101}, Damaged: true}
	plan, err := InstallDecision(InstallInput{Snapshot: snap(250), OwnAt: digestAt(250),
		Segments: []Segment{seg(1, 100), damaged, seg(201, 300), seg(301, 400)}})
	require.NoError(t, err)
	require.Equal(t, firsts(101), plan.SetAside)
	require.Equal(t, at(200), plan.Point)
	leftover := Segment{End: segments.End{First: 121}, Damaged: true}
	plan, err = InstallDecision(InstallInput{Snapshot: snap(250), OwnAt: digestAt(250),
		Segments: []Segment{seg(1, 100), damaged, leftover, seg(201, 300)}})
	require.NoError(t, err)
	require.Equal(t, firsts(101, 121), plan.SetAside)
	for _, next := range []Segment{open(201, 210), {End: segments.End{First: 201}, Damaged: true}} {
		_, err := InstallDecision(InstallInput{Snapshot: snap(150), Segments: []Segment{seg(1, 100), damaged, next}})
		require.ErrorIs(t, err, ErrHolderMissing, "nothing is touched: there is nothing to go on from")
	}
}

// TestC3_InstallJudgesALeftoverByItself: a copy in progress that goes on where a finalized segment has begun was
// overruled: what the digest at the snapshot says is about the finalized one.
func TestC3_InstallJudgesALeftoverByItself(t *testing.T) {
	for name, test := range map[string]struct {
		leftover Segment
		aside    []segments.TxID
		point    segments.Position
	}{
		"the finalized one holds the snapshot":    {open(101, 280), firsts(101), at(200)},
		"to the end":                              {open(101, 300), firsts(101), at(200)},
		"it is damaged":                           {Segment{End: endOf(101, 280), Damaged: true}, firsts(101), at(200)},
		"both begin before it":                    {open(1, 260), firsts(1), at(200)},
		"the leftover ends where the other began": {open(101, 201), firsts(101), at(200)},
	} {
		plan, err := InstallDecision(InstallInput{Snapshot: snap(250), OwnAt: digestAt(250),
			Segments: []Segment{test.leftover, seg(201, 300), seg(301, 400)}})
		require.NoError(t, err, name)
		require.Equal(t, test.aside, plan.SetAside, name)
		require.Equal(t, test.point, plan.Point, name)
		require.Equal(t, firsts(201, 301), plan.Keep, name)
	}
}

// TestC2_LeftoversThatThePurgePointHasPassed: they go out of the way, aside, or nothing would be purged any more.
func TestC2_LeftoversThatThePurgePointHasPassed(t *testing.T) {
	nothing := func(first segments.TxID) Segment { return Segment{End: segments.End{First: first}, Damaged: true} }
	lost := seg(1, 100)
	lost.Damaged, lost.End.Digest = true, segments.Digest{}
	behind := []Segment{seg(101, 200), seg(201, 300)}
	for name, test := range map[string]struct {
		purged segments.TxID
		segs   []Segment
		aside  []segments.TxID
		remove []segments.TxID
	}{
		"in progress":                       {100, append(behind, open(51, 90)), firsts(51), firsts(101)},
		"beyond the purge point, even":      {100, append(behind, open(51, 250)), firsts(51), firsts(101)},
		"damaged":                           {100, append(behind, nothing(51)), firsts(51), firsts(101)},
		"damaged, and was finalized":        {100, append(behind, lost), firsts(1), firsts(101)},
		"there is no purge point":           {0, append(behind, open(51, 90)), nil, nil},
		"some of it may lie behind":         {70, append(behind, open(51, 90)), nil, nil},
		"damage ends behind it":             {70, append(behind, lost), nil, nil},
		"no later one is finalized":         {100, []Segment{open(51, 90), open(101, 200)}, nil, nil},
		"it begins behind the purge point":  {100, append(behind, open(150, 180)), nil, firsts(101)},
		"the newest, which may be going on": {300, append(behind, open(301, 310)), nil, firsts(101)},
	} {
		in := PurgeInput{Segments: test.segs, Listed: []Snapshot{snap(300)}, Held: []Snapshot{snap(300)}}
		if test.purged > 0 {
			in.Purged = at(test.purged)
		}
		plan, err := PurgeDecision(in)
		require.NoError(t, err, name)
		require.Equal(t, test.aside, plan.SetAside, name)
		require.Equal(t, test.remove, plan.Remove, name)
		in.Held = nil
		plan, err = PurgeDecision(in)
		require.NoError(t, err, name)
		require.Empty(t, plan.SetAside, "%s: nothing covers it", name)
	}
}
