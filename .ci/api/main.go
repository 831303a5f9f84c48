// Command api prints the exported API of the library, one file for each package, without comments and bodies. A change
// of the API is then a change of a file, and is seen in review.
//
//	go run ./.ci/api      compares the API with .ci/api, and fails if they differ
//	go run ./.ci/api -w   writes .ci/api
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const golden = ".ci/api"

func main() {
	write := flag.Bool("w", false, "write the files in place of comparing them")
	flag.Parse()
	if err := run(*write); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(write bool) error {
	dirs, err := packages()
	if err != nil {
		return err
	}
	var stale []string
	files := make(map[string]bool)
	for _, dir := range dirs {
		api, err := describe(dir)
		if err != nil {
			return err
		}
		name := filepath.Join(golden, strings.ReplaceAll(dir, "/", "-")+".txt")
		files[name] = true
		if write {
			if err := os.WriteFile(name, api, 0o644); err != nil {
				return err
			}
			continue
		}
		if was, err := os.ReadFile(name); err != nil || !bytes.Equal(was, api) {
			stale = append(stale, difference(name, was, api))
		}
	}
	old, err := filepath.Glob(golden + "/*.txt")
	if err != nil {
		return err
	}
	for _, name := range old {
		switch {
		case files[name]:
		case write:
			if err := os.Remove(name); err != nil {
				return err
			}
		default:
			stale = append(stale, name+": there is no such package any more\n")
		}
	}
	if len(stale) > 0 {
		return fmt.Errorf("%s\nThe API has changed. If that is meant, say it in CHANGELOG.md and run: go run ./.ci/api -w", strings.Join(stale, ""))
	}
	fmt.Printf("%d packages\n", len(dirs))
	return nil
}

// packages returns the directories of the packages that users can import.
func packages() ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == "." {
			return err
		}
		switch name := d.Name(); {
		case strings.HasPrefix(name, "."), name == "testdata", name == "internal", path == "examples":
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
			return filepath.SkipDir // a module of its own
		}
		sources, err := filepath.Glob(filepath.Join(path, "*.go"))
		if slices.ContainsFunc(sources, func(s string) bool { return !strings.HasSuffix(s, "_test.go") }) {
			dirs = append(dirs, filepath.ToSlash(path))
		}
		return err
	})
	if err == nil && len(dirs) < 10 {
		err = fmt.Errorf("%d packages found: run it at the top of the repository", len(dirs))
	}
	return dirs, err
}

// describe returns the API of the package in dir.
func describe(dir string) ([]byte, error) {
	fset := token.NewFileSet()
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(fset, files, dir)
	if err != nil {
		return nil, err
	}
	a := &api{fset: fset}
	a.values(p.Consts)
	a.values(p.Vars)
	a.funcs(p.Funcs)
	for _, t := range p.Types {
		a.add(t.Decl)
		a.values(t.Consts)
		a.values(t.Vars)
		a.funcs(t.Funcs)
		a.funcs(t.Methods)
	}
	return a.out.Bytes(), a.err
}

// api collects declarations.
type api struct {
	fset *token.FileSet
	out  bytes.Buffer
	err  error
}

func (a *api) add(decl ast.Node) {
	var b bytes.Buffer
	config := printer.Config{Mode: printer.UseSpaces, Tabwidth: 4}
	if err := config.Fprint(&b, a.fset, decl); err != nil && a.err == nil {
		a.err = err
	}
	for line := range strings.SplitSeq(b.String(), "\n") {
		if strings.TrimSpace(line) != "" {
			a.out.WriteString(line + "\n")
		}
	}
}

func (a *api) values(list []*doc.Value) {
	for _, v := range list {
		for _, spec := range v.Decl.Specs {
			if s, ok := spec.(*ast.ValueSpec); ok && v.Decl.Tok == token.VAR {
				s.Values = nil // how it is made is no part of the API
			}
		}
		a.add(v.Decl)
	}
}

func (a *api) funcs(list []*doc.Func) {
	for _, f := range list {
		a.add(f.Decl)
	}
}

// difference names the lines that only one of the two has.
func difference(name string, was, is []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:\n", name)
	before, after := strings.Split(string(was), "\n"), strings.Split(string(is), "\n")
	for _, line := range before {
		if !slices.Contains(after, line) {
			fmt.Fprintf(&b, "  - %s\n", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			fmt.Fprintf(&b, "  + %s\n", line)
		}
	}
	return b.String()
}
