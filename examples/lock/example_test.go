package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/quorumjournal/qjm/journalnode/local"
	"github.com/quorumjournal/qjm/libqjm"
)

// storage is what a lock protects, and what makes the lock safe: a holder that has slept through its time does not know
// that it is none any more, but the storage has seen the next one's token.
type storage struct {
	newest Token
	data   string
}

func (s *storage) write(t Token, data string) string {
	if t.Less(s.newest) {
		return "refused, the token is old"
	}
	s.newest, s.data = t, data
	return "done"
}

// acquire asks one replica after the other until one gives the lock away: it is active, and the time of the holder
// before is over. To ask again is harmless: the same holder gets the same token.
func acquire(ctx context.Context, replicas []*server, holder string) (Token, *server) {
	for i := 0; ctx.Err() == nil; i++ {
		s := replicas[i%len(replicas)]
		a, err := s.propose(ctx, command{Op: "acquire", Name: "door", Holder: holder, TTL: 1000})
		if err == nil && a.Status == http.StatusOK {
			return a.Lock.Token, s
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	panic(ctx.Err())
}

func must[T any](t T, err error) T {
	if err != nil {
		panic(err)
	}
	return t
}

// Holders sleep through their time, and the active replica is killed: the storage is never written with an old token.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster := must(local.Start(ctx, local.Options{}))
	defer func() { _ = cluster.Stop(ctx) }()
	client := must(libqjm.Dial(ctx, libqjm.Options{Endpoints: cluster.Endpoints()}))
	defer func() { _ = client.Close() }()
	replicas := []*server{must(open(ctx, client, "")), must(open(ctx, client, ""))}
	var disk storage

	alice, _ := acquire(ctx, replicas, "alice")
	fmt.Println("alice has the lock, and writes:", disk.write(alice, "alice was here"))
	fmt.Println("alice sleeps, and her time runs out")
	bob, active := acquire(ctx, replicas, "bob")
	fmt.Println("bob has the lock, and writes:", disk.write(bob, "bob was here"))
	fmt.Println("alice wakes up, and writes:", disk.write(alice, "alice again"))

	killed, kill := context.WithCancel(ctx)
	kill()
	_ = active.replica.Close(killed) // with a context that has ended: nobody is told
	fmt.Println("the active replica is killed")
	carol, _ := acquire(ctx, replicas, "carol")
	fmt.Println("carol has the lock, and writes:", disk.write(carol, "carol was here"))
	fmt.Println("bob writes:", disk.write(bob, "bob again"))
	fmt.Printf("the epoch has risen: %v; the storage has %q\n", carol.Epoch > bob.Epoch, disk.data)

	// Output:
	// alice has the lock, and writes: done
	// alice sleeps, and her time runs out
	// bob has the lock, and writes: done
	// alice wakes up, and writes: refused, the token is old
	// the active replica is killed
	// carol has the lock, and writes: done
	// bob writes: refused, the token is old
	// the epoch has risen: true; the storage has "carol was here"
}
