package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/proto"
)

// users is a session of two users: alice has a password, and the others have something wrong with them.
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

// safeServer is a session of s on a protected connection.
func safeServer(s any, lines ...string) *fake.Server {
	return &fake.Server{Conn: fake.ServerState{Session: s, TLS: &tls.ConnectionState{}}, Responses: lines}
}

func TestAuthServe(t *testing.T) {
	good := b64("\x00alice\x00secret")
	for _, tt := range []struct {
		name  string
		args  string
		lines []string
		want  string // how the last reply begins
		asked string // what the session was asked; "" if nothing
		sent  string // the challenges, each with "|" behind it
	}{
		{"P12 PLAIN", "PLAIN " + good, nil, "235 2.7.0 ", "alice/secret", ""},
		{"P12 any case", "plain " + good, nil, "235 2.7.0 ", "alice/secret", ""},
		{"P04 without initial response", "PLAIN", []string{good}, "235 2.7.0 ", "alice/secret", "|"},
		{"LOGIN", "LOGIN", []string{b64("alice"), b64("secret")}, "235 2.7.0 ", "alice/secret", "VXNlcm5hbWU6|UGFzc3dvcmQ6|"},
		{"LOGIN with the name", "LOGIN " + b64("alice"), []string{b64("secret")}, "235 2.7.0 ", "alice/secret", "UGFzc3dvcmQ6|"},
		{"84 same authzid", "PLAIN " + b64("alice\x00alice\x00secret"), nil, "235 2.7.0 ", "alice/secret", ""},
		{"84 other authzid", "PLAIN " + b64("root\x00alice\x00secret"), nil, "535 5.7.8 ", "", ""},
		{"P10 bad password", "PLAIN " + b64("\x00alice\x00x"), nil, "535 5.7.8 ", "alice/x", ""},
		{"P10 bad user", "PLAIN " + b64("\x00bob\x00secret"), nil, "535 5.7.8 ", "bob/secret", ""},
		{"P11 temporary", "PLAIN " + b64("\x00busy\x00x"), nil, "454 4.7.0 Busy", "busy/x", ""},
		{"P11 too weak", "LOGIN", []string{b64("weak"), b64("x")}, "534 5.7.9 Too weak", "weak/x", "VXNlcm5hbWU6|UGFzc3dvcmQ6|"},
		{"P11 transition", "PLAIN " + b64("\x00old\x00x"), nil, "432 4.7.12 Log in elsewhere once", "old/x", ""},
		{"session is broken", "PLAIN " + b64("\x00down\x00x"), nil, "454 4.7.0 ", "down/x", ""},
		{"an error is no success", "PLAIN " + b64("\x00liar\x00x"), nil, "454 4.7.0 ", "liar/x", ""},
		{"no mechanism", "", nil, "501 5.5.4 ", "", ""},
		{"P03 unknown", "SCRAM-SHA-1", nil, "504 5.5.4 ", "", ""},
		{"P05 cancelled", "PLAIN", []string{"*"}, "501 5.7.0 ", "", "|"},
		{"P05 cancelled half-way", "LOGIN", []string{b64("alice"), "*"}, "501 5.7.0 ", "", "VXNlcm5hbWU6|UGFzc3dvcmQ6|"},
		{"P06 * for initial response", "PLAIN *", nil, "501 5.5.2 ", "", ""},
		{"P07 empty initial response", "PLAIN =", nil, "535 5.7.8 ", "", ""},
		{"P06 ====", "PLAIN ====", nil, "501 5.5.2 ", "", ""},
		{"P06 AAA=BBB", "PLAIN AAA=BBB", nil, "501 5.5.2 ", "", ""},
		{"P06 =AAA", "PLAIN =AAA", nil, "501 5.5.2 ", "", ""},
		{"P06 padding inside", "PLAIN AA==AA==", nil, "501 5.5.2 ", "", ""},
		{"P06 NUL", "PLAIN AGE=\x00", nil, "501 5.5.2 ", "", ""},
		{"P06 space", "PLAIN AGFs aWNl", nil, "501 5.5.2 ", "", ""},
		{"P06 junk within", "PLAIN AG!lAG==", nil, "501 5.5.2 ", "", ""},
		{"P06 unpadded", "PLAIN AGE", nil, "501 5.5.2 ", "", ""},
		{"P06 in a response", "LOGIN", []string{"!!!"}, "501 5.5.2 ", "", "VXNlcm5hbWU6|"},
		{"= is for the command alone", "PLAIN", []string{"="}, "501 5.5.2 ", "", "|"},
		{"P20 no NUL", "PLAIN " + b64("alice"), nil, "535 5.7.8 ", "", ""},
		{"P20 one NUL", "PLAIN " + b64("alice\x00secret"), nil, "535 5.7.8 ", "", ""},
		{"P20 three NULs", "PLAIN " + b64("\x00alice\x00secret\x00"), nil, "535 5.7.8 ", "", ""},
		{"P23 LF in user", "PLAIN " + b64("\x00ali\nce\x00secret"), nil, "535 5.7.8 ", "", ""},
		{"P23 CTL in password", "PLAIN " + b64("\x00alice\x00sec\x7fret"), nil, "535 5.7.8 ", "", ""},
		{"P23 NUL in LOGIN", "LOGIN", []string{b64("ali\x00ce"), b64("secret")}, "535 5.7.8 ", "", "VXNlcm5hbWU6|UGFzc3dvcmQ6|"},
		{"P20 invalid UTF-8", "PLAIN " + b64("\x00al\xffce\x00secret"), nil, "535 5.7.8 ", "", ""},
		{"empty user", "PLAIN " + b64("\x00\x00secret"), nil, "535 5.7.8 ", "", ""},
		{"empty password", "PLAIN " + b64("\x00alice\x00"), nil, "535 5.7.8 ", "", ""},
		{"88 empty lines", "LOGIN", []string{"", ""}, "535 5.7.8 ", "", "VXNlcm5hbWU6|UGFzc3dvcmQ6|"},
		{"P20 255 octets", "PLAIN " + b64("\x00"+strings.Repeat("u", 255)+"\x00"+strings.Repeat("p", 255)), nil, "535 5.7.8 ",
			strings.Repeat("u", 255) + "/" + strings.Repeat("p", 255), ""},
		{"85 hung up", "PLAIN", nil, "not a reply: " + fake.ErrHungUp.Error(), "", "|"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := &users{}
			x := safeServer(testkit.Wrap(u), tt.lines...)
			got := x.Serve(t, Auth(), tt.args)
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if asked := strings.Join(u.asked, " "); asked != tt.asked {
				t.Errorf("the session was asked %q, want %q", asked, tt.asked)
			}
			var sent string
			for _, r := range x.Sent {
				if r.Code != 334 {
					t.Errorf("sent %v", r)
				}
				sent += r.Text + "|"
			}
			if sent != tt.sent {
				t.Errorf("challenges %q, want %q", sent, tt.sent)
			}
			if want := map[bool]string{true: "alice"}[strings.HasPrefix(tt.want, "235")]; x.Conn.Identity != want {
				t.Errorf("authenticated as %q, want %q", x.Conn.Identity, want)
			}
			if strings.Contains(got, "10.0.0.1") {
				t.Errorf("%q tells of the inside", got)
			}
		})
	}
}

