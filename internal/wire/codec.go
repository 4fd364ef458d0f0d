package wire

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/segments"
)

// codec is gRPC's codec for protobuf, and the same bytes on the wire. Only messages of a write stream that
// carry frames are made and read by hand: the generated code would copy each frame into the message of each
// node, and out of it again.
type codec struct{ encoding.CodecV2 }

// messages is the codec of all that this package sends and serves.
var messages = codec{encoding.GetCodecV2(protocodec.Name)}

// outgoing is a message of a write stream that is ready to be sent: a head of its own, then frames as they
// are, each behind its tag and length.
type outgoing struct{ parts mem.BufferSlice }

// incoming is a message of a write stream as it came.
type incoming struct {
	rest   *qjmv1.WriteRequest // all but the batch
	batch  bool
	frames [][]byte
	buf    mem.Buffer // what frames are a part of; freed by whoever is through with them
}

// Field numbers that are written and read by hand; a test compares them with the generated code.
const (
	fieldBatch  = 5 // WriteRequest.batch
	fieldFrames = 1 // Batch.frames
)

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*outgoing); ok {
		return m.parts, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*incoming)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	m.buf = data.MaterializeToBuffer(messageBuffers)
	err := m.parse(m.buf.ReadOnlyData())
	if err != nil || !m.batch {
		m.free()
	}
	return err
}

// encodeBatch joins a message without a body, and frames. Only the head is made anew; the frames' bytes are
// shared, and must not change until they were sent, which is at some time after Send.
func encodeBatch(rest *qjmv1.WriteRequest, frames []segments.Frame) (*outgoing, error) {
	size := 0
	for _, f := range frames {
		size += protowire.SizeTag(fieldFrames) + protowire.SizeBytes(f.Size())
	}
	around := len(frames)*maxTagAndLength + maxTagAndLength
	head, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 0, around+restHint), rest)
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	head = protowire.AppendTag(head, fieldBatch, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(size))
	parts := make(mem.BufferSlice, 0, 2*len(frames))
	for _, f := range frames {
		head = protowire.AppendTag(head, fieldFrames, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(f.Size()))
		parts = append(parts, mem.SliceBuffer(head), mem.SliceBuffer(f.Bytes()))
		head = head[len(head):]
	}
	return &outgoing{parts}, nil
}

const (
	maxTagAndLength = 1 + 5 // of a field with a number below 16, in a message of less than 4 GiB
	restHint        = 128   // about what a message measures beside its frames
)

// parse splits a message into frames and the rest.
func (m *incoming) parse(b []byte) error {
	m.rest = new(qjmv1.WriteRequest)
	var rest []byte // fields before and behind the batch
	whole := b
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("wire: message of a write stream: %w", protowire.ParseError(n))
		}
		v := protowire.ConsumeFieldValue(num, typ, b[n:])
		if v < 0 {
			return fmt.Errorf("wire: message of a write stream: %w", protowire.ParseError(v))
		}
		field := b[:n+v]
		b = b[n+v:]
		if num != fieldBatch || typ != protowire.BytesType {
			rest = append(rest, field...)
			continue
		}
		body, _ := protowire.ConsumeBytes(field[n:])
		m.batch = true
		if err := m.parseBatch(body); err != nil {
			return err
		}
	}
	if !m.batch {
		rest = whole
	}
	if err := proto.Unmarshal(rest, m.rest); err != nil {
		return fmt.Errorf("wire: %w", err)
	}
	return nil
}

func (m *incoming) parseBatch(b []byte) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("wire: batch: %w", protowire.ParseError(n))
		}
		v := protowire.ConsumeFieldValue(num, typ, b[n:])
		if v < 0 {
			return fmt.Errorf("wire: batch: %w", protowire.ParseError(v))
		}
		if num == fieldFrames && typ == protowire.BytesType {
			f, _ := protowire.ConsumeBytes(b[n : n+v])
			m.frames = append(m.frames, f)
		}
		b = b[n+v:]
	}
	return nil
}

func (m *incoming) free() {
	if m.buf != nil {
		m.buf.Free()
		m.buf = nil
	}
}

// request decodes the message. Where it holds frames they are a part of its buffer, which the request's Free
// gives back.
func (m *incoming) request() (rpc.WriteRequest, error) {
	if !m.batch {
		return writeFromProto(m.rest)
	}
	var d decoder
	if m.rest.Body != nil {
		d.fail("message of a write stream has two bodies")
	}
	r, err := writeFromProto(m.rest)
	if err == nil {
		r.Frames = d.frames(m.frames)
		err = d.done()
	}
	if err != nil {
		m.free()
		return rpc.WriteRequest{}, err
	}
	r.Free = m.free
	return r, nil
}
