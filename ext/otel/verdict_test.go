package smtpotel

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

// A checked session records verdicts, and has a user alice.
type checked struct {
	session
	c *server.Conn
}

func (s *checked) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	s.c.Record(server.Verdict{Method: "greylist", Result: "temperror", Reason: to.String(), Err: errors.New("alice")})
	return nil
}

func (s *checked) Authenticate(_ context.Context, user, password string) error {
	switch {
	case user != "alice":
		return auth.ErrCredentials
	case password != "hush":
		return errors.New("the directory of carol does not answer")
	}
	return nil
}

// events describes those of the spans of a name.
func events(spans tracetest.SpanStubs, name string) string {
	var all []string
	for _, s := range spans {
		for _, e := range s.Events {
			if s.Name != name {
				continue
			}
			text := e.Name
			for _, a := range e.Attributes {
				text += " " + a.Value.String()
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, ", ")
}

// TestVerdicts: attempts to authenticate and verdicts of checks are counted, and events of their spans, without the
// names of users.
func TestVerdicts(t *testing.T) {
	l := newLab(t, ext.TLSInsecureNone)
	var err error
	l.srv, err = server.New(server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		c.Record(server.Verdict{Method: "iprev", Result: "pass", Reason: "alice.d.example"})
		return &checked{c: c}, nil
	}), &server.Options{Hostname: "mail.example", Trace: l.server.trace(), AllowInsecureAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	plain := func(user, password string) string {
		return "AUTH PLAIN " + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "\x00%s\x00%s", user, password))
	}
	l.talk("EHLO x > 250-", "AUTH CAROL-MD5 > 504 ", plain("bob", "hush")+" > 535 ", plain("alice", "x")+" > 454 ",
		plain("alice", "hush")+" > 235 ", "MAIL FROM:<alice@d.example> > 250 ", "RCPT TO:<bob@d.example> > 250 ",
		"RCPT TO:<carol@d.example> > 250 ", "QUIT > 221 ")
	spans := l.end()
	want := "smtp.verdict iprev pass, smtp.auth _OTHER failed, smtp.auth PLAIN rejected, smtp.auth _OTHER failed, " +
		"smtp.auth PLAIN accepted"
	if got := events(spans, "SMTP session"); got != want {
		t.Errorf("the session has the events\n%s\nwant\n%s", got, want)
	}
	want = "smtp.verdict greylist temperror, smtp.verdict greylist temperror"
	if got := events(spans, "SMTP receive"); got != want {
		t.Errorf("the message has the events\n%s\nwant\n%s", got, want)
	}
	l.want(map[string]string{
		"smtp.server.authentications": "PLAIN accepted 1, PLAIN rejected 1, _OTHER failed 2",
		"smtp.server.verdicts":        "greylist temperror 2, iprev pass 1",
	})
}

// TestRefusedConn: a connection over a limit is counted, and has no span.
func TestRefusedConn(t *testing.T) {
	l := newLab(t, ext.TLSInsecureNone)
	var err error
	l.srv, err = server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return session{}, nil
	}), &server.Options{Hostname: "mail.example", Trace: l.server.trace(), Limits: server.Limits{Conns: 1}})
	if err != nil {
		t.Fatal(err)
	}
	dial := func(greeting string) *prototest.Peer {
		here, there := net.Pipe()
		l.serving.Go(func() { l.srv.ServeConn(context.Background(), there) })
		p := prototest.NewPeer(t, here)
		p.Expect(greeting)
		return p
	}
	first := dial("220 ")
	dial("421 ")
	dial("421 ")
	first.Ask("QUIT", "221 ")
	if got := len(l.end()); got != 1 {
		t.Errorf("there are %d spans, want that of the first connection", got)
	}
	l.want(map[string]string{
		"smtp.server.refused_connections": "421 2", "smtp.server.open_connections": "0",
		"smtp.server.connection.duration": "1",
	})
}

// TestLimited: a command that a limit of the server refuses is counted.
func TestLimited(t *testing.T) {
	l := newLab(t, ext.TLSInsecureNone)
	var err error
	l.srv, err = server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return session{}, nil
	}), &server.Options{Hostname: "mail.example", Trace: l.server.trace(), Limits: server.Limits{Mails: 1}})
	if err != nil {
		t.Fatal(err)
	}
	l.talk("EHLO x > 250-", "MAIL FROM:<> > 250 ", "RSET > 250 ", "MAIL FROM:<> > 421 ")
	l.end()
	l.want(map[string]string{"smtp.server.limited_commands": "421 1"})
}
