package proto_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "smtpkit.example/smtp"

// arrows is the architecture: which packages of ours each may import. It is a statement of policy, and not to be changed to
// fix a build. A package below another in the tree may import what that one may, and that one itself; one that has an entry of
// its own may import that instead, and what is above it.
var arrows = map[string][]string{
	"":         {},
	"proto":    {},
	"ext":      {"proto"},
	"server":   {"proto", "ext"},
	"client":   {"proto", "ext"},
	"examples": {"proto", "ext", "server", "client"},

	"ext/exttest": {"proto", "server", "client"}, // a test of extensions at work, which no package of ours imports
}

// pure is what the engine must not import: it does no I/O, knows no time, and starts nothing.
var pure = []string{"io", "net", "os", "time", "bufio", "context", "sync", "log", "log/slog", "crypto/tls"}

// TestArrows enforces the arrows of the architecture over what go list says of the packages, tests left out.
func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Fields(line)
		path := strings.TrimPrefix(strings.TrimPrefix(fields[0], module), "/")
		top, below, _ := strings.Cut(path, "/")
		allowed, ok := arrows[path]
		if !ok {
			allowed, ok = arrows[top]
		}
		if !ok {
			t.Errorf("%s: a package at a place that the architecture does not have", path)
			continue
		}
		packages++
		for _, imported := range fields[1:] {
			if top == "proto" && below == "" && slices.Contains(pure, imported) {
				t.Errorf("the engine imports %s", imported)
			}
			rest, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			rest = strings.TrimPrefix(rest, "/")
			if rest == "ext/exttest" {
				t.Errorf("%s imports %s, which is for tests", fields[0], imported)
			}
			rest, _, _ = strings.Cut(rest, "/")
			if rest != top && !slices.Contains(allowed, rest) || rest == top && below == "" {
				t.Errorf("%s imports %s", fields[0], imported)
			}
		}
	}
	if packages < 5 {
		t.Errorf("%d packages seen, want all of them", packages)
	}
}

// TestTopLevel holds the top level to its names; everything else stands below them or in a dot folder.
func TestTopLevel(t *testing.T) {
	want := []string{"LICENSE", "README.md", "client", "doc.go", "examples", "ext", "go.mod", "go.sum", "proto", "server"}
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			got = append(got, e.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the top level has %v, want %v", got, want)
	}
}
