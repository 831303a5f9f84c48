//go:build unix

package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// TestMboxFcntl: the lock of another process is respected.
func TestMboxFcntl(t *testing.T) {
	dir := t.TempDir()
	b := mboxIn(dir)
	b.LockTimeout = -1
	free := lockElsewhere(t, filepath.Join(dir, "c"))
	m := message(t, text, "c@d.example")
	if got := sendTo(t, b, m); got != "4.2.0" {
		t.Errorf("while it is locked: %s", got)
	}
	if content, _ := os.ReadFile(filepath.Join(dir, "c")); len(content) > 0 {
		t.Errorf("%q", content)
	}
	free()
	if got := sendTo(t, b, m); got != "ok" {
		t.Errorf("when it is free: %s", got)
	}
}

// TestMboxReplaced: a mailbox in whose place another file was put while it was being locked is left alone.
func TestMboxReplaced(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "c")
	b := mboxIn(dir)
	b.open = func(name string) (mailbox, error) {
		f, err := openMailbox(name)
		return &faultyMailbox{f.(osMailbox), func(op string) error {
			if op == "lock" {
				os.Rename(name, name+".old")
				return os.WriteFile(name, nil, 0o600)
			}
			return nil
		}}, err
	}
	if got := sendTo(t, b, message(t, text, "c@d.example")); got != "4.2.0" {
		t.Error(got)
	}
	for _, name := range []string{name, name + ".old"} {
		if content, err := os.ReadFile(name); len(content) > 0 || err != nil {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
}

// script returns the arguments for a shell that runs text, with further arguments as $1 and so on.
func script(text string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", text, "sh"}, args...)
}

// TestPipe runs programs that tell what they were given.
func TestPipe(t *testing.T) {
	two := []string{"c@d.example", "e@d.example"}
	for _, c := range []struct {
		name  string
		p     Pipe
		from  string
		to    []string
		want  string
		codes string
	}{
		{"one for each", Pipe{Args: script(`echo "$# $1 $2"; cat`, SenderArg, RecipientArg)}, "a@b.example",
			two,
			"2 a@b.example c@d.example\nx: y\n\nz\n2 a@b.example e@d.example\nx: y\n\nz\n", "ok ok"},
		{"together", Pipe{Args: script(`echo "$# $2 $3 ${RECIPIENT-unset}"; cat`, SenderArg, RecipientArg), Together: true},
			"", two, "3 c@d.example e@d.example unset\nx: y\n\nz\n", "ok ok"},
		{"no shell", Pipe{Args: []string{"/bin/echo", "--", RecipientArg, "$HOME"}}, "",
			[]string{`"$(id);|& >x"@d.example`}, "-- \"$(id);|& >x\"@d.example $HOME\n", "ok"},
		{"inside", Pipe{Args: script(`printf '%s\n' "$#" "$@"`, "--from={sender}", "--to={recipient}",
			"{sender}/{recipient}")}, "{recipient}@b.example", []string{"-{sender}@d.example"},
			"3\n--from={recipient}@b.example\n" +
				"--to=-{sender}@d.example\n{recipient}@b.example/-{sender}@d.example\n", "ok"},
		{"inside, together", Pipe{Args: script(`echo "$@"`, "--to={recipient}", "--from={sender}"), Together: true}, "",
			two, "--to=c@d.example --to=e@d.example --from=\n", "ok ok"},
		{"an option by an empty sender", Pipe{Args: script("echo run", "{sender}{recipient}")}, "",
			[]string{"-x@d.example"}, "", "5.1.3"},
		{"braces that are no placeholders", Pipe{Args: script(`echo "$@"; awk '{print}'`, "{}", "x{1,2}", "{ print }",
			"${print}", "{a b}")}, "", []string{"c@d.example"},
			"{} x{1,2} { print } ${print} {a b}\nx: y\n\nz\n", "ok"},
		{"dashes", Pipe{Args: script(`echo "$1 $2"`, "--", RecipientArg)}, "", []string{"-x@d.example"},
			"-- -x@d.example\n", "ok"},
		{"an option", Pipe{Args: script("echo run", RecipientArg)}, "", []string{"-x@d.example", "c@d.example"},
			"run\n", "5.1.3 ok"},
		{"an option as sender", Pipe{Args: script("echo run", SenderArg, "--")}, "-x@d.example",
			[]string{"c@d.example"}, "", "5.1.3"},
		{"environment", Pipe{Args: []string{"/usr/bin/env"}, Dir: "/tmp", Env: []string{"X=1", "PATH=/x"}}, "a@b.example",
			[]string{"c@d.example"}, "HOME=/tmp\nSENDER=a@b.example\nRECIPIENT=c@d.example\nX=1\nPATH=/x\n", "ok"},
		{"directory", Pipe{Args: []string{"/bin/pwd"}}, "", []string{"c@d.example"}, "/\n", "ok"},
		{"fields and CRLF", Pipe{Args: []string{"/bin/cat"}, TopFields: true, CRLF: true}, "", []string{"c@d.example"},
			"Return-Path: <>\r\nDelivered-To: c@d.example\r\nx: y\r\n\r\nz\r\n", "ok"},
		{"fields, together", Pipe{Args: []string{"/bin/cat"}, TopFields: true, Together: true}, "",
			two, "Return-Path: <>\nx: y\n\nz\n", "ok ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			m, err := client.NewMessage(c.from, c.to, strings.NewReader("x: y\r\n\r\nz"))
			if err != nil {
				t.Fatal(err)
			}
			// What the program prints goes through a wrapper that keeps it.
			out := filepath.Join(dir, "out")
			c.p.Args = append([]string{"/bin/sh", "-c", `out=$1; shift; exec "$@" >>"$out"`, "sh", out}, c.p.Args...)
			if got := sendTo(t, c.p, m); got != c.codes {
				t.Errorf("%s, want %s", got, c.codes)
			}
			got, _ := os.ReadFile(out)
			text := string(got)
			if c.name == "environment" {
				var lines []string
				for _, line := range strings.SplitAfter(text, "\n") {
					if !strings.HasPrefix(line, "PWD=") && !strings.HasPrefix(line, "_=") && !strings.HasPrefix(line, "OLDPWD=") &&
						!strings.HasPrefix(line, "SHLVL=") { // those are the shell's own
						lines = append(lines, line)
					}
				}
				for _, want := range strings.SplitAfter(c.want, "\n") {
					if !strings.Contains(text, want) {
						t.Errorf("%q lacks %q", text, want)
					}
				}
				if len(lines) != strings.Count(c.want, "\n")+1 {
					t.Errorf("%q has more than %q", lines, c.want)
				}
				return
			}
			if text != c.want {
				t.Errorf("%q, want %q", text, c.want)
			}
		})
	}
}

