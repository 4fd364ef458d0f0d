package membership

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/segments"
)

func member(id string) quorum.Member {
	return quorum.Member{ID: quorum.NodeID(id), Incarnation: quorum.Incarnation{id[0]}, Addr: id}
}

func set(ids ...string) []quorum.Member {
	var ms []quorum.Member
	for _, id := range ids {
		ms = append(ms, member(id))
	}
	return quorum.NewConfig(1, ms...).Sets[0]
}

var (
	oldSet = set("a", "b", "c")
	newSet = set("c", "d", "e")
	seal   = Seal{2, catalog.Seal{Epoch: 5, Segment: 101}}
	before = segments.End{First: 51, Last: 100, Digest: segments.Digest{1}}
)

// view is a change from a,b,c to c,d,e at a stage, where all nodes are as they should be at its end.
func view(stage catalog.Stage) View {
	j := catalog.Journal{ID: segments.JournalID{1}, Name: "j", InForce: 1, Config: quorum.Config{Version: 1, Sets: [][]quorum.Member{oldSet}}}
	j.Change = &catalog.Change{Stage: stage, Old: oldSet, New: newSet, BaseVersion: 1, StartedIndex: 7}
	switch stage {
	case catalog.StageJoint:
		j.Config = quorum.Config{Version: 2, Sets: [][]quorum.Member{oldSet, newSet}}
	case catalog.StageSealed:
		j.Config = quorum.Config{Version: 2, Sets: [][]quorum.Member{oldSet, newSet}}
		j.Change.Seal, j.InForce = seal.Seal, 2
	case catalog.StageFinal:
		j.Config = quorum.Config{Version: 3, Sets: [][]quorum.Member{newSet}}
		j.Change.Seal, j.InForce = seal.Seal, 3
	}
	v := View{Journal: j, Reports: map[quorum.Key]Report{}}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		v.Reports[member(id).Key()] = Report{
			Heard: true, Config: j.Config, Promised: fencing.Claim{Epoch: 5, Writer: fencing.WriterID{5}}, DataKnown: true,
			WriterHeard: true, Finalized: 100, HasData: true, HoldsBefore: true, Before: before,
			Seal: Seal{j.Config.Version, seal.Seal},
		}
	}
	if stage == catalog.StageLearning {
		v.edit(func(r *Report) { r.Promised, r.WriterHeard = fencing.Claim{}, false }, "d", "e")
		v.edit(func(r *Report) {
			r.Writer, r.Question = fencing.Claim{Epoch: 5, Writer: fencing.WriterID{5}}, 3
			r.Reached = []Reached{{Node: member("d").Key()}, {Node: member("e").Key()}}
		}, "a", "b", "c")
	}
	return v
}

func (v *View) edit(f func(*Report), ids ...string) View {
	for _, id := range ids {
		r := v.Reports[member(id).Key()]
		f(&r)
		v.Reports[member(id).Key()] = r
	}
	return *v
}

func silent(r *Report)      { *r = Report{Err: "unreachable"} }
func behind(r *Report)      { r.Config = quorum.Config{Version: 1, Sets: [][]quorum.Member{oldSet}} }
func noSeal(r *Report)      { r.Seal = Seal{} }
func noWriter(r *Report)    { r.WriterHeard = false }
func notBefore(r *Report)   { r.HoldsBefore = false }
func low(r *Report)         { r.Promised = fencing.Claim{Epoch: 4, Writer: fencing.WriterID{4}} }
func everyone() []string    { return []string{"a", "b", "c", "d", "e"} }
func proposes(a Action) any { return a.(Propose).Command }

// The way of a change where nothing goes wrong: each stage, done, leads to the next.
func TestNext_StageByStage(t *testing.T) {
	target := catalog.Target{Journal: segments.JournalID{1}, ExpectVersion: 1}
	step := catalog.Step{Target: target, Change: 7}
	require.Equal(t, &catalog.Joint{Step: step}, proposes(Next(view(catalog.StageLearning), Options{})))
	step.ExpectVersion = 2
	require.Equal(t, &catalog.Sealed{Step: step, Seal: seal.Seal}, proposes(Next(view(catalog.StageJoint), Options{})))
	require.Equal(t, &catalog.Final{Step: step, Seal: seal.Seal}, proposes(Next(view(catalog.StageSealed), Options{})))
	step.ExpectVersion = 3
	require.Equal(t, &catalog.Finish{Step: step}, proposes(Next(view(catalog.StageFinal), Options{})))

	over := view(catalog.StageFinal)
	over.Journal.Change = nil
	over.Journal.Former = []catalog.Former{{Member: member("a"), Version: 3}, {Member: member("b"), Version: 3}}
	over.edit(silent, "b")
	require.Equal(t, CleanUp{[]quorum.Member{member("a")}}, Next(over, Options{}))
	require.Equal(t, Nothing{}, Next(over.edit(func(r *Report) { r.HasData = false }, "a"), Options{}))
}

