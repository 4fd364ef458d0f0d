package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/quorumjournal/qjm/bench/systems"
)

// machine says what was measured on what.
type machine struct {
	Revision string   `json:"revision"`
	Go       string   `json:"go"`
	Kernel   string   `json:"kernel"`
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	Disk     string   `json:"file_system"`
	Versions []string `json:"versions"`
	Setups   []setup  `json:"setups"`
}

type setup struct {
	System string `json:"system"`
	Setup  string `json:"setup"`
}

// named are the modules whose versions matter to the figures.
var named = []string{
	"github.com/hashicorp/raft", "github.com/hashicorp/raft-boltdb/v2", "github.com/hashicorp/raft-wal", "go.etcd.io/bbolt",
	"go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/client/v3", "github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go",
	"google.golang.org/grpc", "google.golang.org/protobuf",
}

func describe(dir string) machine {
	m := machine{Revision: revision, Go: runtime.Version(), Cores: runtime.GOMAXPROCS(0), Kernel: firstLine("/proc/sys/kernel/osrelease"), CPU: cpuName(), Disk: fileSystem(dir)}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if slices.Contains(named, d.Path) {
				m.Versions = append(m.Versions, d.Path+" "+d.Version)
			}
		}
	}
	for _, s := range systems.All() {
		m.Setups = append(m.Setups, setup{s.Name, s.Setup})
	}
	return m
}

func (m machine) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "qjm %s, %s, Linux %s, %d cores (%s), %s\n", m.Revision, m.Go, m.Kernel, m.Cores, m.CPU, m.Disk)
	for _, v := range m.Versions {
		fmt.Fprintf(&b, "  %s\n", v)
	}
	for _, s := range m.Setups {
		fmt.Fprintf(&b, "  %-13s %s\n", s.System, s.Setup)
	}
	return b.String()
}

func firstLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

func cpuName() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close() //nolint:errcheck // only read
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// fileSystems are names of the magic numbers that statfs tells.
var fileSystems = map[int64]string{0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x01021994: "tmpfs: no disk at all", 0x794c7630: "overlayfs"}

func fileSystem(dir string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "unknown file system"
	}
	if name, ok := fileSystems[int64(st.Type)]; ok {
		return name
	}
	return fmt.Sprintf("file system %#x", st.Type)
}
