package libqjm_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/libqjm"
)

// counter is the smallest state machine: a number. Its proposals are decimal numbers that are added.
type counter struct {
	mu sync.Mutex // Apply runs in the replica's goroutine, Value in those of the program
	n  int64
}

// Apply returns the sum after each proposal.
func (c *counter) Apply(batch []libqjm.Entry) (results [][]byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range batch {
		// Who proposes has checked it. What is committed has to be applied by all alike, so an error here is a bug.
		d, err := strconv.ParseInt(string(e.Data), 10, 64)
		if err != nil {
			return nil, err
		}
		c.n += d
		results = append(results, strconv.AppendInt(nil, c.n, 10))
	}
	return results, nil
}

// SaveSnapshot captures the state now; what it returns writes it later, while more is applied.
func (c *counter) SaveSnapshot() (func(io.Writer) error, error) {
	n := c.Value()
	return func(w io.Writer) error { return binary.Write(w, binary.LittleEndian, n) }, nil
}

func (c *counter) LoadSnapshot(r io.Reader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return binary.Read(r, binary.LittleEndian, &c.n)
}

func (c *counter) Value() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// A counter in two replicas: both have the same state, and when the active dies the other one goes on.
func Example_replica() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("counter") // each process has one; here both replicas share it

	open := func(name string, c *counter) *libqjm.Replica {
		r, err := client.OpenReplica("counter", c, libqjm.ReplicaOptions{Name: name, Addr: name + ":80", LeaseTTL: time.Second})
		if err != nil {
			panic(err)
		}
		return r
	}
	var here, there counter
	a := open("a", &here)
	if err := a.AwaitRole(ctx, libqjm.RoleActive); err != nil {
		fmt.Println(err)
		return
	}
	b := open("b", &there)
	for range 3 {
		done, err := a.Propose(ctx, libqjm.Proposal{Data: []byte("2")}) // committed, and applied here
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("txid %d: %s\n", done.TxID, done.Result)
	}

	dead, kill := context.WithCancel(ctx)
	kill()
	_ = a.Close(dead) // like a process that is killed: nobody is told
	if err := b.AwaitRole(ctx, libqjm.RoleActive); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("b is active, and has", there.Value())
	if err := b.Close(ctx); err != nil { // drains
		fmt.Println(err)
	}
	// Output:
	// txid 1: 2
	// txid 2: 4
	// txid 3: 6
	// b is active, and has 6
}

// oneCounter is a replica that is active.
func oneCounter(ctx context.Context, client *libqjm.Client, name string) (*libqjm.Replica, *counter) {
	c := new(counter)
	r, err := client.OpenReplica("counter", c, libqjm.ReplicaOptions{Name: name, Addr: name + ":80", LeaseTTL: time.Second})
	if err == nil {
		err = r.AwaitRole(ctx, libqjm.RoleActive, libqjm.RoleStandby)
	}
	if err != nil {
		panic(err)
	}
	return r, c
}

// A standby says where the active is; an HTTP service answers 307 with that address.
func ExampleRedirectTo() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("counter")
	a, _ := oneCounter(ctx, client, "a")
	defer a.Close(ctx)
	if err := a.AwaitRole(ctx, libqjm.RoleActive); err != nil {
		fmt.Println(err)
		return
	}
	b, _ := oneCounter(ctx, client, "b")
	defer b.Close(ctx)

	_, err := b.Propose(ctx, libqjm.Proposal{Data: []byte("1")})
	if addr, ok := libqjm.RedirectTo(err); ok {
		fmt.Println("ask", addr)
	}
	fmt.Println("may it be applied nonetheless?", libqjm.MayHaveCommitted(err))
	// Output:
	// ask a:80
	// may it be applied nonetheless? false
}

// Many proposals can be under way. They are applied in the order of the calls, and share frames and syncs.
func ExampleReplica_ProposeAsync() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	r, c := oneCounter(ctx, cluster.client("counter"), "a")
	defer r.Close(ctx)
	if err := r.AwaitRole(ctx, libqjm.RoleActive); err != nil {
		fmt.Println(err)
		return
	}
	var last *libqjm.Pending
	for range 1000 {
		p, err := r.ProposeAsync(ctx, libqjm.Proposal{Data: []byte("1")})
		if err != nil {
			fmt.Println(err)
			return
		}
		last = p
	}
	done, err := last.Wait(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, and %d\n", done.Result, c.Value())
	// Output: 1000, and 1000
}

