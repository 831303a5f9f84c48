package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"

	"smtpkit.example/smtp/ext/internal/grammar"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// cleartext is a session that knows that tim's password is the one of RFC 2195.
type cleartext struct {
	quick
	password string
	asked    []string
}

func (c *cleartext) ClearPassword(_ context.Context, user string) (string, error) {
	c.asked = append(c.asked, user)
	switch user {
	case "down":
		return "", errDatabase
	case "tim", "tim the first":
		return c.password, nil
	case "nobody":
		return "", nil
	case "locked":
		return c.password, ErrCredentials
	}
	return "", ErrCredentials
}

func TestCRAMVector(t *testing.T) {
	const challenge = "<1896.697170952@postoffice.reston.mci.net>"
	const response = "tim b913a602c7eda7a495b4e6e7334d3890"
	c := &cramClient{user: "tim", password: "tanstaaftanstaaf"}
	if name, first, err := c.Start(); name != "CRAM-MD5" || first != nil || err != nil {
		t.Errorf("%s %q, %v", name, first, err)
	}
	if got, err := c.Next([]byte(challenge)); err != nil || string(got) != response {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.Next([]byte(challenge)); err == nil {
		t.Error("a second challenge is answered")
	}
	if _, err := (&cramClient{user: "tim", password: "x"}).Next(nil); err == nil {
		t.Error("an empty challenge is answered")
	}

	s := &cramServer{attempt: &attempt{ctx: t.Context(), conn: safeServer(&cleartext{password: "tanstaaftanstaaf"})}}
	s.challenge = []byte(challenge)
	if _, done, err := s.Next([]byte(response)); err != nil || !done || s.attempt.user != "tim" {
		t.Errorf("%v, %v, authenticated as %q", done, err, s.attempt.user)
	}
	if _, _, err := s.Next([]byte(response)); err == nil {
		t.Error("row 89: the challenge is good for a second response")
	}
}

func TestP08_CRAMServe(t *testing.T) {
	response := func(user, password string) func(challenge []byte) string {
		return func(challenge []byte) string { return user + " " + string(cramDigest(password, challenge)) }
	}
	for _, tt := range []struct {
		name    string
		respond func(challenge []byte) string
		as      string
		want    string
	}{
		{"good", response("tim", "pass"), "tim", "235 "},
		{"name with spaces", response("tim the first", "pass"), "tim the first", "235 "},
		{"P10 bad password", response("tim", "x"), "", "535 5.7.8 "},
		{"P10 bad user", response("bob", "pass"), "", "535 5.7.8 "},
		{"bad user, no password", response("bob", ""), "", "535 5.7.8 "},
		{"user with an empty password", response("nobody", ""), "", "535 5.7.8 "},
		{"password and error", response("locked", "pass"), "", "535 5.7.8 "},
		{"session is broken", response("down", ""), "", "454 4.7.0 "},
		{"upper case", func(c []byte) string { return "tim " + strings.ToUpper(string(cramDigest("pass", c))) }, "", "535 "},
		{"no digest", func([]byte) string { return "tim" }, "", "535 "},
		{"empty digest", func([]byte) string { return "tim " }, "", "535 "},
		{"empty name", response("", "pass"), "", "535 "},
		{"empty", func([]byte) string { return "" }, "", "535 "},
		{"84 LF in user", response("tim\n", "pass"), "", "535 "},
		{"digest of another challenge", func([]byte) string { return response("tim", "pass")([]byte("<1.2@mail.example>")) }, "", "535 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := safeServer(&cleartext{password: "pass"})
			m := &meeting{safeClient("AUTH CRAM-MD5", nil), x, make(chan string), make(chan proto.Reply)}
			r, _ := m.Do(t.Context(), "AUTH", "CRAM-MD5")
			challenge, err := decode64(r.Text)
			if err != nil || r.Code != 334 {
				t.Fatalf("%v, %v", r, err)
			}
			r, _ = m.Line(t.Context(), b64(tt.respond(challenge)))
			if got := string(proto.AppendReply(nil, r, true, false)); !strings.HasPrefix(got, tt.want) || x.Conn.Identity != tt.as {
				t.Errorf("%q as %q, want %q", got, x.Conn.Identity, tt.want)
			}
		})
	}
	x := safeServer(&cleartext{})
	if got := x.Serve(t, Auth(), "CRAM-MD5"); !strings.Contains(got, fake.ErrHungUp.Error()) {
		t.Error(got)
	}
	if got := x.Serve(t, Auth(), "CRAM-MD5 "+b64("tim x")); !strings.HasPrefix(got, "501 5.7.0 ") || len(x.Sent) != 1 {
		t.Errorf("an initial response: %q", got)
	}
}

