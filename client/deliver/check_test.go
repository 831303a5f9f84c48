package deliver

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPipeCheck: mistakes are told before the first message, and no program is run with them.
func TestPipeCheck(t *testing.T) {
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p    Pipe
		want string // in the error; "" for none
		runs bool   // Send does not refuse it
	}{
		{Pipe{Args: []string{me, SenderArg, RecipientArg, "--to={recipient}", "-f{sender}", "{sender},{recipient}"}},
			"", true},
		{Pipe{Args: []string{me, "{}", "x{1,2}", "{ print }", "${print}", "{print} it", "{", "}{"}}, "", true},
		{Pipe{Args: []string{me}, Dir: dir, Env: []string{"A=", "B=c=d"}}, "", true},
		{Pipe{}, "Pipe.Args: there is no program", false},
		{Pipe{Args: []string{"", "x"}}, "Pipe.Args: there is no program", false},
		{Pipe{Args: []string{me, "{recpient}"}}, "unknown placeholder {recpient}: write {sender} or {recipient}", false},
		{Pipe{Args: []string{me, "--", "--to={rcpt-to}"}}, `Pipe.Args[2]: "--to={rcpt-to}" has the unknown`, false},
		{Pipe{Args: []string{me, "{sender}{Recipient}"}}, "unknown placeholder {Recipient}", false},
		{Pipe{Args: []string{me, "-c", "x {recipient}"}}, `write "$1" in the script`, false},
		{Pipe{Args: []string{me, "${recipient}"}}, "without the $", false},
		{Pipe{Args: []string{me, "-c", "x;{sender}"}}, "is like a script", false},
		{Pipe{Args: []string{me, "-c", "x`{sender}`"}}, "is like a script", false},
		{Pipe{Args: []string{me, "-c", "x\n{sender}"}}, "is like a script", false},
		{Pipe{Args: []string{"/bin/{sender}"}}, "must not choose the program", false},
		{Pipe{Args: []string{me, "a\x00b"}}, "NUL", false},
		{Pipe{Args: []string{me}, Env: []string{"A=b", "LANG"}}, `Pipe.Env[1]: "LANG" is no variable`, false},
		{Pipe{Args: []string{me}, Env: []string{"=b"}}, "Pipe.Env[0]", false},
		{Pipe{Args: []string{me}, Dir: plain}, "Pipe.Dir", true},
		{Pipe{Args: []string{me}, Dir: filepath.Join(dir, "none")}, "Pipe.Dir", true},
		{Pipe{Args: []string{plain + ".none"}}, "Pipe.Args[0]", true},
		{Pipe{Args: []string{"no-such-program-anywhere"}}, "Pipe.Args[0]", true},
		{Pipe{Args: []string{"./none"}, Dir: dir}, "Pipe.Args[0]", true},
	} {
		err := c.p.Check()
		if c.want == "" {
			if err != nil {
				t.Errorf("%q: %v", c.p.Args, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "smtp: Pipe.") {
			t.Errorf("%q: %v, want %s", c.p.Args, err, c.want)
		}
		if (c.p.settings() == nil) != c.runs {
			t.Errorf("%q: %v, want that it runs: %v", c.p.Args, c.p.settings(), c.runs)
		}
		if !c.runs {
			if got := sendTo(t, c.p, message(t, "x\r\n", "c@d.example")); got != "4.3.5" {
				t.Errorf("%q: %s, want 4.3.5", c.p.Args, got)
			}
		}
	}
	if err := (Pipe{Args: []string{me}, Dir: filepath.Join(dir, "none")}).Check(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that it does not exist", err)
	}
}

// TestPipeCheckRelative: a relative path of a program is below Dir, as in a run.
func TestPipeCheckRelative(t *testing.T) {
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := Pipe{Args: []string{"./" + filepath.Base(me)}, Dir: filepath.Dir(me)}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}
