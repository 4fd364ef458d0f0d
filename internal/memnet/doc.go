// Package memnet is a network in memory for tests: it carries rpc.Service values to rpc.Node callers
// without sockets, and loses what it is told to lose.
//
//	net := memnet.New()
//	net.Serve("n1", node)                    // node is an rpc.Service
//	n, _ := net.Dialer("client").Dial("n1")  // an rpc.Node
//	net.Fault(func(c memnet.Call) memnet.Verdict { ... })
//
// Unary calls run in a goroutine of the called side; Write, ReadSegment and Tail go through channels
// with bounded buffers, so that a side that does not read holds the other one back. Values are passed
// by reference: frames and configs are not changed by anybody. It uses channels only and holds no lock
// while it waits, so it works in a testing/synctest bubble.
//
// What it promises, cited by its tests:
//
//	Y1 A call that is dropped has no effect; one whose reply is lost has all of it.
//	Y2 A message lost on a stream breaks the stream there: what was sent before arrives, nothing after
//	   it does, and both ends notice.
//	Y3 The handler's context ends when the handler returned, the caller left or either side went down;
//	   not before. (A handler that waits for its own Recv to end before it returns waits for the
//	   caller, as with gRPC.)
//	Y4 After Down returned, nothing that the endpoint did later reaches anybody.
//	Y5 What a Delay or a Stall holds back arrives in the order in which it was sent, and nothing of it is lost, but
//	   where somebody who waits for it gives up, or a side goes down.
package memnet
