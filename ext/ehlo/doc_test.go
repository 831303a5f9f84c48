package ehlo_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
)

// made are the extensions of this package and of auth by the names of their constructors.
var made = map[string]ext.Extension{
	"ATRN": ehlo.ATRN(), "Auth": auth.Auth(), "BinaryMIME": ehlo.BinaryMIME(), "BURL": ehlo.BURL(), "Chunking": ehlo.Chunking(),
	"ConNeg": ehlo.ConNeg(), "ConPerm": ehlo.ConPerm(), "DSN": ehlo.DSN(), "DeliverBy": ehlo.DeliverBy(), "EightBitMIME": ehlo.EightBitMIME(),
	"EnhancedStatusCodes": ehlo.EnhancedStatusCodes(), "ETRN": ehlo.ETRN(), "EXPN": ehlo.EXPN(),
	"FutureRelease": ehlo.FutureRelease(ehlo.HoldLimits{}), "Help": ehlo.Help(), "Limits": ehlo.Limits(), "MTPriority": ehlo.MTPriority(),
	"MTRK": ehlo.MTRK(), "NoSoliciting": ehlo.NoSoliciting(), "Obsolete": ehlo.Obsolete(), "Pipelining": ehlo.Pipelining(),
	"PRDR": ehlo.PRDR(), "RRVS": ehlo.RRVS(), "RequireTLS": ehlo.RequireTLS(), "Submitter": ehlo.Submitter(),
	"SMTPUTF8": ehlo.SMTPUTF8(), "Size": ehlo.Size(), "StartTLS": ehlo.StartTLS(), "VRFY": ehlo.VRFY(), "XCLIENT": ehlo.XCLIENT(),
	"XFORWARD": ehlo.XFORWARD(),
}

// source is what TestTable needs from the source files.
type source struct {
	overview     string            // the package's comment
	constructors map[string]string // and their comments
	names        map[string]bool   // of what is exported
}

func readSource(t *testing.T) source {
	t.Helper()
	s := source{constructors: make(map[string]string), names: make(map[string]bool)}
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../auth/*.go")
	if err != nil {
		t.Fatal(err)
	}
	frame, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	paths = append(append(paths, more...), frame...)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if path == "doc.go" {
			s.overview = f.Doc.Text()
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					s.names[d.Name.Name] = true
				}
				if results := d.Type.Results; d.Recv == nil && ast.IsExported(d.Name.Name) && results != nil && len(results.List) == 1 {
					if sel, ok := results.List[0].Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Extension" {
						s.constructors[d.Name.Name] = d.Doc.Text()
					}
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok {
						s.names[spec.Name.Name] = true
					}
				}
			}
		}
	}
	return s
}

// A row is a line of the table in the package comment.
type row struct {
	keyword, rfc, rest string
}

// TestTable compares the table in the package comment with the code. Each extension has a row, and each row an
// extension. The constructor names the RFC of the row, and the types and functions in it exist.
func TestTable(t *testing.T) {
	s := readSource(t)
	var rows []row
	shape := regexp.MustCompile(`(?m)^\t([A-Z0-9-]{3,}|\(none\)) +(\S.{19}) (.+)$`)
	for _, m := range shape.FindAllStringSubmatch(s.overview, -1) {
		rows = append(rows, row{strings.TrimSuffix(m[1], "(none)"), strings.TrimSpace(m[2]), m[3]})
	}
	for i, e := range ehlo.Default() {
		if i >= len(rows) || rows[i].keyword != e.Keyword {
			t.Fatalf("the row %d is not that of %q, which is where Default has it", i, e.Keyword)
		}
	}
	for name, comment := range s.constructors {
		e, ok := made[name]
		if !ok {
			t.Errorf("%s makes an extension: add it to this test, and a row to the table in doc.go", name)
			continue
		}
		i := slices.IndexFunc(rows, func(r row) bool { return r.keyword == e.Keyword })
		if i < 0 {
			t.Errorf("%s has no row in the table of doc.go", name)
			continue
		}
		for _, number := range regexp.MustCompile(`\b\d{4}\b`).FindAllString(rows[i].rfc, -1) {
			if !strings.Contains(comment, "RFC "+number) {
				t.Errorf("%s has RFC %s in the table, and not in its comment", name, number)
			}
		}
	}
	if len(rows) != len(s.constructors) || len(made) != len(s.constructors) {
		t.Errorf("there are %d rows and %d extensions, and %d in this test", len(rows), len(s.constructors), len(made))
	}
	word := regexp.MustCompile(`(\w+\.)?\b[A-Z]+[a-z]\w+`)
	for _, r := range rows {
		for _, name := range word.FindAllString(r.rest, -1) {
			name, _, qualified := strings.Cut(strings.TrimPrefix(name, "auth."), ".")
			if !s.names[name] && !(qualified && name == "server") && name != "Policy" && name != "Do" {
				t.Errorf("%s: there is no %s", r.keyword, name)
			}
		}
	}
}
