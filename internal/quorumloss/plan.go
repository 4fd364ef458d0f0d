package quorumloss

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Schema names the form of a plan.
const Schema = "qjm.v1/recovery-plan"

// Kinds of plans.
const (
	RecoverQuorum = "recover-quorum"
	ResetPeers    = "reset-peers"
	ResetOffline  = "reset-peers-offline" // the catalog's group, in a directory whose node does not run
)

// What a plan does with a journal.
const (
	Force = "force" // its config becomes that of the plan
	Keep  = "keep"  // it has its majority
	Leave = "leave" // nothing can be done for it
	Lost  = "lost"  // nobody who is left holds any of it; the catalog keeps it all the same
	Drop  = "drop"  // that, and the operator wants the catalog to forget it
)

// Jump is how far the versions and epochs of a plan lie above everything that was heard of: lost nodes may
// know of some more (Q4).
const Jump = 1000

// Storage is a node's storage.
type Storage struct {
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
	Address     string `json:"address"`
}

// Member is the storage as a member.
func (s Storage) Member() (quorum.Member, error) {
	inc, err := quorum.ParseIncarnation(s.Incarnation)
	if err != nil {
		return quorum.Member{}, fmt.Errorf("%w: %w", rpc.ErrBadRequest, err)
	}
	return quorum.Member{ID: quorum.NodeID(s.Node), Incarnation: inc, Addr: s.Address}, quorum.NodeID(s.Node).Validate()
}

func storage(m quorum.Member) Storage {
	return Storage{string(m.ID), m.Incarnation.String(), m.Addr}
}

func members(ss []Storage) ([]quorum.Member, error) {
	var out []quorum.Member
	var errs []error
	for _, s := range ss {
		m, err := s.Member()
		out, errs = append(out, m), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// Plan is what is to be done, and all that it rests on.
type Plan struct {
	Schema     string        `json:"schema"`
	Kind       string        `json:"kind"`
	Cluster    string        `json:"cluster"`
	Generation uint64        `json:"generation,string"`
	Survivors  []Storage     `json:"survivors"`
	Lost       []Storage     `json:"lost"`
	Majority   string        `json:"majority"` // of a reset: why it is not needed; empty: it has none any more
	Group      *GroupPlan    `json:"group"`    // null: the catalog's group is left alone
	Journals   []JournalPlan `json:"journals"`
	Digest     string        `json:"digest"` // of the rest
}

// GroupPlan gives the catalog's group new members.
type GroupPlan struct {
	Voters []Storage    `json:"voters"`  // from now on
	Before []ServerPlan `json:"before"`  // the servers, by the newest log
	Newest string       `json:"newest"`  // who has the newest log
	GiveUp []Storage    `json:"give_up"` // storages that leave the cluster
}

// ServerPlan is one server of the group.
type ServerPlan struct {
	Storage
	Voter     bool   `json:"voter"`
	Alive     bool   `json:"alive"`
	LastIndex uint64 `json:"last_index,string"`
	LastTerm  uint64 `json:"last_term,string"`
}

// JournalPlan gives a journal new members.
type JournalPlan struct {
	Name       string      `json:"journal"`
	ID         string      `json:"id"`
	Action     string      `json:"action"`
	Why        string      `json:"why"`
	Version    uint64      `json:"config_version,string"`
	Sets       [][]Storage `json:"member_sets"`
	Copies     []CopyPlan  `json:"copies"`
	NewVersion uint64      `json:"new_config_version,string"`
	Members    []Storage   `json:"new_members"`
	Later      []Storage   `json:"later_members"` // survivors to be added by an ordinary change afterwards
	MinEpoch   uint64      `json:"min_epoch,string"`
	Segment    uint64      `json:"segment,string"` // the newest; 0: none
	Last       uint64      `json:"last_txid,string"`
	Digest     string      `json:"digest"`
	Sources    []string    `json:"sources"`
	Floors     []FloorPlan `json:"floors_lowered"`
	Loss       Loss        `json:"loss"`
}

// CopyPlan is what a member held when the plan was made.
type CopyPlan struct {
	Storage
	State         string `json:"state"` // lost, unknown, absent, in-progress, finalized or purged
	ConfigVersion uint64 `json:"config_version,string"`
	Promised      uint64 `json:"promised_epoch,string"`
	Segment       uint64 `json:"segment,string"`
	Epoch         uint64 `json:"segment_epoch,string"`
	Ballot        uint64 `json:"ballot,string"`
	Last          uint64 `json:"last_txid,string"`
	Digest        string `json:"digest"`
	Accepted      string `json:"accepted"` // empty: no record
	Floor         uint64 `json:"floor_txid,string"`
	FloorDigest   string `json:"floor_digest"`
	FloorSegment  uint64 `json:"floor_segment,string"`
	Purged        uint64 `json:"purged_txid,string"`
	CutAt         uint64 `json:"cut_at_txid,string"`
}

// FloorPlan is a floor that is lowered to nothing.
type FloorPlan struct {
	Storage
	Segment uint64 `json:"segment,string"`
	Epoch   uint64 `json:"epoch,string"`
	TxID    uint64 `json:"txid,string"`
	Digest  string `json:"digest"`
}

// Floor is the floor that is meant.
func (f FloorPlan) Floor() (recovery.Floor, error) {
	out := recovery.Floor{Segment: segments.TxID(f.Segment), Epoch: fencing.Epoch(f.Epoch), At: segments.Position{TxID: segments.TxID(f.TxID)}}
	b, err := hex.DecodeString(f.Digest)
	if err != nil || len(b) != len(out.At.Digest) {
		return out, fmt.Errorf("%w: digest of a floor %q", rpc.ErrBadRequest, f.Digest)
	}
	copy(out.At.Digest[:], b)
	return out, nil
}

// Loss is what may be lost.
type Loss struct {
	// Certain: transactions that were committed, as a floor tells, and that no survivor holds; 0: none known.
	CertainFirst uint64 `json:"certain_first,string"`
	CertainLast  uint64 `json:"certain_last,string"`
	// Possible: the lost nodes alone were enough to commit. What they committed beyond what is kept is lost,
	// and nobody can tell how much that is.
	Possible bool `json:"possible"`
	// Holes are older transactions that no survivor holds.
	Holes []Range `json:"holes"`
	// All: nobody who is left holds anything.
	All bool `json:"all"`
}

// Range of txids.
type Range struct {
	First uint64 `json:"first,string"`
	Last  uint64 `json:"last,string"`
}

// None: nothing that was acknowledged is lost.
func (l Loss) None() bool { return l.CertainLast == 0 && !l.Possible && !l.All && len(l.Holes) == 0 }

// Seal fills the digest in.
func (p *Plan) Seal() error {
	p.Digest = ""
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("quorumloss: %w", err)
	}
	h := sha256.Sum256(b)
	p.Digest = hex.EncodeToString(h[:rpc.PlanDigestSize/2])
	return nil
}

// Encode is the plan as nodes keep it.
func (p *Plan) Encode() ([]byte, error) {
	b, err := json.Marshal(p)
	if err == nil && len(b) > rpc.PlanBytesMax {
		err = fmt.Errorf("%w: plan (got %d bytes, want at most %d)", rpc.ErrTooLarge, len(b), rpc.PlanBytesMax)
	}
	return b, err
}

// Parse reads a plan and checks its digest.
func Parse(b []byte) (*Plan, error) {
	p := &Plan{}
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("%w: a plan that cannot be read: %w", rpc.ErrBadRequest, err)
	}
	if p.Schema != Schema || p.Kind != RecoverQuorum && p.Kind != ResetPeers && p.Kind != ResetOffline {
		return nil, fmt.Errorf("%w: a plan of another form (got %.64q, %.64q)", rpc.ErrBadRequest, p.Schema, p.Kind)
	}
	want := p.Digest
	if err := p.Seal(); err != nil {
		return nil, err
	}
	if p.Digest != want {
		return nil, fmt.Errorf("%w: digest of the plan (got %.64q, want %s)", rpc.ErrBadRequest, want, p.Digest)
	}
	return p, nil
}

