package catalog

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// TestTwoCatalogsStayEqual applies random commands to two catalogs, one of which is written and restored
// now and then: equal results, equal bytes, and what must hold for ever holds after each command.
func TestTwoCatalogsStayEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &run{T: t, a: New(), b: New(), digests: map[string][32]byte{}}
		r.step(&Init{Cluster: testCluster, Nodes: []Node{node(member("n1", 1)), node(member("n2", 1)), node(member("n3", 1))}})
		r.step(&CreateJournal{ID: j1, Name: "ns1", Members: members("n1", "n2", "n3")})
		for range rapid.IntRange(10, 150).Draw(t, "steps") {
			r.step(r.command())
		}
	})
}

type run struct {
	*rapid.T
	a, b    *Catalog
	index   uint64
	digests map[string][32]byte // of every config ever seen, by journal and version
}

func (r *run) step(cmd Command) {
	r.index += rapid.Uint64Range(1, 3).Draw(r.T, "gap")
	entry, err := encode(cmd)
	require.NoError(r, err)
	before := r.a.Journals()
	resA, errA := r.a.Apply(r.index, cmd)
	resB, errB := r.b.ApplyBytes(r.index, entry)
	require.Equal(r, resA, resB)
	require.Equal(r, errA, errB)
	state := encoded(r, r.a)
	require.Equal(r, state, encoded(r, r.b))
	if rapid.IntRange(0, 4).Draw(r.T, "restore") == 0 {
		r.b, err = Restore(state)
		require.NoError(r, err)
		require.Equal(r, state, encoded(r, r.b))
	}
	if errA != nil {
		require.Equal(r, before, r.a.Journals(), "refused, but something changed")
	}
	require.NoError(r, r.a.consistent())
	r.invariants(before)
}

func (r *run) invariants(before []Journal) {
	names := map[string]bool{}
	for _, j := range r.a.Journals() {
		if !j.Reclaimed {
			require.False(r, names[j.Name], "two journals are called %s", j.Name)
			names[j.Name] = true
		}
		key := fmt.Sprint(j.ID, j.Config.Version)
		digest, seen := r.digests[key]
		require.True(r, !seen || digest == j.Config.Digest(), "two configs of version %d (M0)", j.Config.Version)
		r.digests[key] = j.Config.Digest()
		r.referenced(&j)
	}
	for _, old := range before {
		now, ok := r.a.Journal(old.ID)
		require.True(r, ok || old.Deleted, "a journal is gone that was not deleted")
		if !ok { // an id that is drawn again here is a new journal
			for v := range old.Config.Version + 1 {
				delete(r.digests, fmt.Sprint(old.ID, v))
			}
		} else {
			require.GreaterOrEqual(r, now.Config.Version, old.Config.Version)
			require.GreaterOrEqual(r, now.InForce, old.InForce)
			r.remembered(&old, &now)
		}
	}
}

// referenced: every node that a journal names is registered, where no config came from elsewhere (M8).
func (r *run) referenced(j *Journal) {
	check := func(m quorum.Member) {
		_, ok := r.a.Incarnation(m.ID, m.Incarnation)
		require.True(r, ok, "journal %s names %s/%s, which is not registered", j.Name, m.ID, m.Incarnation)
	}
	for _, m := range j.Config.Members() {
		check(m)
	}
	for _, f := range j.Former {
		check(f.Member)
	}
	if j.Change != nil {
		for _, m := range j.Change.New {
			check(m)
		}
	}
}

// remembered: whoever a config drops is a former member from then on (M8).
func (r *run) remembered(old, now *Journal) {
	if now.Config.Version == old.Config.Version {
		return
	}
	for _, m := range old.Config.Members() {
		require.True(r, now.names(m), "journal %s forgot %s when its config %d came", now.Name, m.ID, now.Config.Version)
	}
}

// command draws a command that is often, but not always, one that fits the state.
func (r *run) command() Command {
	js := r.a.Journals()
	j := Journal{ID: j2, Name: "gone"}
	if len(js) > 0 {
		j = rapid.SampledFrom(js).Draw(r.T, "journal")
	}
	makers := []func(Journal) Command{r.onNodes, r.onJournals, r.onChange, r.onChange, r.onChange, r.onConfig, r.onLease}
	return rapid.SampledFrom(makers).Draw(r.T, "group")(j)
}

func (r *run) of(n int) int { return rapid.IntRange(0, n-1).Draw(r.T, "which") }

// member draws a registered node's storage, most often one that stays.
func (r *run) member() quorum.Member {
	return rapid.SampledFrom(r.a.Nodes()).Draw(r.T, "node").Member()
}

func (r *run) anyMember() quorum.Member {
	return member(quorum.NodeID(fmt.Sprintf("n%d", 1+r.of(6))), byte(1+r.of(3)))
}

func (r *run) set() []quorum.Member {
	var out []quorum.Member
	for range 1 + r.of(4) {
		m := r.member()
		if r.of(2) == 0 {
			if n, ok := r.a.Node(m.ID); ok {
				m = n.Member()
			}
		}
		out = append(out, m)
	}
	return out
}

