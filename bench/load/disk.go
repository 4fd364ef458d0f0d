package load

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// sectorBytes is the unit of the kernel's block statistics, whatever the disk's own is.
const sectorBytes = 512

// DeviceWritten returns the bytes that were written to the disk that holds dir, by anybody, since the machine
// started; false where the kernel does not say. The process's own count in /proc/self/io is of no use for small
// synced writes: it counts whole pages, and page groups of up to a MiB, each time one becomes dirty.
func DeviceWritten(dir string) (uint64, bool) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return 0, false
	}
	major, minor := st.Dev>>8&0xfff|st.Dev>>32&^uint64(0xfff), st.Dev&0xff|st.Dev>>12&^uint64(0xff)
	data, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", major, uint32(minor)))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(data))
	if len(fields) < 7 {
		return 0, false
	}
	sectors, err := strconv.ParseUint(fields[6], 10, 64)
	return sectors * sectorBytes, err == nil
}

// DirBytes returns what the files below dir take on the disk. Files that go while it looks are not there.
func DirBytes(dir string) (total uint64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
			total += uint64(st.Blocks) * sectorBytes
		}
		return nil
	})
	return total, err
}