// Row 89: a challenge is a msg-id with the server's name (RFC 2195 section 2), and never the same.
func TestCRAMChallenge(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		s := newCRAMServer(&attempt{ctx: t.Context(), conn: safeServer(&cleartext{})})
		challenge, done, err := s.Next(nil)
		if err != nil || done || seen[string(challenge)] {
			t.Fatalf("%q, %v, %v", challenge, done, err)
		}
		seen[string(challenge)] = true
		if id := string(challenge); !strings.HasPrefix(id, "<") || !strings.HasSuffix(id, "@mail.example>") || len(id) < 40 {
			t.Errorf("%q", id)
		}
	}
}

// cards is a session that knows the one certificate.
type cards struct{ quick }

func (c cards) AuthenticateCertificate(_ context.Context, chain []*x509.Certificate) (string, error) {
	switch string(chain[0].Raw) {
	case "alice":
		return "alice", nil
	case "down":
		return "", errDatabase
	}
	return "", ErrCredentials
}

// deputies is a session in which alice may act for bob.
type deputies struct{ cards }

func (deputies) Authorize(_ context.Context, user, as string) error {
	switch {
	case user == "alice" && as == "bob":
		return nil
	case as == "down":
		return errDatabase
	}
	return ErrCredentials
}

func (deputies) Authenticate(ctx context.Context, user, password string) error {
	return (&users{}).Authenticate(ctx, user, password)
}

// chain is a connection on which the client has shown a certificate that was verified.
func chain(raw string) *tls.ConnectionState {
	c := &x509.Certificate{Raw: []byte(raw)}
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}
}

// EXTERNAL, and the names that are asked for.
func TestExternalServe(t *testing.T) {
	unverified := chain("alice")
	unverified.VerifiedChains = nil
	for _, tt := range []struct {
		name    string
		session any
		tls     *tls.ConnectionState
		args    string
		lines   []string
		want    string
		as      string
	}{
		{"P35 by certificate", cards{}, chain("alice"), "EXTERNAL =", nil, "235 ", "alice"},
		{"empty line", cards{}, chain("alice"), "EXTERNAL", []string{""}, "235 ", "alice"},
		{"by name", cards{}, chain("alice"), "EXTERNAL " + b64("alice"), nil, "235 ", "alice"},
		{"84 another name", cards{}, chain("alice"), "EXTERNAL " + b64("bob"), nil, "535 5.7.8 ", ""},
		{"84 another name, deputy", deputies{}, chain("alice"), "EXTERNAL " + b64("bob"), nil, "235 ", "bob"},
		{"84 a third name, deputy", deputies{}, chain("alice"), "EXTERNAL " + b64("eve"), nil, "535 5.7.8 ", ""},
		{"the session cannot say", deputies{}, chain("alice"), "EXTERNAL " + b64("down"), nil, "454 4.7.0 ", ""},
		{"unknown certificate", cards{}, chain("eve"), "EXTERNAL =", nil, "535 5.7.8 ", ""},
		{"session is broken", cards{}, chain("down"), "EXTERNAL =", nil, "454 4.7.0 ", ""},
		{"84 NUL", cards{}, chain("alice"), "EXTERNAL " + b64("ali\x00ce"), nil, "535 5.7.8 ", ""},
		{"84 LF", deputies{}, chain("alice"), "EXTERNAL " + b64("bob\n"), nil, "535 5.7.8 ", ""},
		{"95 long", deputies{}, chain("alice"), "EXTERNAL " + b64(strings.Repeat("A", 9000)), nil, "535 5.7.8 ", ""},
		{"P35 not verified", cards{}, unverified, "EXTERNAL =", nil, "502 5.5.1 ", ""},
		{"P35 no certificate", cards{}, &tls.ConnectionState{}, "EXTERNAL =", nil, "502 5.5.1 ", ""},
		{"PLAIN for another", deputies{}, chain("alice"), "PLAIN " + b64("bob\x00alice\x00secret"), nil, "235 ", "bob"},
		{"PLAIN for a third", deputies{}, chain("alice"), "PLAIN " + b64("eve\x00alice\x00secret"), nil, "535 ", ""},
		{"PLAIN for another, wrong", deputies{}, chain("alice"), "PLAIN " + b64("bob\x00alice\x00x"), nil, "535 ", ""},
		{"PLAIN for another, LF", deputies{}, chain("alice"), "PLAIN " + b64("bob\n\x00alice\x00secret"), nil, "535 ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := &fake.Server{Conn: fake.ServerState{Session: tt.session, TLS: tt.tls}, Responses: tt.lines}
			if got := x.Serve(t, Auth(), tt.args); !strings.HasPrefix(got, tt.want) || x.Conn.Identity != tt.as {
				t.Errorf("%q as %q, want %q", got, x.Conn.Identity, tt.want)
			}
		})
	}
}

