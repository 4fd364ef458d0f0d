// Package wire carries the data plane over gRPC: the Go values of package rpc as messages of qjm.v1, and
// the typed errors of fencing, recovery, segments, vfs and rpc as status details, so that a caller at
// the far end of a connection sees what a caller in the same process would see.
//
//	srv := grpc.NewServer(wire.ServerOptions(log)...)
//	wire.Register(srv, node)                       // node is an rpc.Service
//
//	peer, err := wire.Dialer{}.Dial("10.0.0.2:7070") // peer is an rpc.Node
//	info, err := peer.Info(ctx)
//
// What holds here:
//
//   - Decoders check form (lengths, counts, names, enums, whole frames), never meaning: that is the
//     service's business, so that it is the same whatever carries the request. A malformed request is
//     of class rpc.ErrBadRequest. A malformed *reply* is ErrMalformedReply, which is none of the
//     service's errors: the outcome is unknown.
//   - An error that comes without a reason of ours tells nothing about the outcome. Broken connections,
//     deadlines and cancellations are of class rpc.ErrUnavailable.
//   - Frames are not copied beyond what protobuf forces: outgoing messages share the frames' bytes (one
//     copy, into the transport's buffer), incoming frames share the message's (one copy, out of the
//     transport's). A codec that unmarshals with aliasing (protoiface.UnmarshalAliasBuffer over a
//     buffer that is not pooled) would save the second; it has not been needed so far.
package wire
