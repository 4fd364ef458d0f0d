package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// check is one thing that must hold.
type check struct {
	what  string
	wrong []string
}

// report prints the table, and returns an error that names what did not hold.
func (d *demo) report() error {
	checks := d.result.checks()
	d.result.table(d.screen)
	d.screen.line("")
	failed := 0
	for _, c := range checks {
		if len(c.wrong) == 0 {
			d.screen.line("  pass  %s", c.what)
			continue
		}
		failed++
		d.screen.line("  FAIL  %s", c.what)
		for _, w := range c.wrong[:min(len(c.wrong), 5)] {
			d.screen.line("        %s", w)
		}
		if more := len(c.wrong) - 5; more > 0 {
			d.screen.line("        and %s more", commas(more))
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks did not hold", failed, len(checks))
	}
	return nil
}

func (r *result) checks() []check {
	old := r.ackedIn(r.oldEpoch)
	return []check{
		{"every acknowledged transaction is in the journal, at its txid", lost(r.journal, r.acked)},
		{"no transaction and no entry is there twice", duplicated(r.journal)},
		{"nothing is in the journal that nobody asked for", invented(r.journal, r.asked)},
		{"the node that was killed came back into the same segment", r.sameSegment},
		{"the active was killed with proposals under way", expect(len(r.doubt) > 0, "all had been answered")},
		{"recovery kept all that was acknowledged", expect(len(old) > 0 && !slices.ContainsFunc(old, func(a ack) bool { return a.txid >= r.firstNew }),
			"the new active began at txid %d", r.firstNew)},
		{"the old writer was refused, by the new one's epoch", expect(
			r.refused.epoch == r.oldEpoch && r.refused.promised == r.newEpoch && r.refused.definite,
			"it wrote under epoch %d and was told %q", r.oldEpoch, r.refused.text)},
		{"the old writer's transactions end where the new one's begin", interleaved(r.journal, r.oldEpoch, r.newEpoch, r.firstNew)},
		{"the replica that was killed began anew from a snapshot that was saved on the way", r.notFromSnapshot()},
		{"and holds all that is on disk", r.restartedDiffering},
		{"the tree was rebuilt three times, each time equal to what is on disk", r.rebuiltDiffering},
		{"all nodes hold the same journal", unequal(r.holdings)},
	}
}

// notFromSnapshot: what the replica did not apply itself was in a snapshot.
func (r *result) notFromSnapshot() []string {
	from := r.restarted.txid - r.restarted.applied
	return expect(from > 0 && slices.Contains(r.snapshots, from), "it is at txid %d, and applied %d transactions itself; snapshots were saved at %d",
		r.restarted.txid, r.restarted.applied, r.snapshots)
}

func expect(holds bool, format string, args ...any) []string {
	if holds {
		return nil
	}
	return []string{fmt.Sprintf(format, args...)}
}

// ackedIn returns what the active of an epoch acknowledged.
func (r *result) ackedIn(epoch uint64) (all []ack) {
	for _, a := range r.acked {
		if a.epoch == epoch {
			all = append(all, a)
		}
	}
	return all
}

func (r *result) table(s *screen) {
	old, kept := len(r.ackedIn(r.oldEpoch)), len(r.found)
	s.line("")
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	row := func(what, value, remark string) {
		for _, part := range wrap(remark, remarkColumns) {
			fmt.Fprintf(t, "  %s\t%s\t%s\n", what, value, part)
			what, value = "", ""
		}
	}
	row("entries", commas(r.entries), "in the source tree; the journal has "+commas(len(r.journal))+" transactions")
	row("acknowledged", commas(len(r.acked)), fmt.Sprintf("%s by the first active, %s by the second", commas(old), commas(len(r.acked)-old)))
	row("under way at the kill", commas(len(r.doubt)), fmt.Sprintf("never answered; %s of them were recovered, %s were asked for again", commas(kept), commas(len(r.doubt)-kept)))
	row("lost", commas(len(lost(r.journal, r.acked))), "acknowledged and not in the journal")
	row("duplicated", commas(len(duplicated(r.journal))), "in the journal twice")
	row("failover", millis(r.failover), fmt.Sprintf("from the SIGKILL of the active to the first acknowledgement of the next: most of it is the lease, %s", millis(lease)))
	row("catch-up", millis(r.catchUp), "from the restart of the killed node to being in step, missed transactions included")
	row("snapshot", commas(r.restarted.txid-r.restarted.applied), "the txid from which the restarted replica began; it applied the other "+commas(r.restarted.applied)+" itself")
	_ = t.Flush() // the digests have columns of their own
	for _, h := range r.holdings {
		row("digest on "+h.node, h.digest, "of the whole journal, up to txid "+commas(h.last))
	}
	_ = t.Flush()
	s.line("%s", strings.TrimRight(text.String(), "\n"))
}

// remarkColumns is what the other columns of the table leave to the remarks.
const remarkColumns = 60
