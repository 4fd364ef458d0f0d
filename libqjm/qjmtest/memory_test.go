package qjmtest

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// CrashNode loses what was not synced, KillNode does not, and both keep what was.
func TestCrashAndKill_WhatIsLeft(t *testing.T) {
	for name, want := range map[string]struct {
		end  func(*Cluster)
		left string
	}{
		"crash": {func(c *Cluster) { c.CrashNode(0) }, "synced"},
		"kill":  {func(c *Cluster) { c.KillNode(0) }, "written"},
		"wipe":  {func(c *Cluster) { c.WipeNode(0) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := Start(t, Options{})
				disk := c.nodes.Disks[0]
				f, err := disk.Create("mine")
				require.NoError(t, err)
				write := func(text string) {
					_, err := f.WriteAt([]byte(text), 0)
					require.NoError(t, err)
				}
				write("synced ")
				require.NoError(t, f.Sync())
				require.NoError(t, disk.SyncDir("/"))
				write("written")
				want.end(c)
				require.Nil(t, c.Node(0))
				write("too late") // it has gone
				left := ""
				if f, err := c.nodes.Disks[0].Open("mine"); err == nil {
					b := make([]byte, 7)
					_, err := f.ReadAt(b, 0)
					require.NoError(t, err)
					left = string(b)
				}
				require.Equal(t, want.left, strings.TrimSpace(left))
				c.StartNode(0)
			})
		})
	}
}
