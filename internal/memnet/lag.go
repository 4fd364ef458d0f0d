package memnet

import "time"

// everyone, as the name of an endpoint in Cut, Delay and Stall, stands for all that there are and will be.
const everyone = ""

// way is a direction.
type way [2]string

// rules are the ways under which a fault of the way from one endpoint to another may stand.
func rules(from, to string) [3]way { return [3]way{{from, to}, {from, everyone}, {everyone, to}} }

// Delay has everything that goes from one endpoint to the other arrive so much later; 0 ends it. Messages do not wait
// for one another: it is a long way, not a narrow one (but raft's streams have one message on the way at a time). Where
// several delays cover a way, they add up.
func (n *Network) Delay(from, to string, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if d <= 0 {
		delete(n.delays, way{from, to})
		return
	}
	n.delays[way{from, to}] = d
}

// Stall holds back everything that goes from one endpoint to the other, until Resume. Nothing is lost, unless one who
// waits gives up, and no connection breaks.
func (n *Network) Stall(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stalls[way{from, to}] == nil {
		n.stalls[way{from, to}] = make(chan struct{})
	}
}

// Resume ends a Stall.
func (n *Network) Resume(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if over := n.stalls[way{from, to}]; over != nil {
		close(over)
		delete(n.stalls, way{from, to})
	}
}

// due is when a message that is sent now arrives; zero is at once.
func (n *Network) due(from, to string) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	var d time.Duration
	if len(n.delays) > 0 {
		for _, r := range rules(from, to) {
			d += n.delays[r]
		}
	}
	if d == 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// arrive waits until a message that is due then arrives. It is false where the one who waits, or the connection, was
// gone first.
func (n *Network) arrive(due time.Time, from, to string, gone, closed <-chan struct{}) bool {
	if left := time.Until(due); !due.IsZero() && left > 0 {
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-gone:
			return false
		case <-closed:
			return false
		}
	}
	for {
		over := n.stalled(from, to)
		if over == nil {
			return true
		}
		select {
		case <-over:
		case <-gone:
			return false
		case <-closed:
			return false
		}
	}
}

// stalled returns what is closed when a Stall of the way is over; nil: there is none.
func (n *Network) stalled(from, to string) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.stalls) == 0 {
		return nil
	}
	for _, r := range rules(from, to) {
		if over := n.stalls[r]; over != nil {
			return over
		}
	}
	return nil
}

// sent is a message on its way.
type sent[T any] struct {
	msg T
	due time.Time
}