// M6: nothing is decided before the new members are validated and have copied what is finalized.
func TestM6_LearnersFirst(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*Report)
		want Action
	}{
		"no answer":        {silent, Wait{Why: "d does not take part: unreachable"}},
		"no room":          {func(r *Report) { r.Err = "no room" }, Wait{Why: "d does not take part: no room"}},
		"no journal":       {func(r *Report) { r.Config = quorum.Config{} }, Install{set("d"), view(catalog.StageLearning).Journal.Config}},
		"copies":           {func(r *Report) { r.Finalized = 10 }, Wait{"d copies: 10 of 100 txns", set("d", "e")}},
		"a higher promise": {func(r *Report) { r.Promised.Epoch = 9 }, Move{10, "d has promised epoch 9"}},
	} {
		v := view(catalog.StageLearning)
		require.Equal(t, tc.want, Next(v.edit(tc.edit, "d"), Options{}), name)
	}
	v := view(catalog.StageLearning)
	v.edit(func(r *Report) { r.Finalized = 90 }, "d")
	require.IsType(t, Propose{}, Next(v, Options{MarginTxns: 10}))
}

// M6: a writer that is there has said that it reaches each of the new members, lately, before joint.
func TestM6_WriterReachesTheNewMembersFirst(t *testing.T) {
	answers := func(question uint64, said ...string) func(*Report) {
		return func(r *Report) {
			r.Question, r.Reached = question, nil
			for i, why := range said {
				r.Reached = append(r.Reached, Reached{Node: member([]string{"d", "e"}[i]).Key(), Err: why})
			}
		}
	}
	old := []string{"a", "b", "c"}
	for name, tc := range map[string]struct {
		edit func(*View)
		want string // why it waits; empty: it goes on
	}{
		"reached":               {func(*View) {}, ""},
		"no writer":             {func(v *View) { v.edit(answers(0), old...); v.edit(noWriter, "a", "b") }, ""},
		"one tells":             {func(v *View) { v.edit(answers(0), "a", "b") }, ""},
		"not asked yet":         {func(v *View) { v.edit(answers(0), old...) }, "the writer at epoch 5 is asked whether it reaches d, e"},
		"an older version":      {func(v *View) { v.edit(answers(0), old...); v.Unanswered = true }, ""},
		"one is not reached":    {func(v *View) { v.edit(answers(4, "", "refused"), "b") }, "the writer at epoch 5 cannot reach e (e:1): refused"},
		"it was not, and is":    {func(v *View) { v.edit(answers(2, "refused", "refused"), "a", "b") }, ""},
		"says nothing of one":   {func(v *View) { v.edit(answers(4, ""), "a") }, "the writer at epoch 5 has not said whether it reaches e"},
		"no stream to majority": {func(v *View) { v.edit(func(r *Report) { r.Writer = fencing.Claim{} }, "a", "b") }, noStream},
		"another one's answer":  {func(v *View) { v.edit(func(r *Report) { r.Writer.Epoch = 4 }, "a", "b"); v.edit(answers(0), "a", "b") }, "the writer at epoch 4 is asked whether it reaches d, e"},
		"two writers": {func(v *View) {
			v.edit(func(r *Report) { r.Writer.Epoch = 4 }, "a")
			v.edit(func(r *Report) { r.Writer.Epoch = 6 }, "b")
		}, noStream},
	} {
		v := view(catalog.StageLearning)
		v.Journal.Change.New = slices.Clone(newSet)
		for i := range v.Journal.Change.New {
			v.Journal.Change.New[i].Addr = string(v.Journal.Change.New[i].ID) + ":1"
		}
		tc.edit(&v)
		got := Next(v, Options{})
		if tc.want == "" {
			require.IsType(t, Propose{}, got, name)
			continue
		}
		require.IsType(t, Wait{}, got, name)
		require.Equal(t, tc.want, got.(Wait).Why, name)
		require.Len(t, got.(Wait).Learners, 2, name)
	}
	v := view(catalog.StageLearning)
	v.edit(answers(4, "refused", ""), "a")
	v.edit(func(r *Report) { r.Finalized = 10 }, "d")
	require.Contains(t, Next(v, Options{}).(Wait).Why, "cannot reach d", "told before it has copied for hours")
	v = view(catalog.StageLearning)
	v.edit(answers(0), old...)
	v.Journal.Change.New = set("a", "b")
	require.IsType(t, Propose{}, Next(v, Options{}), "nobody is new")
}

const noStream = "a writer was heard lately, and has no stream to a majority: it is asked, or taken for gone, soon"

