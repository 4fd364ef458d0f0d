package libqjm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/wire"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Defaults of Options.
const (
	DefaultRequestTimeout = 5 * time.Second
	DefaultAcceptTimeout  = 2 * time.Minute
	DefaultPatience       = 2 * time.Second

	settleTime = 500 * time.Millisecond // how long a request to a majority is tried again before it fails
	lookUpsMax = 6                      // how often a name is looked up for one request
)

// Options of a Client. Endpoints are needed; zero values of the rest are the defaults.
type Options struct {
	// Endpoints are addresses of nodes, host:port. One that answers is enough: the others are learned
	// from it.
	Endpoints []string
	// RequestTimeout bounds one small request to one node.
	RequestTimeout time.Duration
	// AcceptTimeout bounds the copying of one segment to one node in recovery.
	AcceptTimeout time.Duration
	// Patience is how long recovery waits for the last nodes where it should hear them all (N2a).
	Patience time.Duration
	// Logger; nil discards.
	Logger *slog.Logger
	// Dialer connects to nodes; nil: gRPC without TLS.
	Dialer rpc.Dialer
}

func (o Options) withDefaults() Options {
	o.RequestTimeout = cmp.Or(o.RequestTimeout, DefaultRequestTimeout)
	o.AcceptTimeout = cmp.Or(o.AcceptTimeout, DefaultAcceptTimeout)
	o.Patience = cmp.Or(o.Patience, DefaultPatience)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dialer == nil {
		o.Dialer = &wire.Dialer{}
	}
	return o
}

// Client knows a cluster. It is safe for concurrent use.
type Client struct {
	opts    Options
	log     *slog.Logger
	cluster rpc.ClusterID
	lister  lister

	mu    sync.Mutex
	addrs map[quorum.NodeID]place // guarded by mu
	conns map[string]rpc.Node     // by address; guarded by mu
	names names                   // guarded by mu

	// background work (stragglers of a recovery) ends with the client.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// place is where a node is reached.
type place struct {
	addr        string
	incarnation quorum.Incarnation // whose address it is
	given       bool               // the user's own endpoint: a config's address does not replace it
}

// Dial connects to a cluster: it returns when one endpoint has answered that its cluster is founded.
// Errors: ErrUnavailable where none did before the context ended; ErrOtherCluster where endpoints
// belong to different ones.
func Dial(ctx context.Context, opts Options) (*Client, error) {
	opts = opts.withDefaults()
	if len(opts.Endpoints) == 0 {
		return nil, fmt.Errorf("%w: no endpoints given", ErrBadRequest)
	}
	c := &Client{opts: opts, log: opts.Logger, addrs: map[quorum.NodeID]place{}, conns: map[string]rpc.Node{}}
	c.names = names{ids: map[string]segments.JournalID{}, dead: map[segments.JournalID]bool{}}
	c.lister = catalogLister{c}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	began := time.Now()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		done, err := c.discover(ctx)
		if done {
			return c, nil
		}
		if errors.Is(err, ErrOtherCluster) {
			return nil, errors.Join(err, c.Close())
		}
		if !began.IsZero() && time.Since(began) > dialQuiet {
			began = time.Time{} // once
			c.log.Warn("no endpoint answers, and the client waits for one", "endpoints", opts.Endpoints, "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%w: no endpoint of %v answered: %w", ErrUnavailable, opts.Endpoints, cmp.Or(err, context.Cause(ctx))), c.Close())
		}
	}
}

// dialQuiet is how long Dial waits before it says so.
const dialQuiet = 3 * time.Second

// discover asks the endpoints who they are.
func (c *Client) discover(ctx context.Context) (bool, error) {
	type answer struct {
		addr string
		info rpc.NodeInfo
		err  error
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.RequestTimeout)
	defer cancel()
	answers := make(chan answer, len(c.opts.Endpoints))
	for _, addr := range c.opts.Endpoints {
		go func() {
			n, err := c.conn(addr)
			if err != nil {
				answers <- answer{addr, rpc.NodeInfo{}, err}
				return
			}
			info, err := n.Info(ctx)
			answers <- answer{addr, info, err}
		}()
	}
	var errs []error
	var grace <-chan time.Time // once one has answered, the others get a moment: they may disagree
	for range c.opts.Endpoints {
		select {
		case a := <-answers:
			if err := c.learn(a.addr, a.info, a.err); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", a.addr, err))
			} else if grace == nil {
				grace = time.After(100 * time.Millisecond)
			}
		case <-grace:
			return true, nil
		}
		if err := errors.Join(errs...); errors.Is(err, ErrOtherCluster) {
			return false, err
		}
	}
	return !c.cluster.IsZero(), errors.Join(errs...)
}

