package auth

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/x509"
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"smtpkit.example/smtp/ext/fake"

	"smtpkit.example/smtp/ext/internal/grammar"

	"smtpkit.example/smtp/proto"
)

// fuzzed is a session that lets everybody in and remembers whom, without what a password would have to be for.
type fuzzed struct {
	quick
	secret SCRAMSecret
	asked  []string
}

func (f *fuzzed) ask(s string) { f.asked = append(f.asked, s) }

func (f *fuzzed) SCRAM() SCRAMPolicy { return SCRAMPolicy{Hashes: []crypto.Hash{crypto.SHA256}} }

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

func (f *fuzzed) AuthenticateGuest(_ context.Context, trace string) (string, error) {
	f.ask(trace)
	return "guest", nil
}

func (f *fuzzed) Authenticate(_ context.Context, user, password string) error {
	f.ask(user)
	f.ask(password)
	return nil
}

// serveFuzzed has the mechanism served to a client that sends these lines, and checks what holds for any: the session
// has been asked about nothing with a control character in it, and the client got a reply.
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

// FuzzSCRAMServer looks for messages by which somebody gets in who does not know the password, or for a name that is
// read in two ways.
func FuzzSCRAMServer(f *testing.F) {
	for _, v := range scramVectors {
		f.Add(v.messages[0], v.messages[2])
	}
	f.Add("n,a=user,n=user,r=x", "c=bixhPXVzZXIs,r=x,p=")
	f.Add("y,,n=a=3Db=2Cc,r=x,z=1", "c=eSws,r=x,m=x,p=AA==")
	f.Add("p=tls-exporter,,n=user,r=x", "")
	secret, err := newSCRAMSecret(crypto.SHA256, "pencil", []byte("salt"), minIterations)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, final string) {
		session := &fuzzed{secret: secret}
		reply, x := serveFuzzed(t, session, "SCRAM-SHA-256", first, final, "")
		if strings.HasPrefix(reply, "235 ") {
			t.Fatalf("%q and %q have got in", first, final)
		}
		if len(x.Sent) < 2 {
			return
		}
		// The name has been taken from the message, whose parts are still those that will be signed.
		m, err := parseClientFirst(first)
		if err != nil || m.header+m.bare != first || strings.Count(m.header, ",") != 2 {
			t.Fatalf("%q: %+v, %v", first, m, err)
		}
		if !strings.HasPrefix(m.bare, "n="+quoteName(m.user)+",r="+m.nonce) || !strings.HasPrefix(x.Sent[1].Text, b64("r=" + m.nonce)[:4]) {
			t.Fatalf("%q: %+v, %v", first, m, x.Sent[1])
		}
	})
}

// FuzzSCRAMClient looks for messages of a server that does not know the password and is believed, or has the client
// work for longer than it should.
func FuzzSCRAMClient(f *testing.F) {
	for _, v := range scramVectors {
		f.Add(v.messages[1], v.messages[3])
	}
	f.Add("e=unknown-user", "e=other-error")
	f.Add("r=rOprNGfwEbeRWgbNEkqO1,s=AA==,i=4096,x=y", "v=AA==,m=x")
	f.Add("m=x,r=rOprNGfwEbeRWgbNEkqO1,s=AA==,i=99999999", "v=")
	f.Fuzz(func(t *testing.T, first, final string) {
		c := scramVectors[1].newClient()
		c.password = "another" // so that the signatures of the vectors are those of somebody else
		if _, _, err := c.Start(); err != nil {
			t.Fatal(err)
		}
		nonce, salt, iterations, err := parseServerFirst(first)
		if err == nil && (iterations < 4096 || iterations > 1000000 || len(salt) == 0 || len(salt) > 1024) {
			t.Fatalf("%q: %d iterations, salt %x", first, iterations, salt)
		}
		if iterations > 10000 {
			return // allowed, and nothing to do all day
		}
		response, err := c.Next([]byte(first))
		if err != nil {
			return
		}
		if !strings.HasPrefix(nonce, c.nonce) || nonce == c.nonce || !strings.HasPrefix(string(response), "c=biws,r="+nonce+",p=") {
			t.Fatalf("%q is answered with %q", first, response)
		}
		signature := c.signature
		if _, err := c.Next([]byte(final)); err == nil || c.Done() {
			text, _, _ := strings.Cut(strings.TrimPrefix(final, "v="), ",")
			if got, err := decode64(text); err != nil || !hmac.Equal(got, signature) {
				t.Fatalf("%q was believed", final)
			}
		}
	})
}

// FuzzSASLprep looks for a text that is another one when it is prepared again, or that has what is prohibited.
func FuzzSASLprep(f *testing.F) {
	for _, s := range []string{"I\u00adX", "user", "\u00aa", "\u2168", "\u0007", "\u0627\u0031", "a\u00a0b", "jo\u0308rg", "\u0627\u0628", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, err := saslPrep(s)
		if err != nil {
			return
		}
		if out == "" || !utf8.ValidString(out) || strings.ContainsFunc(out, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }) {
			t.Fatalf("%q is %q", s, out)
		}
		if again, err := saslPrep(out); err != nil || again != out {
			t.Fatalf("%q is %q, which is %q (%v)", s, out, again, err)
		}
	})
}

