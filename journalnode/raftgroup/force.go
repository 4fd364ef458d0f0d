package raftgroup

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Force gives the group other voters without the consent of the present ones, when a majority of them was lost
// for good. The group must not run. opts.Machine is used up: it is given what is in the log, committed or not,
// and must not be used afterwards.
//
// What was in the log is in a raft snapshot then, which carries the voters; the log is empty. That snapshot is
// durable before anything is removed, so a crash leaves either the old members or the new ones, and the same
// call again finishes it.
func Force(opts Options, voters []ServerID) error {
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return err
	}
	var conf raft.Configuration
	for _, v := range voters {
		if err := v.Validate(); err != nil {
			return err
		}
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(v), Address: raft.ServerAddress(v)})
	}
	if o.Machine == nil || len(voters) == 0 {
		return fmt.Errorf("%w: a machine and voters are needed", ErrInvalid)
	}
	s, err := o.Stores.open()
	if err != nil {
		return err
	}
	return errors.Join(force(o, s, conf), s.close())
}

func force(o Options, s stores, conf raft.Configuration) error {
	if err := newestReadable(s.snapshots); err != nil { // upstream would take an older one
		return err
	}
	m := &machine{m: o.Machine, snapshotMax: o.SnapshotBytes, onMembership: func(Membership) {}}
	if o.wrapLogs != nil {
		s.logs = o.wrapLogs(s.logs)
	}
	logs := &logsBehind{LogStore: s.logs, settled: func() error { return settled(s, conf) }}
	// The transport is for the wire versions below 3 only.
	_, transport := raft.NewInmemTransport(raft.ServerAddress(o.Self))
	if err := raft.RecoverCluster(o.config(), m, logs, s.stable, s.snapshots, transport, conf); err != nil {
		if logs.err != nil { // upstream keeps the text alone
			err = logs.err
		}
		return fmt.Errorf("raftgroup: force: %w", err)
	}
	return nil
}

// logsBehind removes nothing before the raft snapshot that replaces it is there to stay.
type logsBehind struct {
	raft.LogStore
	settled func() error
	err     error // why nothing was removed
}

// DeleteRange implements raft.LogStore.
func (l *logsBehind) DeleteRange(first, last uint64) error {
	if l.err = l.settled(); l.err == nil && last > 0 { // 0: the log is empty
		l.err = l.LogStore.DeleteRange(first, last)
	}
	return l.err
}

// settled: the newest raft snapshot has the new members, and is on disk.
func settled(s stores, conf raft.Configuration) error {
	list, err := s.snapshots.List()
	if err != nil || len(list) == 0 {
		return fmt.Errorf("%w: no raft snapshot after it was forced: %w", ErrDamaged, err)
	}
	// The newest one is known by term and index, and then by the clock.
	got, want := membershipOf(0, list[0].Configuration), membershipOf(0, conf)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%w: the newest raft snapshot has other members (got %v, want %v): is the clock wrong?", ErrDamaged, got, want)
	}
	if s.settle == nil {
		return nil
	}
	return s.settle(list[0].ID)
}

// Rest is what a store tells of a group that does not run.
type Rest struct {
	Members     []Member // by the newest entry of the log, committed or not
	Index, Term uint64   // of the last entry
}

// Look reads a store without changing it. No group may run on it.
func Look(opts Options) (Rest, error) {
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return Rest{}, err
	}
	s, err := o.Stores.look()
	if err != nil {
		return Rest{}, err
	}
	r, err := look(s)
	return r, errors.Join(err, s.close())
}

func look(s stores) (Rest, error) {
	var r Rest
	if err := newestReadable(s.snapshots); err != nil {
		return r, err
	}
	list, err := s.snapshots.List()
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(list) > 0 {
		r.Index, r.Term, r.Members = list[0].Index, list[0].Term, membershipOf(0, list[0].Configuration).Members
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	first, err := s.logs.FirstIndex()
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for i := max(first, r.Index+1); i <= last; i++ { // first is 0 where the log is empty, and so is last
		var e raft.Log
		if err := s.logs.GetLog(i, &e); err != nil {
			return r, fmt.Errorf("%w: entry %d: %w", ErrDamaged, i, err)
		}
		r.Index, r.Term = e.Index, e.Term
		if e.Type != raft.LogConfiguration {
			continue
		}
		if r.Members, err = decodeMembers(e.Data); err != nil {
			return r, fmt.Errorf("%w: entry %d: %w", ErrDamaged, i, err)
		}
	}
	return r, nil
}

// decodeMembers: upstream panics on what it cannot read.
func decodeMembers(b []byte) (ms []Member, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("raftgroup: a configuration that cannot be read: %v", p)
		}
	}()
	return membershipOf(0, raft.DecodeConfiguration(b)).Members, nil
}

// Standing is what a survey needs to know: the members by the newest entry of this server's log, committed or
// not, and its last entry.
func (g *Group) Standing() (members []Member, index, term uint64) {
	if f := g.raft.GetConfiguration(); f.Error() == nil {
		members = membershipOf(0, f.Configuration()).Members
	}
	st := g.Stats()
	if index, term = st.LastLog, st.LastLogTerm; st.SnapshotIndex > index { // the log is empty behind it
		index, term = st.SnapshotIndex, st.SnapshotTerm
	}
	return members, index, term
}

// FirstLog is the oldest entry that is in the log.
func (g *Group) FirstLog() (uint64, error) {
	if err := g.watch.check(); err != nil {
		return 0, err
	}
	return g.stores.logs.FirstIndex()
}
