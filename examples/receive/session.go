package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"io"

	"smtpkit.example/smtp/ext/auth"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// backend makes a session for each connection. It can authenticate if there are users.
type backend struct {
	drop   *drop
	users  map[string]string
	reject []proto.Address
}

func (b *backend) NewSession(_ context.Context, c *server.Conn) (server.Session, error) {
	s := &session{backend: b, conn: c}
	if len(b.users) == 0 {
		return s, nil
	}
	return &userSession{s}, nil
}

// session takes mail into the drop.
type session struct {
	*backend
	conn     *server.Conn
	envelope envelope
}

func (s *session) Mail(_ context.Context, from proto.Address, p proto.Params) error {
	s.envelope = envelope{From: from.String(), Params: params(p)}
	return nil
}

func (s *session) Rcpt(_ context.Context, to proto.Address, p proto.Params) error {
	for _, r := range s.reject {
		if to.Equal(r) {
			return proto.Refuse(550, proto.Status{5, 1, 1}, "No such mailbox")
		}
	}
	s.envelope.To = append(s.envelope.To, to.String())
	s.envelope.RcptParams = append(s.envelope.RcptParams, params(p))
	return nil
}

func (s *session) Data(_ context.Context, r io.Reader) error {
	s.envelope.describe(s.conn)
	name, err := s.drop.put(r, &s.envelope)
	if err != nil {
		return err
	}
	s.conn.Accept("Stored as " + name)
	return nil
}

// userSession is a session that can authenticate.
type userSession struct{ *session }

// Authenticate compares hashes, so that it takes the same time whatever the password, and whether or not there is such
// a user.
func (s *userSession) Authenticate(_ context.Context, user, password string) error {
	want, ok := s.users[user]
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(password))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 || !ok {
		return auth.ErrCredentials
	}
	return nil
}

// envelope is what NNNNNN.json has.
type envelope struct {
	From       string              `json:"from"` // "" is the null reverse-path
	To         []string            `json:"to"`
	Params     map[string]string   `json:"params"`      // of MAIL; "" for those without a value
	RcptParams []map[string]string `json:"rcpt_params"` // of RCPT, in the order of to
	Protocol   string              `json:"protocol"`
	Hello      string              `json:"hello"`
	Remote     string              `json:"remote"`
	TLS        *tlsFacts           `json:"tls"`  // null in clear
	Auth       string              `json:"auth"` // the user, or ""
	Received   string              `json:"received"`
	Size       int64               `json:"size"` // of the content in octets
}

type tlsFacts struct {
	Version    string `json:"version"`
	Cipher     string `json:"cipher"`
	ServerName string `json:"server_name"`
}

// describe adds the facts of the connection.
func (e *envelope) describe(c *server.Conn) {
	e.Protocol, e.Hello, e.Remote = c.Protocol().String(), c.Hello(), c.RemoteAddr().String()
	e.Auth, e.Received = c.Identity(), now()
	if t := c.TLS(); t != nil {
		e.TLS = &tlsFacts{tls.VersionName(t.Version), tls.CipherSuiteName(t.CipherSuite), t.ServerName}
	}
}

func params(p proto.Params) map[string]string {
	m := make(map[string]string, len(p))
	for _, param := range p {
		m[param.Key] = param.Value
	}
	return m
}
