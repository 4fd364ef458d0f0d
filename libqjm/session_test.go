package libqjm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

func TestSession_NumbersAndAwaits(t *testing.T) {
	s := libqjm.NewSession()
	require.NotEqual(t, s.ID(), libqjm.NewSession().ID())
	id, err := libqjm.ParseSessionID(s.ID().String())
	require.NoError(t, err)
	require.Equal(t, s.ID(), id)
	for _, bad := range []string{"", "00", s.ID().String() + "00", s.ID().String()[1:] + "x"} {
		_, err := libqjm.ParseSessionID(bad)
		require.ErrorIs(t, err, libqjm.ErrBadRequest, bad)
	}

	var refs []libqjm.SessionRef
	for i := range uint64(3) {
		ref, err := s.Begin()
		require.NoError(t, err)
		require.Equal(t, libqjm.SessionRef{ID: id, Seq: i + 1, Awaited: 1}, ref)
		refs = append(refs, ref)
	}
	s.End(refs[1])
	s.End(refs[1])
	ref, err := s.Begin()
	require.NoError(t, err)
	require.Equal(t, libqjm.SessionRef{ID: id, Seq: 4, Awaited: 1}, ref, "the first one is awaited yet")
	s.End(refs[0])
	ref, err = s.Begin()
	require.NoError(t, err)
	require.Equal(t, libqjm.SessionRef{ID: id, Seq: 5, Awaited: 3}, ref)
	for range libqjm.SessionWindow - 3 {
		_, err = s.Begin()
		require.NoError(t, err)
	}
	_, err = s.Begin()
	require.ErrorIs(t, err, libqjm.ErrSessionWindow)
	s.End(refs[2])
	ref, err = s.Begin()
	require.NoError(t, err)
	require.Equal(t, uint64(4), ref.Awaited)
}

// TestSession_FillsTheWindow: what Begin gives out, the replicas take.
func TestSession_FillsTheWindow(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		p := b.replica("p")
		b.becomes(p, libqjm.RoleActive)
		s := libqjm.NewSession()
		_, err := p.Propose(b.ctx, libqjm.Proposal{Session: &libqjm.SessionRef{ID: s.ID(), Seq: 1, Awaited: 1}})
		require.ErrorIs(b, err, libqjm.ErrSession)
		require.NoError(b, p.OpenSession(b.ctx, s.ID(), time.Hour))
		for {
			ref, err := s.Begin()
			if err != nil {
				require.ErrorIs(b, err, libqjm.ErrSessionWindow)
				break
			}
			for range 2 { // and a retry
				got, err := p.Propose(b.ctx, libqjm.Proposal{Data: []byte("x"), Session: &ref})
				require.NoError(b, err)
				require.NotEmpty(b, got.Result)
			}
		}
		require.Len(b, p.sm.list(), libqjm.SessionWindow)
		for _, bad := range []libqjm.SessionRef{{ID: s.ID()}, {ID: s.ID(), Seq: 1, Awaited: 2}, {ID: s.ID(), Seq: 1}} {
			_, err := p.Propose(b.ctx, libqjm.Proposal{Session: &bad})
			require.ErrorIs(b, err, libqjm.ErrBadRequest)
		}
		for _, ttl := range []time.Duration{0, libqjm.MinSessionTTL - 1, libqjm.MaxSessionTTL + 1} {
			require.ErrorIs(b, p.OpenSession(b.ctx, s.ID(), ttl), libqjm.ErrBadRequest)
		}
		require.NoError(b, p.CloseSession(b.ctx, s.ID()))
		_, err = p.Propose(b.ctx, libqjm.Proposal{Session: &libqjm.SessionRef{ID: s.ID(), Seq: 100, Awaited: 100}})
		require.ErrorIs(b, err, libqjm.ErrSession)
		b.closes(p)
	})
}
