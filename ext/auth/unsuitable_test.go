package auth

import (
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// TestRFC4954Section6_WhatFollowsARefusal checks which mechanisms follow one that was refused: any after 504, a
// stronger one after 534, and none after what is about the credentials. So no attempt fails twice.
func TestRFC4954Section6_WhatFollowsARefusal(t *testing.T) {
	mech := func(name string) sasl.Client { return client{name: name, ir: []byte("x"), next: echo} }
	weak := func(code int) proto.Reply {
		return proto.Reply{Code: code, Status: proto.Status{5, 7, 9}, Text: "too weak"}
	}
	for _, tt := range []struct {
		name    string
		tries   string // the mechanisms of the credentials, all of which the server advertises
		replies []proto.Reply
		sent    string // the mechanisms that were tried, with "-" for a response
		code    int    // of the error, 0 for success
	}{
		{"Application-specific password required", "PLAIN LOGIN", []proto.Reply{weak(534)}, "PLAIN", 534},
		{"534 without a status", "LOGIN PLAIN", []proto.Reply{say(534, "no")}, "LOGIN", 534},
		{"a stronger one", "PLAIN SCRAM-SHA-256", []proto.Reply{weak(534), say(235, "")}, "PLAIN SCRAM-SHA-256", 0},
		{"in any case", "plain scram-sha-256", []proto.Reply{weak(534), say(235, "")}, "plain scram-sha-256", 0},
		{"a weaker one is passed over", "CRAM-MD5 PLAIN XOAUTH2", []proto.Reply{weak(534), say(235, "")}, "CRAM-MD5 XOAUTH2", 0},
		{"an equal one", "XOAUTH2 OAUTHBEARER", []proto.Reply{weak(534)}, "XOAUTH2", 534},
		{"504 5.7.9", "PLAIN LOGIN", []proto.Reply{weak(504)}, "PLAIN", 504},
		{"one of which nothing is known", "PLAIN X-OWN", []proto.Reply{weak(534)}, "PLAIN", 534},
		{"behind one of which nothing is known", "X-OWN SCRAM-SHA-256", []proto.Reply{weak(534)}, "X-OWN", 534},
		{"two are too weak", "PLAIN SCRAM-SHA-1 LOGIN SCRAM-SHA-256", []proto.Reply{weak(534), weak(534), say(235, "")},
			"PLAIN SCRAM-SHA-1 SCRAM-SHA-256", 0},
		{"534 and then 504", "PLAIN SCRAM-SHA-256 LOGIN", []proto.Reply{weak(534), say(504, "")}, "PLAIN SCRAM-SHA-256", 504},
		{"504", "PLAIN LOGIN", []proto.Reply{say(504, ""), say(235, "")}, "PLAIN LOGIN", 0},
		{"504 to a response", "LOGIN PLAIN", []proto.Reply{say(334, ""), say(504, "")}, "LOGIN -", 504},
		{"534 to a response", "PLAIN EXTERNAL", []proto.Reply{say(334, ""), weak(534), say(235, "")}, "PLAIN - EXTERNAL", 0},
		{"535", "PLAIN SCRAM-SHA-256", []proto.Reply{say(535, "no")}, "PLAIN", 535},
		{"535 5.7.9", "PLAIN SCRAM-SHA-256", []proto.Reply{weak(535)}, "PLAIN", 535},
		{"538", "PLAIN SCRAM-SHA-256", []proto.Reply{say(538, "no")}, "PLAIN", 538},
		{"432", "SCRAM-SHA-256 PLAIN", []proto.Reply{say(432, "no")}, "SCRAM-SHA-256", 432},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var list []sasl.Client
			for _, name := range strings.Fields(tt.tries) {
				list = append(list, mech(name))
			}
			c := safeClient("AUTH "+tt.tries, these(list...), tt.replies...)
			err := Auth().Negotiate(t.Context(), c)
			var sent []string
			for _, line := range c.Sent {
				f := strings.Fields(line)
				if len(f) > 1 {
					sent = append(sent, f[1])
				} else {
					sent = append(sent, "-")
				}
			}
			if got := strings.Join(sent, " "); got != tt.sent {
				t.Errorf("sent %s, want %s", got, tt.sent)
			}
			e, refused := grammar.AsType[*proto.Error](err)
			if refused != (tt.code != 0) || refused && e.Code != tt.code || err != nil && !refused {
				t.Errorf("%v, want the code %d", err, tt.code)
			}
		})
	}
}

