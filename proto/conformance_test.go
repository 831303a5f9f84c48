package proto_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto/prototest"
)

var (
	// The attacks of group Z have numbers of two or three digits, all other rules have two.
	ruleRow    = regexp.MustCompile(`^\| ([A-Y]\d\d|Z\d{2,3}) \| (\S.*\S) \| (\S.*\S) \|$`)
	ruleGroup  = regexp.MustCompile(`^## ([A-Z]): `)
	ruleNames  = regexp.MustCompile(`^(?:(?:[A-Y]\d\d|Z\d{2,3})[, ]+)*(?:[A-Y]\d\d|Z\d{2,3})\b`)
	ruleFunc   = regexp.MustCompile(`^(?:Test|Fuzz|Example)_?((?:[A-Y]\d\d|Z\d{2,3})+)(?:_|$)`)
	singleRule = regexp.MustCompile(`[A-Y]\d\d|Z\d{2,3}`)
)

// TestConformance compares the rules that CONFORMANCE.md lists with those that the names of tests have in them, in both
// directions: a rule is not listed without a test of its name, and a name of a test is not without a rule.
func TestConformance(t *testing.T) {
	listed := listedRules(t)
	carried := carriedRules(t)
	if len(listed) < 300 {
		t.Errorf("%d rules are listed", len(listed))
	}
	for _, rule := range listed {
		if len(carried[rule]) == 0 {
			t.Errorf("CONFORMANCE.md lists %s, and no test has it in its name", rule)
		}
	}
	for rule, places := range carried {
		if !slices.Contains(listed, rule) {
			t.Errorf("%v: %s is in the name of a test, and not in CONFORMANCE.md", places, rule)
		}
	}
}

// listedRules reads CONFORMANCE.md: the rules of each group stand below its heading, in their order, each once.
func listedRules(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", ".github", "CONFORMANCE.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	group := ""
	for i, line := range strings.Split(string(text), "\n") {
		if m := ruleGroup.FindStringSubmatch(line); m != nil {
			group = m[1]
		}
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| | Rule") || strings.HasPrefix(line, "| ---") {
			continue
		}
		m := ruleRow.FindStringSubmatch(line)
		if m == nil || !strings.HasPrefix(m[1], group) {
			t.Errorf("CONFORMANCE.md:%d: %q is no rule of group %s: name, rule and source", i+1, line, group)
			continue
		}
		if len(rules) > 0 && !inOrder(rules[len(rules)-1], m[1]) {
			t.Errorf("CONFORMANCE.md:%d: %s stands behind %s", i+1, m[1], rules[len(rules)-1])
		}
		rules = append(rules, m[1])
	}
	return rules
}

// inOrder reports whether rule a stands before rule b: by letter, and then by number, so that Z24 is before Z101.
func inOrder(a, b string) bool {
	return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) < 0
}

// carriedRules returns the rules in the names of tests, subtests and scripts, each with the places where it is.
func carriedRules(t *testing.T) map[string][]string {
	t.Helper()
	carried := make(map[string][]string)
	for _, dir := range []string{"scripts", "scripts/client"} {
		scripts, err := prototest.ReadDir(filepath.Join("testdata", filepath.FromSlash(dir)))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range scripts {
			for _, rule := range s.Rules {
				carried[rule] = append(carried[rule], s.Name)
			}
		}
	}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for pos, names := range testNames(f) {
			for _, rule := range singleRule.FindAllString(names, -1) {
				carried[rule] = append(carried[rule], fset.Position(pos).String())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return carried
}

// testNames returns the parts of the names in a file of tests that name rules: of a test function, of what is given to
// Run, and of where tables have their names, which is the first element, the field name, or the key.
func testNames(f *ast.File) map[token.Pos]string {
	names := make(map[token.Pos]string)
	literals := func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					names[lit.Pos()] = ruleNames.FindString(text)
				}
			}
			_, nested := n.(*ast.CompositeLit)
			return !nested
		})
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if m := ruleFunc.FindStringSubmatch(n.Name.Name); m != nil && n.Recv == nil {
				names[n.Pos()] = m[1]
			}
		case *ast.CallExpr:
			if called, ok := n.Fun.(*ast.SelectorExpr); ok && called.Sel.Name == "Run" && len(n.Args) == 2 {
				literals(n.Args[0])
			}
		case *ast.CompositeLit:
			if len(n.Elts) > 0 {
				literals(n.Elts[0])
			}
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					literals(nameIn(kv))
				}
			}
		}
		return true
	})
	return names
}

// nameIn returns the name that an element with a key may have.
func nameIn(kv *ast.KeyValueExpr) ast.Node {
	if field, ok := kv.Key.(*ast.Ident); ok && field.Name == "name" {
		return kv.Value
	}
	return kv.Key
}
