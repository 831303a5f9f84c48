package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/auth"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// session refuses recipients by their names: no for good, later for now.
type session struct{ got chan<- string }

func (s *session) Mail(context.Context, proto.Address, proto.Params) error { return nil }

func (s *session) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	switch to.Local {
	case "no":
		return proto.Refuse(550, proto.Status{}, "no")
	case "later":
		return proto.Refuse(450, proto.Status{}, "later")
	}
	return nil
}

func (s *session) Data(_ context.Context, r io.Reader) error {
	text, err := io.ReadAll(r)
	if err == nil {
		s.got <- string(text)
	}
	return err
}

func (s *session) Authenticate(_ context.Context, user, password string) error {
	if user != "alice" || password != "secret" {
		return auth.ErrCredentials
	}
	return nil
}

// serve starts a server and returns its address, the file with its certificate, and what it gets.
func serve(t *testing.T) (addr, ca string, got <-chan string) {
	t.Helper()
	cert, _, err := prototest.NewCertificate("localhost")
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	messages := make(chan string, 100)
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return &session{messages}, nil
	}), &server.Options{
		Hostname: "localhost", TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return listen(t, func(l net.Listener) { _ = srv.Serve(l) }, func() { srv.Close() }), ca, messages
}

func listen(t *testing.T, serve func(net.Listener), stop func()) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(l)
	}()
	t.Cleanup(func() {
		stop()
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// send runs the program as the command line would.
func send(t *testing.T, args ...string) (status int, out string) {
	t.Helper()
	c, err := parseFlags(args)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	c.out = &b
	status = c.run(t.Context())
	return status, b.String()
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "m.eml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestStatus(t *testing.T) {
	log.SetOutput(io.Discard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	addr, ca, _ := serve(t)
	plain := file(t, "Subject: x\n\nhi\n")
	secure := []string{"-server", addr, "-ca", ca, "-server-name", "localhost", "-from", "a@b.example"}
	clear := []string{"-server", addr, "-tls", "none", "-from", "a@b.example"}
	// A server that talks nonsense, and a port where nobody listens.
	nonsense := listen(t, func(l net.Listener) {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n"))
			_, _ = bufio.NewReader(conn).ReadByte()
			conn.Close()
		}
	}, func() {})
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	for name, c := range map[string]struct {
		base []string
		more string
		want int
		out  string
	}{
		"all":             {secure, "-to c@d.example -to e@f.example", 0, "c@d.example: 250 "},
		"authenticated":   {secure, "-to c@d.example -user alice -pass secret", 0, "c@d.example: 250 "},
		"wrong password":  {secure, "-to c@d.example -user alice -pass wrong", 77, ""},
		"clear password":  {clear, "-to c@d.example -user alice -pass secret", 77, ""},
		"some":            {clear, "-to c@d.example -to no@d.example", 1, "no@d.example: 550 "},
		"none":            {clear, "-to no@d.example", 69, "no@d.example: 550 "},
		"later":           {clear, "-to later@d.example", 75, "later@d.example: 450 "},
		"later or never":  {clear, "-to later@d.example -to no@d.example", 75, ""},
		"bad address":     {clear, "-to c@d.example> -to", 65, ""},
		"no certificate":  {[]string{"-server", addr, "-from", "a@b.example"}, "-to c@d.example", 77, ""},
		"wrong name":      {secure, "-to c@d.example -server-name other.example", 77, ""},
		"not SMTP":        {[]string{"-server", nonsense, "-tls", "none"}, "-to c@d.example", 76, ""},
		"nobody there":    {[]string{"-server", nobody.Addr().String(), "-tls", "none"}, "-to c@d.example", 75, ""},
		"implicit on 25":  {[]string{"-server", addr, "-tls", "implicit", "-ca", ca, "-timeout", "5s"}, "-to c@d.example", 77, ""},
		"the null sender": {[]string{"-server", addr, "-tls", "none"}, "-to c@d.example", 0, "c@d.example: 250 "},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(append([]string(nil), c.base...), strings.Fields(c.more)...)
			if args[len(args)-1] == "-to" {
				args = append(args, "x y")
			}
			status, out := send(t, append(args, plain)...)
			if status != c.want || !strings.Contains(out, c.out) {
				t.Errorf("status %d, want %d; %q in output %q", status, c.want, c.out, out)
			}
		})
	}
}

func TestCount(t *testing.T) {
	addr, _, got := serve(t)
	status, out := send(t, "-server", addr, "-tls", "none", "-to", "c@d.example", "-to", "e@d.example", "-count", "20",
		file(t, ".dot\nno end"))
	if status != 0 || strings.Count(out, ": 250 ") != 40 {
		t.Errorf("status %d, output %q", status, out)
	}
	for range 20 {
		if text := <-got; text != ".dot\r\nno end" {
			t.Errorf("the server got %q", text)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"", "-server x:25", "-server x:25 -to a@b", "-to a@b m", "-server x:25 -to a@b -tls maybe m",
		"-server x:25 -to a@b -count 0 m", "-server x:25 -to a@b m n", "-server x:25 -to a@b -ca /nonexistent m"} {
		if _, err := parseFlags(strings.Fields(args)); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
