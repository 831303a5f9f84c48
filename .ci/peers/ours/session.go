package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/subtle"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A session takes part in every extension. Recipients called "refused" are refused, and so is any content for those
// called "picky".
type session struct {
	*backend
	conn    *server.Conn
	record  *record
	quota   ehlo.Quota
	origin  *ext.Origin
	current message
}

var (
	noMailbox = refusal(550, proto.Status{5, 1, 1}, "No such mailbox")
	notThat   = refusal(550, proto.Status{5, 7, 0}, "Not that content")
)

func (s *session) Mail(_ context.Context, from proto.Address, p proto.Params) error {
	s.current = message{From: from.String(), Params: params(p), Origin: s.origin}
	return nil
}

func (s *session) Rcpt(_ context.Context, to proto.Address, p proto.Params) error {
	if to.Local == "refused" {
		return noMailbox
	}
	s.current.To = append(s.current.To, recipient{to.String(), params(p)})
	return nil
}

func (s *session) Data(ctx context.Context, r io.Reader) error {
	return s.DataEach(ctx, r, func(int, proto.Reply, error) {})
}

// DataEach keeps the message for those who want it.
func (s *session) DataEach(_ context.Context, r io.Reader, result func(rcpt int, r proto.Reply, err error)) error {
	var content bytes.Buffer
	if _, err := io.Copy(&content, r); err != nil {
		return err
	}
	m := s.current
	m.Content, m.To = content.Bytes(), nil
	for i, to := range s.current.To {
		if strings.HasPrefix(to.Address, "picky@") {
			result(i, proto.Reply{}, notThat)
			continue
		}
		m.To = append(m.To, to)
	}
	if len(m.To) == 0 {
		return notThat
	}
	s.record.Messages = append(s.record.Messages, &m)
	s.conn.Accept("kept")
	return nil
}

func (s *session) Reset(context.Context) { s.origin = nil }

func (s *session) NotifiesSenders() bool { return true }
func (s *session) KeepsTLS() bool        { return true }
func (s *session) Quota() *ehlo.Quota    { return &s.quota }

func (s *session) RecordOrigin(_ context.Context, o ext.Origin) error {
	if s.origin == nil {
		s.origin = new(ext.Origin)
	}
	s.origin.Merge(o)
	return nil
}

// waiting is the number of messages that wait for queued.example.
const waiting = 3

func (s *session) StartQueue(_ context.Context, node ehlo.Node) (int, error) {
	if node.Name != "queued.example" {
		return 0, ehlo.ErrNotYours
	}
	return waiting, nil
}

func (s *session) Verify(_ context.Context, query string) (ehlo.Mailbox, error) {
	if !strings.HasPrefix(query, "bert") {
		return ehlo.Mailbox{}, noMailbox
	}
	return bert()
}

func (s *session) Expand(_ context.Context, list string) ([]ehlo.Mailbox, error) {
	m, err := bert()
	return []ehlo.Mailbox{m, m}, err
}

func bert() (ehlo.Mailbox, error) {
	a, err := proto.ParseAddress("bert@receive.example")
	return ehlo.Mailbox{Name: "Bert", Address: a}, err
}

// A userSession is one in which clients can authenticate.
type userSession struct{ *session }

func (s *userSession) FilterMechanisms(names []string) []string { return s.offered(names) }

// AuthPause spares the tests the second that who guesses passwords has to wait.
func (s *userSession) AuthPause(int) time.Duration { return 10 * time.Millisecond }

func (s *userSession) Authenticate(_ context.Context, user, password string) error {
	return s.check(user, password, s.password)
}

func (s *userSession) check(user, got, want string) error {
	if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 || want == "" || user != s.user {
		return auth.ErrCredentials
	}
	return nil
}

func (s *userSession) ClearPassword(_ context.Context, user string) (string, error) {
	if user != s.user {
		return "", auth.ErrCredentials
	}
	return s.password, nil
}

func (s *userSession) SCRAMPolicy() auth.SCRAMPolicy {
	return auth.SCRAMPolicy{Hashes: []crypto.Hash{crypto.SHA256, crypto.SHA1}, Iterations: iterations}
}

func (s *userSession) SCRAMSecret(_ context.Context, user string, hash crypto.Hash) (auth.SCRAMSecret, error) {
	if user != s.user {
		return auth.SCRAMSecret{}, auth.ErrCredentials
	}
	return s.secrets[hash], nil
}

func (s *userSession) AuthenticateToken(_ context.Context, user, token string) (string, error) {
	if err := s.check(user, token, s.token); err != nil {
		return "", &auth.TokenError{Status: "invalid_token", Schemes: "bearer"}
	}
	return user, nil
}

func (s *userSession) AuthenticateAnonymous(_ context.Context, trace string) (string, error) {
	s.record.Guest = trace
	return "guest", nil
}

func (s *userSession) AuthenticateCertificate(_ context.Context, chain []*x509.Certificate) (string, error) {
	return chain[0].Subject.CommonName, nil
}

// Reverse sends the user one message on demand.
func (s *userSession) Reverse(context.Context, []proto.Domain) (func(context.Context, net.Conn) error, error) {
	return func(ctx context.Context, conn net.Conn) error {
		c, err := client.NewClient(ctx, conn, "", &client.Options{TLS: ext.TLSInsecureNone, Hostname: s.options.Hostname})
		if err != nil {
			return err
		}
		defer c.Close()
		m, err := client.NewMessage("anna@client.example", []string{"bert@receive.example"},
			strings.NewReader("Subject: on demand\r\n\r\nThis waited.\r\n"))
		if err != nil {
			return err
		}
		_, err = c.Send(ctx, m)
		return err
	}, nil
}
