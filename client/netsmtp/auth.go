package netsmtp

import (
	"context"
	"fmt"
	"net/smtp"
	"strings"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
)

// The types and functions of net/smtp that an Auth is made with, under the same names. A program that uses nothing else
// of net/smtp can import this package in its place.
type (
	// Auth is that of net/smtp.
	Auth = smtp.Auth
	// ServerInfo is that of net/smtp.
	ServerInfo = smtp.ServerInfo
)

// PlainAuth is that of net/smtp: an Auth that sends user and password to host, over TLS or to localhost. The identity
// is that of another user to act for; as a rule it is empty.
func PlainAuth(identity, username, password, host string) Auth {
	return smtp.PlainAuth(identity, username, password, host)
}

// CRAMMD5Auth is that of net/smtp: an Auth that proves the knowledge of a secret by CRAM-MD5 (RFC 2195).
func CRAMMD5Auth(username, secret string) Auth { return smtp.CRAMMD5Auth(username, secret) }

// Credentials returns credentials for client.Options that authenticate with a: with PlainAuth, CRAMMD5Auth, or an Auth
// of one's own, such as one for LOGIN or XOAUTH2. If a is nil, so are the credentials.
//
// The Auth is asked only once the client's rules permit credentials on the connection; see Options.Credentials of
// package client. It is told in ServerInfo:
//
//   - Name is the name that the certificate has to be for: the host that was dialled, unless Options.TLSConfig has
//     another ServerName. A dot at its end and the zone of an IPv6 address are left out, and a name in another script
//     is in ASCII.
//   - TLS is true if the connection has TLS, and the server's certificate was verified.
//   - Auth are the mechanisms that the server offers.
//
// An error of the Auth makes the attempt fail with an *ext.AuthError that wraps it. Next is called with the server's
// reply too, with more being false, if that is success; the attempt fails if Next returns an error then. If the server
// does not offer the mechanism that Start names, the attempt fails.
//
// PlainAuth wants Options.AllowPlaintextAuth for localhost without TLS, in addition to what it demands itself.
//
// A client calls the Auth anew for each connection. Clients that are used at the same time may share an Auth only if
// it keeps nothing between Start and Next. Those of net/smtp keep nothing.
func Credentials(a smtp.Auth) ext.Credentials { return credentials(a, "") }

// credentials is Credentials for the server of that name; "" is the one that the certificate has to be for.
func credentials(a smtp.Auth, name string) ext.Credentials {
	if a == nil {
		return nil
	}
	return func(_ context.Context, c ext.ClientConn) ([]sasl.Client, error) {
		m := &mechanism{auth: a}
		m.server = smtp.ServerInfo{Name: name, TLS: c.TLS() != nil && c.Verified(), Auth: auth.Offered(c.Caps())}
		if name == "" {
			m.server.Name = c.Policy().TLSConfig.ServerName
		}
		return []sasl.Client{m}, nil
	}
}

// A mechanism is an Auth as a sasl.Client.
type mechanism struct {
	auth   smtp.Auth
	server smtp.ServerInfo
}

// Start begins. For an Auth no initial response and an empty one are the same: net/smtp sends nothing for either.
func (m *mechanism) Start() (name string, response []byte, err error) {
	info := m.server // which the Auth may keep and change
	name, response, err = m.auth.Start(&info)
	if err != nil {
		return "", nil, fmt.Errorf("%w (asked for the server %q, with verified TLS: %t)", err, m.server.Name,
			m.server.TLS)
	}
	if len(response) == 0 {
		response = nil
	}
	return name, response, nil
}

// Next answers a challenge.
func (m *mechanism) Next(challenge []byte) ([]byte, error) { return m.auth.Next(challenge, true) }

// Succeeded lets the Auth judge the server's success.
func (m *mechanism) Succeeded(r proto.Reply) error {
	_, err := m.auth.Next([]byte(text(r.Status, r.Text)), false)
	return err
}

// text is the text of a reply as net/smtp has it: with the status code at the beginning of each line.
func text(s proto.Status, lines string) string {
	if s.IsZero() {
		return lines
	}
	return s.String() + " " + strings.ReplaceAll(lines, "\n", "\n"+s.String()+" ")
}
