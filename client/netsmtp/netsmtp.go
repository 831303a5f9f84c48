// Package netsmtp is for programs that send mail with net/smtp of the standard library. It has the function SendMail of
// that package, and lets its Auth values work with package client.
//
// A program that calls nothing of net/smtp but SendMail and the functions for an Auth needs another import only:
//
//	import smtp "smtpkit.example/smtp/client/netsmtp"
//
// To send over a connection that stays open, or with options, use package client, with [Credentials] for the Auth:
//
//	opt := &client.Options{Credentials: netsmtp.Credentials(a)}
//
// # What SendMail does as net/smtp does
//
// TLS is started if the server offers STARTTLS, and the server's certificate has to be for the host in addr. Nobody
// gets the message if the server refuses one recipient. A line that ends with LF alone is sent with CRLF.
//
// # What SendMail does differently
//
//   - Credentials are sent only over TLS, or to localhost, whatever the Auth: if the server offers no TLS, SendMail
//     fails before it asks the Auth.
//   - If the server has no AUTH and a is not nil, SendMail fails, also with a server that knows HELO only.
//   - Port 465 means TLS from the first octet; net/smtp waits for a greeting that does not come.
//   - The name in EHLO is never localhost; see Options.Hostname of package client.
//   - The error tells the outcome for each recipient: it wraps a *client.SendError. A refused QUIT is no error, since
//     the message has been accepted then.
//   - An address is checked before a connection is made. So are recipients: there has to be one.
//   - A mechanism that the server does not offer is not tried.
//   - MAIL gets a parameter such as BODY or SMTPUTF8 only if the message needs it. A message with octets above 127 is
//     not sent to a server without 8BITMIME.
//   - A CR that is not part of a CRLF is sent as CRLF.
//   - Each wait has a timeout, that of RFC 5321 section 4.5.3.2. [SendMailContext] takes a deadline for the whole.
package netsmtp

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/smtp"
	"unicode/utf8"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
)

// SendMail sends a message, as the function of this name in net/smtp does. The documentation of the package lists the
// differences.
//
// Addr is "host:port"; an empty host means localhost. If a is not nil, the client authenticates with it. From is the
// address to which bounces go, and may be empty. Everybody in to gets the message, or nobody. Msg is the content: lines
// of a header, an empty line, and text.
//
// An error of the server can be had as a *[textproto.Error], as that of net/smtp, and as a *proto.Error. It wraps a
// *client.SendError, which tells the outcome for each recipient, if the session got as far as the message. Ask
// client.Temporary and client.SafeToRetry whether to send again.
//
// SendMail may be called by several goroutines. It waits for a slow server for minutes: if somebody waits for the
// outcome, call [SendMailContext].
func SendMail(addr string, a smtp.Auth, from string, to []string, msg []byte) error {
	return SendMailContext(context.Background(), addr, a, from, to, msg)
}

// SendMailContext is [SendMail] that ends when ctx does. If the content had been sent to its end by then, the server
// may have accepted the message or not: client.SafeToRetry is false of the error.
func SendMailContext(ctx context.Context, addr string, a smtp.Auth, from string, to []string, msg []byte) error {
	return send(ctx, client.Options{}, addr, a, from, to, msg)
}

// send is SendMailContext with options to begin with.
func send(
	ctx context.Context, opt client.Options, addr string, a smtp.Auth, from string, to []string, msg []byte,
) error {
	if !bytes.HasSuffix(msg, []byte("\n")) {
		msg = append(bytes.Clone(msg), "\r\n"...) // as net/smtp does; in chunks nothing else would
	}
	m, err := client.NewMessage(from, to, bytes.NewReader(msg))
	if err != nil {
		return err
	}
	m.AllOrNone = true
	host, port, err := net.SplitHostPort(addr)
	if err == nil && host == "" {
		host = "localhost"
		addr = net.JoinHostPort(host, port)
	}
	opt.Credentials = credentials(a, host)
	opt.TLS = tlsMode(ctx, a, host, port)
	opt.AllowPlaintextAuth = isLocalhost(host)
	c, err := client.Dial(ctx, addr, &opt)
	if err != nil {
		return asNetSMTP(err)
	}
	defer hangUp(ctx, c)
	if hasUTF8Header(msg) {
		m.Needs |= ext.UTF8
	}
	_, err = c.Send(ctx, m)
	if errors.As(err, new(*ext.UnsupportedError)) && m.Needs != 0 { // then nothing of it has been sent
		m.Needs = 0
		_, err = c.Send(ctx, m)
	}
	return asNetSMTP(err)
}

// tlsMode returns how TLS is used: never less than net/smtp has it.
func tlsMode(ctx context.Context, a smtp.Auth, host, port string) ext.TLSMode {
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port) // "smtps" is a port too
	switch {
	case err == nil && n == 465:
		return ext.TLSImplicit
	case a != nil && !isLocalhost(host):
		return ext.TLSRequired
	}
	return ext.TLSIfOffered
}

// isLocalhost is the rule of net/smtp for hosts to which PlainAuth sends a password in plaintext.
func isLocalhost(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// hangUp says QUIT, and waits for the reply until ctx ends.
func hangUp(ctx context.Context, c *client.Client) {
	stop := context.AfterFunc(ctx, func() { c.Close() }) // which ends the other Close
	defer stop()
	c.Close()
}

// hasUTF8Header reports whether the header of msg needs SMTPUTF8 (RFC 6532): it is UTF-8, and not ASCII alone.
func hasUTF8Header(msg []byte) bool {
	beyond := false
	for line := range bytes.Lines(msg) {
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		for _, b := range line {
			beyond = beyond || b >= utf8.RuneSelf
		}
		if !utf8.Valid(line) {
			return false
		}
	}
	return beyond
}
