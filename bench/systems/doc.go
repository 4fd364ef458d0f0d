// Package systems holds what the harness compares: qjm, four rivals, and two floors. Each is a cluster of
// three and its client in this process, over loopback, on one file system, where an append returns when two
// of three have synced it.
//
//	spec, ok := systems.Find("nats")
//
// How each is set up, and why, stands where it is started. The rule: durable as documented, otherwise what its
// own documents and the products built on it do for throughput. What remains unequal is in docs/benchmarks.md.
package systems
