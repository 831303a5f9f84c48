package report_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// dialer returns a function that connects to a server with the sessions of new.
func dialer(t testing.TB, hostname string, extensions []ext.Extension, session func() server.Session) func(context.Context) (*client.Client, error) {
	t.Helper()
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) { return session(), nil }),
		&server.Options{Hostname: hostname, Extensions: extensions, Limits: server.Limits{MessageSize: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) (*client.Client, error) {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = srv.ServeConn(context.Background(), far)
		}()
		t.Cleanup(func() {
			near.Close()
			<-done
		})
		return client.NewClient(ctx, near, hostname, &client.Options{Hostname: "relay.example", TLS: ext.TLSInsecureNone})
	}
}

// A destination is a server without DSN that knows only Dana.
type destination struct{}

func (destination) Mail(_ context.Context, _ proto.Address, p proto.Params) error {
	if len(p) > 0 && (p.Has("ENVID") || p.Has("RET")) {
		return fmt.Errorf("what was not offered: %v", p)
	}
	return nil
}

func (destination) Rcpt(_ context.Context, to proto.Address, p proto.Params) error {
	if to.Local != "Dana" {
		return proto.Refuse(550, proto.Status{5, 1, 1}, "no such recipient\nStatus: 2.0.0")
	}
	if len(p) > 0 {
		return fmt.Errorf("what was not offered: %v", p)
	}
	return nil
}

func (destination) Data(_ context.Context, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// A relay accepts messages, sends them on, and reports to their senders what became of them.
type relay struct {
	t            testing.TB
	next, sender func(context.Context) (*client.Client, error)
	message      report.Message
	to           []proto.Recipient
}

func (s *relay) NotifiesSenders() bool { return true }

func (s *relay) Mail(_ context.Context, from proto.Address, p proto.Params) error {
	s.message, s.to = report.Message{From: from, Mail: p}, nil
	return nil
}

func (s *relay) Rcpt(_ context.Context, to proto.Address, p proto.Params) error {
	s.to = append(s.to, proto.Recipient{Address: to, Params: p})
	return nil
}

func (s *relay) Data(ctx context.Context, r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.message.Content = bytes.NewReader(content)
	outcomes, err := s.send(ctx, content)
	if err != nil {
		return err
	}
	for _, r := range s.message.Due(outcomes) {
		if err := s.notify(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// send sends the message on, with the parameters of DSN where they are offered.
func (s *relay) send(ctx context.Context, content []byte) ([]report.Outcome, error) {
	c, err := s.next(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	dsn, _ := ehlo.SplitDSN(s.message.Mail)
	m := &client.Message{From: s.message.From, Body: bytes.NewReader(content)}
	offered := c.Caps().Has("DSN")
	if offered {
		m.Mail = dsn
	}
	for _, to := range s.to {
		if !offered {
			to.Params = nil
		}
		m.To = append(m.To, to)
	}
	res, _ := c.Send(ctx, m) // the result has the error of each recipient
	hop := report.NextHop{Host: "ivory.example", Caps: c.Caps()}
	var outcomes []report.Outcome
	for i, r := range res.Recipients {
		r.Recipient = s.to[i] // with the parameters it was accepted with
		outcomes = append(outcomes, hop.Outcome(r))
	}
	return outcomes, nil
}

func (s *relay) notify(ctx context.Context, r *report.Report) error {
	n, err := report.Compose(&s.message, r, &report.Options{Hostname: "relay.example"})
	if err != nil {
		return err
	}
	c, err := s.sender(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Send(ctx, &client.Message{Mail: n.Mail, To: n.To, Needs: n.Needs, Body: n.Body})
	return err
}

// A mailbox is the server of the sender. It reads the notifications that arrive.
type mailbox struct {
	envelope string
	got      func(envelope string, r *report.Received)
}

func (s *mailbox) Mail(_ context.Context, from proto.Address, p proto.Params) error {
	s.envelope = fmt.Sprintf("<%s>", from)
	for _, param := range p {
		s.envelope += " " + param.Key
	}
	return nil
}

func (s *mailbox) Rcpt(_ context.Context, to proto.Address, p proto.Params) error {
	s.envelope += fmt.Sprintf(" <%s> %v", to, p)
	return nil
}

func (s *mailbox) Data(_ context.Context, r io.Reader) error {
	got, err := report.Parse(r)
	if err != nil {
		return &proto.Error{Code: 554, Text: "No notification", Err: err}
	}
	s.got(s.envelope, got)
	return nil
}

// A message goes through a relay to a server that refuses one recipient and does not offer DSN; its sender is notified
// of that, by three servers and three clients of ours. R12 is the envelope that arrives.
func TestR09R10R11R12R13_EndToEnd(t *testing.T) {
	for _, tt := range []struct {
		carol, dana, fred string // NOTIFY
		want              []string
	}{
		{"", "NOTIFY=SUCCESS", "NOTIFY=NEVER", []string{
			"Carol@ivory.example failed 5.1.1 550-5.1.1 no such recipient 550 5.1.1 Status: 2.0.0",
			"Dana@ivory.example relayed 2.0.0 250 2.0.0 Message accepted"}},
		{"NOTIFY=SUCCESS", "NOTIFY=FAILURE,DELAY", "NOTIFY=NEVER", nil},
		{"NOTIFY=FAILURE,SUCCESS", "", "NOTIFY=FAILURE", []string{
			"Carol@ivory.example failed 5.1.1 550-5.1.1 no such recipient 550 5.1.1 Status: 2.0.0, " +
				"Fred@ivory.example failed 5.1.1 550-5.1.1 no such recipient 550 5.1.1 Status: 2.0.0"}},
	} {
		var got []string
		box := func() server.Session {
			return &mailbox{got: func(envelope string, r *report.Received) {
				var all []string
				for _, p := range r.Recipients {
					all = append(all, fmt.Sprint(p.Final.Address, " ", p.Action, " ", p.Status, " ", p.Diagnostic.Text))
					if p.Original.Address != p.Final.Address || p.Remote.Name != "ivory.example" {
						t.Errorf("%+v", p)
					}
				}
				if envelope != "<> SIZE <Alice@example.org> []" || r.EnvelopeID != "QQ314159" || r.ReportingMTA != report.DNS("relay.example") ||
					r.Original.Get("Subject") != "Hello" {
					t.Errorf("%s: %+v, %v", envelope, r.Report, r.Original)
				}
				got = append(got, strings.Join(all, ", "))
			}}
		}
		withoutDSN := []ext.Extension{ehlo.EnhancedStatusCodes(), ehlo.Pipelining()}
		s := &relay{t: t, next: dialer(t, "ivory.example", withoutDSN, func() server.Session { return destination{} }),
			sender: dialer(t, "mail.example.org", nil, box)}
		c, err := dialer(t, "relay.example", nil, func() server.Session { return s })(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, err := client.NewMessage("Alice@example.org", []string{"Carol@ivory.example", "Dana@ivory.example", "Fred@ivory.example"},
			strings.NewReader("Subject: Hello\r\n\r\nHow are you?\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		m.Mail = ehlo.DSNMail{EnvID: "QQ314159"}.AddTo(m.Mail)
		for i, notify := range []string{tt.carol, tt.dana, tt.fred} {
			p := ehlo.DSNRcpt{Original: ehlo.NewOriginalRecipient(m.To[i].Address)}.AddTo(nil)
			if _, value, ok := strings.Cut(notify, "="); ok {
				p = p.Set("NOTIFY", value)
			}
			m.To[i].Params = p
		}
		if _, err := c.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
			t.Errorf("%+v: told\n%s\nwant\n%s", tt, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}
