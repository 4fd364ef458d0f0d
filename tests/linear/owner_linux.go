package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ownerOf tells which of the processes has the socket that listens or connects from a loopback address: the kernel's table gives
// the socket's number, and the process has it among its files.
func ownerOf(addr net.Addr, pids map[int]string) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer f.Close()
	want := fmt.Sprintf("0100007F:%04X", tcp.Port)
	inode := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 9 && fields[1] == want && fields[9] != "0" {
			inode = fields[9]
			break
		}
	}
	if inode == "" {
		return ""
	}
	for pid, name := range pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		files, _ := os.ReadDir(dir) // one that has ended has none
		for _, file := range files {
			if to, err := os.Readlink(filepath.Join(dir, file.Name())); err == nil && to == "socket:["+inode+"]" {
				return name
			}
		}
	}
	return ""
}

// childAttr: a child has a process group of its own, so that Ctrl-C reaches this program alone, and ends with this program.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
