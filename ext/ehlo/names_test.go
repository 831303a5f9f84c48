package ehlo_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
)

// exceptions are the places that may name an extension, with the reason.
var exceptions = map[string]string{
	"proto/caps.go AUTH":            "the form AUTH=PLAIN of servers older than RFC 2554 is no keyword, and has to be made one to be read",
	"client/mx/table.go REQUIRETLS": "the table of decisions prints who asks for TLS, and one is the sender by this extension",
	// The fake server puts faults on the wire, so it knows some verbs by themselves, beside the engine.
	"server/servertest/line.go AUTH":       "a fault declared for it holds for the lines of its exchange too",
	"server/servertest/line.go BDAT":       "with LAST its reply answers the content, for which faults are declared",
	"server/servertest/line.go BURL":       "likewise",
	"server/servertest/server.go STARTTLS": "a test can have its handshake fail",
	"server/servertest/transcript.go BDAT": "a transcript shortens the content behind it",
	// SQL has words of its own.
	"client/queue/sqlstore/list.go BY":  "ORDER BY",
	"client/queue/sqlstore/load.go BY":  "likewise",
	"client/queue/sqlstore/store.go BY": "likewise",
	"client/queue/sqlstore/take.go BY":  "likewise",
	// The exam of a backend speaks to it as a client of the wire, word for word.
	"server/servertest/caller.go AUTH":       "a caller authenticates",
	"server/servertest/caller.go SIZE":       "a caller declares sizes",
	"server/servertest/scenario.go BDAT":     "a caller sends chunks",
	"server/servertest/scenario.go CHUNKING": "likewise",
	"server/servertest/edges.go STARTTLS":    "a caller has its session renewed",
	"server/servertest/rules.go STARTTLS":    "likewise",
	"server/servertest/edges.go 8BITMIME":    "a caller sends octets above 127",
	"server/servertest/edges.go BODY":        "likewise",
	"server/servertest/edges.go BINARYMIME":  "a caller sends content that is not lines of text",
	"server/servertest/edges.go CHUNKING":    "likewise, in chunks",
	"server/servertest/rules.go BINARYMIME":  "likewise",
	"server/servertest/idle.go BDAT":         "a fault for DATA that has not acted may be due to a client with chunks",
	"server/servertest/edges.go SMTPUTF8":    "a caller uses addresses in UTF-8",
}

// TestNames looks for names of extensions, of their verbs and of their parameters in the string literals of proto,
// server and client. These packages must not know an extension by name. TestNames ignores comments.
func TestNames(t *testing.T) {
	names := make(map[string]bool)
	for _, e := range made {
		names[e.Keyword] = true
		for _, v := range e.Verbs {
			names[v.Name] = true
		}
		for _, p := range append(append([]ext.Param(nil), e.Mail...), e.Rcpt...) {
			names[p.Key] = true
		}
	}
	if !names["SIZE"] || !names["BDAT"] || !names["STARTTLS"] || !names["BODY"] {
		t.Fatalf("the names are %v", names)
	}
	word := regexp.MustCompile(`[A-Z0-9][A-Z0-9-]+`)
	files := 0
	for _, dir := range []string{"proto", "server", "client"} {
		root := filepath.Join("..", "..", dir)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && (d.Name() == "bench" || d.Name() == "testdata") {
				if err == nil {
					err = filepath.SkipDir
				}
				return err
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			files++
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				for _, w := range word.FindAllString(lit.Value, -1) {
					place := strings.TrimPrefix(filepath.ToSlash(path), "../../") + " " + w
					if names[w] && exceptions[place] == "" {
						t.Errorf("%v: the name %s in %s", fset.Position(lit.Pos()), w, lit.Value)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 30 {
		t.Errorf("%d files were looked at", files)
	}
}
