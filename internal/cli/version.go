package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is stamped by the Makefile: -ldflags "-X .../internal/cli.Version=v1.2.3".
var Version = ""

// VersionString says what this program was built from.
func VersionString() string {
	v, rev := Version, ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				rev = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	if v == "" {
		v = "(devel)"
	}
	if rev != "" {
		v += " " + rev
	}
	return fmt.Sprintf("%s %s %s/%s", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