// version is mostly the right one.
func (r *run) version(v uint64) uint64 {
	if r.of(10) == 0 {
		v = max(1, v) - 1 + uint64(r.of(3))
	}
	return v
}

func (r *run) target(j Journal) Target { return Target{j.ID, r.version(j.Config.Version)} }

func (r *run) onNodes(Journal) Command {
	m := r.anyMember()
	switch r.of(5) {
	case 0:
		return &RemoveNode{m.ID, m.Incarnation}
	case 1:
		return &SetVoter{m.ID, m.Incarnation, r.of(2) == 0}
	case 2:
		return &Init{Cluster: ClusterID{byte(r.of(2))}, Nodes: []Node{node(m)}}
	}
	put := &PutNode{Node: node(m)}
	put.Node.Addr = fmt.Sprintf("%s:%d", m.ID, r.of(3))
	if cur, ok := r.a.Node(m.ID); ok && r.of(3) > 0 {
		put.Replaces = cur.Incarnation
	}
	return put
}

func (r *run) onJournals(j Journal) Command {
	m := r.anyMember()
	switch r.of(10) {
	case 0:
		return &DeleteJournal{r.target(j)}
	case 1:
		return &Reclaim{j.ID, r.version(j.Config.Version)}
	case 2:
		return &SetPolicy{r.target(j), Policy{SnapshotTxns: uint64(r.of(5)), Replicas: uint8(r.of(40))}}
	case 3:
		return &SetQuota{r.target(j), uint64(r.of(9))}
	case 4:
		return &Forget{ID: m.ID, Incarnation: m.Incarnation}
	case 5:
		if len(j.Former) > 0 {
			f := rapid.SampledFrom(j.Former).Draw(r.T, "former")
			return &Forget{f.Member.ID, f.Member.Incarnation, j.ID, r.version(f.Version)}
		}
	case 6, 7, 8:
		list := &ListSnapshot{Target: r.target(j), Snapshot: image(segments.TxID(1 + r.of(60))), Holders: r.set()}
		if r.of(3) > 0 {
			list.Holders = j.Config.Members()
		}
		return list
	}
	id := segments.JournalID{0xa1, byte(r.of(6))}
	return &CreateJournal{ID: id, Name: fmt.Sprintf("ns%d", r.of(4)), Members: r.set()}
}

func (r *run) onChange(j Journal) Command {
	s := Step{Target: r.target(j)}
	seal := Seal{fencing.Epoch(r.of(3)), segments.TxID(1 + r.of(3))}
	stage := Stage(r.of(5))
	if j.Change != nil {
		s.Change = r.version(j.Change.StartedIndex)
		if r.of(4) > 0 {
			stage, seal = j.Change.Stage, Seal{5, 101}
		}
	}
	switch r.of(8) {
	case 0:
		return &Abort{s, "drawn"}
	case 1:
		return &SetNote{s, "waits"}
	case 2, 3:
		return &InForce{s.Target}
	}
	switch stage {
	case StageLearning:
		return &Joint{s}
	case StageJoint:
		return &Sealed{s, seal}
	case StageSealed:
		return &Final{s, seal}
	case StageFinal:
		return &Finish{s}
	}
	return &BeginChange{s.Target, r.set()}
}

// onConfig draws what nodes might have installed: of registered nodes, and one config for each version.
func (r *run) onConfig(j Journal) Command {
	if r.of(3) > 0 {
		return r.onChange(j)
	}
	cfg := quorum.NewConfig(j.Config.Version+uint64(r.of(3)), r.set()...)
	switch {
	case r.of(3) == 0:
		return &ForceConfig{r.target(j), cfg, "drawn"}
	case r.of(12) == 0:
		return &DropLost{r.target(j), cfg.Version, "drawn"}
	case r.of(8) == 0:
		cfg.Sets = nil
	case r.of(2) == 0:
		cfg.Sets = append(cfg.Sets, quorum.NewConfig(1, r.set()...).Sets...)
	}
	return &Adopt{j.ID, cfg}
}

func (r *run) onLease(j Journal) Command {
	ref := LeaseRef{j.ID, uint64(r.of(5))}
	renewed := ref.Revision
	if j.Lease != nil {
		ref.Revision, renewed = r.version(j.Lease.Revision), r.version(j.Lease.Renewed)
	}
	holder := func() string { return rapid.SampledFrom([]string{"a", "b"}).Draw(r.T, "holder") }
	switch r.of(6) {
	case 0:
		return &Resign{ref}
	case 1:
		return &Expire{ref, renewed}
	case 2:
		return &KeepAlive{[]LeaseRef{ref, {j2, 1}}}
	case 3:
		return &Transfer{ref, holder()}
	}
	return &Grant{Journal: j.ID, Holder: holder(), TTLMillis: uint32(100 * r.of(20)), Nonce: [16]byte{byte(r.of(3))}}
}
