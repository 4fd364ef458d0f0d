package libqjm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// Bounds of a survey.
const (
	surveyRounds   = 4  // of nodes that others told of
	questionRounds = 16 // of digests for one journal
)

// LossSurvey is what the nodes that answer say of themselves when a majority may be lost.
type LossSurvey = quorumloss.Facts

// surveyor gathers it. Every node is asked at every address that anybody knows of it.
type surveyor struct {
	c *Client

	mu   sync.Mutex
	said map[string]*surveyed // by address; guarded by mu
}

// surveyed is what one address answered.
type surveyed struct {
	removed  bool // it was taken out of the cluster, and knows it
	addr     string
	node     rpc.Node
	info     rpc.NodeInfo
	group    rpc.GroupState
	view     rpc.CatalogView
	journals []rpc.JournalSummary
	err      error
}

func (s *surveyed) key() quorum.Key {
	return quorum.Key{ID: s.info.ID, Incarnation: s.info.Incarnation}
}

// Survey asks every node that is known, and those that these know of. It changes nothing and needs neither a
// leader nor any majority. A node that does not answer within RequestTimeout is taken for lost.
func (c *Client) Survey(ctx context.Context) (LossSurvey, error) {
	s := &surveyor{c: c, said: map[string]*surveyed{}}
	c.mu.Lock()
	var addrs []string
	for _, p := range c.addrs {
		addrs = append(addrs, p.addr)
	}
	c.mu.Unlock()
	for range surveyRounds {
		s.ask(ctx, addrs)
		addrs = s.more()
		if len(addrs) == 0 {
			break
		}
	}
	facts := LossSurvey{Cluster: c.cluster}
	alive := s.alive()
	if len(alive) == 0 {
		return facts, fmt.Errorf("%w: no node answers", ErrUnavailable)
	}
	facts.Nodes = s.nodes(alive)
	facts.Journals = s.journals(ctx, alive)
	facts.Sort()
	return facts, ctx.Err()
}