// M2: a member that refuses the config, beside a majority that has it, does not keep the journal from its next
// change or from being deleted.
func TestM2_InForceThoughAMemberRefuses(t *testing.T) {
	aborted := view(catalog.StageLearning)
	aborted.Journal.Change = nil
	aborted.Journal.Config.Version = 3
	aborted.edit(func(r *Report) { r.Config.Version = 3 }, "a", "b")
	aborted.edit(behind, "c")
	require.Equal(t, &catalog.InForce{Target: catalog.Target{Journal: segments.JournalID{1}, ExpectVersion: 3}}, proposes(Next(aborted, Options{})))
	aborted.Journal.InForce = 3
	require.Equal(t, Install{set("c"), aborted.Journal.Config}, Next(aborted, Options{}), "then it is given to the others")
}

// M2: nothing further is proposed before the config is in force: the joint one on a majority of the old set,
// the final one on a majority of the new, an aborted one on a majority of the old again.
func TestM2_InForceFirst(t *testing.T) {
	v := view(catalog.StageJoint)
	v.edit(noSeal, everyone()...)
	v.edit(behind, "a", "b")
	require.Equal(t, Install{set("a", "b"), v.Journal.Config}, Next(v, Options{}))
	v.edit(silent, "a", "b")
	require.IsType(t, Wait{}, Next(v, Options{}), "d and e have it, and are no majority of the old set")

	v = view(catalog.StageFinal)
	v.Journal.InForce = 2
	require.Equal(t, &catalog.InForce{Target: catalog.Target{Journal: segments.JournalID{1}, ExpectVersion: 3}}, proposes(Next(v, Options{})))
	v.edit(silent, "d", "e")
	require.IsType(t, Wait{}, Next(v, Options{}))

	aborted := view(catalog.StageLearning)
	aborted.Journal.Change = nil
	aborted.Journal.Config.Version = 3
	aborted.edit(func(r *Report) { r.Config.Version = 3 }, "a", "b")
	aborted.edit(behind, "b", "c")
	require.Equal(t, Install{set("b", "c"), aborted.Journal.Config}, Next(aborted, Options{}))
	aborted.edit(silent, "c")
	aborted.edit(func(r *Report) { r.Config.Version = 3 }, "b")
	require.Equal(t, &catalog.InForce{Target: catalog.Target{Journal: segments.JournalID{1}, ExpectVersion: 3}}, proposes(Next(aborted, Options{})))
}

// M4: the seal comes from a live writer, or from a mover where none is heard; final needs everything before
// the seal on a majority of the new set, by digest.
func TestM4_Seal(t *testing.T) {
	v := view(catalog.StageJoint)
	v.edit(noSeal, everyone()...)
	require.Equal(t, Wait{Why: "a writer was heard lately: it goes over to the joint config, or is taken for gone soon"}, Next(v, Options{}))
	v.edit(noWriter, "a", "b")
	require.IsType(t, Move{}, Next(v, Options{}), "one node of the old set hears a writer: none lives")
	v.edit(func(r *Report) { r.Seal = Seal{1, seal.Seal} }, "a")
	require.IsType(t, Move{}, Next(v, Options{}), "a seal of another version")
	v.edit(func(r *Report) { r.Seal, r.Before = seal, segments.End{} }, everyone()...)
	require.IsType(t, Move{}, Next(v, Options{}), "nobody tells what comes before the segment")

	v = view(catalog.StageSealed)
	v.edit(notBefore, "d", "e")
	require.IsType(t, Wait{}, Next(v, Options{}), "c alone holds it")
	v = view(catalog.StageSealed)
	v.edit(notBefore, "a", "b", "c")
	require.IsType(t, Propose{}, Next(v, Options{}))
	v.edit(behind, "d")
	require.Equal(t, Install{set("d"), v.Journal.Config}, Next(v, Options{}), "counted under the joint version only (M0)")
}

// M5: a majority of the new set has promised what any of a majority of the old set reports, by its writer's
// name.
func TestM5_PromisesReachTheNewSet(t *testing.T) {
	v := view(catalog.StageSealed)
	v.edit(low, "d", "e")
	require.Equal(t, Bump{set("d", "e"), fencing.Claim{Epoch: 5, Writer: fencing.WriterID{5}}}, Next(v, Options{}))
	v = view(catalog.StageSealed)
	v.edit(low, "e")
	require.IsType(t, Propose{}, Next(v, Options{}), "c and d are a majority")
}

// M6: a change without progress gives itself up, before final only.
func TestM6_GivesItselfUp(t *testing.T) {
	v := view(catalog.StageJoint)
	v.edit(noSeal, everyone()...)
	v.edit(silent, "d", "e")
	require.IsType(t, Wait{}, Next(v, Options{}))
	v.Expired = true
	require.IsType(t, &catalog.Abort{}, proposes(Next(v, Options{})))
	v = view(catalog.StageSealed)
	v.edit(notBefore, "d", "e")
	v.Expired = true
	require.IsType(t, &catalog.Abort{}, proposes(Next(v, Options{})))
	v = view(catalog.StageFinal)
	v.edit(silent, "d", "e")
	v.Expired = true
	require.IsType(t, Wait{}, Next(v, Options{}), "final cannot be undone")
}

