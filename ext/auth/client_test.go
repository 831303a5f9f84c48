package auth

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// client is a sasl.Client that behaves as its fields say.
type client struct {
	name  string
	ir    []byte
	next  func(challenge []byte) ([]byte, error)
	start error
}

func (c client) Start() (string, []byte, error) { return c.name, c.ir, c.start }

func (c client) Next(challenge []byte) ([]byte, error) { return c.next(challenge) }

// verifying is a mechanism that has to verify the server, as SCRAM does.
type verifying struct {
	client
	ok bool
}

func (v verifying) Done() bool { return v.ok }

// judging is a mechanism that looks at the reply by which the server reports success.
type judging struct {
	client
	judge func(proto.Reply) error
}

func (j judging) Succeeded(r proto.Reply) error { return j.judge(r) }

// unlessForged is a judge.
func unlessForged(r proto.Reply) error {
	if r.Code == 235 && r.Text == "forged" {
		return errDatabase
	}
	return nil
}

func echo(challenge []byte) ([]byte, error) { return challenge, nil }

func TestAuthConnect(t *testing.T) {
	plain := "AUTH PLAIN " + b64("\x00alice\x00secret")
	alice := Password("alice", "secret")
	long := strings.Repeat("t", 2048)
	for _, tt := range []struct {
		name    string
		offer   string
		creds   ext.Credentials
		replies []proto.Reply
		sent    string // lines, each with "|" behind it
		as      string // the name recorded
		wantErr string // a part of the error, "" if none
	}{
		{"PLAIN", "AUTH LOGIN PLAIN", alice, []proto.Reply{say(235, "ok")}, plain + "|", "alice", ""},
		{"offered in lower case", "auth plain", alice, []proto.Reply{say(235, "ok")}, plain + "|", "alice", ""},
		{"offered with =", "AUTH=LOGIN PLAIN", alice, []proto.Reply{say(235, "ok")}, plain + "|", "alice", ""},
		{"LOGIN", "AUTH LOGIN", alice, []proto.Reply{say(334, "VXNlcm5hbWU6"), say(334, "UGFzc3dvcmQ6"), say(235, "")},
			"AUTH LOGIN|" + b64("alice") + "|" + b64("secret") + "|", "alice", ""},
		{"LOGIN in other words", "AUTH LOGIN", alice, []proto.Reply{say(334, b64("User Name\x00")), say(334, b64("password")), say(235, "")},
			"AUTH LOGIN|" + b64("alice") + "|" + b64("secret") + "|", "alice", ""},
		{"LOGIN asks thrice", "AUTH LOGIN", alice, []proto.Reply{say(334, ""), say(334, ""), say(334, ""), say(501, "")},
			"AUTH LOGIN|" + b64("alice") + "|" + b64("secret") + "|*|", "", "unexpected server challenge"},
		{"a password that SCRAM cannot have, where it is not offered", "AUTH PLAIN", Password("alice", "g\u05d0x"), []proto.Reply{say(235, "")},
			"AUTH PLAIN " + b64("\x00alice\x00g\u05d0x") + "|", "alice", ""},
		{"a password that SCRAM cannot have, where it is offered too", "AUTH SCRAM-SHA-256 PLAIN", Password("alice", "\ue000"),
			[]proto.Reply{say(235, "")}, "AUTH PLAIN " + b64("\x00alice\x00\ue000") + "|", "alice", ""},
		{"a password that SCRAM cannot have, and nothing else is offered", "AUTH SCRAM-SHA-256", Password("alice", "\ue000"), nil, "", "", "SCRAM"},
		{"nothing in common", "AUTH GSSAPI", alice, nil, "", "", "GSSAPI] , and"},
		{"P29 535 stops", "AUTH PLAIN LOGIN", alice, []proto.Reply{say(535, "no")}, plain + "|", "", "535"},
		{"P29 454 stops", "AUTH PLAIN LOGIN", alice, []proto.Reply{say(454, "later")}, plain + "|", "", "454"},
		{"P29 504 goes on", "AUTH PLAIN LOGIN", alice, []proto.Reply{say(504, "no"), say(334, ""), say(334, ""), say(235, "")},
			plain + "|AUTH LOGIN|" + b64("alice") + "|" + b64("secret") + "|", "alice", ""},
		{"P29 534 stops where nothing stronger is left", "AUTH PLAIN LOGIN", alice, []proto.Reply{say(534, "weak")}, plain + "|", "", "534"},
		{"P29 504 to the last", "AUTH PLAIN", alice, []proto.Reply{say(504, "no")}, plain + "|", "", "504"},
		{"421", "AUTH PLAIN LOGIN", alice, []proto.Reply{say(421, "bye")}, plain + "|", "", "421"},
		{"250 is no 235", "AUTH PLAIN", alice, []proto.Reply{say(250, "ok")}, plain + "|", "", "250"},
		{"354 is no 334", "AUTH PLAIN", alice, []proto.Reply{say(354, "go")}, plain + "|", "", "354"},
		{"no * after 535", "AUTH LOGIN", alice, []proto.Reply{say(334, ""), say(535, "!!!")}, "AUTH LOGIN|" + b64("alice") + "|", "", "535"},
		{"P25 512 octets", "AUTH X", these(client{name: "X", ir: make([]byte, 375)}), []proto.Reply{say(235, "")},
			"AUTH X " + b64(string(make([]byte, 375))) + "|", "X", ""}, // 5+2+500+2 = 509
		{"P25 more", "AUTH X", these(client{name: "X", ir: make([]byte, 378)}), []proto.Reply{say(334, ""), say(235, "")},
			"AUTH X|" + b64(string(make([]byte, 378))) + "|", "X", ""}, // 5+2+504+2 = 513
		{"P25 token", "AUTH XOAUTH2", these(client{name: "XOAUTH2", ir: []byte(long)}), []proto.Reply{say(334, ""), say(235, "")},
			"AUTH XOAUTH2|" + b64(long) + "|", "XOAUTH2", ""},
		{"a challenge after it", "AUTH X", these(client{name: "X", ir: make([]byte, 378), next: echo}),
			[]proto.Reply{say(334, ""), say(334, b64("again")), say(235, "")},
			"AUTH X|" + b64(string(make([]byte, 378))) + "|" + b64("again") + "|", "X", ""},
		{"empty initial response", "AUTH EXTERNAL", these(sasl.NewExternalClient("")), []proto.Reply{say(235, "")},
			"AUTH EXTERNAL =|", "EXTERNAL", ""},
		{"server first", "AUTH CRAM", these(client{name: "CRAM", next: echo}), []proto.Reply{say(334, "PDE+"), say(235, "")},
			"AUTH CRAM|PDE+|", "CRAM", ""},
		{"empty response", "AUTH CRAM", these(client{name: "CRAM", next: echo}), []proto.Reply{say(334, ""), say(235, "")},
			"AUTH CRAM||", "CRAM", ""},
		{"P26 not base64", "AUTH CRAM", these(client{name: "CRAM", next: echo}), []proto.Reply{say(334, "!!!!"), say(501, "")},
			"AUTH CRAM|*|", "", "base64"},
		{"P26 not base64 before an initial response", "AUTH X", these(client{name: "X", ir: make([]byte, 400)}),
			[]proto.Reply{say(334, "=AAA"), say(501, "")}, "AUTH X|*|", "", "base64"},
		{"success of a cancelled attempt", "AUTH CRAM", these(client{name: "CRAM", next: echo}), []proto.Reply{say(334, "!"), say(235, "")},
			"AUTH CRAM|*|", "", "235"},
		{"hung up at the cancellation", "AUTH CRAM", these(client{name: "CRAM", next: echo}), []proto.Reply{say(334, "!")},
			"AUTH CRAM|*|", "", fake.ErrHungUp.Error()},
		{"90 endless", "AUTH CRAM", these(client{name: "CRAM", next: echo}), endless(334, 1000),
			"AUTH CRAM" + strings.Repeat("|", 11) + "*|", "", "goes on asking"},
		{"the tenth answer is final", "AUTH CRAM", these(client{name: "CRAM", next: echo}), append(endless(334, 10), say(235, "")),
			"AUTH CRAM" + strings.Repeat("|", 11), "CRAM", ""},
		{"91 server not verified", "AUTH SCRAM", these(verifying{client{name: "SCRAM", next: echo}, false}), []proto.Reply{say(235, "")},
			"AUTH SCRAM|", "", "not proved its own identity"},
		{"91 server verified", "AUTH SCRAM", these(verifying{client{name: "SCRAM", next: echo}, true}), []proto.Reply{say(235, "")},
			"AUTH SCRAM|", "SCRAM", ""},
		{"a success that the mechanism takes", "AUTH J", these(judging{client{name: "J", next: echo}, unlessForged}),
			[]proto.Reply{say(235, "welcome")}, "AUTH J|", "J", ""},
		{"a success that the mechanism does not take", "AUTH J", these(judging{client{name: "J", next: echo}, unlessForged}),
			[]proto.Reply{say(235, "forged")}, "AUTH J|", "", errDatabase.Error()},
		{"hung up", "AUTH PLAIN", alice, nil, plain + "|", "", fake.ErrHungUp.Error()},
		{"cannot start", "AUTH X", these(client{name: "X", start: errDatabase}), nil, "", "", errDatabase.Error()},
		{"no token", "AUTH X", func(context.Context, ext.ClientConn) ([]sasl.Client, error) { return nil, errDatabase }, nil, "", "",
			errDatabase.Error()},
		{"105 name with a line in it", "AUTH X\r\nRSET", these(client{name: "X\r\nRSET"}), nil, "", "", "mechanisms"},
		{"106 NUL in user", "AUTH PLAIN", Password("a\x00b", "x"), nil, "", "", "control characters"},
		{"106 CRLF in password", "AUTH PLAIN", Password("a", "x\r\nQUIT"), nil, "", "", "control characters"},
		{"empty password", "AUTH PLAIN", Password("a", ""), nil, "", "", "empty"},
		{"invalid UTF-8", "AUTH PLAIN", Password("a\xff", "x"), nil, "", "", "UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := safeClient(tt.offer, tt.creds, tt.replies...)
			err := Auth().Negotiate(t.Context(), c)
			if sent := strings.Join(append(c.Sent, ""), "|"); sent != tt.sent {
				t.Errorf("sent %q, want %q", sent, tt.sent)
			}
			if len(c.Sent) > 0 && !c.Redacted {
				t.Error("the trace was not told that this is secret")
			}
			if c.Conn.Identity != tt.as {
				t.Errorf("authenticated as %q, want %q", c.Conn.Identity, tt.as)
			}
			if tt.wantErr == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if _, ok := grammar.AsType[*ext.AuthError](err); !ok || !strings.HasPrefix(err.Error(), "smtp: AUTH") {
				t.Fatalf("%T %v, want an AuthError", err, err)
			}
			for _, part := range strings.Split(tt.wantErr, " , ") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%q has the password in it", err)
			}
		})
	}
}

