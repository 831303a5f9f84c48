// Package examples holds the programs; this file holds README.md to the code.
package examples

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// flat takes the indentation out of code.
func flat(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		b.WriteString(strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

// TestReadmeCode finds every piece of Go in README.md in something that is compiled: a whole program in a folder of
// this one, to the letter, and a part of a program in an example of server, client or
// the queue.
func TestReadmeCode(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var code string
	for _, pattern := range []string{"../server/example*_test.go", "../client/example*_test.go", "../client/queue/example*_test.go", "*/main.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(name) == "main.go" {
				code += string(text)
			} else {
				code += flat(string(text))
			}
		}
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	programs := 0
	for _, block := range blocks {
		text := block[1]
		if strings.Contains(text, "\npackage main\n") {
			programs++
		} else {
			text = flat(text)
		}
		if !strings.Contains(code, text) {
			t.Errorf("not in an example of server or client, nor a program in examples:\n%s", text)
		}
	}
	if programs < 2 {
		t.Errorf("%d complete programs in README.md, want one for each side", programs)
	}
}

// TestReadmePrograms runs the two programs of README.md, with other addresses: note sends its message through a server
// to which alice logs in, and inbox takes what a client sends.
func TestReadmePrograms(t *testing.T) {
	dir := t.TempDir()
	t.Run("note", func(t *testing.T) {
		arrived := make(chan string, 1)
		addr := submission(t, dir, arrived)
		cmd := program(t, dir, "note", "mail.example.org:587", addr)
		cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+filepath.Join(dir, "roots.pem"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := <-arrived; !strings.HasPrefix(got, "alice@example.org bob@example.net From: Alice <alice@example.org>\r\n") ||
			!strings.HasSuffix(got, "\r\n\r\nHow are you?\r\n") {
			t.Errorf("%q arrived", got)
		}
	})
	t.Run("inbox", func(t *testing.T) {
		socket := "unix:" + filepath.Join(dir, "inbox")
		cmd := program(t, dir, "inbox", "localhost:2525", socket)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}()
		m, err := client.NewMessage("a@b.example", []string{"c@EXAMPLE.org", "d@elsewhere.example"}, strings.NewReader("Subject: x\r\n\r\ny\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var refused *client.SendError
		for { // until it listens
			err = client.Send(ctx, socket, &client.Options{Hostname: "client.example"}, m)
			if errors.As(err, &refused) {
				break
			}
			if ctx.Err() != nil || errors.As(err, new(*proto.Error)) {
				t.Fatal(err)
			}
		}
		if r := refused.Result.Recipients; r[0].Err != nil || r[1].Reply.Status != (proto.Status{5, 7, 1}) {
			t.Errorf("the outcomes are %v and %v", r[0].Err, r[1].Err)
		}
		want := "from a@b.example to [c@EXAMPLE.org]:\nSubject: x\r\n\r\ny\r\n"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(out, got); err != nil || string(got) != want {
			t.Errorf("it printed %q, %v", got, err)
		}
	})
}

// program builds the program called name with text in place of what it has, and returns a command that runs it.
func program(t *testing.T, dir, name, old, text string) *exec.Cmd {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(name, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil || strings.Count(string(source), old) != 1 {
		t.Fatalf("%s has not got %q once: %v", path, old, err)
	}
	changed, overlay, binary := filepath.Join(dir, name+".go"), filepath.Join(dir, name+".json"), filepath.Join(dir, name+".bin")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{changed: bytes.Replace(source, []byte(old), []byte(text), 1), overlay: replace} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", binary, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = os.Environ()
	return cmd
}

// submission starts a server to which alice logs in with the password "secret", and which puts what it gets into
// arrived. The file roots.pem in dir is what a client has to trust.
func submission(t *testing.T, dir string, arrived chan<- string) (addr string) {
	t.Helper()
	cert, _, err := prototest.NewCertificate("localhost")
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	if err := os.WriteFile(filepath.Join(dir, "roots.pem"), block, 0o600); err != nil {
		t.Fatal(err)
	}
	backend := server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return &outbox{arrived: arrived}, nil
	})
	srv, err := server.New(backend, &server.Options{
		Hostname: "localhost.example", TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, Extensions: ehlo.Submission(ehlo.SubmissionPolicy{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	return fmt.Sprintf("localhost:%d", l.Addr().(*net.TCPAddr).Port)
}

// outbox is a session of the submission server.
type outbox struct {
	envelope string
	arrived  chan<- string
}

var _ auth.PasswordSession = (*outbox)(nil)

func (o *outbox) Authenticate(_ context.Context, user, password string) error {
	if user != "alice" || password != "secret" {
		return auth.ErrCredentials
	}
	return nil
}

func (o *outbox) Mail(_ context.Context, from proto.Address, _ proto.Params) error {
	o.envelope = from.String()
	return nil
}

func (o *outbox) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	o.envelope += " " + to.String()
	return nil
}

func (o *outbox) Data(_ context.Context, r io.Reader) error {
	text, err := io.ReadAll(r)
	if err == nil {
		o.arrived <- o.envelope + " " + string(text)
	}
	return err
}

// TestNamesInPages looks up each name that README.md and the pages beside it have in backquotes, such as client.Send,
// in the files of the API.
func TestNamesInPages(t *testing.T) {
	packages := map[string]string{
		"client": "client", "server": "server", "proto": "proto", "ext": "ext", "auth": "ext-auth", "ehlo": "ext-ehlo",
		"report": "ext-report", "clienttest": "client-clienttest", "prototest": "proto-prototest",
		"netsmtp": "client-netsmtp", "fake": "ext-fake",
	}
	for name, file := range packages {
		text, err := os.ReadFile("../.ci/api/" + file + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		packages[name] = string(text)
	}
	span := regexp.MustCompile("`[^`\n]+`")
	qualified := regexp.MustCompile(`\b([a-z]+)\.([A-Z]\w*)(?:\.([A-Z]\w*))?`)
	field := regexp.MustCompile(`\b(Options|Conn|Client|Result|Address|Domain|Extension)\.([A-Z]\w*)`)
	found := 0
	for _, page := range []string{
		"../README.md", "../.github/MIGRATION.md", "../.github/CHANGELOG.md", "../.github/CONTRIBUTING.md", "../.github/ARCHITECTURE.md",
	} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range span.FindAllString(string(text), -1) {
			for _, m := range qualified.FindAllStringSubmatch(code, -1) {
				api, ours := packages[m[1]]
				if !ours {
					continue
				}
				found++
				for _, name := range m[2:] {
					if name != "" && !regexp.MustCompile(`\b`+name+`\b`).MatchString(api) {
						t.Errorf("%s: there is no %s in package %s", page, name, m[1])
					}
				}
			}
			for _, m := range field.FindAllStringSubmatch(code, -1) {
				if !regexp.MustCompile(`\b` + m[2] + `\b`).MatchString(packages["client"] + packages["server"] + packages["proto"] + packages["ext"]) {
					t.Errorf("%s: there is no %s.%s", page, m[1], m[2])
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("%d names found, want more: the pages are full of them", found)
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
