package server_test

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// TestQ01Q02Q03Q04_Transcripts reads all that a server says in all scripts. Each line of a reply has the same status
// code, of the class of the reply; greetings, the replies to HELO and EHLO, and those of 3yz have none (RFC 2034
// section 4).
func TestQ01Q02Q03Q04_Transcripts(t *testing.T) {
	scripts, err := prototest.ReadDir("../proto/testdata/scripts")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[bool]int) // replies with a status code, and without
	synctest.Test(t, func(t *testing.T) {
		for _, s := range scripts {
			if len(s.Parts()) > 1 || strings.HasPrefix(s.Name, "hello-") {
				continue // goes on inside TLS, or has EHLO and HELO refused in all sorts of ways
			}
			out := transcript(t, scriptServer(t, s, nil), s.Steps.ClientBytes())
			greeting, codes := true, true
			for out != "" {
				r, n, err := proto.ParseReply([]byte(out), false, proto.Limits{})
				if err != nil || n == 0 {
					t.Fatalf("%s: %q is no reply: %v", s.Name, out, err)
				}
				reply := out[:n]
				out = out[n:]
				hello := strings.HasPrefix(reply[4:], "mail.example") || strings.Contains(reply, "A domain name or")
				if hello && r.Code == 250 && !greeting {
					codes = strings.Contains(reply, "ENHANCEDSTATUSCODES")
				}
				want := codes && !hello && !greeting && r.Code/100 != 3
				seen[want]++
				checkStatus(t, s.Name, reply, want)
				greeting = false
			}
		}
	})
	if seen[true] < 500 || seen[false] < 200 {
		t.Errorf("%d replies with a status code and %d without were seen", seen[true], seen[false])
	}
}

// checkStatus checks the status codes of all lines of a reply.
func checkStatus(t *testing.T, script, reply string, want bool) {
	t.Helper()
	first := ""
	for line := range strings.Lines(reply) {
		code, _, _ := strings.Cut(strings.TrimSpace(line[4:]), " ")
		status, ok := proto.ParseStatus(code)
		if first == "" {
			first = code
		}
		if ok != want || ok && (code != first || strconv.Itoa(status.Class()) != reply[:1]) {
			t.Errorf("%s: %q in %q, want a status code: %v", script, line, reply, want)
		}
	}
}

// transcript returns all that srv says to a client that sends in and hangs up when it has heard everything.
func transcript(t *testing.T, srv *server.Server, in []byte) string {
	near, far := net.Pipe()
	go func() { _ = srv.ServeConn(context.Background(), far) }()
	heard := make(chan string)
	go func() {
		out, _ := io.ReadAll(near)
		heard <- string(out)
	}()
	go func() { _, _ = near.Write(in) }() // the server may close before it has read all
	synctest.Wait()
	near.Close()
	return <-heard
}

// TestQ07_Situations: the status code says more than the reply code (RFC 3463 section 3, RFC 5248).
func TestQ07_Situations(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{Limits: server.Limits{MessageSize: 100, Rcpts: 1}}))
	p.hello()
	p.ask("NOOP", "250 2.0.0 ", "FOO", "500 5.5.1 ", "NOOP \x01", "501 5.5.2 ", "RSET x", "501 5.5.4 ", "TURN", "502 5.5.1 ",
		"RCPT TO:<c@d.example>", "503 5.5.1 ", "DATA", "503 5.5.1 ",
		"MAIL FROM:<a..b@c.example>", "501 5.1.7 ", "MAIL FROM:a b", "501 5.", "MAIL FROM:<a@b.example> FOO=1", "555 5.5.4 ",
		"MAIL FROM:<a@b.example> BODY=9BIT", "501 5.5.4 ", "MAIL FROM:<a@b.example> SIZE=101", "552 5.3.4 ",
		"MAIL FROM:<ä@b.example>", "550 5.6.7 ",
		"MAIL FROM:<a@b.example>", "250 2.1.0 ", "RCPT TO:<a..b@c.example>", "501 5.1.3 ",
		"RCPT TO:<c@d.example>", "250 2.1.5 ", "RCPT TO:<e@d.example>", "452 4.5.3 ",
		"DATA", "354 ", "a\nb\r\n.", "554 5.6.0 ",
		"MAIL FROM:<a@b.example>", "250 2.1.0 ", "RCPT TO:<c@d.example>", "250 2.1.5 ",
		"DATA", "354 ", "hello\r\n.", "250 2.0.0 ", "AUTH PLAIN", "502 5.5.1 ", "QUIT", "221 2.0.0 ")
	_ = p.ended()
}
