package journalnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/opening"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/recovery"
)

// vouchGrace is how long the listing of a snapshot waits for holders beyond a majority.
const vouchGrace = 500 * time.Millisecond

// ListSnapshot implements rpc.Service (C1). That a majority holds the snapshot is what this node hears from the
// holders themselves, under the config that the entry names; the catalog refuses it where another config is
// the current one by then.
func (n *Node) ListSnapshot(ctx context.Context, req rpc.ListRequest) error {
	if err := req.Snapshot.Validate(); err != nil {
		return fmt.Errorf("%w: %w", rpc.ErrBadRequest, err)
	}
	if err := n.linearizable(ctx); err != nil {
		return err
	}
	var j catalog.Journal
	var ok bool
	n.readCatalog(func(c *catalog.Catalog) { j, ok = c.Journal(req.Journal) })
	switch listed := listedOf(j); {
	case !ok:
		return fmt.Errorf("%w: %s", rpc.ErrNoJournal, req.Journal)
	case j.Deleted:
		return fmt.Errorf("%w: %s", rpc.ErrJournalDeleted, j.Name)
	case slices.Contains(listed, req.Snapshot):
		return nil
	case j.Config.Version != req.ConfigVersion:
		return &rpc.ConfigError{Journal: j.ID, Got: req.ConfigVersion, Want: j.Config.Version}
	}
	holders, causes := n.holders(ctx, j, req)
	if !majorityOf(j.Config, holders) {
		return &recovery.NoQuorumError{Step: "listing the snapshot", Causes: causes}
	}
	s := req.Snapshot
	_, err := n.propose(ctx, &catalog.ListSnapshot{
		Target: catalog.Target{Journal: j.ID, ExpectVersion: j.Config.Version}, Holders: holders,
		Snapshot: catalog.Snapshot{TxID: s.TxID, FrameLast: s.At, Size: uint64(s.Size), Checksum: s.Checksum, Epoch: s.Epoch},
	})
	if c, ok := errors.AsType[*catalog.ConflictError](err); ok {
		return fmt.Errorf("%w: %w", &rpc.ConfigError{Journal: j.ID, Got: c.Got, Want: c.Want}, err)
	}
	if err != nil {
		return err
	}
	n.log.Info("snapshot listed", "journal", j.Name, "snapshot", s.ID(), "bytes", s.Size, "holders", len(holders))
	n.followCatalog() // so that whoever asks this node next is told
	return nil
}

func majorityOf(cfg quorum.Config, has []quorum.Member) bool {
	return cfg.Majority(func(m quorum.Member) bool { return slices.ContainsFunc(has, m.Same) })
}

// holders asks all members, and returns when a majority of every set vouches and the others had a moment, or
// when all have answered.
func (n *Node) holders(ctx context.Context, j catalog.Journal, req rpc.ListRequest) (has []quorum.Member, causes []recovery.NodeCause) {
	type answer struct {
		m   quorum.Member
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	members := j.Config.Members()
	answers := make(chan answer, len(members))
	for _, m := range members {
		work.Go(func() { answers <- answer{m, n.vouches(ctx, j, m, req)} })
	}
	var grace <-chan time.Time
	for range members {
		select {
		case a := <-answers:
			if a.err == nil {
				has = append(has, a.m)
			} else {
				causes = append(causes, recovery.NodeCause{Node: a.m.ID, Err: a.err})
			}
		case <-grace:
			return has, causes
		}
		if grace == nil && majorityOf(j.Config, has) {
			grace = time.After(vouchGrace)
		}
	}
	return has, causes
}

// vouches asks one member whether it holds the snapshot, synced and verified, and its log agrees with it. One
// that lacks the config is given it: it was applied from the catalog (M0).
func (n *Node) vouches(ctx context.Context, j catalog.Journal, m quorum.Member, req rpc.ListRequest) error {
	h := rpc.Header{Journal: j.ID, ConfigVersion: j.Config.Version, Incarnation: m.Incarnation, Claim: req.Claim}
	end := rpc.SnapshotEnd{Header: h, Snapshot: req.Snapshot, HeldOnly: true}
	if m.ID == n.opts.ID {
		return n.FinishSnapshot(ctx, end)
	}
	peer, err := n.member(m)
	if err != nil {
		return err
	}
	err = peer.FinishSnapshot(ctx, end)
	if opening.SendConfig(ctx, peer, summaryOf(j), err) {
		err = peer.FinishSnapshot(ctx, end)
	}
	return err
}
