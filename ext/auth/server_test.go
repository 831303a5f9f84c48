package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

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
		{"Z84 same authzid", "PLAIN " + b64("alice\x00alice\x00secret"), nil, "235 2.7.0 ", "alice/secret", ""},
		{"Z84 other authzid", "PLAIN " + b64("root\x00alice\x00secret"), nil, "535 5.7.8 ", "", ""},
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
		{"P06, Z83 * for initial response", "PLAIN *", nil, "501 5.5.2 ", "", ""},
		{"P07, Z83 empty initial response", "PLAIN =", nil, "535 5.7.8 ", "", ""},
		{"P06, Z83 ====", "PLAIN ====", nil, "501 5.5.2 ", "", ""},
		{"P06, Z83 AAA=BBB", "PLAIN AAA=BBB", nil, "501 5.5.2 ", "", ""},
		{"P06 =AAA", "PLAIN =AAA", nil, "501 5.5.2 ", "", ""},
		{"P06 padding inside", "PLAIN AA==AA==", nil, "501 5.5.2 ", "", ""},
		{"P06, Z83 NUL", "PLAIN AGE=\x00", nil, "501 5.5.2 ", "", ""},
		{"P06 space", "PLAIN AGFs aWNl", nil, "501 5.5.2 ", "", ""},
		{"P06 junk within", "PLAIN AG!lAG==", nil, "501 5.5.2 ", "", ""},
		{"P06 unpadded", "PLAIN AGE", nil, "501 5.5.2 ", "", ""},
		{"P06 in a response", "LOGIN", []string{"!!!"}, "501 5.5.2 ", "", "VXNlcm5hbWU6|"},
		{"= is for the command alone", "PLAIN", []string{"="}, "501 5.5.2 ", "", "|"},
		{"P20, Z84 no NUL", "PLAIN " + b64("alice"), nil, "535 5.7.8 ", "", ""},
		{"P20, Z84 one NUL", "PLAIN " + b64("alice\x00secret"), nil, "535 5.7.8 ", "", ""},
		{"P20, Z84 three NULs", "PLAIN " + b64("\x00alice\x00secret\x00"), nil, "535 5.7.8 ", "", ""},
		{"P23, Z84 LF in user", "PLAIN " + b64("\x00ali\nce\x00secret"), nil, "535 5.7.8 ", "", ""},
		{"P23, Z84 CTL in password", "PLAIN " + b64("\x00alice\x00sec\x7fret"), nil, "535 5.7.8 ", "", ""},
		{"P23 NUL in LOGIN", "LOGIN", []string{b64("ali\x00ce"), b64("secret")}, "535 5.7.8 ", "", "VXNlcm5hbWU6|UGFzc3dvcmQ6|"},
		{"P20 invalid UTF-8", "PLAIN " + b64("\x00al\xffce\x00secret"), nil, "535 5.7.8 ", "", ""},
		{"empty user", "PLAIN " + b64("\x00\x00secret"), nil, "535 5.7.8 ", "", ""},
		{"empty password", "PLAIN " + b64("\x00alice\x00"), nil, "535 5.7.8 ", "", ""},
		{"Z88 empty lines", "LOGIN", []string{"", ""}, "535 5.7.8 ", "", "VXNlcm5hbWU6|UGFzc3dvcmQ6|"},
		{"P20 255 octets", "PLAIN " + b64("\x00"+strings.Repeat("u", 255)+"\x00"+strings.Repeat("p", 255)), nil, "535 5.7.8 ",
			strings.Repeat("u", 255) + "/" + strings.Repeat("p", 255), ""},
		{"Z85 hung up", "PLAIN", nil, "not a reply: " + fake.ErrHungUp.Error(), "", "|"},
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

// The reply is the same for a wrong user, a wrong password and malformed credentials.
func TestP10Z87_AuthSameText(t *testing.T) {
	texts := make(map[string]bool)
	for _, s := range []string{"\x00alice\x00x", "\x00bob\x00secret", "root\x00alice\x00secret", "x", "\x00a\nb\x00c"} {
		texts[safeServer(&users{}).Serve(t, Auth(), "PLAIN "+b64(s))] = true
	}
	if len(texts) != 1 {
		t.Errorf("%d answers: %v", len(texts), texts)
	}
}

