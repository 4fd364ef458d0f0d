// Package tree is the replicated state of the namespace example: directories and files, as a libqjm.StateMachine. A node
// is never changed: Apply makes a new root, which shares all nodes with the old one but those above what was changed. So
// who reads a tree, or writes a snapshot of it, has one that stays as it is, without a lock, and holds up nobody.
package tree

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/quorumjournal/qjm/libqjm"
)

// Node is a directory or a file, with all that is below it. As JSON it is a snapshot.
type Node struct {
	Name     string      `json:"name,omitempty"`
	Dir      bool        `json:"dir,omitempty"`
	Meta     string      `json:"meta,omitempty"` // what the client says
	TxID     libqjm.TxID `json:"txid,omitempty"` // of the transaction that made it
	Children []*Node     `json:"children,omitempty"`
}

// Op is one change, proposed as JSON. All that it depends on must be in it, even the time: each replica applies it later.
type Op struct {
	Kind string `json:"op"`
	Path string `json:"path"`
	To   string `json:"to,omitempty"`   // rename
	Meta string `json:"meta,omitempty"` // mkdir, create
}

var kinds = []string{"mkdir", "create", "delete", "rename"} // they stand in journals
const pathBytesMax = 4096

func (op Op) valid() bool {
	ok := func(p string) bool {
		return len(p) > 1 && len(p) <= pathBytesMax && p[0] == '/' && path.Clean(p) == p && utf8.ValidString(p)
	}
	return ok(op.Path) && ok(op.To) == (op.Kind == "rename") && utf8.ValidString(op.Meta)
}

// Encode returns the data of a proposal. What fails here is the fault of whoever asks, and is not proposed.
func (op Op) Encode() ([]byte, error) {
	if !slices.Contains(kinds, op.Kind) || !op.valid() {
		return nil, fmt.Errorf("invalid operation: %s %q %q", op.Kind, op.Path, op.To)
	}
	return json.Marshal(op)
}

// Tree is the state machine.
type Tree struct {
	root    atomic.Pointer[Node]
	Applied atomic.Int64 // transactions, not counting what a snapshot brought
}

// New returns an empty tree.
func New() *Tree {
	t := &Tree{}
	t.root.Store(&Node{Dir: true})
	return t
}

// Find returns what is at a path; nil: nothing. It must not be changed.
func (t *Tree) Find(p string) *Node { return t.root.Load().find(names(p)) }

// Apply applies what is committed.
func (t *Tree) Apply(batch []libqjm.Entry) ([][]byte, error) {
	root, results := t.root.Load(), make([][]byte, len(batch))
	for i, e := range batch {
		var op Op
		if err := decode(bytes.NewReader(e.Data), &op); err != nil || !slices.Contains(kinds, op.Kind) {
			return nil, fmt.Errorf("of a newer release: this one must stop, and not guess: %.100q", e.Data)
		}
		next, refusal := root.apply(op, e.TxID)
		if refusal == "" {
			root = next
		}
		results[i] = []byte(refusal)
	}
	t.root.Store(root)
	t.Applied.Add(int64(len(batch)))
	return results, nil
}

func decode(r io.Reader, v any) error {
	in := json.NewDecoder(r)
	in.DisallowUnknownFields()
	return in.Decode(v)
}

// apply returns the root of the tree after the operation, or why it is refused. A refusal is a result, and not an error:
// every replica comes to it, and goes on.
func (n *Node) apply(op Op, txid libqjm.TxID) (next *Node, refusal string) {
	at := names(op.Path)
	switch old := n.find(at); {
	case !op.valid():
		return nil, "invalid"
	case op.Kind == "mkdir", op.Kind == "create":
		return n.with(at, &Node{Dir: op.Kind == "mkdir", Meta: op.Meta, TxID: txid})
	case old == nil:
		return nil, "not found"
	case op.Kind == "rename":
		n, _ = n.with(at, nil)
		return n.with(names(op.To), old) // below itself there is nothing by now
	case len(old.Children) > 0:
		return nil, "not empty"
	}
	return n.with(at, nil)
}

func names(p string) []string { return strings.FieldsFunc(p, func(r rune) bool { return r == '/' }) }

func (n *Node) child(name string) (i int, there bool) { // where it is, or belongs: they are sorted
	return slices.BinarySearchFunc(n.Children, name, func(c *Node, name string) int { return strings.Compare(c.Name, name) })
}

func (n *Node) find(at []string) *Node {
	for _, name := range at {
		i, there := n.child(name)
		if !there {
			return nil
		}
		n = n.Children[i]
	}
	return n
}

// with returns a copy that has a node at a path where nothing was, or, with nil, nothing where a node was.
func (n *Node) with(at []string, node *Node) (_ *Node, refusal string) {
	c, last := *n, len(at) == 1
	c.Children = slices.Clone(n.Children)
	switch i, there := n.child(at[0]); {
	case !n.Dir:
		return nil, "not a directory"
	case !there && !last:
		return nil, "not found"
	case !last:
		c.Children[i], refusal = c.Children[i].with(at[1:], node)
	case node == nil:
		c.Children = slices.Delete(c.Children, i, i+1)
	case there:
		return nil, "exists"
	default:
		c.Children = slices.Insert(c.Children, i, &Node{at[0], node.Dir, node.Meta, node.TxID, node.Children})
	}
	return &c, refusal
}

// SaveSnapshot returns what writes the tree of this moment, beside whatever is applied meanwhile.
func (t *Tree) SaveSnapshot() (func(io.Writer) error, error) {
	root := t.root.Load()
	return func(w io.Writer) error { return json.NewEncoder(w).Encode(root) }, nil
}

// LoadSnapshot replaces the tree by one that was saved.
func (t *Tree) LoadSnapshot(r io.Reader) error {
	root := &Node{}
	err := decode(r, root)
	if err == nil {
		t.root.Store(root)
	}
	return err
}