// TestPipeExit: the exit status decides, whether or not the program has read its input.
func TestPipeExit(t *testing.T) {
	long := strings.Repeat(text, 4*blockSize/len(text))
	for _, c := range []struct{ run, want string }{
		{"exit 0", "ok"}, {"cat >/dev/null; exit 0", "ok"}, {"exec <&-; exit 0", "ok"},
		{"exit 64", "5.3.0"}, {"exit 65", "5.6.0"}, {"exit 66", "5.3.0"}, {"exit 67", "5.1.1"}, {"exit 68", "5.1.2"},
		{"exit 69", "5.3.0"}, {"exit 70", "5.3.0"}, {"exit 71", "4.3.0"}, {"exit 72", "5.3.5"}, {"exit 73", "5.2.0"},
		{"exit 74", "4.3.0"}, {"exit 75", "4.3.0"}, {"exit 76", "5.5.0"}, {"exit 77", "5.7.0"}, {"exit 78", "5.3.5"},
		{"exit 1", "4.3.0"}, {"exit 63", "4.3.0"}, {"exit 79", "4.3.0"}, {"cat >/dev/null; exit 127", "4.3.0"},
		{"kill -9 $$", "4.3.0?"}, {"kill -15 $$", "4.3.0?"},
	} {
		if got := sendTo(t, Pipe{Args: script(c.run)}, message(t, long, "c@d.example")); got != c.want {
			t.Errorf("%s: %s, want %s", c.run, got, c.want)
		}
	}
	for run, want := range map[string]string{
		"exit 67": "smtp: running /bin/sh: exit status 67 (EX_NOUSER, 5.1.1)",
		"exit 75": "smtp: running /bin/sh: exit status 75 (EX_TEMPFAIL, 4.3.0)",
		"exit 1":  "smtp: running /bin/sh: exit status 1 (4.3.0)",
	} {
		res, _ := Pipe{Args: script(run)}.Send(t.Context(), message(t, text, "c@d.example"))
		var exit *exec.ExitError
		if err := res.Recipients[0].Err; fmt.Sprint(err) != want || !errors.As(err, &exit) {
			t.Errorf("%s: %v, want %s", run, err, want)
		}
	}
	_, err := Pipe{Args: script("exit 0", RecipientArg)}.Send(t.Context(), message(t, text, "-x@d.example"))
	if !strings.Contains(fmt.Sprint(err), `put "--" before {recipient}`) {
		t.Errorf("an option: %v", err)
	}
	for _, args := range [][]string{nil, {""}, {"/missing/program"}, {"/"}} {
		if got := sendTo(t, Pipe{Args: args}, message(t, long, "c@d.example")); got != "4.3.5" {
			t.Errorf("%q: %s, want 4.3.5", args, got)
		}
	}
}