// RFC 8314 section 4.1: the server does not evaluate credentials sent in plaintext.
func TestP13_AuthInClearIsNotEvaluated(t *testing.T) {
	u := &users{}
	good := (fake.NewServer(u)).Serve(t, Auth(), "PLAIN "+b64("\x00alice\x00secret"))
	bad := (fake.NewServer(u)).Serve(t, Auth(), "PLAIN "+b64("\x00alice\x00x"))
	if good != bad || len(u.asked) != 0 {
		t.Errorf("%q and %q, asked %q", good, bad, u.asked)
	}
}

// Three attempts may fail; the fourth failure closes the connection. A check that failed itself does not count.
func TestP17Z87_AuthFailures(t *testing.T) {
	x := safeServer(&users{})
	for _, tt := range []struct{ user, want string }{
		{"bob", "535 "}, {"down", "454 "}, {"busy", "454 "}, {"bob", "535 "}, {"weak", "534 "}, {"bob", "421 4.7.0 "},
	} {
		if got := x.Serve(t, Auth(), "PLAIN "+b64("\x00"+tt.user+"\x00x")); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.user, got, tt.want)
		}
	}
}

// If the context ends, the attempt has not failed.
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

// mechs is a session with mechanisms of its own, which all behave as next does.
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

// A failure is answered after one second, whatever its reason and however long the check took.
func TestP10P22Z87_AuthPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name  string
			x     *fake.Server
			args  string
			after time.Duration
		}{
			{"success", safeServer(slow(0)), "PLAIN " + b64("\x00alice\x00secret"), 0},
			{"bad user", safeServer(slow(0)), "PLAIN " + b64("\x00bob\x00secret"), time.Second},
			{"bad user, slow", safeServer(slow(700 * time.Millisecond)), "PLAIN " + b64("\x00bob\x00secret"), time.Second},
			{"slower than that", safeServer(slow(3 * time.Second)), "PLAIN " + b64("\x00bob\x00secret"), 3 * time.Second},
			{"malformed", safeServer(slow(0)), "PLAIN " + b64("alice"), time.Second},
			{"too weak", safeServer(slow(0)), "PLAIN " + b64("\x00weak\x00x"), time.Second},
			{"too many", &fake.Server{Conn: fake.ServerState{Session: slow(0), TLS: &tls.ConnectionState{}}, AuthFailures: 3}, "PLAIN " + b64("alice"), time.Second},
			{"the session's fault", safeServer(slow(0)), "PLAIN " + b64("\x00down\x00x"), 0},
			{"not base64", safeServer(slow(0)), "PLAIN !", 0},
			{"cancelled", safeServer(slow(0), "*"), "PLAIN", 0},
			{"a pause of its own", safeServer(&users{}), "PLAIN " + b64("\x00bob\x00secret"), 0},
		} {
			start := time.Now()
			got := tt.x.Serve(t, Auth(), tt.args)
			if after := time.Since(start); after != tt.after {
				t.Errorf("%s: %q after %v, want %v", tt.name, got, after, tt.after)
			}
		}

		// The second counts from the client's last line.
		m := &meeting{safeClient("AUTH LOGIN", nil), safeServer(slow(0)), make(chan string), make(chan proto.Reply)}
		_, err1 := m.Do(t.Context(), "AUTH", "LOGIN")
		_, err2 := m.Line(t.Context(), b64("bob"))
		<-time.After(5 * time.Second)
		start := time.Now()
		r, err3 := m.Line(t.Context(), b64("secret"))
		if err := errors.Join(err1, err2, err3); err != nil || r.Code != 535 || time.Since(start) != time.Second {
			t.Errorf("%v, %v after %v", r, err, time.Since(start))
		}

		// The pause ends when the client hangs up.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		x := safeServer(slow(0))
		x.Conn.Verb, x.Conn.Args = &Auth().Verbs[0], "PLAIN "+b64("\x00bob\x00secret")
		start = time.Now()
		if _, err := Auth().Serve(ctx, x); err == nil || time.Since(start) != 10*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// slow is a session that takes that long to check a password.
type slow time.Duration

func (s slow) Authenticate(ctx context.Context, user, password string) error {
	<-time.After(time.Duration(s))
	return (&users{}).Authenticate(ctx, user, password)
}
