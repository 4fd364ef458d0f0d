// Package quorum does the arithmetic of majorities: who is a member, which sets of nodes decide, and
// what such a set has in common. A journal's config holds one member set, or two while its membership
// changes (joint); "majority" always means a majority of every set.
//
// A member is a node id together with its storage incarnation (rule N1): a node whose disk was wiped
// is somebody else, and is not counted.
package quorum
