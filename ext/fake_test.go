package ext

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"

	"smtpkit.example/smtp/ext/internal/grammar"

	"smtpkit.example/smtp/proto"
)

// fakeServer is the ServerConn and the Command of a session that exists only in the test.
type fakeServer struct {
	session   any
	tls       *tls.ConnectionState
	tlsConfig *tls.Config
	own       []*x509.Certificate
	insecure  bool
	identity  string
	maxSize   int64
	failures  int
	utf8      bool

	peer      net.Addr
	origin    *Origin
	restarted bool

	table *proto.Table
	verb  *proto.Verb
	args  string
	lines []string // what the client answers to challenges
	sent  []proto.Reply
	conn  net.Conn // what take is called with
	after net.Conn // what it returned
}

func (f *fakeServer) Session() any                         { return f.session }
func (f *fakeServer) Protocol() proto.Protocol             { return proto.SMTP }
func (f *fakeServer) Hostname() string                     { return "mail.example" }
func (f *fakeServer) Hello() string                        { return "client.example" }
func (f *fakeServer) Extended() bool                       { return true }
func (f *fakeServer) LocalAddr() net.Addr                  { return &net.TCPAddr{} }
func (f *fakeServer) RemoteAddr() net.Addr                 { return &net.TCPAddr{} }
func (f *fakeServer) PeerAddr() net.Addr                   { return f.peer }
func (f *fakeServer) Origin() *Origin                      { return f.origin }
func (f *fakeServer) TLS() *tls.ConnectionState            { return f.tls }
func (f *fakeServer) TLSConfig() *tls.Config               { return f.tlsConfig }
func (f *fakeServer) OwnCertificates() []*x509.Certificate { return f.own }
func (f *fakeServer) AllowInsecureAuth() bool              { return f.insecure }
func (f *fakeServer) Identity() string                     { return f.identity }
func (f *fakeServer) MaxSize() int64                       { return f.maxSize }
func (f *fakeServer) MaxRcpts() int                        { return 100 }
func (f *fakeServer) State() proto.State                   { return proto.Ready }
func (f *fakeServer) MailParams() proto.Params             { return nil }
func (f *fakeServer) Verb() *proto.Verb                    { return f.verb }
func (f *fakeServer) Args() string                         { return f.args }
func (f *fakeServer) Authenticated(name string)            { f.identity = name }
func (f *fakeServer) AuthFailed() int                      { f.failures++; return f.failures }
func (f *fakeServer) PermitUTF8()                          { f.utf8 = true }
func (f *fakeServer) Serves(*proto.Verb) bool              { return true }
func (f *fakeServer) Table() *proto.Table                  { return f.table }

var errHungUp = errors.New("the client has hung up")

func (f *fakeServer) Challenge(_ context.Context, r proto.Reply) (string, error) {
	f.sent = append(f.sent, r)
	if len(f.lines) == 0 {
		return "", errHungUp
	}
	line := f.lines[0]
	f.lines = f.lines[1:]
	return line, nil
}

func (f *fakeServer) Handover(ctx context.Context, r proto.Reply, take func(context.Context, net.Conn) (net.Conn, error)) error {
	f.sent = append(f.sent, r)
	c, err := take(ctx, f.conn)
	f.after = c
	return err
}

func (f *fakeServer) Restart(_ context.Context, o *Origin) (proto.Reply, error) {
	f.origin, f.restarted = o, true
	return proto.Reply{Code: 220, Text: "mail.example"}, nil
}

func (f *fakeServer) Surrender(ctx context.Context, r proto.Reply, serve func(context.Context, net.Conn) error) error {
	f.sent = append(f.sent, r)
	return serve(ctx, f.conn)
}

// serve has e serve the command line "verb args", and returns the reply as it would be on the wire.
func (f *fakeServer) serve(t *testing.T, e Extension, args string) string {
	t.Helper()
	f.verb, f.args = &e.Verbs[0], args
	r, err := e.Serve(t.Context(), f)
	return served(t, r, err, f.utf8)
}

// served returns the reply that Serve leads to by returning r and err, without the last CRLF: "" for the usual one.
func served(t *testing.T, r proto.Reply, err error, utf8 bool) string {
	t.Helper()
	if err == nil && r.Code != 0 {
		b := proto.AppendReply(nil, r, true, utf8)
		return string(b[:len(b)-2])
	}
	return wire(t, err, utf8)
}

// wire returns the reply that err leads to, without the last CRLF.
func wire(t *testing.T, err error, utf8 bool) string {
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
type fakeClient struct {
	caps     proto.Caps
	policy   Policy
	tls      *tls.ConnectionState
	verified bool
	identity string

	replies []proto.Reply
	sent    []string
	secret  bool
	conn    net.Conn
	after   net.Conn
}

func (f *fakeClient) Caps() proto.Caps          { return f.caps }
func (f *fakeClient) Policy() Policy            { return f.policy }
func (f *fakeClient) TLS() *tls.ConnectionState { return f.tls }
func (f *fakeClient) Verified() bool            { return f.verified }
func (f *fakeClient) Identity() string          { return f.identity }
func (f *fakeClient) Secret()                   { f.secret = true }
func (f *fakeClient) Authenticated(name string) { f.identity = name }

func (f *fakeClient) Do(_ context.Context, verb, args string) (proto.Reply, error) {
	if args != "" {
		verb += " " + args
	}
	return f.say(verb)
}

func (f *fakeClient) Converse(ctx context.Context, converse func(context.Context, ClientConn) error) error {
	return converse(ctx, f)
}

func (f *fakeClient) Line(_ context.Context, line string) (proto.Reply, error) { return f.say(line) }

func (f *fakeClient) say(line string) (proto.Reply, error) {
	f.sent = append(f.sent, line)
	if len(f.replies) == 0 {
		return proto.Reply{}, errHungUp
	}
	r := f.replies[0]
	f.replies = f.replies[1:]
	return r, nil
}

func (f *fakeClient) Handover(ctx context.Context, take func(context.Context, net.Conn) (net.Conn, error)) error {
	c, err := take(ctx, f.conn)
	f.after = c
	return err
}

// ehlo returns what a server offers with the lines of its reply to EHLO.
func ehlo(lines ...string) proto.Caps {
	text := "mail.example"
	for _, l := range lines {
		text += "\n" + l
	}
	return proto.ParseCaps(proto.Reply{Code: 250, Text: text})
}

// everything is the reply of a server that offers all there is.
func everything() proto.Caps {
	return ehlo("PIPELINING", "SIZE 10240", "8BITMIME", "ENHANCEDSTATUSCODES", "STARTTLS", "AUTH PLAIN LOGIN", "SMTPUTF8",
		"CHUNKING", "BINARYMIME", "HELP", "VRFY", "EXPN")
}

func address(t *testing.T, s string) proto.Address {
	t.Helper()
	a, err := proto.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newSet(t *testing.T, list ...Extension) *Set {
	t.Helper()
	s, err := NewSet(proto.SMTP, list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
