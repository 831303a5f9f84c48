package prototest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sample = `# A sample.
!lmtp
!rules M04  N13
!size 10 20

S: 220 mx.example *
C: LHLO client.example
S... 250
C~ "a\x00\r\n"
C+ "ab" * 3
S... 4yz * 2
TLS
C:
S... xyz?
CLOSE
`

func parse(t *testing.T, text string) *Script {
	t.Helper()
	s, err := Parse("test.smtp", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParse(t *testing.T) {
	for name, text := range map[string]string{"LF": sample, "CRLF": strings.ReplaceAll(sample, "\n", "\r\n")} {
		t.Run(name, func(t *testing.T) {
			s := parse(t, text)
			if len(s.Directives) != 2 || s.Directives["size"] != "10 20" {
				t.Errorf("Directives = %q", s.Directives)
			}
			if _, ok := s.Directives["lmtp"]; !ok {
				t.Errorf("Directives = %q", s.Directives)
			}
			if got := s.Title(); got != "M04 N13 test" {
				t.Errorf("Title() = %q", got)
			}
			var got []string
			for _, step := range s.Steps {
				got = append(got, strings.TrimPrefix(step.String(), "test.smtp:"))
			}
			want := []string{
				"6: S: 220 mx.example *", `7: C~ "LHLO client.example\r\n"`, "8: S... 250", `9: C~ "a\x00\r\n"`, `10: C~ "ababab"`,
				"11: S... 4yz", "11: S... 4yz", "12: TLS", `13: C~ "\r\n"`, "14: S... xyz?", "15: CLOSE",
			}
			if !slices.Equal(got, want) {
				t.Errorf("steps are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			parts := s.Parts()
			if len(parts) != 2 || len(parts[0]) != 7 || len(parts[1]) != 3 {
				t.Fatalf("Parts() = %v", parts)
			}
			if got := string(parts[0].ClientBytes()); got != "LHLO client.example\r\na\x00\r\nababab" {
				t.Errorf("ClientBytes() = %q", got)
			}
			if got := string(parts[1].ClientBytes()); got != "\r\n" {
				t.Errorf("ClientBytes() = %q", got)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := map[string]string{
		"":                            "test.smtp:0: the script has no steps",
		"# nothing\n\n":               "test.smtp:2: the script has no steps",
		"C: x\nX: y\n":                `test.smtp:2: cannot understand "X: y"`,
		" C: x\n":                     `test.smtp:1: cannot understand " C: x"`,
		"C:x\n":                       `test.smtp:1: cannot understand "C:x"`,
		"S: 250\x00\n":                "test.smtp:1: the line has the octet 0x00 in it",
		"C: é\n":                      "test.smtp:1: the line has the octet 0xc3 in it",
		"C: QUIT \n":                  "test.smtp:1: the line ends with a space",
		"S... 25\n":                   `test.smtp:1: "25" is no reply code`,
		"S... 2500\n":                 `test.smtp:1: "2500" is no reply code`,
		"S... 2ab\n":                  `test.smtp:1: "2ab" is no reply code`,
		"S...\n":                      `test.smtp:1: "" is no reply code`,
		"S... 250 * 0\n":              `test.smtp:1: "0" is not a number from 1`,
		"S... 250 * 1000000\n":        `test.smtp:1: "1000000" is not a number from 1`,
		"S... 250? * 2\nCLOSE\n":      `test.smtp:1: "250? * 2" is no reply code`,
		"S... 250?\nC: x\n":           "test.smtp:2: the optional reply of line 1 must be followed by CLOSE",
		"S... 250?\n":                 "test.smtp:1: an optional reply must be followed by CLOSE",
		"C~ x\n":                      `test.smtp:1: "x" does not begin with a string in quotes`,
		"C~ 'x'\n":                    `test.smtp:1: "'x'" does not begin with a string in quotes`,
		"C~ \"x\" y\n":                `test.smtp:1: " y" follows the string`,
		"C+ \"x\"\n":                  `test.smtp:1: "" must be " * " and a number`,
		"C+ \"x\" * 0\n":              `test.smtp:1: " * 0" must be " * " and a number`,
		"C+ \"xy\" * 99999999\n":      `test.smtp:1: " * 99999999" must be " * " and a number`,
		"CLOSE\nC: x\n":               "test.smtp:2: nothing can be said on a connection that is closed",
		"HANGUP\nCLOSE\n":             "test.smtp:2: nothing can be said on a connection that is closed",
		"CLOSE now\n":                 "test.smtp:1: nothing can follow CLOSE",
		"!\nC: x\n":                   "test.smtp:1: a directive has a name",
		"!a\n!a b\nC: x\n":            "test.smtp:2: the directive a is given twice",
		"!rules\nC: x\n":              "test.smtp:1: the directive rules names the rules",
		"!rules A01\n!rules A02\n":    "test.smtp:2: the directive rules is given twice",
		"C: x\n!a\n":                  "test.smtp:2: the directive a must come before the first step",
		"C: x\nTLS\nS: y\nC~ \"\\q\"": "test.smtp:4: ",
	}
	for text, want := range tests {
		_, err := Parse("test.smtp", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want %s", text, err, want)
		}
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern, line string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"250 ok", "250 ok", true}, {"250 ok", "250 OK", false},
		{"250 *", "250 ", true}, {"250 *", "250 x", true}, {"250 *", "250-x", false}, {"250 *", "250", false},
		{"*", "", true}, {"**", "x", true}, {"*a", "a", true}, {"*a", "ba", true}, {"*a", "ab", false},
		{"a*b*c", "abc", true}, {"a*b*c", "axxbxbxc", true}, {"a*b*c", "acb", false}, {"a*bc*c", "abc", false}, {"ab*b", "ab", false},
		{"*ab*ab*", "xabab", true}, {"*ab*ab*", "xaba", false}, {"a*b", "ab*b", true},
	}
	for _, tt := range tests {
		if got := Match(tt.pattern, tt.line); got != tt.want {
			t.Errorf("Match(%q, %q) = %v", tt.pattern, tt.line, got)
		}
	}
}

func TestCheck(t *testing.T) {
	const script = "S: 220 *\nC: X\nS: 250-mx\nS... 250\nC: Y\nS... 5yz\nCLOSE\n"
	tests := []struct{ out, want string }{
		{"220 x\r\n250-mx\r\n250-a\r\n250 b\r\n503 no\r\n", ""},
		{"220 x\r\n250-mx\r\n250\r\n599\r\n", ""},
		{"", `test.smtp:1: S: 220 *: the server says "" and nothing more`},
		{"220 x", `test.smtp:1: S: 220 *: the server says "220 x" and nothing more`},
		{"220 x\n\r\n", `test.smtp:1: S: 220 *: the server says "220 x\n": lines end with CRLF`},
		{"554 x\r\n", `test.smtp:1: S: 220 *: the server says "554 x"`},
		{"220 x\r\n250-mx\r\n", `test.smtp:4: S... 250: the server says "" and nothing more`},
		{"220 x\r\n250-mx\r\n250-y\r\n", `test.smtp:4: S... 250: the server says "250-y\r\n" and nothing more`},
		{"220 x\r\n250-mx\r\n251 y\r\n", `test.smtp:4: S... 250: the server says "251 y\r\n"`},
		{"220 x\r\n250-mx\r\n250-y\r\n251 z\r\n", "test.smtp:4: S... 250: smtp: bad reply: "},
		{"220 x\r\n250-mx\r\n250 y\r\n250 z\r\n", `test.smtp:6: S... 5yz: the server says "250 z\r\n"`},
		{"220 x\r\n250-mx\r\n250 y\r\n500 z\r\nx", `test.smtp:7: CLOSE: the server says "x" after the last step`},
	}
	s := parse(t, script)
	for _, tt := range tests {
		err := s.Steps.Check([]byte(tt.out))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("Check(%q): %v, want %s", tt.out, err, tt.want)
		}
	}
	optional := parse(t, "C: x\nS... 421?\nCLOSE\n").Steps
	for out, ok := range map[string]bool{"": true, "421 x\r\n": true, "221 x\r\n": false, "421 x\r\n421 y\r\n": false, "421 x": false} {
		if err := optional.Check([]byte(out)); (err == nil) != ok {
			t.Errorf("Check(%q) of an optional reply: %v", out, err)
		}
	}
	if err := (Steps{}).Check([]byte("x")); err == nil {
		t.Error("no steps match something")
	}
}

// TestTake checks that a player which reads octet by octet sees the same as one that reads all at once.
func TestTake(t *testing.T) {
	const out = "250-a\r\n250 b\r\n"
	for _, tt := range []struct {
		script string
		want   int
	}{{"S... 250\n", len(out)}, {"S: 250-a\n", len("250-a\r\n")}, {"C: x\n", 0}, {"CLOSE\n", 0}} {
		step := parse(t, tt.script).Steps[0]
		for i := range len(out) + 1 {
			want := tt.want
			if i < want {
				want = 0
			}
			if n, err := step.Take([]byte(out[:i])); n != want || err != nil {
				t.Errorf("%v: Take(%q) = %d, %v", step, out[:i], n, err)
			}
		}
	}
}

func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadDir(dir); err == nil {
		t.Error("a directory without scripts is read without an error")
	}
	for name, text := range map[string]string{"b.smtp": "C: b\n", "a.smtp": "C: a\n", "c.txt": "no script"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scripts, err := ReadDir(dir)
	if err != nil || len(scripts) != 2 || scripts[0].Name != "a.smtp" || scripts[1].Name != "b.smtp" {
		t.Errorf("ReadDir = %v, %v", scripts, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "d.smtp"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDir(dir); err == nil || !strings.HasPrefix(err.Error(), "d.smtp:1: ") {
		t.Errorf("ReadDir with a broken script: %v", err)
	}
}

// TestScripts checks the scripts of the engine: each can be read, says in its first line what rule it is about and
// where that stands, and is played to its end.
func TestScripts(t *testing.T) {
	known := []string{"lmtp", "server", "insecure-auth", "from", "to", "result"}
	for dir, atLeast := range map[string]int{"scripts": 40, "scripts/client": 8} {
		path := filepath.Join("..", "testdata", filepath.FromSlash(dir))
		scripts, err := ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(scripts) < atLeast {
			t.Errorf("%s has %d scripts; some are missing", path, len(scripts))
		}
		for _, s := range scripts {
			data, err := os.ReadFile(filepath.Join(path, s.Name))
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := bytes.Cut(data, []byte("\n\n"))
			if !bytes.HasPrefix(first, []byte("# ")) || !bytes.Contains(first, []byte("RFC ")) {
				t.Errorf("%s does not begin with a comment that names the RFC", s.Name)
			}
			for key := range s.Directives {
				if !slices.Contains(known, key) {
					t.Errorf("%s has the directive %s, which no player knows", s.Name, key)
				}
			}
			if last := s.Steps[len(s.Steps)-1].Kind; last != Close && last != Hangup {
				t.Errorf("%s does not end with CLOSE or HANGUP", s.Name)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample), []byte("220 mx.example x\r\n250 y\r\n421 z\r\n450-\r\n450\r\n"))
	f.Add([]byte("C+ \"x\" * 2\nS... 2yz * 3\nS: *a*b*\n"), []byte("250\r\n251\r\n252\r\nab\r\n"))
	f.Fuzz(func(t *testing.T, script, out []byte) {
		if bytes.Contains(script, []byte(" * ")) && len(script) > 200 {
			return // repetitions of repetitions are slow, not interesting
		}
		s, err := Parse("f", script)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("%v: where is that?", err)
			}
			return
		}
		for _, part := range s.Parts() {
			_ = part.ClientBytes()
			if err := part.Check(out); err == nil && len(out) > 0 && !slices.ContainsFunc(part, Step.fromServer) {
				t.Fatalf("%q matches a script in which the server says nothing", out)
			}
		}
	})
}
