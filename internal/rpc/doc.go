// Package rpc is the data-plane service as Go values: requests, replies and the two interfaces that
// both sides program against. Service is what a JournalNode serves; Node is the same thing seen from
// the other end of a connection. internal/wire carries them over gRPC; tests and the simulation carry
// them in memory.
package rpc
