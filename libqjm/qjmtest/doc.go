// Package qjmtest runs a cluster inside the tests of programs that embed libqjm, and lets it fail on command: nodes
// crash or lose their disks, processes die or are cut off, messages come late. By default all of it is in memory: it
// needs no port and no file, and runs inside of a testing/synctest bubble, where time is fake. A failover after an
// expired lease then takes milliseconds, and does not depend on how fast the machine is.
//
// This is a whole test: a state machine, words, comes through a failover.
//
//	func TestFailover(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			c := qjmtest.Start(t, qjmtest.Options{Journals: []string{"words"}})
//			open := func(process string, sm libqjm.StateMachine) *libqjm.Replica {
//				r, err := c.Client(process).OpenReplica("words", sm, libqjm.ReplicaOptions{Name: process})
//				if err != nil {
//					t.Fatal(err)
//				}
//				return r
//			}
//			active := open("app-1", &words{})
//			qjmtest.AwaitRole(t, active, libqjm.RoleActive)
//			var state words
//			standby := open("app-2", &state)
//
//			if _, err := active.Propose(t.Context(), libqjm.Proposal{Data: []byte("hello")}); err != nil {
//				t.Fatal(err)
//			}
//			c.KillProcess("app-1")
//			qjmtest.AwaitRole(t, standby, libqjm.RoleActive) // some 3 s later, when the lease has expired: fake ones
//			if got := state.String(); got != "hello" {
//				t.Fatalf("the new active has %q: what was acknowledged is lost", got)
//			}
//		})
//	}
//
// What to know about bubbles: Start is called inside, and all that the test starts has to end before it does, as in any
// bubble; the cluster, its clients and their replicas are ended by the test's cleanup. Time moves on only while
// everybody waits. A goroutine that proposes in a loop never waits for the clock, since a cluster in memory answers in
// no time: let it wait for a timer once in a while, or use Delay.
//
// Without a bubble the same test runs in real time, and takes as long as its leases. An example, which has no testing.T,
// uses Run. Options.Loopback is for tests that start processes of their own.
//
// The faults:
//
//	StopNode, StartNode      an operator stops a node, and starts it
//	KillNode, CrashNode      kill -9; the power fails, and what was not synced is gone
//	WipeNode                 an empty disk in place of the old one
//	FillDisk, FreeDisk       no room, and room again
//	Cut, CutBetween          messages are lost: to and from one, between two
//	CutOneWay                from one to the other, and not back
//	Delay, DelayBetween      messages come later
//	Stall                    messages wait: a process that was stopped, a machine that hangs
//	KillProcess              a process dies
//	HealAll                  what was cut, delayed or stalled is so no longer
//
// A majority of a journal's nodes has to run and be reached, else its appends wait. That is no failure of the test: it
// is what a program should be tested for.
package qjmtest