func endless(code, n int) []proto.Reply {
	list := make([]proto.Reply, n)
	for i := range list {
		list[i].Code = code
	}
	return list
}

// TestAuthConnectFit checks on which connections the client sends credentials.
func TestAuthConnectFit(t *testing.T) {
	active := &tls.ConnectionState{}
	for _, tt := range []struct {
		name                  string
		mode                  ext.TLSMode
		tls                   *tls.ConnectionState
		verified              bool
		plaintext, unverified bool // the permissions
		ok                    bool
	}{
		{"P24 verified", ext.TLSRequired, active, true, false, false, true},
		{"implicit", ext.TLSImplicit, active, true, false, false, true},
		{"P24 not verified", ext.TLSRequired, active, false, false, false, false},
		{"not verified, permitted", ext.TLSRequired, active, false, false, true, true},
		{"not verified, plaintext permitted", ext.TLSRequired, active, false, true, false, false},
		{"P24 opportunistic", ext.TLSOpportunistic, active, false, true, false, false},
		{"P24 opportunistic in clear", ext.TLSOpportunistic, nil, false, false, true, false},
		{"if offered", ext.TLSIfOffered, active, true, false, false, true},
		{"if offered, and it is not", ext.TLSIfOffered, nil, false, false, true, false},
		{"if offered, and it is not, permitted", ext.TLSIfOffered, nil, false, true, false, true},
		{"P24 in clear", ext.TLSInsecureNone, nil, false, false, true, false},
		{"in clear, permitted", ext.TLSInsecureNone, nil, false, true, false, true},
		{"opportunistic in clear, permitted", ext.TLSOpportunistic, nil, false, true, false, true},
		{"O12 STARTTLS stripped", ext.TLSRequired, nil, false, false, false, false},
		{"O12 STARTTLS stripped, permitted in general", ext.TLSRequired, nil, false, true, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			called := false
			c := safeClient("AUTH PLAIN", func(ctx context.Context, c ext.ClientConn) ([]sasl.Client, error) {
				called = true
				return Password("alice", "secret")(ctx, c)
			}, say(235, ""))
			c.Conn.TLS, c.Conn.Verified, c.Conn.Policy.TLS = tt.tls, tt.verified, tt.mode
			c.Conn.Policy.AllowPlaintextAuth, c.Conn.Policy.AllowUnverifiedAuth = tt.plaintext, tt.unverified
			err := Auth().Negotiate(t.Context(), c)
			if (err == nil) != tt.ok || called != tt.ok || (len(c.Sent) == 1) != tt.ok {
				t.Errorf("%v; credentials fetched: %v; sent %q", err, called, c.Sent)
			}
		})
	}
}