// Journal returns what the plan does with a journal, if it does anything.
func (p *Plan) Journal(id segments.JournalID) (JournalPlan, bool) {
	i := slices.IndexFunc(p.Journals, func(j JournalPlan) bool { return j.ID == id.String() && j.acts() })
	if i < 0 {
		return JournalPlan{}, false
	}
	return p.Journals[i], true
}

// JournalID is the journal's id.
func (j JournalPlan) JournalID() (segments.JournalID, error) {
	b, err := hex.DecodeString(j.ID)
	if err != nil || len(b) != len(segments.JournalID{}) {
		return segments.JournalID{}, fmt.Errorf("%w: journal id %.64q", rpc.ErrBadRequest, j.ID)
	}
	return segments.JournalID(b), nil
}

// NewConfig is the journal's config from now on.
func (j JournalPlan) NewConfig() (quorum.Config, error) {
	ms, err := members(j.Members)
	if err != nil {
		return quorum.Config{}, err
	}
	c := quorum.NewConfig(j.NewVersion, ms...)
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("%w: %w", rpc.ErrBadRequest, err)
	}
	return c, nil
}

// Knows tells whether the plan knew of that member when it was made.
func (j JournalPlan) Knows(m quorum.Member) bool {
	same := func(s Storage) bool { o, err := s.Member(); return err == nil && o.Same(m) }
	for _, set := range append([][]Storage{j.Members, j.Later}, j.Sets...) {
		if slices.ContainsFunc(set, same) {
			return true
		}
	}
	return false
}

func (j JournalPlan) acts() bool { return j.Action == Force || j.Action == Drop }

// Forced are the journals whose config the plan replaces.
func (p *Plan) Forced() []JournalPlan { return p.with(Force) }

// Dropped are the journals that the catalog is to forget.
func (p *Plan) Dropped() []JournalPlan { return p.with(Drop) }

// LostWhole are the journals of which nothing is left, and which the plan does not drop.
func (p *Plan) LostWhole() []JournalPlan { return p.with(Lost) }

func (p *Plan) with(action string) []JournalPlan {
	var out []JournalPlan
	for _, j := range p.Journals {
		if j.Action == action {
			out = append(out, j)
		}
	}
	return out
}

// Empty: there is nothing to do.
func (p *Plan) Empty() bool {
	return p.Group == nil && !slices.ContainsFunc(p.Journals, JournalPlan.acts)
}

// Survives tells whether a storage is to carry the plan out.
func (p *Plan) Survives(k quorum.Key) bool {
	return slices.ContainsFunc(p.Survivors, func(s Storage) bool { m, err := s.Member(); return err == nil && m.Key() == k })
}

// Voters are the group's members from now on.
func (g *GroupPlan) Members() ([]quorum.Member, error) { return members(g.Voters) }

// Lost are the storages that leave the cluster.
func (g *GroupPlan) Lost() ([]quorum.Member, error) { return members(g.GiveUp) }