// Who read something while this replica was active, and proposes what follows from it, names the epoch: another active in
// between is noticed, also if this one is active again by now.
func ExampleProposal_epoch() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	r, c := oneCounter(ctx, cluster.client("counter"), "a")
	defer r.Close(ctx)
	if err := r.AwaitRole(ctx, libqjm.RoleActive); err != nil {
		fmt.Println(err)
		return
	}
	epoch := r.Status().Epoch
	seen := c.Value()
	done, err := r.Propose(ctx, libqjm.Proposal{Data: strconv.AppendInt(nil, seen+10, 10), Epoch: epoch})
	fmt.Printf("%s %v\n", done.Result, err)
	_, err = r.Propose(ctx, libqjm.Proposal{Data: []byte("1"), Epoch: epoch + 1})
	fmt.Println(err)
	// Output:
	// 10 <nil>
	// libqjm: replica is active in another epoch (got 1, want 2)
}

// The program reads its own state; before it, it says how fresh that has to be.
func ExampleReplica_AwaitLinearizable() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("counter")
	a, _ := oneCounter(ctx, client, "a")
	defer a.Close(ctx)
	if err := a.AwaitRole(ctx, libqjm.RoleActive); err != nil {
		fmt.Println(err)
		return
	}
	b, there := oneCounter(ctx, client, "b") // a standby
	defer b.Close(ctx)
	done, err := a.Propose(ctx, libqjm.Proposal{Data: []byte("7")})
	if err != nil {
		fmt.Println(err)
		return
	}

	_, err = b.AwaitLinearizable(ctx) // all that anybody was told of; asks a majority of nodes
	fmt.Println(there.Value(), err)
	_, err = b.WaitApplied(ctx, done.TxID) // what this client wrote; asks nobody
	fmt.Println(there.Value(), err)
	_, err = b.AwaitFresh(ctx, 10*time.Second) // all but the last ten seconds; mostly asks nobody
	fmt.Println(there.Value(), err)
	_, err = a.AwaitLease(ctx) // the active's own word, by its clock; asks nobody
	fmt.Println(err)
	// Output:
	// 7 <nil>
	// 7 <nil>
	// 7 <nil>
	// <nil>
}

// A client that retries uses a session: whatever happens to the answers, each proposal takes effect once.
func ExampleSession() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	r, c := oneCounter(ctx, cluster.client("counter"), "a")
	defer r.Close(ctx)
	if err := r.AwaitRole(ctx, libqjm.RoleActive); err != nil {
		fmt.Println(err)
		return
	}
	s := libqjm.NewSession()
	if err := r.OpenSession(ctx, s.ID(), time.Hour); err != nil {
		fmt.Println(err)
		return
	}
	ref, err := s.Begin()
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 { // as if the first two answers had been lost
		done, err := r.Propose(ctx, libqjm.Proposal{Data: []byte("5"), Session: &ref})
		fmt.Printf("%s %v\n", done.Result, err)
	}
	s.End(ref)
	fmt.Println("the counter has", c.Value())
	// Output:
	// 5 <nil>
	// 5 <nil>
	// 5 <nil>
	// the counter has 5
}

// Transfer hands over to a replica by its name, in some milliseconds: for upgrades, and for moving the active.
func ExampleReplica_Transfer() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("counter")
	a, _ := oneCounter(ctx, client, "a")
	defer a.Close(ctx)
	if err := a.AwaitRole(ctx, libqjm.RoleActive); err != nil {
		fmt.Println(err)
		return
	}
	b, _ := oneCounter(ctx, client, "b")
	defer b.Close(ctx)
	if err := a.Transfer(ctx, "b"); err != nil {
		fmt.Println(err)
		return
	}
	if err := b.AwaitRole(ctx, libqjm.RoleActive); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("b is", b.Status().Role)
	// Output: b is active
}

// A client of the service, in a process without a replica, asks who is active, and asks again when that one is not.
func ExampleClient_Routes() {
	ctx, cluster := startCluster()
	defer cluster.stop()
	client := cluster.client("counter")
	a, _ := oneCounter(ctx, client, "a")
	if err := a.AwaitRole(ctx, libqjm.RoleActive); err != nil {
		fmt.Println(err)
		return
	}
	b, _ := oneCounter(ctx, client, "b")
	defer b.Close(ctx)

	routes := client.Routes()
	defer routes.Close()
	first, err := routes.Active(ctx, "counter")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ask", first.Addr)
	if err := a.Close(ctx); err != nil {
		fmt.Println(err)
		return
	}
	next, err := routes.Instead(ctx, "counter", first) // first did not answer
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ask", next.Addr)
	// Output:
	// ask a:80
	// ask b:80
}