// TestStrengths checks that the mechanisms of this package are known, and that the client's order of preference for a
// password never has a stronger one behind a weaker one of another kind.
func TestStrengths(t *testing.T) {
	for _, m := range builtin {
		if strength(m.name) < 0 || strength(strings.ToLower(m.name)) != strength(m.name) {
			t.Errorf("the strength of %s is not known", m.name)
		}
	}
	for _, pair := range [][2]string{
		{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"}, {"SCRAM-SHA-1-PLUS", "SCRAM-SHA-256"}, {"SCRAM-SHA-1", "CRAM-MD5"},
		{"CRAM-MD5", "PLAIN"}, {"OAUTHBEARER", "PLAIN"}, {"EXTERNAL", "OAUTHBEARER"}, {"LOGIN", "ANONYMOUS"},
	} {
		if strength(pair[0]) <= strength(pair[1]) {
			t.Errorf("%s is not stronger than %s", pair[0], pair[1])
		}
	}
}

// identifying is a mechanism that has all optional methods.
type identifying struct{ verifying }

func (identifying) Identity() string { return "alice" }

func (identifying) Explain(err error) error { return &ext.AuthError{Mechanism: "explained", Err: err} }

// TestLaxChallenges checks that a mechanism gets an empty challenge for one that is not base64, that others are passed
// on, and that the methods of the mechanism are found.
func TestLaxChallenges(t *testing.T) {
	for _, tt := range []struct {
		name    string
		done    bool
		replies []proto.Reply
		sent    string
		as      string
		wantErr string
	}{
		{"msmtp#11", true, []proto.Reply{say(334, "ntlm supported"), say(334, b64("a")), say(235, "")},
			"AUTH NTLM|" + b64("<>") + "|" + b64("<a>") + "|", "alice", ""},
		{"base64", true, []proto.Reply{say(334, b64("b")), say(235, "")}, "AUTH NTLM|" + b64("<b>") + "|", "alice", ""},
		{"empty", true, []proto.Reply{say(334, ""), say(235, "")}, "AUTH NTLM|" + b64("<>") + "|", "alice", ""},
		{"the mechanism is not done", false, []proto.Reply{say(334, "?"), say(235, "")}, "AUTH NTLM|" + b64("<>") + "|", "",
			"not proved"},
		{"refused", true, []proto.Reply{say(334, "?"), say(535, "no")}, "AUTH NTLM|" + b64("<>") + "|", "", "explained"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer := func(challenge []byte) ([]byte, error) {
				if challenge == nil {
					t.Error("the challenge is nil, which stands for none")
				}
				return []byte("<" + string(challenge) + ">"), nil
			}
			m := identifying{verifying{client{name: "NTLM", next: answer}, tt.done}}
			c := safeClient("AUTH NTLM", LaxChallenges(LaxChallenges(these(m))), tt.replies...)
			err := Auth().Negotiate(t.Context(), c)
			if sent := strings.Join(append(c.Sent, ""), "|"); sent != tt.sent || c.Conn.Identity != tt.as {
				t.Errorf("sent %q as %q, want %q as %q", sent, c.Conn.Identity, tt.sent, tt.as)
			}
			if (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("%v, want %q", err, tt.wantErr)
			}
		})
	}
	failing := func() ext.Credentials { return these(client{name: "X", start: errDatabase}) }
	c := safeClient("AUTH X", LaxChallenges(failing()))
	if err := Auth().Negotiate(t.Context(), c); err == nil || !strings.Contains(err.Error(), errDatabase.Error()) {
		t.Errorf("%v, want that of the mechanism", err)
	}
}
