package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/quorumjournal/qjm/examples/namespace/runlog"
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
	firstNew := r.newState.FirstTx
	return []check{
		{"every acknowledged transaction is in the journal, at its txid", lost(r.journal, r.acked())},
		{"no transaction and no entry is there twice", duplicated(r.journal)},
		{"nothing is in the journal that no writer started", invented(r.journal, r.old.Started, r.new.Started)},
		{"the node that was killed came back into the same segment", r.sameSegment},
		{"the writer was killed with appends under way", expect(len(r.old.Started) > len(r.old.Acked),
			"all %d appends had been acknowledged", len(r.old.Acked))},
		{"recovery kept all that was acknowledged", expect(len(r.old.Acked) > 0 && r.old.Acked[len(r.old.Acked)-1].TxID < firstNew,
			"the new writer began at txid %d", firstNew)},
		{"the old writer was refused, by the new writer's epoch", expect(
			r.refused.Role == "refused" && r.refused.Epoch == r.oldState.Epoch && r.refused.Promised == r.newState.Epoch,
			"it wrote under epoch %d and was told %q", r.oldState.Epoch, r.refused.Refusal)},
		{"the old writer's transactions end where the new one's begin", interleaved(r.journal, r.oldState.Epoch, r.newState.Epoch, firstNew)},
		{"the namespace was rebuilt three times, each time equal to what is on disk", r.rebuiltDiffering},
		{"all nodes hold the same journal", unequal(r.holdings)},
	}
}

func expect(holds bool, format string, args ...any) []string {
	if holds {
		return nil
	}
	return []string{fmt.Sprintf(format, args...)}
}

func (r *result) acked() []runlog.Ack { return slices.Concat(r.old.Acked, r.new.Acked) }

// recoveredUnacked counts what was under way when the writer died, and is in the journal.
func (r *result) recoveredUnacked() int { return int(r.newState.FirstTx) - 1 - len(r.old.Acked) }

func (r *result) table(s *screen) {
	kept, underWay := r.recoveredUnacked(), len(r.old.Started)-len(r.old.Acked)
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
	row("acknowledged", commas(len(r.acked())), fmt.Sprintf("%s to the first writer, %s to the second", commas(len(r.old.Acked)), commas(len(r.new.Acked))))
	row("under way at the kill", commas(underWay), fmt.Sprintf("%s of them were recovered, %s were made by the second writer", commas(kept), commas(underWay-kept)))
	row("lost", commas(len(lost(r.journal, r.acked()))), "acknowledged and not in the journal")
	row("duplicated", commas(len(duplicated(r.journal))), "in the journal twice")
	row("failover", millis(r.failover), "from the SIGKILL of the writer to the first acknowledgement of the next; the standby was told at once")
	row("catch-up", millis(r.catchUp), "from the restart of the killed node to being in step, missed transactions included")
	_ = t.Flush() // the digests have columns of their own
	for _, h := range r.holdings {
		row("digest on "+h.node, h.digest, "of the whole journal, up to txid "+commas(h.last))
	}
	_ = t.Flush()
	s.line("%s", strings.TrimRight(text.String(), "\n"))
}

// remarkColumns is what the other columns of the table leave to the remarks.
const remarkColumns = 60