// A client without credentials, or one that has authenticated already, sends nothing.
func TestAuthConnectNothingToDo(t *testing.T) {
	c := safeClient("AUTH PLAIN", nil)
	if err := Auth().Negotiate(t.Context(), c); err != nil || len(c.Sent) > 0 {
		t.Errorf("%v, sent %q", err, c.Sent)
	}
	c = safeClient("AUTH PLAIN", Password("alice", "secret"))
	c.Conn.Identity = "alice"
	if err := Auth().Negotiate(t.Context(), c); err != nil || len(c.Sent) > 0 {
		t.Errorf("%v, sent %q", err, c.Sent)
	}
}

// FuzzExchangeClient has each mechanism answer arbitrary challenges. The exchange must end, and only a real success may
// pass for one.
func FuzzExchangeClient(f *testing.F) {
	f.Add(byte(0), "", "", 235)
	f.Add(byte(1), "PDE+", "", 235)
	f.Add(byte(2), "VXNlcm5hbWU6", "UGFzc3dvcmQ6", 535)
	f.Add(byte(3), "!!!!", "", 501)
	f.Add(byte(4), "cj0=", "dj0=", 235)
	offers := []string{"SCRAM-SHA-256", "CRAM-MD5", "LOGIN", "PLAIN", "SCRAM-SHA-1"}
	f.Fuzz(func(t *testing.T, which byte, first, second string, code int) {
		name := offers[int(which)%len(offers)]
		code = 200 + max(code, -code)%400
		c := safeClient("AUTH "+name, Password("user", "pencil"), say(334, first), say(334, second), say(code, ""))
		err := Auth().Negotiate(t.Context(), c)
		if err == nil && (code != 235 || c.Conn.Identity != "user" || strings.HasPrefix(name, "SCRAM")) {
			t.Fatalf("%s: %q, %q and %d pass for success", name, first, second, code)
		}
		if len(c.Sent) > 4 || err != nil && strings.Contains(err.Error(), "pencil") {
			t.Fatalf("%s: sent %q, %v", name, c.Sent, err)
		}
	})
}

// TestOffered reads the mechanisms as servers write them.
func TestOffered(t *testing.T) {
	for line, want := range map[string]string{
		"AUTH PLAIN x-own": "[PLAIN x-own]", "auth  login": "[login]", "AUTH=LOGIN PLAIN": "[LOGIN PLAIN]", "SIZE": "[]", "AUTH": "[]",
	} {
		caps := proto.ParseCaps(proto.Reply{Code: 250, Text: "mail.example\n" + line})
		if got := fmt.Sprint(Offered(caps)); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}
