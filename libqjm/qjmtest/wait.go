package qjmtest

import (
	"fmt"
	"time"

	"github.com/quorumjournal/qjm/libqjm"
)

// tick is how often what is waited for is looked at again.
const tick = 5 * time.Millisecond

// Until waits until cond holds, looking again every few milliseconds, and fails the test where it does not in the given
// time. In a bubble that is fake time: it costs nothing, and does not depend on how fast the machine is. what says in the
// failure what was waited for.
func Until(t TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !cond() {
		if time.Until(deadline) <= 0 {
			t.Fatalf("qjmtest: in vain waited for: %s, for %s", what, within)
		}
		pause()
	}
}

func pause() { <-time.After(tick) }

// AwaitRole waits until a replica has a role, for Patience, and fails the test where it does not get it. One that has
// stopped fails the test at once, unless that is waited for.
func AwaitRole(t TB, r *libqjm.Replica, role libqjm.Role) {
	t.Helper()
	Until(t, Patience, fmt.Sprintf("replica %s is %v", r.Status().Name, role), func() bool {
		return hasRole(t, r, role)
	})
}

// AwaitActive waits until one of the replicas is active, for Patience, and returns it. One that has stopped fails the
// test.
//
// A replica that was cut off goes on being active, as far as it knows, until its writer hears that it was fenced: after a
// fault, name those that are expected to take over.
func AwaitActive(t TB, rs ...*libqjm.Replica) (active *libqjm.Replica) {
	t.Helper()
	Until(t, Patience, fmt.Sprintf("one of %d replicas is active", len(rs)), func() bool {
		for _, r := range rs {
			if hasRole(t, r, libqjm.RoleActive) {
				active = r
				return true
			}
		}
		return false
	})
	return active
}

func hasRole(t TB, r *libqjm.Replica, role libqjm.Role) bool {
	t.Helper()
	st := r.Status()
	if st.Role == libqjm.RoleStopped && role != libqjm.RoleStopped {
		t.Fatalf("qjmtest: replica %s has stopped, and will not be %v: %v", st.Name, role, st.Err)
	}
	return st.Role == role
}
