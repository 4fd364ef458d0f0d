// Package inspect reads what nodes left on their disks, offline: it opens files for reading only, takes
// no lock, changes nothing, and works on a directory that a node is writing to.
//
//	tree, err := inspect.Open(osfs.New(""), "/var/lib/qjm")      // or a journal, a segments directory, a file
//	err = inspect.Dump(tree, inspect.DumpOptions{Each: ..., Note: ...})
//	report := inspect.Verify([]*inspect.Tree{tree}, nil)
//
// Invariants, cited by tests:
//
//	O1 Nothing is written, created or locked.
//	O2 Whatever is torn, corrupt or divergent is named, with file and offset where there is one. What a
//	   crash leaves behind in the ordinary way, and every running node has, is information.
package inspect
