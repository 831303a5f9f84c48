package fake

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

var _ ext.Command = (*Server)(nil)

// ErrHungUp is the error of a fake whose other end has nothing left to say: of Challenge without Responses, and of Do
// and Line without Replies.
var ErrHungUp = errors.New("fake: the other end has hung up")

// A ServerState is what an extension can learn of a connection to a server. Each field is the result of the method of
// [ext.ServerConn] or [ext.Command] that has the field's name.
type ServerState struct {
	// Session is what the backend made: the value in which [ext.As] finds the interfaces of the extension. It may be nil.
	Session any
	// Protocol is proto.SMTP by default.
	Protocol proto.Protocol
	// Hostname is "mail.example" by default.
	Hostname string
	// Hello is "client.example" by default.
	Hello string
	// HELO says that the client sent HELO: then Extended returns false.
	HELO bool
	// LocalAddr is 192.0.2.1:25 by default. Give a *net.TCPAddr with another port to test submission on 587 or 465.
	LocalAddr net.Addr
	// RemoteAddr is 198.51.100.1:50000 by default.
	RemoteAddr net.Addr
	// PeerAddr is RemoteAddr by default.
	PeerAddr net.Addr
	// Origin is nil by default. Restart sets it.
	Origin *ext.Origin
	// TLS is nil by default, for a connection in plaintext. The empty tls.ConnectionState is enough for extensions that
	// only ask whether there is TLS.
	TLS *tls.ConnectionState
	// OwnCertificates is nil by default.
	OwnCertificates []*x509.Certificate
	// TLSConfig is nil by default, for a server that cannot start TLS.
	TLSConfig *tls.Config
	// AllowInsecureAuth is false by default.
	AllowInsecureAuth bool
	// Identity is "" by default. AuthOutcome sets it.
	Identity string
	// MaxSize is 0 by default, for no limit.
	MaxSize int64
	// MaxRcpts is 100 by default.
	MaxRcpts int
	// MaxMails is 0 by default, for no limit.
	MaxMails int
	// State is proto.Ready by default.
	State proto.State
	// MailParams is nil by default.
	MailParams proto.Params

	// Verb and Args are the command. Server.Serve sets both.
	Verb *proto.Verb
	Args string
	// Table is nil by default. Set it to the Table of an [ext.Set] to test an extension that asks for other commands.
	Table *proto.Table
	// Serves is asked by the method Serves. Nil stands for a server that serves every verb.
	Serves func(*proto.Verb) bool
}

// A Server is the server's end of a connection that exists only in a test. It is an [ext.Command], and so an
// [ext.ServerConn]. Its methods record what the extension did.
type Server struct {
	// Conn is the state of the connection.
	Conn ServerState
	// Responses are the lines with which the client answers challenges, in order. Challenge takes the first.
	Responses []string
	// NetConn is the connection that Handover and Surrender pass on.
	NetConn net.Conn

	// Sent has the replies that the extension sent before the final one: by Challenge, Handover and Surrender.
	Sent []proto.Reply
	// Outcomes has what AuthOutcome was called with, and AuthFailures counts those that were denied.
	Outcomes     []ext.AuthOutcome
	AuthFailures int
	// UTF8Permitted is true after PermitUTF8.
	UTF8Permitted bool
	// Restarted is true after Restart.
	Restarted bool
	// Next is the connection on which the session goes on after Handover. It is nil if Handover's function closed it.
	Next net.Conn
}

// NewServer returns a Server whose backend made session, with the defaults of [ServerState] for the rest.
func NewServer(session any) *Server { return &Server{Conn: ServerState{Session: session}} }

// Serve has e serve a command with args, and returns the reply as [Reply] does. The command is the first in the Verbs
// of e, unless Conn.Verb says otherwise. The test fails if e serves no command.
func (s *Server) Serve(t testing.TB, e ext.Extension, args string) string {
	t.Helper()
	if e.Serve == nil || len(e.Verbs) == 0 {
		t.Fatalf("fake: the extension %q serves no command", e.Keyword)
	}
	verb := s.Conn.Verb
	if verb == nil {
		s.Conn.Verb = &e.Verbs[0]
	}
	s.Conn.Args = args
	r, err := e.Serve(t.Context(), s)
	s.Conn.Verb = verb
	return wire(r, err, s.UTF8Permitted)
}

// Session returns Conn.Session.
func (s *Server) Session() any { return s.Conn.Session }

// Protocol returns Conn.Protocol.
func (s *Server) Protocol() proto.Protocol { return s.Conn.Protocol }

// Hostname returns Conn.Hostname.
func (s *Server) Hostname() string { return cmp.Or(s.Conn.Hostname, "mail.example") }

// Hello returns Conn.Hello.
func (s *Server) Hello() string { return cmp.Or(s.Conn.Hello, "client.example") }