// Nothing in the reply tells a wrong user from a wrong password or malformed credentials.
func TestP10_AuthSameText(t *testing.T) {
	texts := make(map[string]bool)
	for _, s := range []string{"\x00alice\x00x", "\x00bob\x00secret", "root\x00alice\x00secret", "x", "\x00a\nb\x00c"} {
		texts[safeServer(&users{}).Serve(t, Auth(), "PLAIN "+b64(s))] = true
	}
	if len(texts) != 1 {
		t.Errorf("%d answers: %v", len(texts), texts)
	}
}

// TestAuthOffer: whether AUTH is offered, and what it is answered with when it is not.
func TestAuthOffer(t *testing.T) {
	line := "PLAIN " + b64("\x00alice\x00secret")
	active := &tls.ConnectionState{}
	own := &mechs{names: []string{"scram-sha-256", "EXTERNAL", "BAD NAME", "TOO-LONG-FOR-A-MECHANISM", "external"}}
	for _, tt := range []struct {
		name  string
		x     fake.Server
		offer string // the line, "" if it is not offered
		want  string
	}{
		{"P13 TLS", fake.Server{Conn: fake.ServerState{Session: &users{}, TLS: active}}, "AUTH PLAIN LOGIN", "235 2.7.0 "},
		{"P03 P13 in clear", fake.Server{Conn: fake.ServerState{Session: &users{}}}, "", "538 5.7.11 "},
		{"in clear by permission", fake.Server{Conn: fake.ServerState{Session: &users{}, AllowInsecureAuth: true}}, "AUTH PLAIN LOGIN", "235 2.7.0 "},
		{"nobody", fake.Server{Conn: fake.ServerState{Session: 1, TLS: active}}, "", "502 5.5.1 "},
		{"own mechanisms", fake.Server{Conn: fake.ServerState{Session: own, TLS: active}}, "AUTH SCRAM-SHA-256 EXTERNAL", "504 5.5.4 "},
		{"both", fake.Server{Conn: fake.ServerState{Session: struct {
			*mechs
			*users
		}{own, &users{}}, TLS: active}}, "AUTH SCRAM-SHA-256 EXTERNAL PLAIN LOGIN", "235 2.7.0 "},
		{"no mechanism", fake.Server{Conn: fake.ServerState{Session: &mechs{}, TLS: active}}, "", "502 5.5.1 "},
		{"P01 done", fake.Server{Conn: fake.ServerState{Session: &users{}, TLS: active, Identity: "alice"}}, "AUTH PLAIN LOGIN", "503 5.5.1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, lines := testkit.MakeSet(t, Auth()).Offer(&tt.x)
			if got := strings.Join(lines, "|"); got != tt.offer {
				t.Errorf("offered %q, want %q", got, tt.offer)
			}
			if got := tt.x.Serve(t, Auth(), line); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// RFC 8314 section 4.1: credentials sent in clear are not looked at.
func TestP13_AuthInClearIsNotEvaluated(t *testing.T) {
	u := &users{}
	good := (fake.NewServer(u)).Serve(t, Auth(), "PLAIN "+b64("\x00alice\x00secret"))
	bad := (fake.NewServer(u)).Serve(t, Auth(), "PLAIN "+b64("\x00alice\x00x"))
	if good != bad || len(u.asked) != 0 {
		t.Errorf("%q and %q, asked %q", good, bad, u.asked)
	}
}

// Three attempts may fail; the connection ends with the fourth. Attempts that the session could not judge do not count.
func TestP17_AuthFailures(t *testing.T) {
	x := safeServer(&users{})
	for _, tt := range []struct{ user, want string }{
		{"bob", "535 "}, {"down", "454 "}, {"busy", "454 "}, {"bob", "535 "}, {"weak", "534 "}, {"bob", "421 4.7.0 "},
	} {
		if got := x.Serve(t, Auth(), "PLAIN "+b64("\x00"+tt.user+"\x00x")); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.user, got, tt.want)
		}
	}
}

// The end of the context is the server's affair, not a verdict on the client.
func TestAuthContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	x := safeServer(cancelled{cancel})
	x.Conn.Verb, x.Conn.Args = &Auth().Verbs[0], "PLAIN "+b64("\x00alice\x00secret")
	if _, err := Auth().Serve(ctx, x); err != context.Canceled || x.AuthFailures != 0 {
		t.Errorf("%v after %d failures", err, x.AuthFailures)
	}
}