// learn takes in what an endpoint says of itself and its cluster.
func (c *Client) learn(addr string, info rpc.NodeInfo, err error) error {
	switch {
	case err != nil:
		return err
	case info.Phase != rpc.Founded:
		return fmt.Errorf("%w: node %s is %s", rpc.ErrNotFounded, info.ID, info.Phase)
	case !c.cluster.IsZero() && c.cluster != info.Cluster:
		return fmt.Errorf("%w: %s is of cluster %x, another endpoint of %x", ErrOtherCluster, addr, info.Cluster, c.cluster)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cluster = info.Cluster
	c.learnMembers(info.Founders)
	c.addrs[info.ID] = place{addr, info.Incarnation, true}
	return nil
}

// adoptAddrs takes in where the members of a config listen; where a node is in both sets, the new one tells.
func (c *Client) adoptAddrs(cfg quorum.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, set := range cfg.Sets {
		c.learnMembers(set)
	}
}

// learnMembers takes in where members listen. A new incarnation is somewhere else; what the user gave as an
// endpoint is kept otherwise: there may be a proxy in between. The caller holds mu.
func (c *Client) learnMembers(ms []quorum.Member) {
	for _, m := range ms {
		old, ok := c.addrs[m.ID]
		if m.Addr != "" && (!ok || !old.given || old.incarnation != m.Incarnation) {
			c.addrs[m.ID] = place{addr: m.Addr, incarnation: m.Incarnation}
		}
	}
}

// conn returns the connection to an address.
func (c *Client) conn(addr string) (rpc.Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.conns[addr]; n != nil {
		return n, nil
	}
	if c.ctx.Err() != nil {
		return nil, ErrClosed
	}
	n, err := c.opts.Dialer.Dial(addr)
	if err != nil {
		return nil, fmt.Errorf("libqjm: dial %s: %w", addr, err)
	}
	c.conns[addr] = n
	return n, nil
}

// node returns the connection to a member.
func (c *Client) node(m quorum.Member) (rpc.Node, error) {
	c.mu.Lock()
	p, ok := c.addrs[m.ID]
	c.mu.Unlock()
	addr := p.addr
	if !ok || m.Addr != "" && p.incarnation != m.Incarnation {
		addr = m.Addr
	}
	if addr == "" {
		return nil, fmt.Errorf("%w: no address is known of node %s", ErrUnavailable, m.ID)
	}
	return c.conn(addr)
}

// Close ends all connections. Writers and readers of the client should be closed before.
func (c *Client) Close() error {
	c.mu.Lock() // start has seen the end of ctx, or has added to work before Wait
	c.cancel()
	c.mu.Unlock()
	c.work.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, n := range c.conns {
		errs = append(errs, n.Close())
	}
	clear(c.conns)
	return errors.Join(errs...)
}

// start runs f in a goroutine that Close waits for, unless the client is closed. To add to a WaitGroup while
// Close waits would be a race: Close could miss f, and cut its connections off under it.
func (c *Client) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.work.Go(f)
	return true
}

// ClusterID returns the cluster's id in hexadecimal.
func (c *Client) ClusterID() string { return fmt.Sprintf("%x", c.cluster) }

// nodeIDs lists the nodes that are known, sorted.
func (c *Client) nodeIDs() []quorum.NodeID {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []quorum.NodeID
	for id := range c.addrs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// reply is what one node answered.
type reply[T any] struct {
	node quorum.NodeID
	val  T
	err  error
}

// ask sends one request to each of the nodes at the same time and hands every answer to take, one at a
// time, until take says that it has enough, or all have answered. A node that does not answer within
// RequestTimeout answers with an error.
func ask[T any](ctx context.Context, c *Client, ids []quorum.NodeID, call func(context.Context, rpc.Node) (T, error), take func(reply[T]) (enough bool)) {
	members := make([]quorum.Member, len(ids))
	for i, id := range ids {
		members[i].ID = id
	}
	askMembers(ctx, c, members, func(ctx context.Context, n rpc.Node, _ quorum.Member) (T, error) { return call(ctx, n) }, take)
}

// askMembers is ask where the call needs to know whom it is meant for.
func askMembers[T any](ctx context.Context, c *Client, members []quorum.Member, call func(context.Context, rpc.Node, quorum.Member) (T, error), take func(reply[T]) (enough bool)) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.RequestTimeout)
	defer cancel()
	answers := make(chan reply[T], len(members))
	for _, m := range members {
		go func() {
			r := reply[T]{node: m.ID}
			var n rpc.Node
			if n, r.err = c.node(m); r.err == nil {
				r.val, r.err = call(ctx, n, m)
			}
			answers <- r
		}()
	}
	for range members {
		if take(<-answers) {
			return
		}
	}
}

