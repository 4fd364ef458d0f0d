package raftgroup

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestG3_NoCheckByHeartbeat: upstream's VerifyLeader counts replies to requests that were sent before it,
// so a deposed leader may be told that it leads. Nothing here calls it.
func TestG3_NoCheckByHeartbeat(t *testing.T) {
	pkgs, err := parser.ParseDir(token.NewFileSet(), ".", nil, 0) //nolint:staticcheck // syntax is all it needs
	require.NoError(t, err)
	files := 0
	for _, p := range pkgs {
		for name, f := range p.Files {
			files++
			ast.Inspect(f, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "VerifyLeader" {
					t.Errorf("%s calls VerifyLeader: use Barrier", name)
				}
				return true
			})
		}
	}
	require.Positive(t, files)
}
