// Package catalog is the replicated state machine of the control plane: which nodes there are, which
// journals, who their members are and how far a change of them has come, which snapshots are listed, who
// holds a writer's lease. It is pure: commands in, results out. A consensus group hands every node the
// same commands in the same order, and every node gets the same state, byte by byte.
//
//	c := catalog.New()
//	res, err := c.ApplyBytes(index, entry) // err: a typed refusal, the same on every node
//	b, err := c.AppendBinary(nil)          // the whole state
//	c, err = catalog.Restore(b)
//
// The catalog records decisions; it does not make things so. That a config is in force, that a joint
// config was sealed, that a snapshot is held by a majority, is evidence which the sender gathered from
// the nodes. The catalog sees to it that nothing is recorded out of order, or on top of a state that the
// sender did not see: a command names the config version, and a command on a change names the change.
//
// A membership change, and what each command makes the config:
//
//	             BeginChange            Joint               Sealed              Final              Finish
//	{old} v ───────────────► learning ─────────► joint ─────────────► sealed ─────────► final ───────────► {new} v+2
//	             {old} v        │   {old,new} v+1  │  {old,new} v+1     │     {new} v+2
//	                            │                  │                    │
//	                      Abort ▼            Abort ▼              Abort ▼
//	                       {old} v           {old} v+2            {old} v+2
//
// Joint waits until v is in force, Finish until v+2 is: InForce says so. A joint config that was sealed
// is in force. Who leaves a config leaves a tombstone (Former), until Forget. Adopt and ForceConfig put
// another config in the place of the present one, at any stage.
//
// Rules checked here, and cited by the tests (docs/protocol.md):
//
//	M0  one version has one digest.
//	M2  nothing is proposed on top of a config that is not known to be in force; an abort needs no joint
//	    config in force.
//	M4  final follows a seal, and nothing else.
//	M6  every entry is a compare-and-set on the config version, on the change, and final on the seal.
//	M8  who left is remembered, and a node that is remembered is not removed; a deleted journal's name is
//	    free when its empty config is in force.
//	M9  what nodes have installed outranks what the catalog remembers.
//	C1  a snapshot is listed with holders that are a majority of every member set of the current config.
//	L1  the end of a lease changes nothing but the lease.
//	L2  grants, renewals and expiries are entries; an expiry names the revision and the renewal that it
//	    was counted from; no clock here.
//
// Feature levels let nodes of different software live together: a command carries the level that it
// needs, and is refused by all while the catalog's is lower. SetLevel raises it when every registered
// node knows the new one. Software that meets a state above its own level stops (ErrUnsupported).
package catalog