func (s *surveyor) ask(ctx context.Context, addrs []string) {
	ctx, cancel := context.WithTimeout(ctx, s.c.opts.RequestTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, addr := range addrs {
		wg.Go(func() {
			a := s.askOne(ctx, addr)
			s.mu.Lock()
			s.said[addr] = a
			s.mu.Unlock()
		})
	}
	wg.Wait()
}

func (s *surveyor) askOne(ctx context.Context, addr string) *surveyed {
	a := &surveyed{addr: addr}
	if a.node, a.err = s.c.conn(addr); a.err != nil {
		return a
	}
	if a.info, a.err = a.node.Info(ctx); a.err != nil {
		return a
	}
	if a.info.Phase != rpc.Founded || a.info.Cluster != s.c.cluster {
		a.err = fmt.Errorf("%w: node %s at %s is %s, of cluster %x", ErrOtherCluster, a.info.ID, addr, a.info.Phase, a.info.Cluster)
		return a
	}
	if a.group, a.err = a.node.SurveyGroup(ctx); a.err != nil {
		return a
	}
	a.view, a.err = a.node.Catalog(ctx, rpc.Stale)
	if a.removed = errors.Is(a.err, rpc.ErrRemoved); a.err != nil && !a.removed {
		return a
	}
	if a.journals, a.err = a.node.Journals(ctx); errors.Is(a.err, rpc.ErrUnknownNode) {
		a.journals, a.err = nil, nil // it was given up, or is no part of the cluster any more
	}
	return a
}

// more are addresses that were told of, and not asked yet.
func (s *surveyor) more() []string {
	var out []string
	add := func(m quorum.Member) {
		if m.Addr != "" && s.said[m.Addr] == nil && !slices.Contains(out, m.Addr) {
			out = append(out, m.Addr)
		}
	}
	for _, a := range s.said {
		if a.err != nil {
			continue
		}
		for _, m := range a.tells() {
			add(m)
		}
	}
	slices.Sort(out)
	return out
}

// tells are the storages that an answer names.
func (s *surveyed) tells() []quorum.Member {
	var out []quorum.Member
	for _, x := range s.view.Nodes {
		out = append(out, quorum.Member{ID: x.ID, Incarnation: x.Incarnation, Addr: x.Addr})
	}
	for _, g := range s.group.Servers {
		out = append(out, quorum.Member{ID: g.Key.ID, Incarnation: g.Key.Incarnation})
	}
	for _, j := range s.view.Journals {
		out = append(out, j.Config.Members()...)
	}
	for _, j := range s.journals {
		out = append(out, j.Config.Members()...)
	}
	return out
}

// alive are the storages that answered and count: one that an earlier recovery gave up does not, or that was taken
// out of the cluster and knows it, nor does anything that it says.
func (s *surveyor) alive() map[quorum.Key]*surveyed {
	out := map[quorum.Key]*surveyed{}
	for _, addr := range slices.Sorted(maps.Keys(s.said)) {
		a := s.said[addr]
		if a.err == nil && !a.removed && out[a.key()] == nil {
			out[a.key()] = a
		}
	}
	for _, a := range s.said {
		for _, m := range a.group.Record.GivenUp {
			delete(out, m.Key())
		}
	}
	return out
}

// nodes lists the storages of the cluster, those that do not answer with why.
func (s *surveyor) nodes(alive map[quorum.Key]*surveyed) []quorumloss.NodeFacts {
	addrs := map[quorum.Key][]string{}
	gone := map[quorum.Key]bool{}
	for _, a := range alive {
		for _, m := range a.tells() {
			addrs[m.Key()] = append(addrs[m.Key()], m.Addr)
		}
		for _, m := range a.group.Record.GivenUp {
			gone[m.Key()] = true
		}
	}
	for _, a := range s.said {
		if a.err == nil && a.removed {
			gone[a.key()] = true
		}
	}
	for k := range alive {
		addrs[k] = append(addrs[k], alive[k].addr)
	}
	var out []quorumloss.NodeFacts
	for k, as := range addrs {
		n := quorumloss.NodeFacts{Member: quorum.Member{ID: k.ID, Incarnation: k.Incarnation}}
		if a := alive[k]; a != nil {
			n.Member.Addr, n.Group = a.addr, a.group
			out = append(out, n)
			continue
		}
		if gone[k] {
			continue
		}
		as = slices.DeleteFunc(as, func(a string) bool { return a == "" })
		slices.Sort(as)
		n.Err = fmt.Errorf("%w: no address is known of it", ErrUnavailable)
		if len(as) > 0 {
			n.Member.Addr = as[0]
			n.Err = s.why(k, as)
		}
		out = append(out, n)
	}
	return out
}

func (s *surveyor) why(k quorum.Key, addrs []string) error {
	for _, addr := range addrs {
		switch a := s.said[addr]; {
		case a == nil:
		case a.err != nil:
			return a.err
		case a.info.ID == k.ID:
			return &rpc.WrongNodeError{Node: k.ID, Got: k.Incarnation, Want: a.info.Incarnation}
		default:
			return fmt.Errorf("%w: node %s answers at %s", ErrUnavailable, a.info.ID, addr)
		}
	}
	return ErrUnavailable
}

// journals asks each member of each journal.
func (s *surveyor) journals(ctx context.Context, alive map[quorum.Key]*surveyed) []quorumloss.JournalFacts {
	by := map[segments.JournalID]*quorumloss.JournalFacts{}
	add := func(id segments.JournalID, name string, cfg quorum.Config, deleted bool) {
		j := by[id]
		if j == nil {
			j = &quorumloss.JournalFacts{ID: id, Name: name}
			by[id] = j
		}
		j.Deleted = j.Deleted || deleted
		j.Configs = append(j.Configs, cfg)
	}
	for _, a := range alive {
		for _, j := range a.view.Journals {
			add(j.ID, j.Name, j.Config, j.Deleted)
			by[j.ID].Deleting = by[j.ID].Deleting || j.Deleted
		}
		for _, j := range a.journals {
			add(j.ID, j.Name, j.Config, j.Deleted)
		}
	}
	var out []quorumloss.JournalFacts
	for _, j := range by {
		s.survey(ctx, j, alive)
		out = append(out, *j)
	}
	return out
}

func (s *surveyor) survey(ctx context.Context, j *quorumloss.JournalFacts, alive map[quorum.Key]*surveyed) {
	cfg, _ := j.Config() // two of one version stop the plan
	var wg sync.WaitGroup
	j.Copies = make([]quorumloss.CopyFacts, len(cfg.Members()))
	for i, m := range cfg.Members() {
		j.Copies[i] = quorumloss.CopyFacts{Node: m.Key(), Err: ErrUnavailable}
		if a := alive[m.Key()]; a != nil {
			wg.Go(func() { s.copyOf(ctx, j.ID, a.node, &j.Copies[i]) })
		}
	}
	wg.Wait()
	newest := j.Newest()
	if newest == 0 {
		return
	}
	digests := map[quorum.Key][]segments.TxID{}
	ask := func(k quorum.Key) {
		i := slices.IndexFunc(j.Copies, func(c quorumloss.CopyFacts) bool { return c.Node == k })
		if c := &j.Copies[i]; c.Err == nil && !c.None {
			ctx, cancel := context.WithTimeout(ctx, s.c.opts.RequestTimeout)
			defer cancel()
			c.Answer, c.Err = alive[k].node.InspectCopy(ctx, rpc.InspectRequest{Journal: j.ID, Segment: newest, Digests: digests[k]})
			c.Answer.Node = k
		}
	}
	for _, c := range j.Copies {
		ask(c.Node)
	}
	for range questionRounds {
		questions := j.Questions()
		if len(questions) == 0 {
			return
		}
		for _, q := range questions {
			digests[q.Node] = append(digests[q.Node], q.TxID)
		}
		for _, q := range questions {
			ask(q.Node)
		}
	}
}

func (s *surveyor) copyOf(ctx context.Context, id segments.JournalID, n rpc.Node, c *quorumloss.CopyFacts) {
	ctx, cancel := context.WithTimeout(ctx, s.c.opts.RequestTimeout)
	defer cancel()
	if c.State, c.Err = n.State(ctx, id); errors.Is(c.Err, rpc.ErrNoJournal) {
		c.None, c.Err = true, nil
		return
	}
	if c.Err != nil {
		return
	}
	c.Answer = c.State.Answer
	c.Answer.Node = c.Node
	c.Segments, c.Err = rpc.AllSegments(ctx, id, n.Segments)
	slices.SortFunc(c.Segments, func(a, b rpc.SegmentInfo) int { return cmp.Compare(a.First, b.First) })
}
