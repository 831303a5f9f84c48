package report_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// What a client counts as permanent is a failure, and what it counts as temporary a delay, each with the code that
// tells the sender what it is about (RFC 3463). What an error says of this system stays here.
func TestOutcomeOfErrors(t *testing.T) {
	secret := errors.New("smtp: /var/secret")
	no, later := proto.Refuse(554, proto.Status{}, "no"), proto.Refuse(454, proto.Status{}, "later")
	for _, tt := range []struct {
		name            string
		err             error
		status, comment string
		said            string // the diagnostic
	}{
		{"too large", &ehlo.TooLargeError{Size: 101, Max: 100}, "5.3.4", "the message has 101 octets, and the server accepts 100 at most", ""},
		{"wrapped", fmt.Errorf("x: %w", &ehlo.TooLargeError{Size: 101, Max: 100}), "5.3.4", "101 octets", ""},
		{"of all", &client.SendError{Result: &client.Result{Recipients: []proto.Outcome{{Err: &ehlo.TooLargeError{}}}},
			Err: &ehlo.TooLargeError{}}, "5.3.4", "octets", ""},
		{"the message", &client.MessageError{What: "reading the body", Err: secret}, "5.6.0", "the message could not be given", ""},
		{"an extension", &ext.UnsupportedError{Keyword: "SMTPUTF8", What: "the recipient jörg", Code: proto.Status{5, 6, 7}}, "5.6.7", "the server does not offer SMTPUTF8", ""},
		{"more of one", &ext.UnsupportedError{Keyword: "DELIVERBY", What: "x", Err: secret}, "5.3.3", "the server offers DELIVERBY, but", ""},
		{"no extension", &ext.UnsupportedError{What: "binary content"}, "5.3.3", "the message could not be given", ""},
		{"no TLS", &ext.TLSError{Err: x509.UnknownAuthorityError{}}, "5.7.10", "no TLS that can be trusted", ""},
		{"TLS refused", &ext.TLSError{Err: no}, "5.7.10", "no TLS that can be trusted", "554 no"},
		{"TLS refused for now", &ext.TLSError{Err: later}, "4.7.10", "no TLS that can be trusted", "454 later"},
		{"lost in the handshake", &ext.TLSError{Err: io.EOF}, "4.4.2", "the connection to the server was lost", ""},
		{"an alert", &ext.TLSError{Err: &net.OpError{Op: "remote error", Err: secret}}, "5.7.10", "no TLS that can be trusted", ""},
		{"TLS that was optional", &ext.TLSError{Err: &net.OpError{Op: "remote error", Err: secret}, Optional: true}, "4.7.5",
			"the server offers TLS, and it failed", ""},
		{"no way to the source of credentials", &ext.AuthError{Err: &net.OpError{Op: "dial", Err: secret}}, "4.7.0", "the message could not be given", ""},
		{"not let in", &ext.AuthError{Mechanism: "PLAIN", Err: no}, "5.7.0", "the message could not be given", "554 no"},
		{"not let in, as it says", &ext.AuthError{Err: &proto.Error{Code: 535, Status: status(5, 7, 8)}}, "5.7.8", "the message could not be given", "535 5.7.8"},
		{"not let in for now", &ext.AuthError{Err: later}, "4.7.0", "the message could not be given", "454 later"},
		{"no credentials", &ext.AuthError{Err: secret}, "5.7.0", "the message could not be given", ""},
		{"no time for credentials", &ext.AuthError{Err: context.DeadlineExceeded}, "4.7.0", "the message could not be given", ""},
		{"lost while authenticating", &ext.AuthError{Err: &client.LostError{Err: io.EOF}}, "4.4.2", "the connection to the server was lost", ""},
		{"lost", &client.LostError{Err: io.EOF}, "4.4.2", "the connection to the server was lost", ""},
		{"no answer", &client.LostError{Err: &net.OpError{Op: "dial", Err: secret}}, "4.4.1", "the server cannot be reached", ""},
		{"no protocol", &client.ProtocolError{Err: proto.ErrReply}, "4.0.0", "", ""},
		{"beyond a limit", &client.LimitError{Limits: ext.ServerLimits{RcptMax: 1}, Err: no}, "4.5.3", "the server does not take so much at a time", "554 no"},
		{"closed", client.ErrClosed, "4.0.0", "", ""},
		{"given up", context.Canceled, "4.0.0", "", ""},
		{"refused", no, "5.0.0", "", "554 no"},
		{"refused for now", later, "4.0.0", "", "454 later"},
	} {
		o := report.NextHop{Host: "mx.example"}.Outcome(proto.Outcome{Recipient: proto.Recipient{Address: address(t, "b@example.com")}, Reply: proto.Reply{}, Err: tt.err})
		want := ehlo.Failed
		if client.Temporary(tt.err) || errors.Is(tt.err, context.Canceled) { // which says nothing of the recipient
			want = ehlo.Delayed
		}
		if o.Action != want || o.Diagnostic.Text != tt.said || !strings.Contains(o.Comment, tt.comment) ||
			(tt.comment == "") != (o.Comment == "") || strings.Contains(o.Comment, "secret") {
			t.Errorf("%s: %s (%s) %q, want %s (%s) %q", tt.name, o.Action, o.Comment, o.Diagnostic.Text, want, tt.comment, tt.said)
		}
		_, got := bounce(t, o)
		if p := got.Recipients[0]; p.Status.String() != tt.status || p.Comment != o.Comment || p.Action != want {
			t.Errorf("%s: reported as %s %s (%s), want %s", tt.name, p.Action, p.Status, p.Comment, tt.status)
		}
	}
}

