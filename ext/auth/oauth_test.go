package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// tokens is a session in which "vF9d" is the token of user@example.com.
type tokens struct {
	quick
	asked []string
}

func (s *tokens) AuthenticateToken(_ context.Context, user, token string) (string, error) {
	s.asked = append(s.asked, user+"/"+token)
	switch {
	case token == "down":
		return "", errDatabase
	case token == "busy":
		return "", proto.Refuse(454, proto.Status{}, "Busy")
	case token == "later":
		return "", &TokenError{Status: "invalid_token", Err: proto.Refuse(454, proto.Status{}, "Later")}
	case token == "scope":
		return "", fmt.Errorf("wrapped: %w", &TokenError{Status: "insufficient_scope", Scope: "https://mail.example/"})
	case token != "vF9d" || user != "" && user != "user@example.com":
		return "", ErrCredentials
	}
	return "user@example.com", nil
}

func TestTokenServe(t *testing.T) {
	const failed = `{"status":"invalid_token","schemes":"bearer"}`
	rfc := func(s string) string { return b64(strings.ReplaceAll(s, "^A", "\x01")) }
	for _, tt := range []struct {
		name  string
		args  string
		lines []string
		want  string
		asked string
		sent  string // the challenges, each with "|" behind it
		count int    // failures
	}{
		{"RFC 7628 section 4.1", "OAUTHBEARER " + rfc("n,a=user@example.com,^Ahost=server.example.com^Aport=587^Aauth=Bearer vF9d^A^A"), nil,
			"235 2.7.0 ", "user@example.com/vF9d", "", 0},
		{"without name", "OAUTHBEARER " + rfc("n,,^Aauth=bEARER vF9d^A^A"), nil, "235 ", "/vF9d", "", 0},
		{"without initial response", "OAUTHBEARER", []string{rfc("y,,^Aauth=Bearer vF9d^A^A")}, "235 ", "/vF9d", "|", 0},
		{"name with = and ,", "OAUTHBEARER " + rfc("n,a=a=3Db=2Cc,^Aauth=Bearer vF9d^A^A"), []string{"AQ=="}, "535 ", "a=b,c/vF9d", failed + "|", 1},
		{"XOAUTH2", "XOAUTH2 " + rfc("user=user@example.com^Aauth=Bearer vF9d^A^A"), nil, "235 ", "user@example.com/vF9d", "", 0},
		{"RFC 7628 section 4.3", "OAUTHBEARER " + rfc("n,a=user@example.com,^Ahost=server.example.com^Aport=143^Aauth=^A^A"), []string{"AQ=="},
			"535 5.7.8 ", "", failed + "|", 1},
		{"RFC 7628 section 4.3 cancelled", "OAUTHBEARER " + rfc("n,,^Aauth=^A^A"), []string{"*"}, "501 5.7.0 ", "", failed + "|", 1},
		{"P30 OAUTHBEARER", "OAUTHBEARER " + rfc("n,,^Aauth=Bearer x^A^A"), []string{"AQ=="}, "535 ", "/x", failed + "|", 1},
		{"P30 XOAUTH2", "XOAUTH2 " + rfc("user=u^Aauth=Bearer x^A^A"), []string{""}, "535 ", "u/x", failed + "|", 1},
		{"any answer to a failure", "XOAUTH2 " + rfc("user=u^Aauth=Bearer x^A^A"), []string{"!!!"}, "535 ", "u/x", failed + "|", 1},
		{"another token in answer to a failure", "OAUTHBEARER " + rfc("n,,^Aauth=Bearer x^A^A"),
			[]string{rfc("n,,^Aauth=Bearer vF9d^A^A")}, "535 ", "/x", failed + "|", 1},
		{"hung up on a failure", "OAUTHBEARER " + rfc("n,,^Aauth=Bearer x^A^A"), nil, "not a reply", "/x", failed + "|", 1},
		{"scope", "OAUTHBEARER " + rfc("n,,^Aauth=Bearer scope^A^A"), []string{"AQ=="}, "535 5.7.8 ", "/scope",
			`{"status":"insufficient_scope","scope":"https://mail.example/"}|`, 1},
		{"session is broken", "OAUTHBEARER " + rfc("n,,^Aauth=Bearer down^A^A"), nil, "454 4.7.0 ", "/down", "", 0},
		{"P11 its own reply", "XOAUTH2 " + rfc("user=u^Aauth=Bearer busy^A^A"), nil, "454 ", "u/busy", "", 0},
		{"P11 its own reply in a TokenError", "XOAUTH2 " + rfc("user=u^Aauth=Bearer later^A^A"), nil, "454 ", "u/later", "", 0},
		{"dummy first", "OAUTHBEARER AQ==", []string{"AQ=="}, "535 ", "", failed + "|", 1},
		{"empty", "OAUTHBEARER =", []string{"AQ=="}, "535 ", "", failed + "|", 1},
		{"another scheme", "OAUTHBEARER " + rfc("n,,^Aauth=Basic vF9d^A^A"), []string{"AQ=="}, "535 ", "", failed + "|", 1},
		{"a comma in the name", "OAUTHBEARER " + rfc("n,a=a,,^Aauth=Bearer vF9d^A^A"), []string{"AQ=="}, "535 ", "", failed + "|", 1},
		{"two tokens", "OAUTHBEARER " + rfc("n,,^Aauth=Bearer x^Aauth=Bearer vF9d^A^A"), []string{"AQ=="}, "535 ", "", failed + "|", 1},
		{"no end", "OAUTHBEARER " + rfc("n,,^Aauth=Bearer vF9d^A"), []string{"AQ=="}, "535 ", "", failed + "|", 1},
		{"binding", "OAUTHBEARER " + rfc("p=tls-exporter,,^Aauth=Bearer vF9d^A^A"), []string{"AQ=="}, "535 ", "", failed + "|", 1},
		{"no header", "OAUTHBEARER " + rfc("^Aauth=Bearer vF9d^A^A"), []string{"AQ=="}, "535 ", "", failed + "|", 1},
		{"Z84 LF in the name", "OAUTHBEARER " + rfc("n,a=user\n,^Aauth=Bearer vF9d^A^A"), []string{"AQ=="}, "535 ", "", failed + "|", 1},
		{"Z84 LF in the token", "XOAUTH2 " + rfc("user=u^Aauth=Bearer vF9d\n^A^A"), []string{""}, "535 ", "", failed + "|", 1},
		{"XOAUTH2 without name", "XOAUTH2 " + rfc("user=^Aauth=Bearer vF9d^A^A"), []string{""}, "535 ", "", failed + "|", 1},
		{"XOAUTH2 like the other", "XOAUTH2 " + rfc("n,,^Aauth=Bearer vF9d^A^A"), []string{""}, "535 ", "", failed + "|", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &tokens{}
			x := safeServer(s, tt.lines...)
			if got := x.Serve(t, Auth(), tt.args); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if asked := strings.Join(s.asked, " "); asked != tt.asked {
				t.Errorf("the session was asked %q, want %q", asked, tt.asked)
			}
			var sent strings.Builder
			for _, r := range x.Sent {
				b, err := decode64(r.Text)
				if r.Code != 334 || err != nil {
					t.Errorf("sent %v", r)
				}
				fmt.Fprintf(&sent, "%s|", b)
			}
			if sent.String() != tt.sent {
				t.Errorf("challenges %q, want %q", sent.String(), tt.sent)
			}
			if (x.Conn.Identity == "user@example.com") != strings.HasPrefix(tt.want, "235") || x.AuthFailures != tt.count {
				t.Errorf("authenticated as %q, %d failures", x.Conn.Identity, x.AuthFailures)
			}
		})
	}
}