// guests is a session that lets in everybody but those who cannot be traced.
type guests struct {
	quick
	asked []string
}

func (g *guests) AuthenticateGuest(_ context.Context, trace string) (string, error) {
	g.asked = append(g.asked, trace)
	if trace == "" {
		return "", ErrCredentials
	}
	return "anonymous", nil
}

func TestAnonymousServe(t *testing.T) {
	for _, tt := range []struct{ args, want, asked string }{
		{"ANONYMOUS " + b64("sirhc"), "235 ", "sirhc"}, // RFC 4505 section 4
		{"ANONYMOUS =", "535 5.7.8 ", ""},
		{"ANONYMOUS " + b64(strings.Repeat("ä", 255)), "235 ", strings.Repeat("ä", 255)},
		{"ANONYMOUS " + b64(strings.Repeat("ä", 256)), "535 ", ""},
		{"ANONYMOUS " + b64("a\nb"), "535 ", ""},
		{"ANONYMOUS " + b64("a\xff"), "535 ", ""},
	} {
		g := &guests{}
		x := safeServer(g)
		if got := x.Serve(t, Auth(), tt.args); !strings.HasPrefix(got, tt.want) || strings.Join(g.asked, "|") != tt.asked {
			t.Errorf("%q, want %q; asked %q", got, tt.want, g.asked)
		}
	}
}

func TestExternalConnect(t *testing.T) {
	with := &tls.Config{Certificates: make([]tls.Certificate, 1)}
	for _, tt := range []struct {
		name    string
		creds   ext.Credentials
		config  *tls.Config
		sent    string
		as      string
		wantErr string
	}{
		{"EXTERNAL", External(""), with, "AUTH EXTERNAL =", "EXTERNAL", ""},
		{"EXTERNAL by name", External("bob"), with, "AUTH EXTERNAL " + b64("bob"), "bob", ""},
		{"EXTERNAL without certificate", External(""), &tls.Config{}, "", "", "certificate of the client"},
		{"106 EXTERNAL", External("b\x00"), with, "", "", "control characters"},
		{"ANONYMOUS", Anonymous("sirhc"), nil, "AUTH ANONYMOUS " + b64("sirhc"), "ANONYMOUS", ""},
		{"ANONYMOUS without trace", Anonymous(""), nil, "AUTH ANONYMOUS =", "ANONYMOUS", ""},
		{"106 ANONYMOUS", Anonymous("a\r\nb"), nil, "", "", "control characters"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := safeClient("AUTH ANONYMOUS EXTERNAL", tt.creds, say(235, ""))
			d.Conn.Policy.TLSConfig = tt.config
			err := Auth().Negotiate(t.Context(), d)
			if sent := strings.Join(d.Sent, "|"); sent != tt.sent || d.Conn.Identity != tt.as {
				t.Errorf("sent %q as %q", sent, d.Conn.Identity)
			}
			if (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("%v, want %q", err, tt.wantErr)
			}
		})
	}
}

// all is a session with everything.
type all struct {
	both
	*tokens
	*cleartext
	cards
	*guests
}

func (all) AuthPause(int) time.Duration { return 0 }

// What is offered, strongest first.
func TestAuthOfferOrder(t *testing.T) {
	everything := all{newBoth(), &tokens{}, &cleartext{}, cards{}, &guests{}}
	cert, pool := prototest.Certificate(t, "mail.example")
	config := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	known, _ := tlsStates(t, tls.VersionTLS13, config, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}})
	unknown, _ := tlsStates(t, tls.VersionTLS12, config, &tls.Config{RootCAs: pool})
	const rest = "SCRAM-SHA-256 SCRAM-SHA-1 OAUTHBEARER XOAUTH2 CRAM-MD5 PLAIN LOGIN ANONYMOUS"
	for _, tt := range []struct {
		name string
		x    fake.Server
		want string
	}{
		{"P35 TLS with certificate", fake.Server{Conn: fake.ServerState{Session: everything, TLS: known}},
			"AUTH EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS " + rest},
		{"TLS", fake.Server{Conn: fake.ServerState{Session: everything, TLS: unknown}}, "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS " + rest},
		{"P13 in clear", fake.Server{Conn: fake.ServerState{Session: everything}}, ""},
		{"in clear by permission", fake.Server{Conn: fake.ServerState{Session: everything, AllowInsecureAuth: true}}, "AUTH " + rest},
		{"SHA-256 is the default", fake.Server{Conn: fake.ServerState{Session: &pencils{}, AllowInsecureAuth: true}}, "AUTH SCRAM-SHA-256"},
		{"filter", fake.Server{Conn: fake.ServerState{Session: struct {
			all
			filter
		}{everything, filter{"plain", "SCRAM-SHA-256", "PLAIN", "no name"}}, TLS: unknown}}, "AUTH PLAIN SCRAM-SHA-256"},
		{"filter of everything", fake.Server{Conn: fake.ServerState{Session: struct {
			all
			filter
		}{everything, nil}, TLS: unknown}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, lines := testkit.MakeSet(t, Auth()).Offer(&tt.x)
			if got := strings.Join(lines, "|"); got != tt.want {
				t.Errorf("offered %q, want %q", got, tt.want)
			}
		})
	}
	x := safeServer(struct {
		both
		filter
	}{newBoth(), filter{"SCRAM-SHA-256"}})
	if got := x.Serve(t, Auth(), "PLAIN "+b64("\x00user\x00pencil")); !strings.HasPrefix(got, "504 5.5.4 ") {
		t.Errorf("a mechanism that the filter has taken out: %q", got)
	}
	x = safeServer(struct {
		cards
		filter
	}{cards{}, filter{"GSSAPI", "EXTERNAL"}})
	for _, name := range []string{"GSSAPI", "EXTERNAL"} {
		if got := x.Serve(t, Auth(), name+" ="); !strings.HasPrefix(got, "454 ") {
			t.Errorf("%s, which the filter has put in and nobody can serve here: %q", name, got)
		}
	}
}

