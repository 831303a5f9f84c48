package ehlo_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// Keywords of other servers, with what their clients would say: commands, and parameters of MAIL.
var foreign = []struct {
	name, offer    string // the line in the reply to EHLO
	command, param string
}{
	{"a26 CHECKPOINT", "CHECKPOINT", "", "TRANSID=<1@b.example>"},
	{"a28 UTF8SMTP", "UTF8SMTP", "", "ALT-ADDRESS=a@b.example"},
	{"PIPECONNECT", "PIPECONNECT", "", ""},
	{"X_PIPE_CONNECT", "X_PIPE_CONNECT", "", ""},
	{"WELLKNOWN", "WELLKNOWN", "WELLKNOWN smtp", ""},
	{"XVERP", "XVERP", "", "XVERP"},
	{"X-EXPS", "X-EXPS GSSAPI NTLM LOGIN", "X-EXPS LOGIN", ""},
	{"X-EXPS=LOGIN", "X-EXPS=LOGIN", "X-EXPS LOGIN", ""},
	{"X-ANONYMOUSTLS", "X-ANONYMOUSTLS", "X-ANONYMOUSTLS", ""},
	{"X-LINK2STATE", "X-LINK2STATE", "X-LINK2STATE LAST CHUNK={x}", ""},
	{"XSHADOW", "XSHADOW", "XSHADOW x", "XSHADOW=x"},
	{"XSHADOWREQUEST", "XSHADOWREQUEST", "XQDISCARD 1", ""},
	{"XRDST", "XRDST", "", "XRDST=x"},
	{"XEXCH50", "XEXCH50", "XEXCH50 8 2", ""},
	{"CLIENTID", "CLIENTID", "CLIENTID UUID 1", ""},
}

// TestForeign finds that the client takes no notice of what it does not know, and the server none of those who use it: the
// command is not known, nor is the parameter.
func TestForeign(t *testing.T) {
	for _, tt := range foreign {
		t.Run(tt.name, func(t *testing.T) {
			srv := clienttest.New(t, "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\nS: 250-"+tt.offer+`
S: 250 SIZE
C: MAIL FROM:<a@b.example> SIZE=3
S: 250 ok
C: RCPT TO:<c@d.example>
S: 250 ok
C: DATA
S: 354 go on
C: x
C: .
S: 250 ok`)
			c, err := client.Dial(t.Context(), clienttest.Hostname+":25",
				&client.Options{Hello: "client.example", TLS: ext.TLSInsecureNone, Extensions: all(), Dialer: srv.Dial})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			send(t, c, "x\r\n")
			if tt.command != "" {
				verb, args, _ := strings.Cut(tt.command, " ")
				if _, err := c.Do(t.Context(), verb, args); err == nil || errors.Is(err, client.ErrClosed) {
					t.Errorf("%q: %v, want it not to be sent", tt.command, err)
				}
				if got := say(t, &able{}, Caps, tt.command); !strings.HasPrefix(got, "500 5.5.1 ") {
					t.Errorf("%s: the server says %q", tt.command, got)
				}
			}
			if tt.param == "" {
				return
			}
			m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			key, value, hasValue := strings.Cut(tt.param, "=")
			m.Mail = proto.Params{{Key: key, Value: value, HasValue: hasValue}}
			_, err = c.Send(t.Context(), m)
			if _, ok := grammar.AsType[*ext.UnsupportedError](err); !ok {
				t.Errorf("MAIL with %s: %v, want a NeedError", tt.param, err)
			}
			if got := say(t, &able{}, Caps, from+" "+tt.param); !strings.HasPrefix(got, "555 5.5.4 ") {
				t.Errorf("MAIL with %s: the server says %q", tt.param, got)
			}
		})
	}
}

// TestObsoleteBothEnds: what SMTP had once is not offered, the server does not do it, and the client does not say it.
func TestObsoleteBothEnds(t *testing.T) {
	m := meet(t, all())
	for _, tt := range []struct{ name, verb, args string }{
		{"a29 SEND", "SEND", "FROM:<a@b.example>"},
		{"a29 SOML", "SOML", "FROM:<a@b.example>"},
		{"a29 SAML", "SAML", "FROM:<a@b.example>"},
		{"a30 TURN", "TURN", ""},
		{"a31 VERB", "VERB", "ON"}, {"a31 ONEX", "ONEX", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if m.c.Caps().Has(tt.verb) {
				t.Error("it is on offer")
			}
			m.log = nil
			if _, err := m.c.Do(t.Context(), tt.verb, tt.args); err == nil || len(m.log) > 0 {
				t.Errorf("said %q, %v", m.log, err)
			}
			if got := say(t, &able{}, Caps, strings.TrimSpace(tt.verb+" "+tt.args)); !strings.HasPrefix(got, "502 5.5.1 ") {
				t.Errorf("the server says %q", got)
			}
		})
	}
}

// TestFieldAuth has the client authenticate with servers that offer mechanisms in the forms of the field.
func TestFieldAuth(t *testing.T) {
	const greet = "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
	for _, tt := range []struct {
		name, script string
		creds        ext.Credentials
		refused      bool
	}{
		{"AUTH=LOGIN", greet + `S: 250 AUTH=LOGIN
C: AUTH LOGIN
S: 334 VXNlcm5hbWU6
C: YWxpY2U=
S: 334 UGFzc3dvcmQ6
C: c2VjcmV0
S: 235 ok`, auth.Password("alice", "secret"), false},
		{"AUTH=LOGIN beside AUTH PLAIN", greet + "S: 250-AUTH=LOGIN\nS: 250 AUTH PLAIN\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 ok",
			auth.Password("alice", "secret"), false},
		{"AUTH XOAUTH2", greet + "S: 250 AUTH NTLM XOAUTH2\nC: AUTH XOAUTH2 dXNlcj1hbGljZQFhdXRoPUJlYXJlciB4AQE=\nS: 235 ok",
			auth.Token("alice", func(context.Context) (string, error) { return "x", nil }), false},
		{"AUTH NTLM alone", greet + "S: 250 AUTH NTLM GSSAPI", auth.Password("alice", "secret"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := clienttest.New(t, tt.script)
			c, err := client.Dial(t.Context(), clienttest.Hostname+":587", &client.Options{
				Hello: "client.example", TLS: ext.TLSInsecureNone, AllowInsecureAuth: true, Credentials: tt.creds, Dialer: srv.Dial,
			})
			if tt.refused {
				if e, ok := grammar.AsType[*ext.AuthError](err); !ok || e.Mechanism != "" {
					t.Errorf("%v, want no mechanism to be tried", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.Identity() != "alice" {
				t.Errorf("authenticated as %q", c.Identity())
			}
		})
	}
	t.Run("AUTH=LOGIN is not offered", func(t *testing.T) {
		srv := newServer(t, &registrar{}, &server.Options{Hostname: "mail.example", AllowInsecureAuth: true})
		if got := talk(t, srv, Caps); !strings.Contains(got, "AUTH PLAIN LOGIN\r\n") || strings.Contains(got, "AUTH=") {
			t.Errorf("offered %q", got)
		}
	})
}