type cancelled struct{ cancel func() }

func (c cancelled) Authenticate(ctx context.Context, _, _ string) error {
	c.cancel()
	return ctx.Err()
}

// quick is a session that does not let clients wait.
type quick struct{}

func (quick) AuthPause(int) time.Duration { return 0 }

// mechs is a session with mechanisms of its own, which all work as next says.
type mechs struct {
	quick
	names []string
	name  string
	err   error
	next  func(step int, response []byte) ([]byte, bool, error)
	step  int
}

func (m *mechs) SASLMechanisms() []string { return m.names }

func (m *mechs) SASL(context.Context, string) (sasl.Server, func() string, error) {
	return m, func() string { return m.name }, m.err
}

func (m *mechs) Next(response []byte) ([]byte, bool, error) {
	m.step++
	return m.next(m.step, response)
}

func TestAuthMechanisms(t *testing.T) {
	serverFirst := func(step int, r []byte) ([]byte, bool, error) {
		if step == 1 && r != nil {
			return nil, false, sasl.ErrUnexpectedClientResponse
		}
		if step == 1 {
			return []byte("<1.2@mail>"), false, nil
		}
		return nil, string(r) == "alice 00", nil
	}
	emptyIsNotNil := func(_ int, r []byte) ([]byte, bool, error) { return nil, r != nil && len(r) == 0, nil }
	noSecond := func(step int, _ []byte) ([]byte, bool, error) {
		if step == 1 {
			return []byte("go on"), false, nil
		}
		return nil, false, sasl.ErrUnexpectedClientResponse
	}
	withLastWords := func(step int, _ []byte) ([]byte, bool, error) {
		return []byte("v=rmF9pqV8S7suAoZWja4dJRkFsKQ="), true, nil
	}
	endless := func(int, []byte) ([]byte, bool, error) { return []byte("more"), false, nil }
	for _, tt := range []struct {
		name  string
		m     mechs
		args  string
		lines []string
		want  string
	}{
		{"CRAM-MD5", mechs{name: "alice", next: serverFirst}, "X", []string{b64("alice 00")}, "235 2.7.0 "},
		{"P08 initial response", mechs{name: "alice", next: serverFirst}, "X " + b64("alice 00"), nil, "501 5.7.0 "},
		{"P08 empty initial response", mechs{name: "alice", next: serverFirst}, "X =", nil, "501 5.7.0 "},
		{"P07 = is empty, not absent", mechs{name: "alice", next: emptyIsNotNil}, "X =", nil, "235 2.7.0 "},
		{"empty line is empty, not absent", mechs{name: "alice", next: emptyIsNotNil}, "X", []string{""}, "235 2.7.0 "},
		{"last words", mechs{name: "alice", next: withLastWords}, "X " + b64("a"), []string{""}, "235 2.7.0 "},
		{"last words contradicted", mechs{name: "alice", next: withLastWords}, "X " + b64("a"), []string{b64("no")}, "535 5.7.8 "},
		{"last words cancelled", mechs{name: "alice", next: withLastWords}, "X " + b64("a"), []string{"*"}, "501 5.7.0 "},
		{"a response too many", mechs{name: "alice", next: noSecond}, "X =", []string{b64("a")}, "535 5.7.8 "},
		{"nameless", mechs{next: emptyIsNotNil}, "X =", nil, "454 4.7.0 "},
		{"cannot begin", mechs{err: errDatabase}, "X =", nil, "454 4.7.0 "},
		{"will not begin", mechs{err: proto.Refuse(534, proto.Status{}, "no")}, "X =", nil, "534 "},
		{"endless", mechs{name: "alice", next: endless}, "X", make([]string, 1000), "535 5.7.8 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.m.names = []string{"X"}
			x := safeServer(&tt.m, tt.lines...)
			if got := x.Serve(t, Auth(), tt.args); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if got, want := x.Conn.Identity != "", strings.HasPrefix(tt.want, "235"); got != want {
				t.Errorf("authenticated: %v", got)
			}
			if len(x.Sent) > 10 {
				t.Errorf("%d challenges", len(x.Sent))
			}
		})
	}
}

