package ehlo_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A careful session keeps to TLS if keeps is true, and records what it gets.
type careful struct {
	keeps    bool
	required []bool // whether each message requires TLS
	bodies   []string
}

func (c *careful) KeepsTLS() bool { return c.keeps }

func (c *careful) Mail(_ context.Context, _ proto.Address, p proto.Params) error {
	c.required = append(c.required, ehlo.ReadRequireTLS(p))
	return nil
}

func (c *careful) Rcpt(context.Context, proto.Address, proto.Params) error { return nil }

func (c *careful) Data(_ context.Context, r io.Reader) error {
	b, err := io.ReadAll(r)
	c.bodies = append(c.bodies, string(b))
	return err
}

// TestRequireTLSServer talks to a server in plaintext and then under TLS.
func TestRequireTLSServer(t *testing.T) {
	session := &careful{keeps: true}
	theirs, ours := ownTLS(t)
	nc, err := net.Dial("tcp", listening(t, backend(session), server.Options{TLSConfig: theirs}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p := &talker{t: t, nc: nc}
	ask := func(line string) string {
		t.Helper()
		if _, err := io.WriteString(p.nc, line+"\r\n"); err != nil {
			t.Fatal(err)
		}
		return p.expect("")
	}
	p.expect("220 ")
	t.Run("V01 in clear", func(t *testing.T) {
		if got := ask("EHLO client.example"); strings.Contains(got, "REQUIRETLS") || !strings.Contains(got, "STARTTLS") {
			t.Errorf("offered %q", got)
		}
	})
	t.Run("V02 in clear", func(t *testing.T) {
		if got := ask("MAIL FROM:<a@b.example> REQUIRETLS"); !strings.HasPrefix(got, "555 5.5.4 ") {
			t.Errorf("%q", got)
		}
	})
	p.say("STARTTLS", "220 ")
	p.nc = tls.Client(nc, ours)
	t.Run("V01 in TLS", func(t *testing.T) {
		if got := ask("EHLO client.example"); !strings.Contains(got, "REQUIRETLS\r\n") {
			t.Errorf("offered %q", got)
		}
	})
	t.Run("V02 value", func(t *testing.T) {
		for _, value := range []string{"=", "=1", "=yes"} {
			if got := ask("MAIL FROM:<a@b.example> REQUIRETLS" + value); !strings.HasPrefix(got, "501 5.5.4 ") {
				t.Errorf("%s: %q", value, got)
			}
		}
	})
	t.Run("V03 told to the session", func(t *testing.T) {
		const body = "TLS-Required: No\r\n\r\nx\r\n" // which does not count (RFC 8689 section 4.1), and is not touched
		for _, param := range []string{" requiretls", ""} {
			for _, line := range []string{"MAIL FROM:<a@b.example>" + param, "RCPT TO:<c@d.example>", "DATA", body + "."} {
				if got := ask(line); got[0] > '3' {
					t.Fatalf("%s: %q", line, got)
				}
			}
		}
		if len(session.required) != 2 || !session.required[0] || session.required[1] || session.bodies[0] != body {
			t.Errorf("the session has learnt %v of %q", session.required, session.bodies)
		}
	})
}

// deliverAlong tries the hosts one after the other, as RFC 8689 section 4.2.1 demands for MX records, until one has
// accepted the message. It returns the last error.
func deliverAlong(t *testing.T, hosts []string, ours *tls.Config, m *client.Message) (err error) {
	t.Helper()
	for _, addr := range hosts {
		if err = client.Send(t.Context(), addr, &client.Options{TLSConfig: ours}, m); err == nil {
			return nil
		}
		if !client.SafeToRetry(err) {
			t.Errorf("%v: not safe to try the next host", err)
		}
	}
	return err
}

// TestV05_NextHost checks that a message that requires TLS skips the hosts that cannot take it. If no host can, the
// error is permanent and has the status code for the sender.
func TestV05_NextHost(t *testing.T) {
	theirs, ours := ownTLS(t)
	good, lax, open := &careful{keeps: true}, &careful{}, &careful{keeps: true}
	inClear := listening(t, backend(open), server.Options{})
	without := listening(t, backend(lax), server.Options{TLSConfig: theirs})
	fine := listening(t, backend(good), server.Options{TLSConfig: theirs})
	for _, tt := range []struct {
		name  string
		hosts []string
		want  string // the status; "" if it gets through
	}{
		{"the third takes it", []string{inClear, without, fine}, ""},
		{"none offers it", []string{inClear, without}, "5.7.30"},
		{"none has TLS", []string{without, inClear}, "5.7.10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, strings.NewReader("x\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			m.Mail = ehlo.AddRequireTLS(nil)
			err = deliverAlong(t, tt.hosts, ours, m)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := grammar.AsType[interface {
				error
				Status() proto.Status
			}](err)
			if !ok || e.Status().String() != tt.want || client.Temporary(err) {
				t.Errorf("%v, temporary %v, want the status %s", err, client.Temporary(err), tt.want)
			}
		})
	}
	if len(good.bodies) != 1 || good.bodies[0] != "x\r\n" || len(lax.required)+len(open.required) > 0 {
		t.Errorf("the good one got %q, the others %v and %v", good.bodies, lax.required, open.required)
	}
}

// TestV04_Unverified checks that a client that does not verify certificates refuses to send a message that requires
// TLS.
func TestV04_Unverified(t *testing.T) {
	theirs, _ := ownTLS(t)
	for name, opt := range map[string]*client.Options{
		"not verified":   {TLS: ext.TLSOpportunistic},
		"in clear":       {TLS: ext.TLSInsecureNone},
		"keyword absent": {TLS: ext.TLSOpportunistic, Without: []string{"REQUIRETLS"}},
	} {
		session := &able{}
		addr := listening(t, backend(session), server.Options{TLSConfig: theirs})
		c, err := client.Dial(t.Context(), addr, opt)
		if err != nil {
			t.Fatal(err)
		}
		m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, strings.NewReader("x\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		m.Mail = ehlo.AddRequireTLS(nil)
		_, err = c.Send(t.Context(), m)
		if e, ok := grammar.AsType[*ext.UnsupportedError](err); !ok || e.Keyword != "REQUIRETLS" {
			t.Errorf("%s: %v, want an UnsupportedError", name, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if len(session.mail) != 0 {
			t.Errorf("%s: the server got %v", name, session.mail)
		}
	}
}

func TestRequireTLSReply(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"V02 REQUIRETLS in clear", []string{from + " REQUIRETLS"}, "555 5.5.4 "},
	})
}
