// Package version holds the version that the build stamps into the programs.
package version

// Version is set by the linker (see the Makefile).
var Version = "dev"