func TestSubmitter(t *testing.T) {
	for _, tt := range []struct {
		params, want string
		ok           bool
	}{
		{"AUTH=e+3Dmc2@example.com", "e=mc2@example.com", true}, // RFC 4954 section 5.1
		{"auth=<>", "", true},
		{"SIZE=1", "", false},
		{"AUTH=x", "", false},
	} {
		a, ok := ReadSubmitter(testkit.Params(tt.params))
		if ok != tt.ok || a.String() != (map[bool]proto.Address{true: mustNot(tt.want)}[tt.want != ""]).String() {
			t.Errorf("%s: %v, %v", tt.params, a, ok)
		}
	}
}

func mustNot(s string) proto.Address {
	a, _ := proto.ParseAddress(s)
	return a
}

func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "=", "AGE=", "AGE", "=AAA", "AAA=BBB", "AA==AA==", "AA\r\nAA", "AB==", "****", "AAAA\x00"} {
		f.Add(s)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	f.Fuzz(func(t *testing.T, s string) {
		b, err := decode64(s)
		if err != nil {
			return
		}
		if b == nil {
			t.Fatalf("%q decodes to nil, which means that there was nothing", s)
		}
		digits := strings.TrimRight(s, "=")
		if strings.Trim(digits, alphabet) != "" || len(s)%4 != 0 || len(s)-len(digits) > 2 {
			t.Fatalf("%q was accepted", s)
		}
		if again := base64.StdEncoding.EncodeToString(b); again != s {
			t.Fatalf("%q and %q are the same", s, again)
		}
	})
}

