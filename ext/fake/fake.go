package fake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"

	"smtpkit.example/smtp/ext"

	"smtpkit.example/smtp/ext/internal/grammar"

	"smtpkit.example/smtp/proto"
)

// fakeServer is the ServerConn and the Command of a session that exists only in the test.
type Server struct {
	With      any
	ConnState *tls.ConnectionState
	Config    *tls.Config
	Own       []*x509.Certificate
	Insecure  bool
	Name      string
	Size      int64
	Failures  int
	UTF8      bool

	Peer      net.Addr
	Told      *ext.Origin
	Restarted bool

	Commands *proto.Table
	Row      *proto.Verb
	Line     string
	Lines    []string // what the client answers to challenges
	Sent     []proto.Reply
	Conn     net.Conn // what take is called with
	After    net.Conn // what it returned
}

func (f *Server) Session() any                         { return f.With }
func (f *Server) Protocol() proto.Protocol             { return proto.SMTP }
func (f *Server) Hostname() string                     { return "mail.example" }
func (f *Server) Hello() string                        { return "client.example" }
func (f *Server) Extended() bool                       { return true }
func (f *Server) LocalAddr() net.Addr                  { return &net.TCPAddr{} }
func (f *Server) RemoteAddr() net.Addr                 { return &net.TCPAddr{} }
func (f *Server) PeerAddr() net.Addr                   { return f.Peer }
func (f *Server) Origin() *ext.Origin                  { return f.Told }
func (f *Server) TLS() *tls.ConnectionState            { return f.ConnState }
func (f *Server) TLSConfig() *tls.Config               { return f.Config }
func (f *Server) OwnCertificates() []*x509.Certificate { return f.Own }
func (f *Server) AllowInsecureAuth() bool              { return f.Insecure }
func (f *Server) Identity() string                     { return f.Name }
func (f *Server) MaxSize() int64                       { return f.Size }
func (f *Server) MaxRcpts() int                        { return 100 }
func (f *Server) State() proto.State                   { return proto.Ready }
func (f *Server) MailParams() proto.Params             { return nil }
func (f *Server) Verb() *proto.Verb                    { return f.Row }
func (f *Server) Args() string                         { return f.Line }
func (f *Server) Authenticated(name string)            { f.Name = name }
func (f *Server) AuthFailed() int                      { f.Failures++; return f.Failures }
func (f *Server) PermitUTF8()                          { f.UTF8 = true }
func (f *Server) Serves(*proto.Verb) bool              { return true }
func (f *Server) Table() *proto.Table                  { return f.Commands }

var ErrHungUp = errors.New("the client has hung up")

func (f *Server) Challenge(_ context.Context, r proto.Reply) (string, error) {
	f.Sent = append(f.Sent, r)
	if len(f.Lines) == 0 {
		return "", ErrHungUp
	}
	line := f.Lines[0]
	f.Lines = f.Lines[1:]
	return line, nil
}

func (f *Server) Handover(ctx context.Context, r proto.Reply, take func(context.Context, net.Conn) (net.Conn, error)) error {
	f.Sent = append(f.Sent, r)
	c, err := take(ctx, f.Conn)
	f.After = c
	return err
}

func (f *Server) Restart(_ context.Context, o *ext.Origin) (proto.Reply, error) {
	f.Told, f.Restarted = o, true
	return proto.Reply{Code: 220, Text: "mail.example"}, nil
}

func (f *Server) Surrender(ctx context.Context, r proto.Reply, serve func(context.Context, net.Conn) error) error {
	f.Sent = append(f.Sent, r)
	return serve(ctx, f.Conn)
}

// serve has e serve the command line "verb args", and returns the reply as it would be on the wire.
func (f *Server) Serve(t testing.TB, e ext.Extension, args string) string {
	t.Helper()
	f.Row, f.Line = &e.Verbs[0], args
	r, err := e.Serve(t.Context(), f)
	return Served(t, r, err, f.UTF8)
}

// served returns the reply that Serve leads to by returning r and err, without the last CRLF: "" for the usual one.
func Served(t testing.TB, r proto.Reply, err error, utf8 bool) string {
	t.Helper()
	if err == nil && r.Code != 0 {
		b := proto.AppendReply(nil, r, true, utf8)
		return string(b[:len(b)-2])
	}
	return Wire(t, err, utf8)
}

// wire returns the reply that err leads to, without the last CRLF.
func Wire(t testing.TB, err error, utf8 bool) string {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := grammar.AsType[*proto.Error](err)
	if !ok {
		return "not a reply: " + err.Error()
	}
	b := proto.AppendReply(nil, e.Reply(), true, utf8)
	return string(b[:len(b)-2])
}

// fakeClient is the ClientConn of a client that talks to a script: the replies, in order, whatever it sends.
type Client struct {
	Offer     proto.Caps
	Options   ext.Policy
	ConnState *tls.ConnectionState
	Trusted   bool
	Name      string

	Replies []proto.Reply
	Sent    []string
	Hidden  bool
	Conn    net.Conn
	After   net.Conn
}

func (f *Client) Caps() proto.Caps          { return f.Offer }
func (f *Client) Policy() ext.Policy        { return f.Options }
func (f *Client) TLS() *tls.ConnectionState { return f.ConnState }
func (f *Client) Verified() bool            { return f.Trusted }
func (f *Client) Identity() string          { return f.Name }
func (f *Client) Secret()                   { f.Hidden = true }
func (f *Client) Authenticated(name string) { f.Name = name }

func (f *Client) Do(_ context.Context, verb, args string) (proto.Reply, error) {
	if args != "" {
		verb += " " + args
	}
	return f.say(verb)
}

func (f *Client) Converse(ctx context.Context, converse func(context.Context, ext.ClientConn) error) error {
	return converse(ctx, f)
}

func (f *Client) Line(_ context.Context, line string) (proto.Reply, error) { return f.say(line) }

func (f *Client) say(line string) (proto.Reply, error) {
	f.Sent = append(f.Sent, line)
	if len(f.Replies) == 0 {
		return proto.Reply{}, ErrHungUp
	}
	r := f.Replies[0]
	f.Replies = f.Replies[1:]
	return r, nil
}

func (f *Client) Handover(ctx context.Context, take func(context.Context, net.Conn) (net.Conn, error)) error {
	c, err := take(ctx, f.Conn)
	f.After = c
	return err
}

// ehlo returns what a server offers with the lines of its reply to EHLO.
func Caps(lines ...string) proto.Caps {
	text := "mail.example"
	for _, l := range lines {
		text += "\n" + l
	}
	return proto.ParseCaps(proto.Reply{Code: 250, Text: text})
}

// everything is the reply of a server that offers all there is.
func Everything() proto.Caps {
	return Caps("PIPELINING", "SIZE 10240", "8BITMIME", "ENHANCEDSTATUSCODES", "STARTTLS", "AUTH PLAIN LOGIN", "SMTPUTF8",
		"CHUNKING", "BINARYMIME", "HELP", "VRFY", "EXPN")
}
