package proto_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "smtpkit.example/smtp"

// arrows is the architecture: which packages of ours each may import. It is a statement of policy, and not to be
// changed to fix a build. A package without an entry has that of the nearest one above it in the tree, and may import
// the packages between that one and itself too.
var arrows = map[string][]string{
	"":       {},
	"proto":  {},
	"ext":    {"proto"},
	"server": {"proto", "ext", "ext/auth", "ext/ehlo", "ext/tracefield", "server/internal/bucket"},
	"client": {"proto", "ext", "ext/auth", "ext/ehlo", "client/internal/ended"},
	"examples": {"proto", "ext", "ext/auth", "ext/ehlo", "ext/report", "ext/tracefield", "ext/dns", "server",
		"client", "client/pool", "client/queue", "client/mx", "client/mx/mtasts", "client/deliver", "server/policy", "server/proxyproto"},

	"ext/auth":             {"proto", "ext"},
	"ext/ehlo":             {"proto", "ext", "ext/auth"},
	"ext/report":           {"proto", "ext", "ext/ehlo"},
	"ext/dns":              {"proto", "ext"},
	"ext/fake":             {"proto", "ext"},
	"ext/tracefield":       {"proto", "ext"},
	"ext/internal/grammar": {"proto"},
	"ext/internal/testkit": {"proto", "ext"},

	"server/internal/bucket": {},
	"server/policy":          {"proto", "ext", "ext/auth", "ext/ehlo", "ext/dns", "server", "server/internal/bucket"},
	"server/servertest":      {"proto", "ext", "ext/auth", "ext/ehlo", "server"},

	"server/internal/hostile": {}, // tests alone

	"client/internal/ended": {},

	"client/clienttest": {"proto", "proto/prototest", "ext"},
	"client/pool":       {"proto", "ext", "client", "client/internal/ended"},
	"client/deliver":    {"proto", "ext", "ext/tracefield", "client", "client/internal/ended"},
	"client/netsmtp":    {"proto", "ext", "ext/auth", "client"},
	"client/mx/tlsrpt":  {"proto", "ext", "ext/dns", "client"},
	"client/mx": {"proto", "ext", "ext/ehlo", "ext/dns", "client", "client/internal/ended", "client/pool",
		"client/mx/mtasts", "client/mx/dane", "client/mx/tlsrpt"},
	"client/mx/mtasts": {"ext/dns"},
	"client/queue": {"proto", "ext", "ext/ehlo", "ext/report", "ext/tracefield", "client", "client/internal/ended",
		"client/queue/internal/journal", "client/queue/internal/vfs"},
	"client/queue/internal/journal":     {"client/queue/internal/vfs"},
	"client/queue/internal/vfs":         {},
	"client/queue/internal/vfs/crashfs": {"client/queue/internal/vfs"}, // for tests alone
	// What stands on the queue, and the tests for its stores.
	"client/queue/queuetest": {"proto", "ext", "ext/ehlo", "ext/report", "client", "client/queue"},
	"client/queue/queuehttp": {"proto", "ext", "client/queue"},
	"client/queue/sqlstore":  {"proto", "ext", "ext/report", "client/queue"},
	"client/mx/dane":         {"proto", "ext/dns"},

	// A test of extensions at work, which no package of ours imports.
	"ext/exttest": {"proto", "proto/prototest", "ext", "ext/ehlo", "server", "client", "client/clienttest"},
}

// pure is what the engine must not import: it does no I/O, knows no time, and starts nothing.
var pure = []string{"io", "net", "os", "time", "bufio", "context", "sync", "log", "log/slog", "crypto/tls"}

// entry returns the nearest package at or above path that has an entry, and what path may import.
func entry(path string) (nearest string, allowed []string, ok bool) {
	for nearest = path; ; nearest, _ = above(nearest) {
		if allowed, ok = arrows[nearest]; ok {
			break
		}
		if _, more := above(nearest); !more {
			return "", nil, false
		}
	}
	for p, more := above(path); more && len(p) >= len(nearest) && p != ""; p, more = above(p) {
		if path != nearest {
			allowed = append(slices.Clone(allowed), p)
		}
	}
	return nearest, allowed, true
}

// above returns the package above path in the tree, if there is one between it and the root.
func above(path string) (string, bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", false
	}
	return path[:i], true
}

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
		nearest, allowed, ok := entry(path)
		if !ok {
			t.Errorf("%s: a package at a place that the architecture does not have", path)
			continue
		}
		packages++
		for _, imported := range fields[1:] {
			if nearest == "proto" && path == "proto" && slices.Contains(pure, imported) {
				t.Errorf("the engine imports %s", imported)
			}
			rest, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			// What is internal to a package is a part of it.
			owner, _, internal := strings.Cut(rest, "/internal/")
			if internal && (path == owner || strings.HasPrefix(path, owner+"/")) {
				continue
			}
			if !slices.Contains(allowed, rest) {
				t.Errorf("%s imports %s", fields[0], imported)
			}
		}
	}
	if packages < 12 {
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
