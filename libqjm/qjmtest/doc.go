// Package qjmtest runs a cluster inside the tests of programs that embed libqjm, and lets it fail on command: nodes
// crash or lose their disks, processes die or are cut off, messages come late. By default all of it is in memory: it needs
// no port and no file, and runs inside of a testing/synctest bubble, where time is fake. A failover by an expired
// lease then takes milliseconds, and goes alike on a fast machine and a slow one.
//
// This tests that a state machine comes through a failover:
//
//	func TestFailover(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			c := qjmtest.Start(t, qjmtest.Options{Journals: []string{"words"}}) // three nodes
//			open := func(process string, sm libqjm.StateMachine) *libqjm.Replica {
//				r, err := c.Client(process).OpenReplica("words", sm, libqjm.ReplicaOptions{Name: process})
//				if err != nil {
//					t.Fatal(err)
//				}
//				return r
//			}
//			var old, next words
//			a, b := open("app-1", &old), open("app-2", &next)
//			active, standby := a, b
//			if qjmtest.AwaitActive(t, a, b) == b {
//				active, standby = b, a
//			}
//			if _, err := active.Propose(t.Context(), libqjm.Proposal{Data: []byte("hello")}); err != nil {
//				t.Fatal(err)
//			}
//			c.KillProcess(active.Status().Name)
//			qjmtest.AwaitRole(t, standby, libqjm.RoleActive) // when the lease has expired: 10 s of fake time
//			...
//		})
//	}
package qjmtest
