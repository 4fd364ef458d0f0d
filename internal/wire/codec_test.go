package wire

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/segments"
)

func batchRequest(t testing.TB) rpc.WriteRequest {
	return rpc.WriteRequest{
		Seq: 1 << 40, Floor: floor, Sealed: rpc.Seal{Version: 3, Epoch: 4, Segment: 5},
		Frames: []segments.Frame{frame(t, 11, 0), frame(t, 12, 300), frame(t, 13, 1<<20)},
	}
}

// The hand-made message is what the generated code makes of the schema, so any client and any node can speak.
func TestBatchByHandIsTheSchemas(t *testing.T) {
	r := batchRequest(t)
	want, err := writeToProto(r)
	require.NoError(t, err)
	m, err := writeMessage(r)
	require.NoError(t, err)
	data, err := messages.Marshal(m)
	require.NoError(t, err)
	var got qjmv1.WriteRequest
	require.NoError(t, proto.Unmarshal(data.Materialize(), &got))
	require.True(t, proto.Equal(want, &got))
	for i, f := range r.Frames {
		require.Same(t, &f.Bytes()[0], &data[2*i+1].ReadOnlyData()[0], "frame %d is not copied", i)
	}
	batch := (&qjmv1.WriteRequest{}).ProtoReflect().Descriptor().Fields().ByName("batch")
	require.EqualValues(t, fieldBatch, batch.Number())
	require.EqualValues(t, fieldFrames, batch.Message().Fields().ByName("frames").Number())
}

// And what the generated code makes is read, in whatever pieces it comes.
func TestSchemasBatchIsReadByHand(t *testing.T) {
	r := batchRequest(t)
	p, err := writeToProto(r)
	require.NoError(t, err)
	data, err := proto.Marshal(p)
	require.NoError(t, err)
	for _, pieces := range []mem.BufferSlice{
		{mem.SliceBuffer(data)},
		{mem.SliceBuffer(data[:7]), mem.SliceBuffer(data[7:400]), mem.SliceBuffer(data[400:])},
	} {
		var m incoming
		require.NoError(t, messages.Unmarshal(pieces, &m))
		got, err := m.request()
		require.NoError(t, err)
		require.NotNil(t, got.Free)
		for i, f := range got.Frames {
			require.True(t, bytes.Equal(r.Frames[i].Bytes(), f.Bytes()))
		}
		require.Equal(t, []any{r.Seq, r.Floor, r.Sealed}, []any{got.Seq, got.Floor, got.Sealed})
		got.Free()
	}
}

func TestTwoBodiesAreRefused(t *testing.T) {
	a, err := proto.Marshal(helloToProto(header))
	require.NoError(t, err)
	p, err := writeToProto(batchRequest(t))
	require.NoError(t, err)
	b, err := proto.Marshal(p)
	require.NoError(t, err)
	for _, data := range [][]byte{append(bytes.Clone(a), b...), append(bytes.Clone(b), a...)} {
		var m incoming
		require.NoError(t, messages.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, &m))
		_, err = m.request()
		require.ErrorIs(t, err, rpc.ErrBadRequest)
	}
}

// FuzzWriteMessage: what is read by hand is what the generated code reads, or is refused.
func FuzzWriteMessage(f *testing.F) {
	for _, r := range []rpc.WriteRequest{batchRequest(f), {}, {Start: &prevEnd}, {Seq: 9, Frames: []segments.Frame{frame(f, 1, 9)}}} {
		p, err := writeToProto(r)
		require.NoError(f, err)
		data, err := proto.Marshal(p)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want qjmv1.WriteRequest
		var m incoming
		perr := proto.Unmarshal(data, &want)
		if err := messages.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, &m); err != nil {
			require.Error(t, perr)
			return
		}
		got, err := m.request()
		if err != nil {
			return
		}
		require.NoError(t, perr, "read by hand, and no message of the schema")
		byProto, err := writeFromProto(&want)
		require.NoError(t, err)
		got.Free = nil
		require.Equal(t, byProto, got)
	})
}

// A message's buffer is given back once, however often that is asked for.
func TestFree_Once(t *testing.T) {
	out, err := encodeBatch(&qjmv1.WriteRequest{Seq: 1}, []segments.Frame{frame(t, 1, 5000)})
	require.NoError(t, err)
	var m incoming
	require.NoError(t, messages.Unmarshal(out.parts, &m))
	r, err := m.request()
	require.NoError(t, err)
	r.Free()
	require.NotPanics(t, r.Free)
}

// Frames beside another body: neither of them is passed over in silence.
func TestMessageOfTwoBodiesIsRefused(t *testing.T) {
	rest := &qjmv1.WriteRequest{Body: &qjmv1.WriteRequest_Start{Start: &qjmv1.Start{Prev: endToProto(prevEnd)}}}
	out, err := encodeBatch(rest, []segments.Frame{frame(t, 1, 10)})
	require.NoError(t, err)
	var m incoming
	require.NoError(t, messages.Unmarshal(out.parts, &m))
	_, err = m.request()
	require.Error(t, err)
}
