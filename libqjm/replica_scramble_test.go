package libqjm_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// TestHole_TwoWithoutTheCatalog: the catalog is gone, and so is the active. Two wait for that. One becomes active and stays it.
func TestHole_TwoWithoutTheCatalog(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		without := func(o *libqjm.ReplicaOptions, _ *tally) {
			o.OpenWithoutCatalog, o.LeaseTTL = true, 500*time.Millisecond
		}
		p := b.replica("p", without)
		b.becomes(p, libqjm.RoleActive)
		q, z := b.replica("q", without), b.replica("z", without)
		b.becomes(q, libqjm.RoleStandby)
		b.becomes(z, libqjm.RoleStandby)
		b.propose(p, "a")
		b.splitCatalog()
		pass(20 * time.Second)
		require.Equal(b, libqjm.RoleActive, p.Status().Role, "nobody takes the place of one that lives")
		b.propose(p, "b")
		b.cutOff("p")
		active := func() (n int) {
			for _, r := range []rep{q, z} {
				if r.Status().Role == libqjm.RoleActive {
					n++
				}
			}
			return n
		}
		b.Until(time.Minute, "one is active", func() bool { return active() > 0 })
		pass(20 * time.Second)
		for range 100 {
			require.Equal(b, 1, active())
			pass(500 * time.Millisecond)
		}
		w := q
		if z.Status().Role == libqjm.RoleActive {
			w = z
		}
		last := b.propose(w, "c")
		b.Net.HealAll()
		pass(30 * time.Second)
		for _, r := range []rep{p, q, z} {
			_, err := r.WaitApplied(b.within(time.Minute), last.TxID)
			require.NoError(b, err)
			require.Equal(b, []string{"a", "b", "c"}, r.sm.list())
		}
		b.closes(p, q, z)
	})
}

// TestHole_Scramble: clients that retry, while replicas are cut off, fenced, handed over, killed and started anew. Each
// proposal that was acknowledged is applied once, with its own result, and none twice.
func TestHole_Scramble(t *testing.T) {
	seeds, steps := uint64(2), 25
	if testing.Short() {
		seeds, steps = 1, 8
	}
	for seed := range seeds {
		run(t, testcluster.Options{}, func(b *bed) {
			d := newDice(seed)
			var mu sync.Mutex
			reps := map[string]rep{}
			old := []rep{}
			open := func(name string) {
				r := b.replica(name, func(o *libqjm.ReplicaOptions, _ *tally) {
					o.Snapshots = libqjm.SnapshotPolicy{Txns: 30}
					o.LeaseTTL = 500 * time.Millisecond
					o.OpenWithoutCatalog = seed%2 == 0
				})
				mu.Lock()
				reps[name] = r
				mu.Unlock()
			}
			names := []string{"p", "q", "z"}
			for _, n := range names {
				open(n)
			}
			any := func() rep {
				mu.Lock()
				defer mu.Unlock()
				for _, r := range reps {
					if r.Status().Role == libqjm.RoleActive && d.roll(90) {
						return r
					}
				}
				return reps[names[d.intn(3)]]
			}
			stop := make(chan struct{})
			var all sync.WaitGroup
			var acked [4][]string
			for i := range acked {
				all.Go(func() {
					s := libqjm.NewSession()
					for {
						if any().OpenSession(b.within(3*time.Second), s.ID(), 24*time.Hour) == nil {
							break
						}
						pass(50 * time.Millisecond)
					}
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						ref, err := s.Begin()
						require.NoError(b, err)
						data := fmt.Sprintf("%d-%d", i, n)
						for {
							a, err := any().Propose(b.within(time.Duration(1+d.intn(3))*time.Second), libqjm.Proposal{Data: []byte(data), Session: &ref})
							if err == nil {
								require.Contains(b, string(a.Result), ":"+data)
								acked[i] = append(acked[i], string(a.Result))
								break
							}
							require.NotErrorIs(b, err, libqjm.ErrSession)
							require.NotErrorIs(b, err, libqjm.ErrSessionForgotten)
							pass(20 * time.Millisecond)
						}
						s.End(ref)
						pass(time.Duration(d.intn(20)) * time.Millisecond)
					}
				})
			}
			all.Go(func() { // what linearizable reads see never goes back
				at := libqjm.TxID(0)
				for {
					select {
					case <-stop:
						return
					default:
					}
					var got libqjm.TxID
					var err error
					if r := any(); d.roll(50) || seed%2 == 0 {
						got, err = r.AwaitLinearizable(b.within(2 * time.Second))
					} else {
						got, err = r.AwaitLease(b.within(2 * time.Second))
					}
					if err == nil {
						require.GreaterOrEqual(b, got, at)
						at = got
					}
					pass(time.Duration(1+d.intn(50)) * time.Millisecond)
				}
			})
			for range steps {
				pass(time.Duration(500+d.intn(3000)) * time.Millisecond)
				name := names[d.intn(3)]
				mu.Lock()
				r := reps[name]
				mu.Unlock()
				switch d.intn(6) {
				case 0:
					back := b.cutOff(name)
					pass(time.Duration(d.intn(5000)) * time.Millisecond)
					back()
				case 1:
					_, _ = b.cl.Fence(b.within(5*time.Second), "j")
				case 2:
					_ = r.Transfer(b.within(5*time.Second), names[d.intn(3)])
				case 3, 4:
					ctx := b.within(time.Duration(d.intn(2)) * 5 * time.Second)
					_ = r.Close(ctx)
					require.NoError(b, r.Err())
					old = append(old, r)
					open(name)
				case 5:
					i := d.intn(3)
					b.Net.Partition(name, b.ID(i))
					b.Net.Partition(name, b.ID((i+1)%3))
					pass(time.Duration(d.intn(8000)) * time.Millisecond)
					b.Net.HealAll()
				}
			}
			pass(20 * time.Second)
			close(stop)
			all.Wait()
			end, err := any().AwaitLinearizable(b.within(time.Minute))
			require.NoError(b, err)
			var want []string
			for _, r := range reps {
				_, err := r.WaitApplied(b.within(time.Minute), end)
				require.NoError(b, err, "%+v", r.Status())
				seen := r.sm.list()
				if want == nil {
					want = seen
				}
				require.Equal(b, want, seen)
			}
			for _, r := range old {
				seen := r.sm.list()
				require.LessOrEqual(b, len(seen), len(want))
				require.Equal(b, want[:len(seen)], seen)
			}
			require.Len(b, slices.Compact(slices.Sorted(slices.Values(want))), len(want), "each once")
			n := 0
			for _, of := range acked {
				for _, result := range of {
					var at int
					var data string
					_, err := fmt.Sscanf(result, "%d:%s", &at, &data)
					require.NoError(b, err)
					require.Equal(b, data, want[at-1], "its own result")
					n++
				}
			}
			require.Greater(b, n, 50)
			for _, r := range reps {
				if err := r.Close(b.within(time.Minute)); err != nil && !errors.Is(err, libqjm.ErrFenced) {
					require.NoError(b, err)
				}
			}
		})
	}
}
