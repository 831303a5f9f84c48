// Package examples holds the programs; this file holds README.md to the code.
package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// flat takes the indentation out of code.
func flat(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		b.WriteString(strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

// TestReadmeCode finds every piece of Go in README.md in an example that is compiled and run with the tests.
func TestReadmeCode(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var code string
	for _, name := range []string{"../server/example_test.go", "../client/example_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code += flat(string(text))
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d pieces of Go in README.md", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(code, flat(block[1])) {
			t.Errorf("not in an example of server or client:\n%s", block[1])
		}
	}
}

// TestReadmePaths looks for the files and folders that README.md names, and for a folder that it does not.
func TestReadmePaths(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	for _, m := range regexp.MustCompile(`\]\((\.[^)]*)\)|\x60((?:examples|\.ci)/[a-z/]*)\x60`).FindAllStringSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join("..", m[1]+m[2])); err != nil {
			t.Error(err)
		}
	}
	dirs, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if name := "`examples/" + filepath.Dir(dir) + "`"; !strings.Contains(readme, name) {
			t.Errorf("README.md does not name %s", name)
		}
	}
}

// TestReadmeCommand runs the tutorial as README.md says.
func TestReadmeCommand(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "run", "./examples/quickstart")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"C: STARTTLS\nS: 220 ", "C: AUTH ", "S: 235 ",
		"RCPT TO:<bob@example.org>\nC: RCPT TO:<nobody@example.org>\n", // a group
		"nobody@example.org 550 ", "\nIt works.\n",
	} {
		if !strings.Contains(strings.ReplaceAll(string(out), "\r\n", "\n"), want) {
			t.Errorf("no %q in its output:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "wonderland") || strings.Contains(string(out), "AGFsaWNl") {
		t.Error("the credentials are in its output")
	}
}
