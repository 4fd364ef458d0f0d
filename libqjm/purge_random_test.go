package libqjm_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/libqjm"
)

// C1–C5, D5 at random: a writer appends, rolls, saves snapshots and is replaced, while one node at a time is away,
// loses its power, or is slow to hear what is listed; nothing that is covered is kept. In the end any two nodes
// go on behind what was acknowledged, and the newest snapshot with the log behind it is all of it.
func TestC5_PurgeAtRandom(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			runSnapshots(t, testcluster.Options{}, func(c *catalog) {
				p := &purging{catalog: c, rng: rand.New(rand.NewPCG(seed, 1)), away: -1}
				p.w = c.writer()
				for range 60 {
					p.step()
				}
				p.finish(int(seed % 3))
			})
		})
	}
}

type purging struct {
	*catalog
	rng   *rand.Rand
	w     *libqjm.Writer
	acked libqjm.TxID
	saved libqjm.TxID // the newest listed
	away  int         // the node that is; -1: none
}

func (p *purging) step() {
	switch p.rng.IntN(10) {
	case 0, 1, 2, 3:
		n := libqjm.TxID(1 + p.rng.IntN(6))
		p.write(p.w, p.acked+1, p.acked+n)
		p.acked += n
	case 4, 5:
		require.NoError(p, p.w.Roll(p.ctx))
	case 6:
		if p.acked > p.saved {
			txid := p.saved + 1 + libqjm.TxID(p.rng.IntN(int(p.acked-p.saved)))
			if snap, err := p.w.SaveSnapshot(p.ctx, txid, bytes.NewReader(stateAt(txid))); err == nil {
				p.saved = snap.TxID
			}
		}
	case 7:
		if p.away >= 0 {
			p.start(p.away)
			p.away = -1
			break
		}
		p.away = p.rng.IntN(3)
		if p.rng.IntN(2) == 0 {
			p.StopNode(p.away)
		} else {
			p.CrashNode(p.away, memfs.CrashOptions{UnsyncedPercent: 50, Rand: p.rng})
		}
	case 8:
		if p.rng.IntN(2) == 0 {
			p.abandon(p.w)
		} else {
			p.idle()
		}
		p.w = p.writer()
		require.Equal(p, p.acked+1, p.w.FirstTxID())
	case 9:
		pass(time.Duration(p.rng.IntN(3000)) * time.Millisecond)
	}
}

// idle: the writer ends well, everything is in a snapshot, and nothing happens for a while.
func (p *purging) idle() {
	require.NoError(p, p.w.Close(p.ctx))
	if p.acked > p.saved {
		if snap, err := p.cl.SaveSnapshot(p.ctx, "j", p.acked, bytes.NewReader(stateAt(p.acked))); err == nil {
			p.saved = snap.TxID
		}
	}
	pass(time.Duration(p.rng.IntN(3000)) * time.Millisecond)
	for p.away >= 0 && p.rng.IntN(2) == 0 { // who was away comes back to that, and another one goes
		p.start(p.away)
		pass(time.Duration(p.rng.IntN(3000)) * time.Millisecond)
		p.away = (p.away + 1) % 3
		p.StopNode(p.away)
	}
}

func stateAt(txid libqjm.TxID) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "state at %d\n", txid), 500)
}

// finish: all run; then one is away, and the other two are all there is.
func (p *purging) finish(away int) {
	if p.away >= 0 {
		p.start(p.away)
	}
	p.abandon(p.w)
	pass(time.Duration(p.rng.IntN(10)) * time.Second)
	p.StopNode(away)
	w := p.writer()
	require.Equal(p, p.acked+1, w.FirstTxID())
	p.write(w, p.acked+1, p.acked+3)
	require.NoError(p, w.Close(p.ctx))
	p.start(away)
	from := libqjm.TxID(1)
	if p.saved > 0 {
		var snap libqjm.Snapshot
		p.Until(time.Minute, "the newest one is known", func() (ok bool) {
			s, err := p.cl.LatestSnapshot(p.ctx, "j")
			snap = s
			return err == nil && snap.TxID == p.saved
		})
		require.Equal(p, stateAt(snap.TxID), p.open(snap.TxID))
		from = snap.TxID + 1
	}
	require.Equal(p, upTo(from, p.acked+3), p.read(libqjm.ReaderOptions{From: from}))
}