func status(class, subject, detail uint16) proto.Status {
	return proto.Status{class, subject, detail}
}

func address(t testing.TB, s string) proto.Address {
	t.Helper()
	a, err := proto.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// bounce makes a notification of an outcome and reads it again.
func bounce(t testing.TB, o report.Outcome) (text string, r *report.Received) {
	t.Helper()
	m := &report.Message{From: address(t, "alice@example.org")}
	due := m.Due([]report.Outcome{o})
	if len(due) != 1 {
		t.Fatalf("%d reports", len(due))
	}
	n, err := report.Compose(m, due[0], &report.Options{Hostname: "relay.example"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = report.Parse(n.Body); err != nil {
		t.Fatal(err)
	}
	return r.Text, r
}

// A message that is never sent, since it is too large or cannot be read, has failed for its recipient, and its sender
// is told.
func TestOutcomeUnsent(t *testing.T) {
	dial := dialer(t, "mx.example", []ext.Extension{ehlo.Size()}, func() server.Session { return destination{} })
	for name, tt := range map[string]struct {
		change          func(*client.Message)
		status, comment string
	}{
		"too large": {func(m *client.Message) { m.Body = strings.NewReader(strings.Repeat("x\r\n", 1<<19)) }, "5.3.4",
			"the message has 1572864 octets, and the server accepts 1048576 at most"},
		"the body":                {func(m *client.Message) { m.Body = iotest.ErrReader(errors.New("secret")) }, "5.6.0", "the message could not be given to the server"},
		"S15 UTF-8 in the header": {func(m *client.Message) { m.Needs = ext.UTF8 }, "5.6.9", "the server does not offer SMTPUTF8, which the message needs"},
		"V05 no REQUIRETLS":       {func(m *client.Message) { m.Mail = ehlo.AddRequireTLS(nil) }, "5.7.30", "the server does not offer REQUIRETLS, which the message needs"},
		"an address":              {func(m *client.Message) { m.To[0].Address.Local = "a\nb" }, "5.6.0", "the message could not be given to the server"},
	} {
		c, err := dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, err := client.NewMessage("alice@example.org", []string{"dana@example.com"}, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		tt.change(m)
		res, _ := c.Send(t.Context(), m) // the result has the error
		r := res.Recipients[0]
		o := report.NextHop{Host: "mx.example"}.Outcome(r)
		text, got := bounce(t, o)
		p := got.Recipients[0]
		if o.Action != ehlo.Failed || p.Status.String() != tt.status || !strings.HasPrefix(p.Comment, tt.comment) {
			t.Errorf("%s: %+v of %v", name, p, r.Err)
		}
		if !strings.Contains(text, p.Comment) || strings.Contains(text, "secret") {
			t.Errorf("%s: told\n%s", name, text)
		}
	}
}