// M9, M0: what nodes have installed outranks what the catalog remembers; two of one version stop everything.
func TestM9_InstalledOutranksTheCatalog(t *testing.T) {
	v := view(catalog.StageLearning)
	newer := quorum.Config{Version: 4, Sets: [][]quorum.Member{newSet}}
	v.edit(func(r *Report) { r.Config = newer }, "c")
	require.Equal(t, &catalog.Adopt{Journal: segments.JournalID{1}, Config: newer}, proposes(Next(v, Options{})))
	v.edit(func(r *Report) { r.Config = quorum.Config{Version: 4, Sets: [][]quorum.Member{oldSet}} }, "d")
	stop := Next(v, Options{})
	require.IsType(t, Stop{}, stop)
	require.ErrorIs(t, stop.(Stop).Err, ErrDivergence)

	v = view(catalog.StageLearning)
	v.edit(silent, "a", "b")
	require.IsType(t, Wait{}, Next(v, Options{}), "a majority of the installed configs is read first")
}

// N1: a wiped member is no member any more: its new incarnation is another one, and the old one never
// answers.
func TestN1_ReplacingAWipedMember(t *testing.T) {
	fresh := quorum.Member{ID: "c", Incarnation: quorum.Incarnation{200}}
	v := view(catalog.StageSealed)
	v.Journal.Change.New = quorum.NewConfig(1, member("a"), member("b"), fresh).Sets[0]
	v.Journal.Config = quorum.Config{Version: 2, Sets: [][]quorum.Member{oldSet, v.Journal.Change.New}}
	v.edit(silent, "c", "d", "e")
	v.edit(func(r *Report) { r.Config = v.Journal.Config }, "a", "b")
	v.Reports[fresh.Key()] = Report{Heard: true}
	require.Equal(t, Install{[]quorum.Member{fresh}, v.Journal.Config}, Next(v, Options{}))
	v.edit(notBefore, "a")
	v.Reports[fresh.Key()] = Report{Heard: true, Config: v.Journal.Config}
	require.IsType(t, Wait{}, Next(v, Options{}))
	v.Reports[fresh.Key()] = Report{Heard: true, Config: v.Journal.Config, HoldsBefore: true, Promised: v.Reports[member("b").Key()].Promised}
	require.IsType(t, &catalog.Final{}, proposes(Next(v, Options{})))
}

// N2: a member that answers, and whose fence is damaged, can take no config: it must not hold up the change
// that replaces it, at any stage.
func TestN2_DamagedMemberHoldsNothingUp(t *testing.T) {
	for stage, want := range map[catalog.Stage]catalog.Command{
		catalog.StageJoint: &catalog.Sealed{}, catalog.StageSealed: &catalog.Final{}, catalog.StageFinal: &catalog.Finish{},
	} {
		v := view(stage)
		for _, id := range []string{"a", "e"} {
			v.edit(func(r *Report) { behind(r); r.Err = "the fence is damaged" }, id)
		}
		require.IsType(t, want, proposes(Next(v, Options{})), stage.String())
		v.edit(func(r *Report) { r.Err = "" }, "a", "e") // its disk is full, and it does not say so beforehand
		require.IsType(t, Install{}, Next(v, Options{}), stage.String())
		v.Expired = true
		if stage == catalog.StageJoint {
			v.edit(noSeal, everyone()...)
			want = &catalog.Abort{}
		}
		require.IsType(t, want, proposes(Next(v, Options{})), stage.String())
	}
	over := view(catalog.StageFinal)
	over.Journal.Change, over.Journal.InForce = nil, 2
	over.edit(func(r *Report) { behind(r); r.Err = "the fence is damaged" }, "c")
	require.IsType(t, &catalog.InForce{}, proposes(Next(over, Options{})))
}

// M6: however long nodes' reasons are, and whatever stands in them, the change can be given up for them.
func TestM6_GivesItselfUpWhateverTheReason(t *testing.T) {
	for _, why := range []string{strings.Repeat("dial tcp 10.0.0.4:7400: connect: connection refused; ", 9), "one\ntwo", strings.Repeat("ä", 300), "\xff"} {
		v := view(catalog.StageJoint)
		v.edit(noSeal, everyone()...)
		v.edit(func(r *Report) { *r = Report{Err: why} }, "d", "e")
		v.Expired = true
		_, err := catalog.EncodeCommand(proposes(Next(v, Options{})).(catalog.Command))
		require.NoError(t, err)
	}
}
