package policy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
)

// lookup knows three recipients, and fails for two.
func lookup(_ context.Context, a proto.Address) (bool, error) {
	switch a.Key() {
	case "joe@example.org", "ann+@example.org", "ann-x@example.org", "@example.org":
		return true, nil
	case "down@example.org", "joe+down@example.org":
		return false, errors.New("the database is down")
	case "refusal@example.org":
		return false, proto.Refuse(550, proto.Status{5, 1, 1}, "of something else")
	case "panic@example.org":
		panic("a mistake")
	}
	return false, nil
}

// TestRecipients checks who exists, and what is said of the others. Each dialogue goes on with a recipient that exists.
func TestRecipients(t *testing.T) {
	plain := Recipients{Lookup: lookup}
	plus := Recipients{Lookup: lookup, Delimiters: "+-"}
	ours := Recipients{Lookup: lookup, Domains: []string{"EXAMPLE.org"}}
	unknown := func(who string) string { return "recipient=fail (" + who + " is unknown)" }
	tests := []struct {
		name  string
		part  Recipients
		to    string
		want  string
		found string
	}{
		{"known", plain, "joe@Example.ORG", "250", ""},
		{"unknown", plain, "bob@example.org", "550 5.1.1", unknown("bob@example.org")},
		{"unknown elsewhere", plain, "joe@example.net", "550", unknown("joe@example.net")},
		{"not asked elsewhere", ours, "joe@example.net", "250", ""},
		{"asked at home", ours, "bob@example.org", "550", unknown("bob@example.org")},
		{"D02 postmaster", plain, "PostMaster", "250", ""},
		{"D02 postmaster at home", plain, "POSTMASTER@example.org", "250", ""},
		{"D02 postmaster, with domains", ours, "postmaster", "250", ""},
		{"detail, without delimiters", plain, "joe+a@example.org", "550", unknown("joe+a@example.org")},
		{"detail", plus, "joe+a@example.org", "250", ""},
		{"empty detail", plus, "joe+@example.org", "250", ""},
		{"two details", plus, "joe-a+b@example.org", "250", ""},
		{"the whole first", plus, "ann-x@example.org", "250", ""},
		{"no mailbox", plus, "+a@example.org", "550", unknown("+a@example.org")},
		{"unknown with detail", plus, "bob+a@example.org", "550", unknown("bob+a@example.org")},
		{"Y34 no database", plain, "down@example.org", "451 4.3.0", "recipient=temperror"},
		{"no database for the mailbox", plus, "down+a@example.org", "451 4.3.0", "recipient=temperror"},
		{"no database for the whole", plus, "joe+down@example.org", "250", ""},
		{"looks like a refusal", plain, "refusal@example.org", "451 4.3.0", "recipient=temperror"},
		{"panic", plain, "panic@example.org", "451 4.3.0", "recipient=temperror"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil, nil, tt.part)
			p := w.dial("192.0.2.7")
			p.ask("EHLO client.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<"+tt.to+">", tt.want,
				"RCPT TO:<joe@example.org>", "250", "QUIT", "221")
			p.closed()
			if got := w.found(); got != tt.found {
				t.Errorf("verdicts %s, want %s", got, tt.found)
			}
		})
	}
	for _, tt := range []struct {
		part Recipients
		want string
	}{
		{Recipients{}, "smtp: policy.Recipients.Lookup: it is nil"},
		{Recipients{Lookup: lookup, Domains: []string{"a b"}}, `smtp: policy.Recipients.Domains: "a b" is no domain`},
		{Recipients{Lookup: lookup, Delimiters: "+@"}, "smtp: policy.Recipients.Delimiters: "},
		{Recipients{Lookup: lookup, Delimiters: "\x00"}, "smtp: policy.Recipients.Delimiters: "},
	} {
		if _, err := tt.part.Middleware(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("the error is %v, want %q in it", err, tt.want)
		}
	}
}

// A logBuffer is a buffer that several goroutines may use.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns what was logged, and forgets it.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

// A recipientTest has a file of recipients.
type recipientTest struct {
	*testing.T
	path string
	*RecipientFile
}

