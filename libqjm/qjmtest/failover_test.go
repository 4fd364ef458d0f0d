package qjmtest_test

import (
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/libqjm/qjmtest"
)

// words is a state machine: the proposals in their order.
type words struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

func (w *words) Apply(batch []libqjm.Entry) ([][]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range batch {
		w.all = append(w.all, string(e.Data))
	}
	return nil, nil
}

func (w *words) SaveSnapshot() (func(io.Writer) error, error) {
	text := w.String()
	return func(to io.Writer) error { _, err := io.WriteString(to, text); return err }, nil
}

func (w *words) LoadSnapshot(from io.Reader) error {
	text, err := io.ReadAll(from)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = strings.Fields(string(text))
	return err
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.all, " ")
}

// TestDoc_IsThisTest: what doc.go shows compiles, and passes.
func TestDoc_IsThisTest(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	var shown strings.Builder
	inside := false
	for line := range strings.Lines(string(doc)) {
		code := strings.TrimPrefix(strings.TrimPrefix(line, "//"), "\t")
		inside = inside || strings.HasPrefix(code, "func Test")
		if inside {
			shown.WriteString(code)
		}
		inside = inside && code != "}\n"
	}
	test, err := os.ReadFile("failover_test.go")
	require.NoError(t, err)
	require.Contains(t, shown.String(), "func TestFailover(")
	require.Contains(t, string(test), shown.String())
}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := qjmtest.Start(t, qjmtest.Options{Journals: []string{"words"}})
		open := func(process string, sm libqjm.StateMachine) *libqjm.Replica {
			r, err := c.Client(process).OpenReplica("words", sm, libqjm.ReplicaOptions{Name: process})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		active := open("app-1", &words{})
		qjmtest.AwaitRole(t, active, libqjm.RoleActive)
		var state words
		standby := open("app-2", &state)

		if _, err := active.Propose(t.Context(), libqjm.Proposal{Data: []byte("hello")}); err != nil {
			t.Fatal(err)
		}
		c.KillProcess("app-1")
		qjmtest.AwaitRole(t, standby, libqjm.RoleActive) // some 3 s later, when the lease has expired: fake ones
		if got := state.String(); got != "hello" {
			t.Fatalf("the new active has %q: what was acknowledged is lost", got)
		}
	})
}

func (b bed) replica(process string, sm *words) *libqjm.Replica {
	b.Helper()
	r, err := b.Client(process).OpenReplica("j", sm, libqjm.ReplicaOptions{Name: process, LeaseTTL: time.Second})
	require.NoError(b, err)
	return r
}

// One that is cut off is replaced when its lease is over, and a moment for the catalog, by the clock of the bubble.
func TestAwaitActive_FailoverWithinTheLease(t *testing.T) {
	run(t, func(b bed) {
		var state words
		old := b.replica("a", &state)
		require.Same(b, old, qjmtest.AwaitActive(b, old))
		others := []*libqjm.Replica{b.replica("b", &words{}), b.replica("c", &words{})}
		qjmtest.AwaitRole(b, others[0], libqjm.RoleStandby)
		_, err := old.Propose(b.T.Context(), libqjm.Proposal{Data: []byte("x")})
		require.NoError(b, err)
		heal := b.Cut("a")
		var next *libqjm.Replica
		waited := took(func() { next = qjmtest.AwaitActive(b, others...) })
		require.LessOrEqual(b, waited, 3*time.Second)
		require.Equal(b, libqjm.RoleActive, next.Status().Role)
		done, err := next.Propose(b.T.Context(), libqjm.Proposal{Data: []byte("y")})
		require.NoError(b, err)
		heal()
		qjmtest.AwaitRole(b, old, libqjm.RoleStandby)
		_, err = old.WaitApplied(b.T.Context(), done.TxID)
		require.NoError(b, err)
		require.Equal(b, "x y", state.String())
	})
}

func TestAwaitRole_StoppedFailsAtOnce(t *testing.T) {
	run(t, func(b bed) {
		var sm words
		r := b.replica("a", &sm)
		qjmtest.AwaitRole(b, r, libqjm.RoleActive)
		require.NoError(b, r.Close(b.T.Context()))
		qjmtest.AwaitRole(b, r, libqjm.RoleStopped)
		for _, wait := range []func(t qjmtest.TB){
			func(t qjmtest.TB) { qjmtest.AwaitRole(t, r, libqjm.RoleActive) },
			func(t qjmtest.TB) { qjmtest.AwaitActive(t, r) },
		} {
			require.Zero(b, took(func() { require.ErrorContains(b, qjmtest.Run(wait), "has stopped") }))
		}
	})
}

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		qjmtest.Until(t, time.Second, "three", func() bool { n++; return n == 3 })
		require.Equal(t, 3, n)
		waited := took(func() {
			err := qjmtest.Run(func(t qjmtest.TB) { qjmtest.Until(t, time.Minute, "a miracle", func() bool { return false }) })
			require.ErrorContains(t, err, "a miracle")
		})
		require.GreaterOrEqual(t, waited, time.Minute)
	})
}
