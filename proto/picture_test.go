package proto_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPackagePicture compares the arrows of the picture in ARCHITECTURE.md with the imports of the packages, in both
// directions. An arrow that follows from others is not drawn.
func TestPackagePicture(t *testing.T) {
	want := reduced(imports(t))
	if *update {
		compare(t, architecturePage, generated("packages"), "<!-- packages -->\n"+picture(want)+"<!-- end of packages -->\n")
	}
	got := arrowsOf(t)
	for from, list := range want {
		if _, ok := got[from]; !ok {
			t.Errorf("%s is not in the picture; %s", from, howToUpdate)
		}
		for _, to := range list {
			if !slices.Contains(got[from], to) {
				t.Errorf("%s imports %s, and the picture does not show it; %s", from, to, howToUpdate)
			}
		}
	}
	for from, list := range got {
		if _, ok := want[from]; !ok {
			t.Errorf("the picture has %s, and there is no such package; %s", from, howToUpdate)
		}
		for _, to := range list {
			if !slices.Contains(want[from], to) {
				t.Errorf("the picture has an arrow from %s to %s, and no import is like that; %s", from, to, howToUpdate)
			}
		}
	}
}

// imports returns the packages of the module with those they import, tests left out. The examples are one package here,
// and the root, which is documentation only, is left out.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	graph := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := place(fields[0])
		if from == "" {
			continue
		}
		graph[from] = append(graph[from], nil...)
		for _, path := range fields[1:] {
			if to := place(path); strings.HasPrefix(path, module+"/") && to != from && !slices.Contains(graph[from], to) {
				graph[from] = append(graph[from], to)
			}
		}
	}
	return graph
}

// place returns where in the module a package of ours is; the examples are one place.
func place(path string) string {
	path = strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	if strings.HasPrefix(path, "examples/") {
		return "examples"
	}
	return path
}

// reduced returns graph without the arrows that follow from others.
func reduced(graph map[string][]string) map[string][]string {
	var reaches func(from, to string) bool
	reaches = func(from, to string) bool {
		return slices.ContainsFunc(graph[from], func(next string) bool { return next == to || reaches(next, to) })
	}
	out := make(map[string][]string)
	for from, list := range graph {
		out[from] = nil
		for _, to := range list {
			if !slices.ContainsFunc(list, func(other string) bool { return other != to && reaches(other, to) }) {
				out[from] = append(out[from], to)
			}
		}
		slices.Sort(out[from])
	}
	return out
}

// picture draws graph in the language of Mermaid.
func picture(graph map[string][]string) string {
	id := strings.NewReplacer("/", "_")
	var b strings.Builder
	b.WriteString("```mermaid\nflowchart BT\n")
	names := slices.Sorted(maps.Keys(graph))
	for _, name := range names {
		fmt.Fprintf(&b, "    %s[%q]\n", id.Replace(name), name)
	}
	for _, from := range names {
		for _, to := range graph[from] {
			fmt.Fprintf(&b, "    %s --> %s\n", id.Replace(from), id.Replace(to))
		}
	}
	b.WriteString("```\n")
	return b.String()
}

var (
	pictureNode  = regexp.MustCompile(`^    (\w+)\["([^"]+)"\]$`)
	pictureArrow = regexp.MustCompile(`^    (\w+) --> (\w+)$`)
)

// arrowsOf reads the picture of the packages.
func arrowsOf(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(architecturePage)
	if err != nil {
		t.Fatal(err)
	}
	graph, names := make(map[string][]string), make(map[string]string)
	for line := range strings.Lines(generated("packages").FindString(string(text))) {
		line = strings.TrimSuffix(line, "\n")
		if m := pictureNode.FindStringSubmatch(line); m != nil {
			names[m[1]] = m[2]
			graph[m[2]] = nil
		} else if m := pictureArrow.FindStringSubmatch(line); m != nil {
			from, to := names[m[1]], names[m[2]]
			if from == "" || to == "" {
				t.Errorf("%q: one end of the arrow has no name in the picture", line)
			}
			graph[from] = append(graph[from], to)
		} else if strings.HasPrefix(line, "    ") {
			t.Errorf("%q is neither a package nor an arrow", line)
		}
	}
	return graph
}

// namedFile finds the names of files in a page, such as `server/body.go`.
var namedFile = regexp.MustCompile("`([a-z./-]+/[A-Za-z0-9_./-]*)`")

// TestArchitectureFiles finds that the files and directories which ARCHITECTURE.md names are there.
func TestArchitectureFiles(t *testing.T) {
	text, err := os.ReadFile(architecturePage)
	if err != nil {
		t.Fatal(err)
	}
	found := namedFile.FindAllStringSubmatch(string(text), -1)
	if len(found) < 20 {
		t.Errorf("ARCHITECTURE.md names %d files, want more", len(found))
	}
	for _, m := range found {
		if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(m[1]))); err != nil {
			t.Errorf("ARCHITECTURE.md names `%s`: %v", m[1], err)
		}
	}
}

var (
	docFile = regexp.MustCompile(`\b[a-z]+\.go\b`)
	docTest = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
)

// TestDocNames finds that the files and tests which the package comment names are there.
func TestDocNames(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests := ""
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tests += string(source)
	}
	names := docTest.FindAllString(string(text), -1)
	if len(names) < 5 {
		t.Errorf("the package comment names %d tests, want more", len(names))
	}
	for _, name := range names {
		if !strings.Contains(tests, "func "+name+"(") {
			t.Errorf("the package comment names %s, and there is no such test", name)
		}
	}
	for _, name := range docFile.FindAllString(string(text), -1) {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("the package comment names %s: %v", name, err)
		}
	}
}
