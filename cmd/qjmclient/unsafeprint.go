package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/libqjm"
)

// printer keeps the first error, so that a text can be written line by line.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, cli.Wrap(fmt.Sprintf(format, args...), "  "))
	}
}

func (p *printer) table(rows [][]string) {
	if p.err == nil {
		p.err = cli.PrintTable(p.w, rows)
	}
}

func storages(ss []libqjm.PlanStorage) string {
	var out []string
	for _, s := range ss {
		out = append(out, s.Node)
	}
	return strings.Join(out, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (p *printer) group(g *libqjm.GroupPlan, kind string) {
	p.line("")
	if g == nil {
		p.line("CATALOG: its group is left alone")
		return
	}
	absent := "lost"
	if kind == quorumloss.ResetOffline {
		absent = "not asked"
	}
	var before []string
	for _, s := range g.Before {
		how := absent
		switch {
		case kind == quorumloss.RecoverQuorum && !s.Alive && !slices.ContainsFunc(g.GiveUp, func(l libqjm.PlanStorage) bool { return l.Node == s.Node && l.Incarnation == s.Incarnation }):
			how = "its log does not count"
		case s.Alive:
			how = fmt.Sprintf("at %d in term %d", s.LastIndex, s.LastTerm)
		}
		if !s.Voter {
			how += ", no vote"
		}
		before = append(before, fmt.Sprintf("%s (%s)", s.Node, how))
	}
	if kind == quorumloss.RecoverQuorum {
		p.line("CATALOG: its group was %s; the newest log is on %s; from now on it is %s", strings.Join(before, ", "), g.Newest, storages(g.Voters))
		p.line("LOSS: what the group decided without them is lost, and nobody can tell what that was: journals made or deleted, members changed, snapshots listed, leases")
	} else {
		p.line("CATALOG: its group, as %s has it, is %s; from now on it is %s, on %s alone", g.Newest, strings.Join(before, ", "), storages(g.Voters), g.Newest)
	}
	if len(g.GiveUp) > 0 {
		p.line("leaving the cluster: %s; they need blank disks to come back", storages(g.GiveUp))
	}
}

func (p *printer) journal(j libqjm.JournalPlan) {
	p.line("")
	p.line("JOURNAL %s: config %d; %s: %s", j.Name, j.Version, j.Action, j.Why)
	rows := [][]string{{"NODE", "STATE", "CONFIG", "PROMISED", "SEGMENT", "EPOCH", "BALLOT", "LAST TXID", "DIGEST", "FLOOR", "ACCEPTED"}}
	for _, c := range j.Copies {
		if c.State == "lost" {
			rows = append(rows, []string{c.Node, "LOST", "", "", "", "", "", "", "", "", ""})
			continue
		}
		digest := short(c.Digest + "        ")
		if c.Last == 0 {
			digest = "" // of nothing
		}
		rows = append(rows, []string{
			c.Node, c.State, cli.U64(c.ConfigVersion), cli.U64(c.Promised), cli.U64(c.Segment), cli.U64(c.Epoch), cli.U64(c.Ballot), cli.U64(c.Last),
			digest, cli.U64(c.Floor), c.Accepted,
		})
	}
	if len(j.Copies) > 0 {
		p.table(rows)
	}
	switch j.Action {
	case quorumloss.Lost:
		p.line("LOSS: all of it; nobody who is left holds anything")
		return
	case quorumloss.Drop:
		p.drop(j)
		return
	case quorumloss.Force:
	default:
		return
	}
	p.line("members from now on: %s, config %d", storages(j.Members), j.NewVersion)
	if len(j.Later) > 0 {
		p.line("to be added afterwards, by quorum change: %s", storages(j.Later))
	}
	if len(j.Sources) > 0 {
		p.line("kept: everything up to txid %d, digest %s, as %s has it", j.Last, short(j.Digest+"        "), strings.Join(j.Sources, ", "))
	}
	for _, f := range j.Floors {
		p.line("%s knows txid %d as committed, and forgets it", f.Node, f.TxID)
	}
	p.loss(j)
}

func (p *printer) drop(j libqjm.JournalPlan) {
	if j.Loss.All {
		p.line("LOSS: all of it; nobody who is left holds anything")
	}
	p.line("it leaves the catalog, and its name is free. What a member that comes back holds stays on its disk, and is served to nobody")
}

// leftOut are members that answer, and are to be members no more: a reset does that, recover-quorum never.
func leftOut(j libqjm.JournalPlan) string {
	var out []libqjm.PlanStorage
	for _, c := range j.Copies {
		same := func(s libqjm.PlanStorage) bool { return s.Node == c.Node && s.Incarnation == c.Incarnation }
		if c.State != "lost" && c.State != "unknown" && !slices.ContainsFunc(slices.Concat(j.Members, j.Later), same) {
			out = append(out, c.Storage)
		}
	}
	return storages(out)
}

func (p *printer) loss(j libqjm.JournalPlan) {
	l := j.Loss
	out := leftOut(j)
	if l.CertainLast > 0 {
		p.line("LOSS: txids %d to %d were committed, and nobody who is left holds them", l.CertainFirst, l.CertainLast)
	}
	for _, h := range l.Holes {
		p.line("LOSS: txids %d to %d are on no survivor", h.First, h.Last)
	}
	switch {
	case l.Possible && out != "":
		p.line("LOSS: without %s the new members may lack what was acknowledged; all beyond txid %d is given up, whoever holds it", out, j.Last)
	case l.Possible:
		p.line("LOSS: the lost nodes were enough to commit without the others; what they acknowledged beyond txid %d is lost, and nobody can tell how much that is", max(j.Last, l.CertainLast))
	case l.None() && out != "":
		p.line("loss: none; every acknowledged transaction was acknowledged by one of the new members, too")
	case l.None():
		p.line("loss: none; every acknowledged transaction was acknowledged by a survivor, too")
	}
}