// TestPipeOutput: what the program prints is in the error if that is asked for, up to a bound.
func TestPipeOutput(t *testing.T) {
	p := Pipe{Args: script("echo hello; printf 'wo\\treld\\n' >&2; yes | head -c 100000; exit 75")}
	m := message(t, text, "c@d.example")
	_, err := p.Send(t.Context(), m)
	if err == nil || strings.Contains(err.Error(), "hello") {
		t.Errorf("%v", err)
	}
	p.Output = true
	_, err = p.Send(t.Context(), m)
	s := fmt.Sprint(err)
	if !strings.Contains(s, ": hello; wo; reld; y; y") || strings.Count(s, "y") > maxOutput || len(s) > 3*maxOutput {
		t.Errorf("%d octets: %.200s", len(s), s)
	}
}

// await returns the number that a program writes into a named pipe.
func await(t *testing.T, fifo string) int {
	t.Helper()
	b, err := os.ReadFile(fifo)
	n, err2 := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	return n
}

// TestPipeKilled: when the context ends, the program is killed with what it has started, whether or not it reads.
func TestPipeKilled(t *testing.T) {
	for _, text := range []string{text, strings.Repeat(text, 4*blockSize/len(text))} {
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		p := Pipe{Args: script(`sleep 1000 & echo $! >"$1"; wait`, fifo), Timeout: -1}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		child := 0
		all.Go(func() {
			child = await(t, fifo)
			cancel()
		})
		res, err := p.Send(ctx, message(t, text, "c@d.example"))
		all.Wait()
		if codes(res) != "4.3.0?" || client.Temporary(err) {
			t.Errorf("%s, %v", codes(res), err)
		}
		for tries := 0; tries < 10000 && !gone(child); tries++ {
			<-time.After(time.Millisecond) // a process that was killed takes its time
		}
		if !gone(child) {
			t.Error("what the program has started goes on")
		}
	}
}

// TestPipeTimeout: a program that takes too long is killed.
func TestPipeTimeout(t *testing.T) {
	p := Pipe{Args: script("sleep 1000 & wait"), Timeout: 100 * time.Millisecond}
	res, err := p.Send(t.Context(), message(t, text, "c@d.example"))
	if !strings.HasPrefix(codes(res), "4.3.0") || !client.Temporary(err) || !errors.Is(err, errPipeTimeout) {
		t.Errorf("%s, %v", codes(res), err)
	}
}

// gone reports whether a process that was killed is no more, or will not be once somebody asks for its status.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z ")) || bytes.Contains(stat, []byte(") X "))
}

// TestPipeBody: if the Body fails or panics, the program is killed before it sees an end.
func TestPipeBody(t *testing.T) {
	for _, panics := range []bool{false, true} {
		dir := t.TempDir()
		m := message(t, "", "c@d.example")
		m.Body = client.OpenBody(func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat(text, 2*blockSize/len(text))),
				readFunc(func([]byte) (int, error) {
					if panics {
						panic("the body")
					}
					return 0, errors.New("broken")
				}))), nil
		})
		func() {
			defer func() {
				if p := recover(); (p != nil) != panics {
					t.Errorf("%v", p)
				}
			}()
			p := Pipe{Args: script(`cat >/dev/null; echo whole >"$1"`, filepath.Join(dir, "whole"))}
			if got := sendTo(t, p, m); got != "5.6.0" {
				t.Error(got)
			}
		}()
		if names := tree(t, dir); len(names) > 0 {
			t.Errorf("the program took it for the whole")
		}
	}
}

// TestPipeLeavesBehind: a program that exits with 0, and leaves something running that holds its output, is not waited
// for.
func TestPipeLeavesBehind(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	child := 0
	all.Go(func() { child = await(t, fifo) })
	got := sendTo(t, Pipe{Args: script(`sleep 1000 & echo $! >"$1"`, fifo)}, message(t, text, "c@d.example"))
	all.Wait()
	if got != "ok" || gone(child) {
		t.Errorf("%s, gone: %v", got, gone(child))
	}
	syscall.Kill(child, syscall.SIGKILL)
}

// TestPipeAllOrNone: it can be kept if there is one run.
func TestPipeAllOrNone(t *testing.T) {
	m := message(t, text, "c@d.example", "e@d.example")
	m.AllOrNone = true
	if got := sendTo(t, Pipe{Args: script("exit 0")}, m); got != "5.6.0 5.6.0" {
		t.Error(got)
	}
	for status, want := range map[string]string{"0": "ok ok", "67": "5.1.1 5.1.1"} {
		if got := sendTo(t, Pipe{Args: script("exit " + status), Together: true}, m); got != want {
			t.Error(got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, p := range []Pipe{{Args: script("exit 0")}, {Args: script("exit 0"), Together: true}} {
		m.AllOrNone = false
		res, err := p.Send(ctx, m)
		if codes(res) != "4.3.0 4.3.0" || client.Temporary(err) {
			t.Errorf("%s, %v", codes(res), err)
		}
		if _, err := p.Send(t.Context(), &client.Message{From: proto.Address{}}); err == nil {
			t.Error("without recipients: no error")
		}
	}
}
