package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

var (
	mboxStart  = regexp.MustCompile(`(?m)^From `)
	mboxFrom   = regexp.MustCompile(`^(\S+) (\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\n`)
	mboxQuoted = regexp.MustCompile(`(?m)^>(>*From )`)
)

// readMbox returns the messages of a mailbox of the kind mboxrd, without their quoting.
func readMbox(t *testing.T, name string) (froms, messages []string) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(content) == 0 {
		return nil, nil
	}
	parts := mboxStart.Split(string(content), -1)
	if parts[0] != "" {
		t.Errorf("it begins with %q", parts[0])
	}
	for _, part := range parts[1:] {
		from := mboxFrom.FindStringSubmatch(part)
		if from == nil || !strings.HasSuffix(part, "\n\n") {
			t.Errorf("%q is no message", part)
			continue
		}
		if date, err := time.Parse(time.ANSIC, from[2]); err != nil || time.Since(date).Abs() > time.Hour {
			t.Errorf("%q, %v", from[2], err)
		}
		froms = append(froms, from[1])
		messages = append(messages, mboxQuoted.ReplaceAllString(strings.TrimSuffix(part[len(from[0]):], "\n"), "$1"))
	}
	return froms, messages
}

func mboxIn(dir string) Mbox {
	return Mbox{Path: func(a proto.Address) (string, error) { return filepath.Join(dir, a.Local), nil }}
}

// TestJ08_Mbox delivers messages, and reads them with a reader of its own and with net/mail.
func TestJ08_Mbox(t *testing.T) {
	dir := t.TempDir()
	b := mboxIn(dir)
	sent := []string{text, "\r\n>From x\r\n\r\nFrom y\r\n\r\n", "", "Subject: no end of line\r\n\r\nx"}
	for i, s := range sent {
		m := message(t, s, "c@d.example", "e@d.example")
		if i == 1 {
			m.From = proto.Address{}
		}
		if i == 2 {
			m.From.Local = "a b\u00a0c"
		}
		if got := sendTo(t, b, m); got != "ok ok" {
			t.Fatal(got)
		}
	}
	for _, user := range []string{"c", "e"} {
		froms, messages := readMbox(t, filepath.Join(dir, user))
		want := []string{"a@b.example", "MAILER-DAEMON", `"a_b` + "\u00a0" + `c"@b.example`, "a@b.example"}
		if !slices.Equal(froms, want) {
			t.Errorf("%q, want %q", froms, want)
		}
		if len(messages) != len(sent) {
			t.Fatalf("%d messages, want %d", len(messages), len(sent))
		}
		if !strings.HasSuffix(messages[1], "\n\n>From x\n\nFrom y\n\n") {
			t.Errorf("%q", messages[1])
		}
		msg, err := mail.ReadMessage(strings.NewReader(messages[0]))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(msg.Body)
		if string(body) != "From here\nto there\n" || len(msg.Header["Return-Path"]) != 1 ||
			msg.Header.Get("Return-Path") != "<a@b.example>" || msg.Header.Get("Delivered-To") != user+"@d.example" {
			t.Errorf("%q", messages[0])
		}
	}
	if names := tree(t, dir); fmt.Sprint(names) != "[c e]" {
		t.Errorf("left behind: %q", names)
	}
}

// TestMboxAfterOthers: a mailbox that does not end as it should gets an end first.
func TestMboxAfterOthers(t *testing.T) {
	for _, c := range []struct{ was, want string }{
		{"From x\n\nhello\n\n", ""}, {"From x\n\nhello\n", "\n"}, {"From x\n\nhello", "\n\n"}, {"x", "\n\n"}, {"\n", "\n"},
	} {
		dir := t.TempDir()
		name := filepath.Join(dir, "c")
		if err := os.WriteFile(name, []byte(c.was), 0o640); err != nil {
			t.Fatal(err)
		}
		if got := sendTo(t, mboxIn(dir), message(t, text, "c@d.example")); got != "ok" {
			t.Fatal(got)
		}
		if content, _ := os.ReadFile(name); !strings.HasPrefix(string(content), c.was+c.want+"From a@b.example ") {
			t.Errorf("%q: %q", c.was, content)
		}
	}
}

