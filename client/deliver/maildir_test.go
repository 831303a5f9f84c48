package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// tree returns the names below root, as paths, with a "/" behind those of directories.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, _ := filepath.Rel(root, path); e.IsDir() {
			names = append(names, filepath.ToSlash(name)+"/")
		} else {
			names = append(names, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names[1:]
}

// codes returns the status codes of the outcomes, "ok" for those without an error, with a "?" for those in doubt.
func codes(res *client.Result) string {
	var all []string
	for _, r := range res.Recipients {
		code := "ok"
		var coded interface{ Status() proto.Status }
		var reply *proto.Error
		switch {
		case r.Err == nil:
		case errors.As(r.Err, &reply):
			code = reply.Status.String()
		case errors.As(r.Err, &coded):
			code = coded.Status().String()
			if !client.SafeToRetry(r.Err) {
				code += "?"
			}
		default:
			code = r.Err.Error()
		}
		all = append(all, code)
	}
	return strings.Join(all, " ")
}

// send delivers m by s, and returns the codes of its outcomes.
func sendTo(t *testing.T, s client.Sender, m *client.Message) string {
	t.Helper()
	res, err := s.Send(t.Context(), m)
	if (err == nil) != (res.Sent() == len(m.To)) {
		t.Errorf("%d sent, %v", res.Sent(), err)
	}
	if failed, ok := err.(*client.SendError); err != nil && (!ok || failed.Result != res) {
		t.Errorf("%T, want a SendError with the same result", err)
	}
	for i, r := range res.Recipients {
		if !r.Address.Equal(m.To[i].Address) {
			t.Errorf("%v in the place of %v", r.Address, m.To[i].Address)
		}
		if r.Err != nil && !strings.HasPrefix(r.Err.Error(), "smtp: ") {
			t.Errorf("%q has not the prefix", r.Err)
		}
	}
	return codes(res)
}

const text = "Received: from x\r\nReturn-Path: <old@x.example>\r\nSubject: Hello\r\n\r\nFrom here\r\nto there\r\n"

var maildirName = regexp.MustCompile(`^(\d+\.M\d{6}P\d+Q\d+_[0-9a-f]{16}\.[^/:,]+),S=(\d+)$`)

// TestJ08_Maildir delivers to several recipients, and reads what is there with net/mail.
func TestJ08_Maildir(t *testing.T) {
	root := t.TempDir()
	d := Maildir{Path: Under(filepath.Join(root, "mail"))}
	m := message(t, text, "c@d.example", "E@D.example", "../x@d.example", "c@d.example")
	res, err := d.Send(t.Context(), m)
	if got := codes(res); got != "ok ok 5.1.1 ok" {
		t.Fatalf("%s, %v", got, err)
	}
	var total int64
	for user, count := range map[string]int{"c": 2, "e": 1} {
		dir := filepath.Join(root, "mail", "d.example", user)
		var dirs []string
		files := 0
		for _, name := range tree(t, dir) {
			if strings.HasSuffix(name, "/") {
				dirs = append(dirs, name)
				continue
			}
			files++
			match := maildirName.FindStringSubmatch(strings.TrimPrefix(name, "new/"))
			content, err := os.ReadFile(filepath.Join(dir, name))
			if match == nil || err != nil || match[2] != strconv.Itoa(len(content)) {
				t.Fatalf("%s with %d octets, %v", name, len(content), err)
			}
			total += int64(len(content))
			msg, err := mail.ReadMessage(strings.NewReader(string(content)))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(msg.Body)
			if got := msg.Header["Return-Path"]; !slices.Equal(got, []string{"<a@b.example>"}) {
				t.Errorf("Return-Path %q, want one", got)
			}
			if got := msg.Header.Get("Delivered-To"); !strings.EqualFold(got, user+"@d.example") {
				t.Errorf("Delivered-To %q", got)
			}
			if msg.Header.Get("Received") != "from x" || string(body) != "From here\nto there\n" ||
				strings.Contains(string(content), "\r") {
				t.Errorf("%q", content)
			}
		}
		if !slices.Equal(dirs, []string{"cur/", "new/", "tmp/"}) || files != count {
			t.Errorf("%s: %q and %d files", user, dirs, files)
		}
	}
	if res.Octets != total {
		t.Errorf("%d octets, want %d", res.Octets, total)
	}
	for _, name := range tree(t, root) {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// TestMaildirOptions: each option, and what Path and Folder may say.
func TestMaildirOptions(t *testing.T) {
	refusal := proto.Refuse(550, proto.Status{5, 2, 1}, "gone away")
	for _, c := range []struct {
		name string
		d    func(root string) Maildir
		want string
		tree string
	}{
		{"no Path", func(string) Maildir { return Maildir{} }, "4.3.5", ""},
		{"no mailbox", func(string) Maildir {
			return Maildir{Path: func(proto.Address) (string, error) { return "", nil }}
		}, "5.1.1", ""},
		{"refused by Path", func(string) Maildir {
			return Maildir{Path: func(proto.Address) (string, error) { return "", fmt.Errorf("x: %w", refusal) }}
		}, "5.2.1", ""},
		{"Path fails", func(string) Maildir {
			return Maildir{Path: func(proto.Address) (string, error) { return "", io.ErrUnexpectedEOF }}
		}, "4.3.0", ""},
		{"folder", func(root string) Maildir {
			return Maildir{Path: Under(root), Folder: func(a proto.Address) string { return "Lists." + a.Local }}
		}, "ok", "d.example/ d.example/c/ d.example/c/.Lists.c/ d.example/c/.Lists.c/cur/ " +
			"d.example/c/.Lists.c/maildirfolder d.example/c/.Lists.c/new/ d.example/c/.Lists.c/new/* " +
			"d.example/c/.Lists.c/tmp/ d.example/c/cur/ d.example/c/new/ d.example/c/tmp/"},
		{"no folder", func(root string) Maildir {
			return Maildir{Path: Under(root), Folder: func(proto.Address) string { return "" }}
		}, "ok", "d.example/ d.example/c/ d.example/c/cur/ d.example/c/new/ d.example/c/new/* d.example/c/tmp/"},
		{"folder outside", func(root string) Maildir {
			return Maildir{Path: Under(root), Folder: func(proto.Address) string { return "x/../../../y" }}
		}, "4.3.0", ""},
		{"must exist, nothing does", func(root string) Maildir {
			return Maildir{Path: Under(root), MustExist: true}
		}, "4.3.0", ""},
		{"must exist, others do", func(root string) Maildir {
			os.Mkdir(filepath.Join(root, "d.example"), 0o700)
			return Maildir{Path: Under(root), MustExist: true}
		}, "5.1.1", "d.example/"},
		{"must exist and does", func(root string) Maildir {
			os.MkdirAll(filepath.Join(root, "d.example", "c"), 0o700)
			return Maildir{Path: Under(root), MustExist: true}
		}, "ok", "d.example/ d.example/c/ d.example/c/cur/ d.example/c/new/ d.example/c/new/* d.example/c/tmp/"},
	} {
		root := t.TempDir()
		if got := sendTo(t, c.d(root), message(t, text, "c@d.example")); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		names := tree(t, root)
		for i, name := range names {
			if maildirName.MatchString(filepath.Base(name)) {
				names[i] = filepath.ToSlash(filepath.Dir(name)) + "/*"
			}
		}
		if got := strings.Join(names, " "); got != c.tree {
			t.Errorf("%s: %s, want %s", c.name, got, c.tree)
		}
	}
	root := t.TempDir()
	if got := sendTo(t, Maildir{Path: Under(root), CRLF: true}, message(t, "a\n", "c@d.example")); got != "ok" {
		t.Error(got)
	}
	names := tree(t, root)
	content, _ := os.ReadFile(filepath.Join(root, names[len(names)-2]))
	if want := strings.ReplaceAll(top, "\n", "\r\n") + "a\r\n"; string(content) != want {
		t.Errorf("CRLF: %q, want %q", content, want)
	}
}

// TestUnder: no address leads out of the root, or to a hidden file.
func TestUnder(t *testing.T) {
	path := Under("/mail")
	for _, c := range []struct{ to, want string }{
		{"Joe@Example.ORG", "/mail/example.org/joe"},
		{"joe+tag@münchen.example", "/mail/xn--mnchen-3ya.example/joe+tag"},
		{`".."@d.example`, ""}, {`"../../etc/passwd"@d.example`, ""}, {`"."@d.example`, ""}, {`".joe"@d.example`, ""},
		{`"a\\b"@d.example`, ""}, {`"a/b"@d.example`, ""}, {`"c:x"@d.example`, ""},
		{"joe@[192.0.2.1]", "/mail/[192.0.2.1]/joe"}, {"joe@[IPv6:2001:db8::1]", ""}, {"postmaster", ""},
	} {
		a, err := proto.ParseAddress(c.to)
		if err != nil && c.to != "postmaster" {
			t.Fatal(c.to, err)
		}
		if c.to == "postmaster" {
			a = proto.Address{Local: "postmaster"}
		}
		got, err := path(a)
		if filepath.ToSlash(got) != c.want || err != nil {
			t.Errorf("%s: %q, %v, want %q", c.to, got, err, c.want)
		}
	}
	for _, local := range []string{"a\x00b", "a\nb", "", ".", "..", strings.Repeat("x", 256)} {
		a := message(t, "", "c@d.example").To[0].Address
		a.Local = local
		if got, _ := path(a); got != "" {
			t.Errorf("%q: %q", local, got)
		}
	}
}

// TestMaildirMany delivers a thousand messages at the same time.
func TestMaildirMany(t *testing.T) {
	const senders, each = 20, 50
	root := t.TempDir()
	d := Maildir{Path: Under(root)}
	var all sync.WaitGroup
	for s := range senders {
		all.Go(func() {
			for i := range each {
				m := message(t, fmt.Sprintf("Subject: %d\r\n\r\n%s", s*each+i, strings.Repeat("x\r\n", i)), "c@d.example")
				if _, err := d.Send(t.Context(), m); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	seen := make(map[string]bool)
	for _, name := range tree(t, filepath.Join(root, "d.example", "c", "new")) {
		f, err := os.Open(filepath.Join(root, "d.example", "c", "new", name))
		if err != nil {
			t.Fatal(err)
		}
		msg, err := mail.ReadMessage(f)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(msg.Body)
		f.Close()
		n, _ := strconv.Atoi(msg.Header.Get("Subject"))
		if string(body) != strings.Repeat("x\n", n%each) {
			t.Errorf("message %d: %q", n, body)
		}
		seen[msg.Header.Get("Subject")] = true
	}
	if len(seen) != senders*each {
		t.Errorf("%d messages, want %d", len(seen), senders*each)
	}
	if left := tree(t, filepath.Join(root, "d.example", "c", "tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %q", left)
	}
}

// TestMaildirAllOrNone: it cannot be kept for several recipients.
func TestMaildirAllOrNone(t *testing.T) {
	root := t.TempDir()
	m := message(t, text, "c@d.example", "e@d.example")
	m.AllOrNone = true
	if got := sendTo(t, Maildir{Path: Under(root)}, m); got != "5.6.0 5.6.0" || len(tree(t, root)) > 0 {
		t.Errorf("%s, %q", got, tree(t, root))
	}
	m.To = m.To[:1]
	if got := sendTo(t, Maildir{Path: Under(root)}, m); got != "ok" {
		t.Error(got)
	}
	for _, m := range []*client.Message{nil, {}} {
		var fault *client.MessageError
		if _, err := (Maildir{Path: Under(root)}).Send(t.Context(), m); !errors.As(err, &fault) {
			t.Errorf("without recipients: %v", err)
		}
	}
}

// TestMaildirBody: a Body that fails, panics, or sees the context end leaves nothing behind.
func TestMaildirBody(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		read func(cancel context.CancelFunc) (int, error)
		want string
	}{
		{"fails", func(context.CancelFunc) (int, error) { return 0, broken }, "5.6.0 5.6.0"},
		{"panics", func(context.CancelFunc) (int, error) { panic(broken) }, ""},
		{"context", func(cancel context.CancelFunc) (int, error) { cancel(); return 0, io.EOF }, "4.3.0 4.3.0"},
	} {
		root := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		m := message(t, "", "c@d.example", "e@d.example")
		m.Body = client.OpenBody(func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat(text, blockSize/len(text))),
				readFunc(func([]byte) (int, error) { return c.read(cancel) }))), nil
		})
		func() {
			defer func() {
				if p := recover(); p != nil && c.want != "" {
					t.Errorf("%s: it panicked: %v", c.name, p)
				}
			}()
			res, err := Maildir{Path: Under(root)}.Send(ctx, m)
			if codes(res) != c.want || client.Temporary(err) {
				t.Errorf("%s: %s, %v", c.name, codes(res), err)
			}
		}()
		for _, name := range tree(t, root) {
			if !strings.HasSuffix(name, "/") {
				t.Errorf("%s: left behind: %s", c.name, name)
			}
		}
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
