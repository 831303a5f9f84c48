package auth

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// users is a session in which alice has a password, and each other user gets an error of another kind.
type users struct {
	quick
	asked []string
}

var errDatabase = errors.New("the database at 10.0.0.1 is down")

func (u *users) Authenticate(_ context.Context, user, password string) error {
	u.asked = append(u.asked, user+"/"+password)
	switch {
	case user == "alice" && password == "secret":
		return nil
	case user == "down":
		return errDatabase
	case user == "busy":
		return fmt.Errorf("wrapped: %w", proto.Refuse(454, proto.Status{4, 7, 0}, "Busy"))
	case user == "weak":
		return proto.Refuse(534, proto.Status{5, 7, 9}, "Too weak")
	case user == "old":
		return proto.Refuse(432, proto.Status{4, 7, 12}, "Log in elsewhere once")
	case user == "liar":
		return &proto.Error{Code: 235, Status: proto.Status{2, 7, 0}, Text: "An error that says yes"}
	}
	return fmt.Errorf("user %s: %w", user, ErrCredentials)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// safeServer returns a connection with TLS whose session is s. The client answers challenges with lines.
func safeServer(s any, lines ...string) *fake.Server {
	return &fake.Server{Conn: fake.ServerState{Session: s, TLS: &tls.ConnectionState{}}, Responses: lines}
}

// quick is a session without a pause after failures.
type quick struct{}

func (quick) AuthPause(int) time.Duration { return 0 }

// say returns a server's reply.
func say(code int, text string) proto.Reply { return proto.Reply{Code: code, Text: text} }

// these returns credentials with these mechanisms.
func these(list ...sasl.Client) ext.Credentials {
	return func(context.Context, ext.ClientConn) ([]sasl.Client, error) { return list, nil }
}

// safeClient returns a client with TLS to a verified server that advertises offer and answers with replies.
func safeClient(offer string, c ext.Credentials, replies ...proto.Reply) *fake.Client {
	return &fake.Client{
		Conn: fake.ClientState{Caps: fake.Caps(offer), TLS: &tls.ConnectionState{}, Verified: true, Policy: ext.Policy{Credentials: c}}, Replies: replies,
	}
}

// meeting connects a fake client to a fake server: what one side sends, the other receives.
type meeting struct {
	*fake.Client
	x     *fake.Server
	lines chan string
	say   chan proto.Reply
}

func (m *meeting) Do(ctx context.Context, verb, args string) (proto.Reply, error) {
	m.x.Conn.Args = args
	go func() {
		r, err := Auth().Serve(ctx, exchangeOf{m.x, m})
		if e, ok := grammar.AsType[*proto.Error](err); ok {
			r = e.Reply()
		}
		m.say <- r
	}()
	return <-m.say, nil
}

func (m *meeting) Line(_ context.Context, line string) (proto.Reply, error) {
	m.lines <- line
	return <-m.say, nil
}

type exchangeOf struct {
	*fake.Server
	m *meeting
}

func (e exchangeOf) Challenge(_ context.Context, r proto.Reply) (string, error) {
	e.m.say <- r
	return <-e.m.lines, nil
}

// fuzzed is a session that accepts all credentials and records them. Only SCRAM and CRAM-MD5 have a password to check.
type fuzzed struct {
	quick
	secret SCRAMSecret
	asked  []string
}

func (f *fuzzed) ask(s string) { f.asked = append(f.asked, s) }

func (f *fuzzed) SCRAMPolicy() SCRAMPolicy { return SCRAMPolicy{Hashes: []crypto.Hash{crypto.SHA256}} }

func (f *fuzzed) SCRAMSecret(_ context.Context, user string, _ crypto.Hash) (SCRAMSecret, error) {
	f.ask(user)
	if user != "user" {
		return SCRAMSecret{}, ErrCredentials
	}
	return f.secret, nil
}

func (f *fuzzed) ClearPassword(_ context.Context, user string) (string, error) {
	f.ask(user)
	return "pass", nil
}

func (f *fuzzed) AuthenticateToken(_ context.Context, user, token string) (string, error) {
	f.ask(user)
	f.ask(token)
	return "user", nil
}

func (f *fuzzed) AuthenticateCertificate(context.Context, []*x509.Certificate) (string, error) {
	return "user", nil
}

func (f *fuzzed) Authorize(_ context.Context, _, as string) error {
	f.ask(as)
	return nil
}

func (f *fuzzed) AuthenticateAnonymous(_ context.Context, trace string) (string, error) {
	f.ask(trace)
	return "guest", nil
}

func (f *fuzzed) Authenticate(_ context.Context, user, password string) error {
	f.ask(user)
	f.ask(password)
	return nil
}

// serveFuzzed serves the mechanism to a client that sends these messages, and checks what always holds: the session
// sees no control character, and the client gets a reply.
func serveFuzzed(t *testing.T, f *fuzzed, mechanism string, messages ...string) (reply string, x *fake.Server) {
	var lines []string
	for _, m := range messages {
		lines = append(lines, b64(m))
	}
	x = &fake.Server{Conn: fake.ServerState{Session: f, TLS: chain("x")}, Responses: lines}
	reply = x.Serve(t, Auth(), mechanism)
	for _, s := range f.asked {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("the session was asked about %q", s)
		}
	}
	if (x.Conn.Identity != "") != strings.HasPrefix(reply, "235 ") || len(reply) < 4 {
		t.Fatalf("%q as %q", reply, x.Conn.Identity)
	}
	return reply, x
}
