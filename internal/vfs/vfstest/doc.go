// Package vfstest is the suite that every implementation of vfs.FS passes: what the interface promises
// and callers rely on, crashes aside.
//
//	func TestSuite(t *testing.T) {
//		vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return osfs.New(""), t.TempDir() })
//	}
package vfstest