// journalRef is a journal and the newest config heard of it (M7).
type journalRef struct {
	id   segments.JournalID
	name string
	cfg  quorum.Config
}

func (r journalRef) summary() rpc.JournalSummary {
	return rpc.JournalSummary{ID: r.id, Name: r.name, Config: r.cfg}
}

// states asks the nodes of a journal how it stands. It returns when a majority of the newest config has
// answered, or with all set, when every node has answered or failed. A name that stands for another journal
// by now is looked up again: whoever goes on with one that it has asks by id (statesOf). Where the nodes lack
// what some node says the name stands for, that one is behind, or they are: they are asked a few times more.
func (c *Client) states(ctx context.Context, name string, all bool) (ref journalRef, got []reply[rpc.JournalState], err error) {
	return c.statesUntil(ctx, name, unlessAll(all))
}

// heard judges whether the answers so far are enough, counted in the newest config that any of them knows. nil: only all
// are.
type heard func(cfg quorum.Config, got []reply[rpc.JournalState]) bool

func unlessAll(all bool) heard {
	if all {
		return nil
	}
	return func(cfg quorum.Config, got []reply[rpc.JournalState]) bool { return cfg.Majority(countIn(cfg, got)) }
}

// statesUntil is states for whoever knows better what is enough: without it a node that is stopped, and so neither
// answers nor fails, makes everybody wait for RequestTimeout.
func (c *Client) statesUntil(ctx context.Context, name string, enough heard) (ref journalRef, got []reply[rpc.JournalState], err error) {
	if err := rpc.CheckJournalName(name); err != nil {
		return ref, nil, err
	}
	wait := 20 * time.Millisecond
	for attempt := 1; ; attempt++ {
		err = c.settle(ctx, func() error {
			ref, got = journalRef{name: name}, nil
			var found rpc.JournalSummary
			if found, err = c.find(ctx, name); err == nil {
				ref, got, err = c.statesOnce(ctx, journalRef{id: found.ID, name: name}, enough)
			}
			return err
		})
		deleted := errors.Is(err, ErrJournalDeleted)
		if !deleted && !errors.Is(err, ErrNoJournal) || ref.id.IsZero() || !c.forget(name, ref.id, deleted) {
			return ref, got, err
		}
		now, gone := c.lookUp(ctx, name)
		if gone != nil || attempt == lookUpsMax {
			if gone == nil && !deleted && someSilent(got) { // who has it is out of reach
				err = noQuorum(got)
			}
			return ref, got, err
		}
		if now.ID != ref.id {
			continue
		}
		if pauseFor(ctx, wait) != nil {
			return ref, got, err
		}
		wait *= 2
	}
}

// statesOf is states for a journal that is known: one of the same name that came later is none of its
// business.
func (c *Client) statesOf(ctx context.Context, known journalRef, all bool) (ref journalRef, got []reply[rpc.JournalState], err error) {
	err = c.settle(ctx, func() error {
		ref, got, err = c.statesOnce(ctx, journalRef{id: known.id, name: known.name}, unlessAll(all))
		return err
	})
	return ref, got, err
}

func (c *Client) statesOnce(ctx context.Context, ref journalRef, until heard) (journalRef, []reply[rpc.JournalState], error) {
	name := ref.name
	var got []reply[rpc.JournalState]
	ids := c.nodeIDs()
	enough := func() bool {
		return until != nil && (isDeleted(ref.cfg, len(ids), got) || until(ref.cfg, got))
	}
	// The second round asks those that the first one told of, and those that it found behind; a third one
	// only where the config moved on meanwhile.
	asking := ids
	for round := 0; round < 3 && len(asking) > 0; round++ {
		under := ref
		ask(ctx, c, asking, func(ctx context.Context, n rpc.Node) (rpc.JournalState, error) {
			return c.stateUnder(ctx, n, under)
		}, func(r reply[rpc.JournalState]) bool {
			got = append(got, r)
			if cfg := r.val.Summary.Config; r.err == nil && !cfg.IsEmpty() && cfg.Version > ref.cfg.Version {
				ref.cfg = cfg
				c.adoptAddrs(cfg)
			}
			return enough()
		})
		if enough() {
			break
		}
		asking, got = unheard(ref.cfg, got)
	}
	slices.SortFunc(got, func(a, b reply[rpc.JournalState]) int { return cmp.Compare(a.node, b.node) })
	return ref, got, judge(name, ref.cfg, len(ids), got)
}

