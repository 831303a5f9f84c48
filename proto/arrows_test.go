package proto_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "smtpkit.example/smtp"

// arrows is the architecture: which packages of ours each package may import. It is a statement of policy, and not to
// be changed to fix a build. What stands below examples shares an entry. ARCHITECTURE.md draws the imports as they are.
var arrows = map[string][]string{
	"": {},

	"proto":           {},
	"proto/prototest": {"proto"},

	"ext":                  {"proto", "ext/internal/grammar"},
	"ext/internal/grammar": {"proto"},
	"ext/auth":             {"proto", "ext", "ext/internal/grammar"},
	"ext/ehlo":             {"proto", "ext", "ext/internal/grammar", "ext/auth"},
	"ext/report":           {"proto", "ext", "ext/internal/grammar", "ext/auth", "ext/ehlo"},

	"server":            {"proto", "ext", "ext/auth", "ext/ehlo"},
	"server/proxyproto": {"proto", "ext", "server"},
	"client":            {"proto", "ext", "ext/auth", "ext/ehlo"},
	"client/clienttest": {"proto", "ext", "proto/prototest", "client"},

	// A test of extensions at work, which no package of ours imports.
	"ext/exttest": {
		"proto", "proto/prototest", "ext", "ext/internal/grammar", "ext/auth", "ext/ehlo",
		"server", "client", "client/clienttest",
	},

	"examples": {
		"proto", "ext", "ext/auth", "ext/ehlo", "ext/report", "server", "server/proxyproto", "client", "examples",
	},
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
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		path := place(fields[0])
		allowed, ok := arrows[path]
		if !ok {
			t.Errorf("%s: a package at a place that the architecture does not have", path)
			continue
		}
		packages++
		for _, imported := range fields[1:] {
			if path == "proto" && slices.Contains(pure, imported) {
				t.Errorf("the engine imports %s", imported)
			}
			if (imported == module || strings.HasPrefix(imported, module+"/")) && !slices.Contains(allowed, place(imported)) {
				t.Errorf("%s imports %s", fields[0], imported)
			}
		}
	}
	if packages < 5 {
		t.Errorf("%d packages seen, want all of them", packages)
	}
}

// place returns where in the module a package of ours is; the examples are one place.
func place(path string) string {
	path = strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	if strings.HasPrefix(path, "examples/") {
		return "examples"
	}
	return path
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
