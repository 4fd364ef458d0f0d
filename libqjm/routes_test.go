package libqjm_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

func TestRoutes(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		routes := b.process("client").Routes()
		_, err := routes.Active(b.within(time.Second), "j")
		require.ErrorIs(b, err, context.DeadlineExceeded, "nobody is active")
		_, err = routes.Active(b.ctx, "none")
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		require.NoError(b, b.cl.CreateJournal(b.ctx, "none"))
		_, err = routes.Active(b.within(time.Second), "none")
		require.ErrorIs(b, err, context.DeadlineExceeded, "it is asked anew")

		p, q := b.replica("p"), b.replica("q")
		first, err := routes.Active(b.ctx, "j")
		require.NoError(b, err)
		lead, other := p, q
		if first.Name == "q" {
			lead, other = q, p
		}
		require.Equal(b, lead.name+":1", first.Addr)
		b.becomes(lead, libqjm.RoleActive)
		b.becomes(other, libqjm.RoleStandby)
		_, err = routes.Instead(b.within(time.Second), "j", first)
		require.ErrorIs(b, err, context.DeadlineExceeded)
		require.NoError(b, lead.Transfer(b.ctx, other.name))
		next, err := routes.Instead(b.ctx, "j", first)
		require.NoError(b, err)
		require.Equal(b, other.name, next.Name)
		b.closes(p, q)
		routes.Close()
		_, err = routes.Active(b.ctx, "another")
		require.ErrorIs(b, err, libqjm.ErrClosed)
	})
}