// token returns a source of always the same token.
func token(s string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s, nil }
}

func TestTokenConnect(t *testing.T) {
	const user = "someuser@example.com"
	const challenge = `{"status":"invalid_token","schemes":"bearer mac","scope":"https://mail.example.com/"}` // RFC 7628 section 4.4
	bearer := "AUTH OAUTHBEARER " + b64("n,a="+user+",\x01auth=Bearer vF9d\x01\x01")
	x := "AUTH XOAUTH2 " + b64("user="+user+"\x01auth=Bearer vF9d\x01\x01")
	for _, tt := range []struct {
		name    string
		offer   string
		creds   ext.Credentials
		replies []proto.Reply
		sent    string
		want    *TokenError // without Err
		wantErr string
	}{
		{"OAUTHBEARER", "AUTH XOAUTH2 OAUTHBEARER", Token(user, token("vF9d")), []proto.Reply{say(235, "")}, bearer, nil, ""},
		{"XOAUTH2", "AUTH XOAUTH2", Token(user, token("vF9d")), []proto.Reply{say(235, "")}, x, nil, ""},
		{"only XOAUTH2", "AUTH OAUTHBEARER XOAUTH2", Token(user, token("vF9d"), "xoauth2"), []proto.Reply{say(235, "")}, x, nil, ""},
		{"without name", "AUTH XOAUTH2 OAUTHBEARER", Token("", token("vF9d")), []proto.Reply{say(235, "")},
			"AUTH OAUTHBEARER " + b64("n,,\x01auth=Bearer vF9d\x01\x01"), nil, ""},
		{"name with = and ,", "AUTH OAUTHBEARER", Token("a=b,c", token("vF9d")), []proto.Reply{say(235, "")},
			"AUTH OAUTHBEARER " + b64("n,a=a=3Db=2Cc,\x01auth=Bearer vF9d\x01\x01"), nil, ""},
		{"P30 OAUTHBEARER", "AUTH OAUTHBEARER", Token(user, token("vF9d")), []proto.Reply{say(334, b64(challenge)), say(535, "no")},
			bearer + "|AQ==", &TokenError{Status: "invalid_token", Schemes: "bearer mac", Scope: "https://mail.example.com/", Text: challenge}, "535"},
		{"P30 XOAUTH2", "AUTH XOAUTH2", Token(user, token("vF9d")), []proto.Reply{say(334, b64(`{"status":400}`)), say(535, "no")},
			x + "|", &TokenError{Status: "400", Text: `{"status":400}`}, "400"},
		{"P30 not JSON", "AUTH XOAUTH2", Token(user, token("vF9d")), []proto.Reply{say(334, b64("no\r\n")), say(535, "no")},
			x + "|", &TokenError{Text: "no\r\n"}, `"no\r\n"`},
		{"success after a refusal", "AUTH OAUTHBEARER", Token(user, token("vF9d")), []proto.Reply{say(334, b64(challenge)), say(235, "")},
			bearer + "|AQ==", nil, "before the exchange was complete"},
		{"refused twice", "AUTH XOAUTH2", Token(user, token("vF9d")), []proto.Reply{say(334, b64("{}")), say(334, b64("{}")), say(501, "")},
			x + "||*", nil, "unexpected server challenge"},
		{"refused at once", "AUTH XOAUTH2", Token(user, token("vF9d")), []proto.Reply{say(535, "no")}, x, nil, "535"},
		{"P29 535 stops", "AUTH OAUTHBEARER XOAUTH2", Token(user, token("vF9d")), []proto.Reply{say(535, "no")}, bearer, nil, "535"},
		{"no name for XOAUTH2", "AUTH XOAUTH2", Token("", token("vF9d")), nil, "", nil, "[OAUTHBEARER]"},
		{"106 CRLF in the token", "AUTH XOAUTH2", Token(user, token("a\r\nb")), nil, "", nil, "printable"},
		{"106 separator in the token", "AUTH XOAUTH2", Token(user, token("a\x01b")), nil, "", nil, "printable"},
		{"106 separator in the name", "AUTH XOAUTH2", Token("a\x01b", token("vF9d")), nil, "", nil, "control characters"},
		{"empty token", "AUTH XOAUTH2", Token(user, token("")), nil, "", nil, "empty"},
		{"misspelt", "AUTH XOAUTH2", Token(user, token("vF9d"), "XOAUTH"), nil, "", nil, `"XOAUTH"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := safeClient(tt.offer, tt.creds, tt.replies...)
			err := Auth().Negotiate(t.Context(), c)
			if sent := strings.Join(c.Sent, "|"); sent != tt.sent {
				t.Errorf("sent %q, want %q", sent, tt.sent)
			}
			if (err == nil) != (tt.wantErr == "") || err != nil && (!strings.Contains(err.Error(), tt.wantErr) || c.Conn.Identity != "") {
				t.Errorf("%v, want %q", err, tt.wantErr)
			}
			e, ok := grammar.AsType[*TokenError](err)
			if ok != (tt.want != nil) {
				t.Fatalf("%#v", err)
			}
			if ok {
				if r, ok := grammar.AsType[*proto.Error](err); !ok || r.Code != 535 {
					t.Errorf("%v does not have the reply", err)
				}
				got := *e
				got.Err = nil
				if got != *tt.want {
					t.Errorf("%#v, want %#v", got, *tt.want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "vF9d") {
				t.Errorf("%q has the token in it", err)
			}
		})
	}
}

// The source is called once for each connection.
func TestP31_TokenPerConnection(t *testing.T) {
	asked := 0
	creds := Token("user", func(context.Context) (string, error) {
		asked++
		return fmt.Sprint("token", asked), nil
	})
	for i := 1; i <= 2; i++ {
		c := safeClient("AUTH XOAUTH2 OAUTHBEARER", creds, say(504, ""), say(235, ""))
		if err := Auth().Negotiate(t.Context(), c); err != nil || asked != i {
			t.Fatalf("%v, asked %d times", err, asked)
		}
		message, _ := decode64(strings.TrimPrefix(c.Sent[1], "AUTH XOAUTH2 "))
		if !strings.Contains(string(message), fmt.Sprint("Bearer token", i)) {
			t.Errorf("%q", message)
		}
	}
	c := safeClient("AUTH XOAUTH2", Token("user", func(context.Context) (string, error) { return "", errDatabase }))
	if err := Auth().Negotiate(t.Context(), c); !errors.Is(err, errDatabase) || len(c.Sent) != 0 {
		t.Errorf("%v, sent %q", err, c.Sent)
	}
}

// FuzzTokenServer looks for messages of OAUTHBEARER and XOAUTH2 from which the session gets another token or name.
func FuzzTokenServer(f *testing.F) {
	for _, s := range []string{
		"n,a=user@example.com,\x01host=server.example.com\x01port=587\x01auth=Bearer vF9d\x01\x01", "n,,\x01auth=\x01\x01", "\x01",
		"user=someuser@example.com\x01auth=Bearer vF9d\x01\x01", "y,,\x01auth=bearer  x\x01auth=Bearer y\x01\x01", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, message string) {
		for _, mechanism := range []string{"OAUTHBEARER", "XOAUTH2"} {
			session := &fuzzed{}
			reply, x := serveFuzzed(t, session, mechanism, message, "\x01")
			if strings.HasPrefix(reply, "235 ") {
				user, token := quoteName(session.asked[0]), session.asked[1]
				if mechanism == "XOAUTH2" {
					user = session.asked[0]
				}
				if !strings.Contains(message, user) || !strings.Contains(message, " "+token+"\x01") || strings.Contains(token, " ") {
					t.Fatalf("%s %q: %q", mechanism, message, session.asked)
				}
			} else if len(x.Sent) != 2 || len(session.asked) > 0 {
				t.Fatalf("%s %q: %v, asked %q", mechanism, message, x.Sent, session.asked)
			}
		}
	})
}

// FuzzTokenClient looks for a refusal that the client takes for success.
func FuzzTokenClient(f *testing.F) {
	for _, s := range []string{`{"status":"invalid_token","schemes":"bearer mac","scope":"https://mail.example.com/"}`, `{"status":400}`,
		`{"status":{"status":1}}`, `[]`, `null`, "", "\r\n", `{"status":1e300}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, challenge []byte) {
		for _, c := range []*tokenClient{{name: "OAUTHBEARER"}, {name: xoauth2}} {
			response, err := c.Next(challenge)
			if want := map[string]string{"OAUTHBEARER": "\x01"}[c.name]; err != nil || response == nil || string(response) != want || c.Done() {
				t.Fatalf("%s: %q is answered with %q, %v", c.name, challenge, response, err)
			}
			reply := proto.Refuse(535, proto.Status{}, "no")
			e, ok := grammar.AsType[*TokenError](c.Explain(reply))
			if !ok || e.Text != string(challenge) || !errors.Is(e, reply) || strings.ContainsAny(e.Error(), "\r\n\x00") {
				t.Fatalf("%s: %q: %v", c.name, challenge, e)
			}
		}
	})
}
