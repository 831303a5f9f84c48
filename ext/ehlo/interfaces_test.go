package ehlo_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"
)

// TestInterfaces: each interface of sessions that packages auth and ehlo export is one that an extension names.
func TestInterfaces(t *testing.T) {
	named := make(map[string]bool)
	for _, e := range append(slices.Collect(maps.Values(made)), ehlo.SubmissionPolicy{}.Extension()) {
		for _, i := range e.Interfaces {
			named[i.String()] = true
		}
	}
	count := 0
	for _, pkg := range []string{"ehlo", "auth"} {
		paths, err := filepath.Glob(filepath.Join("..", pkg, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				if _, ok := spec.Type.(*ast.InterfaceType); ok && strings.HasSuffix(spec.Name.Name, "Session") {
					count++
					if name := pkg + "." + spec.Name.Name; !named[name] {
						t.Errorf("no extension names %s in its Interfaces", name)
					}
				}
				return true
			})
		}
	}
	if count < 30 {
		t.Errorf("%d interfaces were looked at", count)
	}
}
