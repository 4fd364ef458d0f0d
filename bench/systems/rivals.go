//go:build !qjmonly

package systems

import "github.com/quorumjournal/qjm/bench/load"

func init() {
	others = []load.Spec{hraftBoltSpec, hraftWALSpec, etcdSpec, natsSpec}
}