// stateUnder asks a node for its state. One that has an older config than the newest that was heard of is
// given that first: answers that are counted together carry one config version (M0, M7).
func (c *Client) stateUnder(ctx context.Context, n rpc.Node, ref journalRef) (rpc.JournalState, error) {
	st, err := n.State(ctx, ref.id)
	if ref.cfg.IsZero() || err != nil && !errors.Is(err, ErrNoJournal) || err == nil && st.Summary.Config.Version >= ref.cfg.Version {
		return st, err
	}
	if err := n.InstallConfig(ctx, rpc.JournalSummary{ID: ref.id, Name: ref.name, Config: ref.cfg}); err != nil {
		return st, err
	}
	return n.State(ctx, ref.id)
}

// unheard returns the members of cfg that are to be asked (again): those that nobody knew of before, those
// that do not have the journal yet, and those that answered under an older config; these answers are dropped.
func unheard(cfg quorum.Config, got []reply[rpc.JournalState]) (ids []quorum.NodeID, kept []reply[rpc.JournalState]) {
	for _, m := range cfg.Members() {
		i := slices.IndexFunc(got, func(r reply[rpc.JournalState]) bool { return r.node == m.ID })
		behind := i >= 0 && (got[i].err == nil && got[i].val.Summary.Config.Version < cfg.Version || errors.Is(got[i].err, ErrNoJournal))
		if (i < 0 || behind) && !slices.Contains(ids, m.ID) {
			ids = append(ids, m.ID)
		}
	}
	kept = slices.DeleteFunc(got, func(r reply[rpc.JournalState]) bool { return slices.Contains(ids, r.node) })
	return ids, kept
}

// isDeleted: the delete is in force where a majority of the members has the empty config (M2, M8); where
// nobody tells who they are, a majority of all nodes that may be one of them: not those that do not have it.
func isDeleted(cfg quorum.Config, nodes int, got []reply[rpc.JournalState]) bool {
	said := map[quorum.NodeID]rpc.JournalSummary{}
	for _, r := range got {
		if r.err == nil {
			said[r.node] = r.val.Summary
		}
		if errors.Is(r.err, ErrNoJournal) || errors.Is(r.err, rpc.ErrRemoved) {
			nodes--
		}
	}
	return rpc.DeleteInForce(cfg, nodes, said)
}

// countIn returns who of the members answered for itself, by what counts.
func countIn(cfg quorum.Config, got []reply[rpc.JournalState]) func(quorum.Member) bool {
	return func(m quorum.Member) bool {
		return slices.ContainsFunc(got, func(r reply[rpc.JournalState]) bool {
			return r.node == m.ID && r.val.Incarnation == m.Incarnation && counts(cfg, r)
		})
	}
}

// counts: a member answered, with the storage that the config names, as a member by its own config, and under
// this very config: what is counted together carries one (D6, N1, M0).
func counts(cfg quorum.Config, r reply[rpc.JournalState]) bool {
	own := r.val.Summary.Config
	return r.err == nil && cfg.Has(r.node, r.val.Incarnation) && r.val.Member &&
		own.Version == cfg.Version && own.Digest() == cfg.Digest()
}

// someSilent: not all nodes have said whether they have the journal.
func someSilent(got []reply[rpc.JournalState]) bool {
	return slices.ContainsFunc(got, func(r reply[rpc.JournalState]) bool {
		return r.err != nil && !errors.Is(r.err, ErrNoJournal) && !errors.Is(r.err, rpc.ErrRemoved)
	})
}

// noQuorum is the error for answers that are too few.
func noQuorum(got []reply[rpc.JournalState]) error {
	nq := &recovery.NoQuorumError{Step: "the journal's state"}
	for _, r := range got {
		if r.err != nil {
			nq.Causes = append(nq.Causes, recovery.NodeCause{Node: r.node, Err: r.err})
		}
	}
	return nq
}

// judge says why the answers are not enough to go on with.
func judge(name string, cfg quorum.Config, nodes int, got []reply[rpc.JournalState]) error {
	if isDeleted(cfg, nodes, got) {
		return fmt.Errorf("%w: %s", ErrJournalDeleted, name)
	}
	if !cfg.IsZero() && cfg.Majority(countIn(cfg, got)) {
		return nil
	}
	missing, removed := 0, 0
	nq := &recovery.NoQuorumError{Step: "the journal's state"}
	for _, r := range got {
		switch {
		case errors.Is(r.err, rpc.ErrRemoved):
			removed++ // no journal has it among its members: what it does not know is no sign of anything
		case errors.Is(r.err, ErrNoJournal):
			missing++
		case r.err == nil && r.val.Summary.Deleted:
			r.err = ErrJournalDeleted
		case r.err == nil:
			continue
		}
		nq.Causes = append(nq.Causes, recovery.NodeCause{Node: r.node, Err: r.err})
	}
	if cfg.IsZero() && missing > (len(got)-removed)/2 {
		return fmt.Errorf("%w: %s", ErrNoJournal, name)
	}
	return nq
}