// Extended returns false if Conn.HELO is set.
func (s *Server) Extended() bool { return !s.Conn.HELO }

// LocalAddr returns Conn.LocalAddr.
func (s *Server) LocalAddr() net.Addr {
	if s.Conn.LocalAddr != nil {
		return s.Conn.LocalAddr
	}
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25}
}

// RemoteAddr returns Conn.RemoteAddr.
func (s *Server) RemoteAddr() net.Addr {
	if s.Conn.RemoteAddr != nil {
		return s.Conn.RemoteAddr
	}
	return &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 50000}
}

// PeerAddr returns Conn.PeerAddr.
func (s *Server) PeerAddr() net.Addr {
	if s.Conn.PeerAddr != nil {
		return s.Conn.PeerAddr
	}
	return s.RemoteAddr()
}

// Origin returns Conn.Origin.
func (s *Server) Origin() *ext.Origin { return s.Conn.Origin }

// TLS returns Conn.TLS.
func (s *Server) TLS() *tls.ConnectionState { return s.Conn.TLS }

// OwnCertificates returns Conn.OwnCertificates.
func (s *Server) OwnCertificates() []*x509.Certificate { return s.Conn.OwnCertificates }

// TLSConfig returns Conn.TLSConfig.
func (s *Server) TLSConfig() *tls.Config { return s.Conn.TLSConfig }

// AllowInsecureAuth returns Conn.AllowInsecureAuth.
func (s *Server) AllowInsecureAuth() bool { return s.Conn.AllowInsecureAuth }

// Identity returns Conn.Identity.
func (s *Server) Identity() string { return s.Conn.Identity }

// MaxSize returns Conn.MaxSize.
func (s *Server) MaxSize() int64 { return s.Conn.MaxSize }

// MaxRcpts returns Conn.MaxRcpts.
func (s *Server) MaxRcpts() int { return cmp.Or(s.Conn.MaxRcpts, 100) }

// MaxMails returns Conn.MaxMails.
func (s *Server) MaxMails() int { return s.Conn.MaxMails }

// State returns Conn.State.
func (s *Server) State() proto.State { return cmp.Or(s.Conn.State, proto.Ready) }

// MailParams returns Conn.MailParams.
func (s *Server) MailParams() proto.Params { return s.Conn.MailParams }

// Verb returns Conn.Verb.
func (s *Server) Verb() *proto.Verb { return s.Conn.Verb }

// Args returns Conn.Args.
func (s *Server) Args() string { return s.Conn.Args }

// Table returns Conn.Table.
func (s *Server) Table() *proto.Table { return s.Conn.Table }

// Serves returns what Conn.Serves returns, and true if that is nil.
func (s *Server) Serves(v *proto.Verb) bool { return s.Conn.Serves == nil || s.Conn.Serves(v) }

// AuthOutcome appends o to Outcomes. It sets Conn.Identity after success, and increases AuthFailures if o is denied. It
// returns AuthFailures; the fourth is the last.
func (s *Server) AuthOutcome(o ext.AuthOutcome) (denied int, last bool) {
	s.Outcomes = append(s.Outcomes, o)
	if o.Err == nil {
		s.Conn.Identity = o.Identity
	}
	if o.Denied {
		s.AuthFailures++
	}
	return s.AuthFailures, s.AuthFailures > 3
}

// PermitUTF8 sets UTF8Permitted.
func (s *Server) PermitUTF8() { s.UTF8Permitted = true }

// Challenge appends r to Sent and returns the first of Responses, which it removes. It returns [ErrHungUp] if there is
// none.
func (s *Server) Challenge(_ context.Context, r proto.Reply) (line string, err error) {
	s.Sent = append(s.Sent, r)
	if len(s.Responses) == 0 {
		return "", ErrHungUp
	}
	line, s.Responses = s.Responses[0], s.Responses[1:]
	return line, nil
}

// Handover appends r to Sent and calls take with NetConn. It sets Next to the connection that take returns.
func (s *Server) Handover(
	ctx context.Context, r proto.Reply, take func(context.Context, net.Conn) (net.Conn, error),
) error {
	s.Sent = append(s.Sent, r)
	var err error
	s.Next, err = take(ctx, s.NetConn)
	return err
}

// Restart sets Restarted and Conn.Origin, and returns a greeting. It leaves all else as it is.
func (s *Server) Restart(_ context.Context, o *ext.Origin) (proto.Reply, error) {
	s.Conn.Origin, s.Restarted = o, true
	return proto.Reply{Code: 220, Text: s.Hostname()}, nil
}

// Surrender appends r to Sent and calls serve with NetConn.
func (s *Server) Surrender(ctx context.Context, r proto.Reply, serve func(context.Context, net.Conn) error) error {
	s.Sent = append(s.Sent, r)
	return serve(ctx, s.NetConn)
}