// write replaces the file, or writes into it.
func (t *recipientTest) write(text string, replace bool) {
	t.Helper()
	path := t.path
	if replace {
		path += ".new"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if replace {
		if err := os.Rename(path, t.path); err != nil {
			t.Fatal(err)
		}
	}
}

// has checks whether there is an address.
func (t *recipientTest) has(addr string, want bool) {
	t.Helper()
	a := proto.Address{Local: "postmaster"}
	if addr != "postmaster" {
		var err error
		if a, err = proto.ParseAddress(addr); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := t.Lookup(t.Context(), a); got != want || err != nil {
		t.Errorf("%s: %v, %v, want %v", addr, got, err, want)
	}
}

// TestRecipientFile checks what is found in a file.
func TestRecipientFile(t *testing.T) {
	r := &recipientTest{T: t, path: filepath.Join(t.TempDir(), "recipients")}
	r.write("# ours\r\n\r\n  Joe@Example.org  \n\"x y\"@example.org\nmüller@bücher.example\n@all.example\n", false)
	var err error
	if r.RecipientFile, err = ReadRecipients(r.path, nil); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"joe@example.org": true, "JOE@EXAMPLE.ORG": true, "joe@example.net": false, "ann@example.org": false,
		`"X Y"@example.org`: true, "MÜLLER@xn--bcher-kva.example": true, "anybody@ALL.example": true,
		"joe@sub.all.example": false, "postmaster": false,
	} {
		r.has(addr, want)
	}
	const three = "a@e.example\nb@e.example\nA@e.example\n@f.example\n"
	if _, err := parseRecipients(strings.NewReader(three), 3); err != nil {
		t.Error(err)
	}
	_, err = parseRecipients(strings.NewReader(three), 2)
	if err == nil || err.Error() != "line 4: there are more than 2 recipients" {
		t.Errorf("the error is %v", err)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"a wildcard", "*@b.example\n", `line 1: "*@b.example" stands for one mailbox; write "@b.example"`},
		{"malformed", "a@b.example\nnobody\n", `line 2: "nobody" is neither an address nor @ and a domain`},
		{"a domain is malformed", "@b_c.example", "line 1"},
		{"empty", "# none\n", "there is no recipient in it"},
		{"a long line", "#\n" + strings.Repeat("x", 1<<17), "line 2: bufio.Scanner: token too long"},
		{"too large", strings.Repeat("#\n", maxRecipientFile/2+1), "more than 67108864 octets"},
	} {
		r.write(tt.text, false)
		for _, err := range []error{r.Reload(), second(ReadRecipients(r.path, nil))} {
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "smtp: ") {
				t.Errorf("%s: the error is %.200v, want %q in it", tt.name, err, tt.want)
			}
		}
		r.has("joe@example.org", true)
	}
}

func second[T any](_ T, err error) error { return err }

// TestRecipientFileChanges checks when a file is read again, and that what cannot be read changes nothing.
func TestRecipientFileChanges(t *testing.T) {
	r := &recipientTest{T: t, path: filepath.Join(t.TempDir(), "recipients")}
	r.write("a@e.example\n", false)
	synctest.Test(t, func(t *testing.T) {
		log := &logBuffer{}
		opt := &RecipientFileOptions{Interval: time.Minute, Logger: slog.New(slog.NewTextHandler(log, nil))}
		var err error
		if r.RecipientFile, err = ReadRecipients(r.path, opt); err != nil {
			t.Fatal(err)
		}
		pass := func(d time.Duration) { time.Sleep(d) } // in a bubble
		expect := func(want string) {
			t.Helper()
			if got := log.take(); !strings.Contains(got, want) || want == "" && got != "" {
				t.Errorf("the log is %q, want %q", got, want)
			}
		}
		r.write("b@e.example\nc@e.example\n", true)
		r.has("b@e.example", false) // it is not yet time
		pass(time.Minute)
		r.has("b@e.example", false) // it has changed, and may be changing
		r.write("b@e.example\nc@e.example\nd@e.example\n", false)
		pass(time.Minute)
		r.has("b@e.example", false) // indeed
		expect("")
		pass(time.Minute)
		r.has("d@e.example", true)
		r.has("a@e.example", false)
		expect(`msg="smtp: the recipients were read again" file=` + r.path + " recipients=3")
		pass(time.Minute)
		r.has("d@e.example", true)
		expect("")

		for range 3 {
			r.write("nonsense\n", true)
			pass(time.Minute)
			r.has("d@e.example", true)
			pass(time.Minute)
			r.has("d@e.example", true)
		}
		got := log.take()
		if strings.Count(got, "level=ERROR") != 1 || !strings.Contains(got, `line 1: \"nonsense\"`) {
			t.Errorf("the log is %q, want one error", got)
		}
		if err := os.Remove(r.path); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		r.has("d@e.example", true)
		expect("no such file")
		r.write("e@e.example\n", true)
		pass(time.Minute)
		r.has("e@e.example", false)
		pass(time.Minute)
		r.has("e@e.example", true)
		expect("read again")

		// Each of what tells a file from another is enough.
		same := func() {
			t.Helper()
			if err := os.Chtimes(r.path, time.Time{}, time.Unix(1e9, 0)); err != nil {
				t.Fatal(err)
			}
		}
		await := func() {
			pass(time.Minute)
			r.has("z@e.example", false)
			pass(time.Minute)
		}
		same()
		await()
		r.has("e@e.example", true)
		r.write("f@e.example\n", true)
		same()
		await()
		r.has("f@e.example", true)
		r.write("g@e.example\nh@e.example\n", false)
		same()
		await()
		r.has("h@e.example", true)
		r.write("g@e.example\ni@e.example\n", false)
		await()
		r.has("i@e.example", true)

		// A file that is there again is told, and so is the next failure.
		log.take()
		for range 2 {
			if err := os.Rename(r.path, r.path+".away"); err != nil {
				t.Fatal(err)
			}
			await()
			expect("no such file")
			if err := os.Rename(r.path+".away", r.path); err != nil {
				t.Fatal(err)
			}
			await()
			r.has("i@e.example", true)
			expect("read again")
		}

		r.write("f@e.example\n", true)
		if err := r.Reload(); err != nil {
			t.Error(err)
		}
		r.has("f@e.example", true)
	})
}
