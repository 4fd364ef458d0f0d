package libqjm

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
)

// TestReplica_RefusalsOfAnEndedWriter: a proposal that came when the reign was just over was not appended, and is told
// to go to the active; one that may be appended is in doubt, and goes nowhere.
func TestReplica_RefusalsOfAnEndedWriter(t *testing.T) {
	r := &Replica{role: RoleActive, opts: ReplicaOptions{Name: "p"}, active: LeaseInfo{Holder: "q", Addr: "q:1"}}
	want := &NotActiveError{Role: RoleDraining, Active: "q", Addr: "q:1"}
	fenced := &fencing.FencedError{}
	require.Equal(t, want, r.redirected(ErrClosed))
	require.Equal(t, want, r.redirected(&AppendError{Err: fmt.Errorf("libqjm: %w", ErrClosed)}))
	require.Equal(t, want, r.redirected(&AppendError{Err: fenced}))
	for _, err := range []error{nil, &AppendError{Handed: true, Err: fenced}, &AppendError{Handed: true, Err: ErrClosed}, ErrTooLarge, ErrNotApplied} {
		require.Equal(t, err, r.redirected(err))
	}
	r.role = RoleStopped
	require.Equal(t, ErrClosed, r.redirected(ErrClosed))
}
