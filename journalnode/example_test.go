package journalnode_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
	"github.com/quorumjournal/qjm/libqjm"
)

// A cluster of one node in this process. It founds itself, and is ready at once; it tolerates no failure, of course.
func ExampleStart() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "qjm-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	addr := freeAddr()

	node, err := journalnode.Start(ctx, journalnode.Options{
		ID: "n1", DataDir: dir, Listen: addr,
		InitialCluster: []journalnode.Peer{{ID: "n1", Addr: addr}},
		ReserveBytes:   -1, // no room is kept for the day when the disk is full: do not copy this
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: []string{node.Addr()}}) // returns when it is founded
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ready:", node.Ready() == nil)

	_, err = journalnode.Start(ctx, journalnode.Options{
		ID: "n1", DataDir: dir, Listen: addr, InitialCluster: []journalnode.Peer{{ID: "n1", Addr: addr}},
	})
	fmt.Println("and once more:", errors.Is(err, journalnode.ErrLocked))

	if err := errors.Join(client.Close(), node.Stop(ctx)); err != nil {
		fmt.Println(err)
	}
	// Output:
	// ready: true
	// and once more: true
}

// Three nodes found a cluster. Here they share a process; in life each has a machine of its own, and the same
// InitialCluster. They may be started in any order, and wait for each other in the background.
func ExampleStart_three() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "qjm-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	var founders []journalnode.Peer
	var endpoints []string
	for _, id := range []journalnode.NodeID{"n1", "n2", "n3"} {
		founders = append(founders, journalnode.Peer{ID: id, Addr: freeAddr()})
		endpoints = append(endpoints, founders[len(founders)-1].Addr)
	}
	for _, p := range founders {
		node, err := journalnode.Start(ctx, journalnode.Options{
			ID: p.ID, DataDir: filepath.Join(dir, string(p.ID)), Listen: p.Addr, InitialCluster: founders,
			ReserveBytes: -1, // as above
			// An example should not wait for a leader as long as a cluster on slow disks should.
			Raft: raftgroup.Options{Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, LeaderLease: 200 * time.Millisecond},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer func() {
			if err := node.Stop(ctx); err != nil {
				fmt.Println(err)
			}
		}()
	}

	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: endpoints})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	if err := client.CreateJournal(ctx, "orders"); err != nil { // waits for the catalog's first leader
		fmt.Println(err)
		return
	}
	w, err := client.OpenWriter(ctx, "orders", libqjm.WriterOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close(ctx)
	txid, err := w.Append(ctx, []byte("pay 5 to Ann"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("committed as", txid)
	// Output:
	// committed as 1
}

// freeAddr returns an address that nobody listens on. In life it is in a configuration file.
func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return ""
	}
	defer l.Close()
	return l.Addr().String()
}