// TestMboxMany delivers a thousand messages at the same time, with the lock file and without.
func TestMboxMany(t *testing.T) {
	const senders, each = 20, 25
	for _, noDotLock := range []bool{false, true} {
		dir := t.TempDir()
		b := mboxIn(dir)
		b.NoDotLock = noDotLock
		var all sync.WaitGroup
		for s := range senders {
			all.Go(func() {
				for i := range each {
					m := message(t, fmt.Sprintf("Subject: %d\r\n\r\nFrom %[1]d\r\n", s*each+i), "c@d.example")
					if _, err := b.Send(t.Context(), m); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		_, messages := readMbox(t, filepath.Join(dir, "c"))
		seen := make(map[string]bool)
		for _, text := range messages {
			_, rest, _ := strings.Cut(text, "Subject: ")
			n, body, _ := strings.Cut(rest, "\n")
			if body != "\nFrom "+n+"\n" {
				t.Errorf("%q", text)
			}
			seen[n] = true
		}
		if len(seen) != senders*each {
			t.Errorf("%d messages, want %d", len(seen), senders*each)
		}
		if len(turns.of) > 0 {
			t.Errorf("%d turns are left", len(turns.of))
		}
	}
}

// faultyMailbox is a mailbox whose operations fail.
type faultyMailbox struct {
	osMailbox
	fault func(op string) error
}

func (f *faultyMailbox) ReadAt(p []byte, at int64) (int, error) {
	if err := f.fault("read"); err != nil {
		return 0, err
	}
	return f.osMailbox.ReadAt(p, at)
}

func (f *faultyMailbox) WriteAt(p []byte, at int64) (int, error) {
	if err := f.fault("write"); err != nil {
		n, _ := f.osMailbox.WriteAt(p[:len(p)/2], at)
		return n, err
	}
	return f.osMailbox.WriteAt(p, at)
}

func (f *faultyMailbox) Sync() error {
	if err := f.fault("sync"); err != nil {
		return err
	}
	return f.osMailbox.Sync()
}

func (f *faultyMailbox) Truncate(n int64) error {
	if err := f.fault("truncate"); err != nil {
		return err
	}
	return f.osMailbox.Truncate(n)
}

func (f *faultyMailbox) lock() (bool, error) {
	if err := f.fault("lock"); err != nil {
		return false, err
	}
	return f.osMailbox.lock()
}

// TestMboxFaults has each operation fail once: the mailbox is what it was.
func TestMboxFaults(t *testing.T) {
	broken := errors.New("broken")
	for _, was := range []string{"", "From x\n\nhello\n\n"} {
		for at := 0; ; at++ {
			dir := t.TempDir()
			name := filepath.Join(dir, "c")
			os.WriteFile(name, []byte(was), 0o600)
			b := mboxIn(dir)
			n, failed := 0, ""
			b.open = func(name string) (mailbox, error) {
				f, err := openMailbox(name)
				if err != nil {
					return nil, err
				}
				return &faultyMailbox{f.(osMailbox), func(op string) error {
					if n++; n-1 == at {
						failed = op
						return broken
					}
					return nil
				}}, nil
			}
			got := sendTo(t, b, message(t, strings.Repeat(text, 3*blockSize/len(text)), "c@d.example"))
			if failed == "" {
				if got != "ok" || at < 5 {
					t.Errorf("%s at %d", got, at)
				}
				break
			}
			content, _ := os.ReadFile(name)
			if got != "4.3.0" || string(content) != was {
				t.Errorf("operation %d (%s): %s, %d octets", at, failed, got, len(content))
			}
			if names := tree(t, dir); len(names) != 1 {
				t.Errorf("operation %d (%s): left behind: %q", at, failed, names)
			}
		}
	}
	dir := t.TempDir()
	b := mboxIn(dir)
	b.open = func(name string) (mailbox, error) {
		f, err := openMailbox(name)
		return &faultyMailbox{f.(osMailbox), func(op string) error {
			if op == "sync" || op == "truncate" {
				return broken
			}
			return nil
		}}, err
	}
	if got := sendTo(t, b, message(t, text, "c@d.example")); got != "4.3.0?" {
		t.Errorf("%s, want that it is in doubt", got)
	}
}

// TestMboxBody: a Body that fails or panics leaves nothing behind, and no lock.
func TestMboxBody(t *testing.T) {
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
			if got := sendTo(t, mboxIn(dir), m); got != "5.6.0" {
				t.Error(got)
			}
		}()
		if content, err := os.ReadFile(filepath.Join(dir, "c")); len(content) > 0 || err != nil {
			t.Errorf("%d octets, %v", len(content), err)
		}
		if names := tree(t, dir); len(names) != 1 || len(turns.of) > 0 {
			t.Errorf("left behind: %q, %v", names, turns.of)
		}
	}
}

// TestMboxLocks waits for lock files, and gives up, in no time.
func TestMboxLocks(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Mbox)
		age    time.Duration // of a lock file
		free   time.Duration // when it is removed; 0: never
		cancel time.Duration // when the context ends; 0: never
		want   string
		took   time.Duration
	}{
		{"freed in time", nil, 0, 20 * time.Second, 0, "ok", 21 * time.Second},
		{"not freed", nil, 0, 0, 0, "4.2.0", defaultLockTimeout},
		{"no wait", func(b *Mbox) { b.LockTimeout = -1 }, 0, 0, 0, "4.2.0", 0},
		{"context", nil, 0, 0, 5 * time.Second, "4.3.0", 5 * time.Second},
		{"stale", nil, defaultStaleLock, 0, 0, "ok", 0},
		{"stale later", nil, defaultStaleLock - 10*time.Second, 0, 0, "ok", 12 * time.Second},
		{"never stale", func(b *Mbox) { b.StaleLock = -1 }, 100 * time.Hour, 0, 0, "4.2.0", defaultLockTimeout},
		{"not asked for", func(b *Mbox) { b.NoDotLock = true }, 0, 0, 0, "ok", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			lock := filepath.Join(dir, "c.lock")
			if err := os.WriteFile(lock, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			made := time.Now().Add(-c.age)
			if err := os.Chtimes(lock, made, made); err != nil {
				t.Fatal(err)
			}
			if c.free > 0 {
				time.AfterFunc(c.free, func() { os.Remove(lock) })
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.cancel > 0 {
				time.AfterFunc(c.cancel, cancel)
			}
			b := mboxIn(dir)
			if c.change != nil {
				c.change(&b)
			}
			start := time.Now()
			res, _ := b.Send(ctx, message(t, text, "c@d.example"))
			took := time.Since(start)
			if codes(res) != c.want || took > c.took+10*time.Millisecond || took < c.took-2*time.Second {
				t.Errorf("%s: %s after %v, want %s after %v", c.name, codes(res), took, c.want, c.took)
			}
			if _, err := os.Stat(lock); (err == nil) != (c.want != "ok" || c.name == "not asked for") {
				t.Errorf("%s: the lock file: %v", c.name, err)
			}
		})
	}
}

// TestMboxStaleLockReplaced: a lock that was made after a stale one was found, and removed by others, stays.
func TestMboxStaleLockReplaced(t *testing.T) {
	dir := t.TempDir()
	lock := filepath.Join(dir, "c.lock")
	for _, content := range []string{"old", "new"} {
		name := filepath.Join(dir, content)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.Lstat(filepath.Join(dir, "old"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "new"), lock); err != nil {
		t.Fatal(err)
	}
	removeFound(lock, old)
	if content, _ := os.ReadFile(lock); string(content) != "new" || len(tree(t, dir)) != 2 {
		t.Errorf("%q, %q", content, tree(t, dir))
	}
	removeFound(lock+".missing", old)
	if err := os.Rename(filepath.Join(dir, "old"), lock); err != nil {
		t.Fatal(err)
	}
	if removeFound(lock, old); len(tree(t, dir)) != 0 {
		t.Errorf("%q", tree(t, dir))
	}
}

// TestMboxKinds: what is no plain file is no mailbox, and a missing directory is not made.
func TestMboxKinds(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "directory"), 0o700)
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
	os.Symlink("file", filepath.Join(dir, "link"))
	os.Symlink("missing", filepath.Join(dir, "dangling"))
	for _, user := range []string{"directory", "link", "dangling", "a/b"} {
		m := message(t, text, "c@d.example")
		m.To[0].Address.Local = user
		if got := sendTo(t, mboxIn(dir), m); !strings.HasPrefix(got, "4.3.") {
			t.Errorf("%s: %s", user, got)
		}
	}
	content, _ := os.ReadFile(filepath.Join(dir, "file"))
	if names := tree(t, dir); len(content) > 0 || fmt.Sprint(names) != "[dangling directory/ file link]" {
		t.Errorf("%q, %q", content, names)
	}
	if got := sendTo(t, Mbox{}, message(t, text, "c@d.example")); got != "4.3.5" {
		t.Error(got)
	}
}
