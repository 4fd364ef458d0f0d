package load

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Usage is what the process has used since it started.
type Usage struct {
	At         time.Time
	CPU        time.Duration // user and system
	Device     uint64        // see DeviceWritten; 0: unknown
	Dirtied    uint64        // as /proc/self/io counts
	Allocs     uint64        // heap objects
	AllocBytes uint64
}

// ReadUsage reads it from the kernel and the runtime; dir is on the disk that is looked at.
func ReadUsage(dir string) (Usage, error) {
	u := Usage{At: time.Now()}
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return u, fmt.Errorf("load: getrusage: %w", err)
	}
	u.CPU = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	var err error
	if u.Dirtied, err = field("/proc/self/io", "write_bytes:", 1); err != nil {
		return u, err
	}
	u.Device, _ = DeviceWritten(dir)
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples)
	u.Allocs, u.AllocBytes = samples[0].Value.Uint64(), samples[1].Value.Uint64()
	return u, nil
}

// AnonMemory returns the anonymous memory in use: heap, stacks and buffers, without mapped files.
func AnonMemory() (uint64, error) { return field("/proc/self/status", "RssAnon:", 1024) }

func field(path, name string, unit uint64) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		rest, found := strings.CutPrefix(s.Text(), name)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("load: %s in %s: %w", name, path, err)
		}
		return n * unit, nil
	}
	return 0, fmt.Errorf("load: no %s in %s", name, path)
}
