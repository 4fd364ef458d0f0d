package qjmtest_test

import (
	"fmt"
	"time"

	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/libqjm/qjmtest"
)

// A cluster for a moment. In a test, give Start the *testing.T.
func Example() {
	err := qjmtest.Run(func(t qjmtest.TB) {
		c := qjmtest.Start(t, qjmtest.Options{Journals: []string{"orders"}})
		w, err := c.Client("shop").OpenWriter(t.Context(), "orders", libqjm.WriterOptions{})
		if err != nil {
			t.Fatalf("%v", err)
		}
		c.CrashNode(0) // two of three are a majority
		txid, err := w.Append(t.Context(), []byte("pay 5 to Ann"))
		if err != nil {
			t.Fatalf("%v", err)
		}
		fmt.Println("committed as", txid)
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// committed as 1
}

// A writer that is cut off is not told that it was replaced, and its next append does not succeed.
func ExampleCluster_Cut() {
	err := qjmtest.Run(func(t qjmtest.TB) {
		c := qjmtest.Start(t, qjmtest.Options{Journals: []string{"orders"}})
		open := func(process string) *libqjm.Writer {
			w, err := c.Client(process).OpenWriter(t.Context(), "orders", libqjm.WriterOptions{})
			if err != nil {
				t.Fatalf("%v", err)
			}
			return w
		}
		old := open("shop-1")
		heal := c.Cut("shop-1")
		open("shop-2")
		fmt.Println("as far as the old one knows:", old.Err())
		heal()
		qjmtest.Until(t, time.Minute, "the old one hears of it", func() bool { return old.Err() != nil })
		fmt.Println("and then it is fenced")
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// as far as the old one knows: <nil>
	// and then it is fenced
}

// A replica on a slow network, and what AwaitRole is for.
func ExampleAwaitRole() {
	err := qjmtest.Run(func(t qjmtest.TB) {
		c := qjmtest.Start(t, qjmtest.Options{Journals: []string{"words"}})
		cl := c.Client("app-1")
		c.Delay("app-1", time.Millisecond)
		r, err := cl.OpenReplica("words", &words{}, libqjm.ReplicaOptions{Name: "app-1"})
		if err != nil {
			t.Fatalf("%v", err)
		}
		qjmtest.AwaitRole(t, r, libqjm.RoleActive)
		done, err := r.Propose(t.Context(), libqjm.Proposal{Data: []byte("hello")})
		if err != nil {
			t.Fatalf("%v", err)
		}
		fmt.Println("applied as", done.TxID)
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// applied as 1
}