// Of what the server offers, the strongest that the caller allows; its order does not matter.
func TestP29_PasswordOrder(t *testing.T) {
	for _, tt := range []struct {
		offer   string
		allowed []string
		want    string // the mechanism, or part of the error
	}{
		{"AUTH LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256", nil, "SCRAM-SHA-256"},
		{"AUTH LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1", nil, "SCRAM-SHA-1"},
		{"AUTH LOGIN PLAIN CRAM-MD5", nil, "CRAM-MD5"},
		{"AUTH LOGIN PLAIN", nil, "PLAIN"},
		{"AUTH LOGIN", nil, "LOGIN"},
		{"AUTH SCRAM-SHA-256-PLUS LOGIN", nil, "LOGIN"}, // there is nothing to bind to
		{"AUTH LOGIN PLAIN SCRAM-SHA-256", []string{"login", "PLAIN"}, "PLAIN"},
		{"AUTH LOGIN PLAIN", []string{"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}, "for [SCRAM-SHA-256]"},
		{"AUTH LOGIN PLAIN", []string{"SCRAM-SHA256"}, `"SCRAM-SHA256" is none of`},
	} {
		d := safeClient(tt.offer, Password("user", "pencil", tt.allowed...), say(535, ""))
		err := Auth().Negotiate(t.Context(), d)
		e, ok := grammar.AsType[*ext.AuthError](err)
		if !ok || e.Mechanism != tt.want && (len(d.Sent) > 0 || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s, %q: sent %q, %v", tt.offer, tt.allowed, d.Sent, err)
		}
	}
}

// Whatever it was that failed, and however long it took to find out, the client is told after a second.
func TestP10P22_AuthPause(t *testing.T) {
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

		// The second counts from the last line, however long the client took for it.
		m := &meeting{safeClient("AUTH LOGIN", nil), safeServer(slow(0)), make(chan string), make(chan proto.Reply)}
		_, err1 := m.Do(t.Context(), "AUTH", "LOGIN")
		_, err2 := m.Line(t.Context(), b64("bob"))
		<-time.After(5 * time.Second)
		start := time.Now()
		r, err3 := m.Line(t.Context(), b64("secret"))
		if err := errors.Join(err1, err2, err3); err != nil || r.Code != 535 || time.Since(start) != time.Second {
			t.Errorf("%v, %v after %v", r, err, time.Since(start))
		}

		// Nobody waits for a client that has hung up.
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

// slow is the session of users whose passwords take that long to check.
type slow time.Duration

func (s slow) Authenticate(ctx context.Context, user, password string) error {
	<-time.After(time.Duration(s))
	return (&users{}).Authenticate(ctx, user, password)
}

// What a relay says of who submitted a message.
func TestP16P32_SubmittedBy(t *testing.T) {
	for _, tt := range []struct{ address, want string }{
		{"e=mc2@example.com", "e+3Dmc2@example.com"}, // RFC 4954 section 5.1
		{"", "<>"},
	} {
		var a proto.Address
		if tt.address != "" {
			a = testkit.Address(t, tt.address)
		}
		p := AddSubmitter(nil, a)
		if value, _ := p.Get("AUTH"); value != tt.want {
			t.Errorf("%s: AUTH=%s, want %s", tt.address, value, tt.want)
		}
		if got, ok := ReadSubmitter(p); !ok || got != a {
			t.Errorf("%s: read as %v, %v", tt.address, got, ok)
		}
	}
}