// FuzzSASLName looks for a name that is another one after it has been on the wire, and for two forms of one.
func FuzzSASLName(f *testing.F) {
	for _, s := range []string{"user", "a=b,c", "=2C", "=3D=2C", "a=2cb", "=", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted := quoteName(s)
		if got, err := unquoteName(quoted); err != nil || got != s || strings.Contains(quoted, ",") {
			t.Fatalf("%q is %q, which is %q (%v)", s, quoted, got, err)
		}
		if name, err := unquoteName(s); err == nil && quoteName(name) != s && !strings.Contains(s, ",") {
			t.Fatalf("%q and %q are the same", s, quoteName(name))
		}
	})
}

func FuzzCRAMServer(f *testing.F) {
	for _, s := range []string{"tim b913a602c7eda7a495b4e6e7334d3890", "tim", "", " ", "a b c", "tim \x00", "\n b913a602c7eda7a495b4e6e7334d3890"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, response string) {
		session := &fuzzed{}
		if reply, _ := serveFuzzed(t, session, "CRAM-MD5", response); strings.HasPrefix(reply, "235 ") {
			t.Fatalf("%q has got in", response)
		}
		if len(session.asked) > 0 && !strings.HasPrefix(response, session.asked[0]+" ") {
			t.Fatalf("%q: the session was asked about %q", response, session.asked)
		}
	})
}

var cramResponse = regexp.MustCompile("^tim [0-9a-f]{32}$")

func FuzzCRAMClient(f *testing.F) {
	for _, s := range []string{"<1896.697170952@postoffice.reston.mci.net>", "", "\x00", "<@>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, challenge []byte) {
		response, err := (&cramClient{user: "tim", password: "secret"}).Next(challenge)
		if (err == nil) != (len(challenge) > 0) || err == nil && !cramResponse.Match(response) {
			t.Fatalf("%q is answered with %q, %v", challenge, response, err)
		}
	})
}

// FuzzTokenServer looks for messages of OAUTHBEARER and XOAUTH2 in which the session is told of another token or name
// than there is.
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

// FuzzTokenClient looks for a refusal that is not one in the end.
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

func FuzzExternalServer(f *testing.F) {
	for _, s := range []string{"", "alice", "ali\x00ce", "a\nb", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, authzid string) {
		session := &fuzzed{}
		reply, x := serveFuzzed(t, session, "EXTERNAL", authzid)
		if want := map[bool]string{true: "user", false: authzid}[authzid == ""]; strings.HasPrefix(reply, "235 ") && x.Conn.Identity != want {
			t.Fatalf("%q: authenticated as %q", authzid, x.Conn.Identity)
		}
	})
}

func FuzzAnonymousServer(f *testing.F) {
	for _, s := range []string{"", "sirhc", "a@example.com", "a\nb", "\xff", strings.Repeat("ä", 256)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, trace string) {
		session := &fuzzed{}
		reply, _ := serveFuzzed(t, session, "ANONYMOUS", trace)
		ok := trace == "" || isCredential(trace) && utf8.RuneCountInString(trace) <= 255
		if strings.HasPrefix(reply, "235 ") != ok || ok && session.asked[0] != trace {
			t.Fatalf("%q: %q, asked %q", trace, reply, session.asked)
		}
	})
}

func FuzzLoginServer(f *testing.F) {
	f.Add("alice", "secret")
	f.Add("", "")
	f.Add("ali\x00ce", "sec\nret")
	f.Fuzz(func(t *testing.T, user, password string) {
		session := &fuzzed{}
		reply, x := serveFuzzed(t, session, "LOGIN", user, password)
		if strings.HasPrefix(reply, "235 ") != (isCredential(user) && isCredential(password)) || x.Conn.Identity != "" && x.Conn.Identity != user {
			t.Fatalf("%q, %q: %q as %q", user, password, reply, x.Conn.Identity)
		}
	})
}

// FuzzExchangeClient has each mechanism of a client answer whatever a server asks, over and over: it comes to an end,
// and lets nothing pass for success but what is.
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
		d := safeClient("AUTH "+name, Password("user", "pencil"), say(334, first), say(334, second), say(code, ""))
		err := Auth().Negotiate(t.Context(), d)
		if err == nil && (code != 235 || d.Conn.Identity != "user" || strings.HasPrefix(name, "SCRAM")) {
			t.Fatalf("%s: %q, %q and %d pass for success", name, first, second, code)
		}
		if len(d.Sent) > 4 || err != nil && strings.Contains(err.Error(), "pencil") {
			t.Fatalf("%s: sent %q, %v", name, d.Sent, err)
		}
	})
}
