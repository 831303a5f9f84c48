package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
)

// cards is a session that knows one certificate, alice's.
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

// chain returns the state of a connection whose client presented a certificate that was verified.
func chain(raw string) *tls.ConnectionState {
	c := &x509.Certificate{Raw: []byte(raw)}
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}
}

// EXTERNAL, and authorization identities in general.
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
		{"Z84 another name", cards{}, chain("alice"), "EXTERNAL " + b64("bob"), nil, "535 5.7.8 ", ""},
		{"Z84 another name, deputy", deputies{}, chain("alice"), "EXTERNAL " + b64("bob"), nil, "235 ", "bob"},
		{"Z84 a third name, deputy", deputies{}, chain("alice"), "EXTERNAL " + b64("eve"), nil, "535 5.7.8 ", ""},
		{"the session cannot say", deputies{}, chain("alice"), "EXTERNAL " + b64("down"), nil, "454 4.7.0 ", ""},
		{"unknown certificate", cards{}, chain("eve"), "EXTERNAL =", nil, "535 5.7.8 ", ""},
		{"session is broken", cards{}, chain("down"), "EXTERNAL =", nil, "454 4.7.0 ", ""},
		{"Z84 NUL", cards{}, chain("alice"), "EXTERNAL " + b64("ali\x00ce"), nil, "535 5.7.8 ", ""},
		{"Z84 LF", deputies{}, chain("alice"), "EXTERNAL " + b64("bob\n"), nil, "535 5.7.8 ", ""},
		{"Z95 long", deputies{}, chain("alice"), "EXTERNAL " + b64(strings.Repeat("A", 9000)), nil, "535 5.7.8 ", ""},
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

// guests is a session that lets in every guest with a trace.
type guests struct {
	quick
	asked []string
}

func (g *guests) AuthenticateAnonymous(_ context.Context, trace string) (string, error) {
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
			c := safeClient("AUTH ANONYMOUS EXTERNAL", tt.creds, say(235, ""))
			c.Conn.Policy.TLSConfig = tt.config
			err := Auth().Negotiate(t.Context(), c)
			if sent := strings.Join(c.Sent, "|"); sent != tt.sent || c.Conn.Identity != tt.as {
				t.Errorf("sent %q as %q", sent, c.Conn.Identity)
			}
			if (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("%v, want %q", err, tt.wantErr)
			}
		})
	}
}

// TestBehindProxy has a proxy speak for a client. The proxy's certificate and TLS connection are not the client's.
func TestBehindProxy(t *testing.T) {
	x := safeServer(&behindProxy{})
	x.Conn.TLS = &tls.ConnectionState{Version: tls.VersionTLS12, TLSUnique: []byte("unique"), VerifiedChains: [][]*x509.Certificate{{{}}}}
	if got := strings.Join(mechanisms(x), " "); got != "EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-256" {
		t.Fatalf("without a proxy %s", got)
	}
	x.Conn.Origin = &ext.Origin{Addr: "192.0.2.1"}
	if got := strings.Join(mechanisms(x), " "); got != "SCRAM-SHA-256" {
		t.Errorf("with a proxy %s", got)
	}
	if got := x.Serve(t, Auth(), "EXTERNAL ="); !strings.HasPrefix(got, "504 ") {
		t.Errorf("EXTERNAL: %s", got)
	}
}

type behindProxy struct{ pencils }

func (*behindProxy) AuthenticateCertificate(context.Context, []*x509.Certificate) (string, error) {
	return "proxy", nil
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
