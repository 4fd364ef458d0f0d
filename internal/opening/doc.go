// Package opening makes somebody a journal's writer: it steps a recovery.Coordinator over real nodes, a new
// attempt in a higher epoch for each that did not come through. It is the shell that libqjm and the mover of
// a membership change have in common; it decides nothing.
package opening
