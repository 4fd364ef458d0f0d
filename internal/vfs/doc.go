// Package vfs is the one door to the disk. Protocol and storage code sees files only through FS and
// File, so that a test can crash the machine at every write and look at what a real disk could hold
// afterwards.
//
// Three implementations: osfs (the real thing, the only package below cmd that imports os), memfs
// (in memory, with crash semantics for data and for directory entries) and faultfs (wraps another
// and fails, or stops the world at, the n-th operation). vfstest is the suite that all of them pass.
package vfs
