package journalnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
)

// recoveryFile keeps what this directory has to do with recoveries after a lost majority.
const recoveryFile = "recovery"

var recoveryMagic = [8]byte{'Q', 'J', 'M', 'R', 'E', 'C', 'O', 'V'}

// ErrGivenUp: an operator gave this storage up for lost, and the cluster went on without it. It serves nothing
// any more: what it holds beyond what the others kept is history that they do not have.
var ErrGivenUp = errors.New("journalnode: this storage was given up for lost, and the cluster has gone on without it")

// recoveryState is the file's content. The zero value is that of a node that never took part in a recovery.
type recoveryState struct {
	Generation uint64               `json:"generation"`
	Digest     string               `json:"digest,omitempty"`
	Plan       json.RawMessage      `json:"plan,omitempty"`
	Progress   rpc.RecoveryProgress `json:"progress,omitempty"`
	GivenUp    []quorumloss.Storage `json:"given_up,omitempty"`
	// ForcedIndex is the last entry of the catalog that was here when its group was given new members; 0: it never
	// was. What is up to there may never have been decided.
	ForcedIndex uint64 `json:"forced_index,omitempty"`
	// Out is why this storage was given up itself; empty: it was not.
	Out string `json:"out,omitempty"`
}

func loadRecovery(fsys vfs.FS, dir string) (recoveryState, error) {
	var s recoveryState
	b, _, err := durable.Load(fsys, path.Join(dir, recoveryFile), recoveryMagic, formatVersion)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("journalnode: recovery: %w", err)
	}
	return s, nil
}

func (s recoveryState) save(fsys vfs.FS, dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("journalnode: recovery: %w", err)
	}
	if err := durable.Save(fsys, path.Join(dir, recoveryFile), recoveryMagic, formatVersion, b); err != nil {
		return fmt.Errorf("journalnode: %w", err)
	}
	return nil
}

func (s recoveryState) plan() (*quorumloss.Plan, error) {
	if len(s.Plan) == 0 {
		return nil, fmt.Errorf("%w: none is recorded here", rpc.ErrPlan)
	}
	return quorumloss.Parse(s.Plan)
}

// gaveUp tells whether a recovery gave the storage up.
func (s recoveryState) gaveUp(k quorum.Key) bool {
	for _, x := range s.GivenUp {
		if m, err := x.Member(); err == nil && m.Key() == k {
			return true
		}
	}
	return false
}

// giveUp adds storages, once each.
func (s *recoveryState) giveUp(ms []quorumloss.Storage) error {
	for _, x := range ms {
		m, err := x.Member()
		if err != nil {
			return err
		}
		if !s.gaveUp(m.Key()) {
			s.GivenUp = append(s.GivenUp, x)
		}
	}
	if len(s.GivenUp) > rpc.GivenUpMax {
		return fmt.Errorf("%w: storages given up (got %d, want at most %d)", rpc.ErrTooLarge, len(s.GivenUp), rpc.GivenUpMax)
	}
	return nil
}
