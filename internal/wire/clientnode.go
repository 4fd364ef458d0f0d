package wire

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// node is a JournalNode at the far end of a connection.
type node struct {
	addr string
	conn *grpc.ClientConn
	c    qjmv1.DataPlaneClient
	cc   qjmv1.ControlPlaneClient
}

var _ rpc.Node = (*node)(nil)

// Close closes the connection. Calls under way fail with rpc.ErrUnavailable.
func (n *node) Close() error { return n.conn.Close() }

// fail turns the error of a call into the service's.
func (n *node) fail(err error) error { return fromStatus(n.addr, err) }

// reply decodes what a call returned.
func reply[P, T any](n *node, p P, err error, decode func(P) (T, error)) (T, error) {
	if err != nil {
		var none T
		return none, n.fail(err)
	}
	v, err := decode(p)
	if err != nil {
		var none T
		return none, n.malformed(err)
	}
	return v, nil
}

// malformed keeps the text only: the decoder's class is about requests.
func (n *node) malformed(err error) error {
	return fmt.Errorf("%w of %s: %v", ErrMalformedReply, n.addr, err)
}

func (n *node) Info(ctx context.Context) (rpc.NodeInfo, error) {
	p, err := n.c.GetInfo(ctx, &qjmv1.GetInfoRequest{})
	return reply(n, p, err, infoFromProto)
}

func (n *node) Journals(ctx context.Context) ([]rpc.JournalSummary, error) {
	p, err := n.c.ListJournals(ctx, &qjmv1.ListJournalsRequest{})
	return reply(n, p, err, journalsFromProto)
}

func (n *node) InstallConfig(ctx context.Context, j rpc.JournalSummary) error {
	_, err := n.c.InstallConfig(ctx, &qjmv1.InstallConfigRequest{Journal: journalToProto(j)})
	return n.fail(err)
}

func (n *node) LeaveJournal(ctx context.Context, j rpc.JournalSummary) error {
	_, err := n.c.LeaveJournal(ctx, &qjmv1.LeaveJournalRequest{Journal: journalToProto(j)})
	return n.fail(err)
}

func (n *node) AskWriter(ctx context.Context, req rpc.AskWriterRequest) (rpc.WriterAnswer, error) {
	p, err := n.c.AskWriter(ctx, askWriterToProto(req))
	return reply(n, p, err, writerAnswerFromProto)
}

func (n *node) State(ctx context.Context, id segments.JournalID) (rpc.JournalState, error) {
	p, err := n.c.GetState(ctx, &qjmv1.GetStateRequest{JournalId: id[:]})
	return reply(n, p, err, stateFromProto)
}

func (n *node) NewEpoch(ctx context.Context, h rpc.Header) (rpc.PromiseReply, error) {
	p, err := n.c.NewEpoch(ctx, &qjmv1.NewEpochRequest{Header: headerToProto(h)})
	return reply(n, p, err, promiseFromProto)
}

func (n *node) Prepare(ctx context.Context, h rpc.Header, s segments.TxID, digests []segments.TxID) (recovery.Answer, error) {
	p, err := n.c.Prepare(ctx, prepareToProto(prepareRequest{Header: h, Segment: s, Digests: digests}))
	return reply(n, p, err, answerFromProto)
}

func (n *node) Finalize(ctx context.Context, h rpc.Header, end segments.End) error {
	_, err := n.c.Finalize(ctx, finalizeToProto(finalizeRequest{Header: h, End: end}))
	return n.fail(err)
}

func (n *node) Segments(ctx context.Context, req rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
	p, err := n.c.ListSegments(ctx, segmentsRequestToProto(req))
	return reply(n, p, err, segmentsFromProto)
}

// Accept sends the request and, where relay is not nil, every chunk of it. relay stays the caller's to
// close. Its error ends the call: the node is not left to take a part for the whole.
func (n *node) Accept(ctx context.Context, h rpc.Header, req recovery.AcceptRequest, relay rpc.ChunkStream) error {
	if req.Claim != h.Claim {
		return fmt.Errorf("%w: accept of another claim than the header's (got %s, want %s)", rpc.ErrBadRequest, req.Claim, h.Claim)
	}
	ctx, cancel := context.WithCancel(ctx) // ends the stream on every way out
	defer cancel()
	s, err := n.c.Accept(ctx)
	if err != nil {
		return n.fail(err)
	}
	begin := acceptToProto(acceptRequest{Header: h, Accept: req, Relayed: relay != nil})
	err = s.Send(&qjmv1.AcceptRequest{Body: &qjmv1.AcceptRequest_Begin{Begin: begin}})
	for err == nil && relay != nil {
		c, relayErr := relay.Recv()
		if errors.Is(relayErr, io.EOF) {
			break
		}
		if relayErr != nil {
			return fmt.Errorf("wire: relay frames to %s: %w", n.addr, relayErr)
		}
		err = s.Send(&qjmv1.AcceptRequest{Body: &qjmv1.AcceptRequest_Relay{Relay: chunkToProto(c)}})
	}
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the node has answered already, see below
		return n.fail(err)
	}
	_, err = s.CloseAndRecv()
	return n.fail(err)
}