// FuzzPlain looks for a message of PLAIN that has the session asked about anything but what RFC 4616 says is in it.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"\x00alice\x00secret", "alice\x00alice\x00secret", "root\x00alice\x00secret", "", "\x00", "\x00\x00",
		"\x00\x00\x00", "\x00a\x00b\x00", "\x00a\n\x00b", "\x00\xff\x00b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		u := &users{}
		x := safeServer(u)
		args := "PLAIN " + base64.StdEncoding.EncodeToString(message)
		if len(message) == 0 {
			args = "PLAIN ="
		}
		got := x.Serve(t, Auth(), args)
		parts := bytes.Split(message, []byte{0})
		if len(u.asked) == 0 {
			if !strings.HasPrefix(got, "535 ") {
				t.Fatalf("%q without a check", got)
			}
			return
		}
		if len(parts) != 3 || u.asked[0] != string(parts[1])+"/"+string(parts[2]) ||
			len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) || len(parts[1]) == 0 || len(parts[2]) == 0 ||
			bytes.ContainsFunc(append(parts[1], parts[2]...), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q: the session was asked %q", message, u.asked)
		}
		if strings.HasPrefix(got, "235 ") != (x.Conn.Identity == "alice" && u.asked[0] == "alice/secret") {
			t.Fatalf("%q: %q as %q", message, got, x.Conn.Identity)
		}
	})
}

func FuzzSubmittedByParam(f *testing.F) {
	for _, s := range []string{"alice@example.com", "<>", `"a+20b"@c`, "e+3Dmc2@example.com", "+3C+3E", "a@[192.0.2.1]", "+0D", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := ReadSubmitter(testkit.One("AUTH", s))
		if ok != (checkSubmitter(s) == nil) {
			t.Fatalf("%q is read: %v, and checked otherwise", s, ok)
		}
		if !ok {
			return
		}
		if again, ok := ReadSubmitter(AddSubmitter(nil, a)); !ok || again != a {
			t.Fatalf("%q is written as %v and read as %v", s, AddSubmitter(nil, a), again)
		}
	})
}
