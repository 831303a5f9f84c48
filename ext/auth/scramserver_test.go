package auth

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
)

// RFC 5802 section 7: the name on the wire, and the one the session is asked for.
func TestSCRAMNames(t *testing.T) {
	for _, tt := range []struct{ name, wire, asked string }{
		{"user", "user", "user"},
		{"a=b,c", "a=3Db=2Cc", "a=b,c"},
		{"=2C", "=3D2C", "=2C"},
		{"jörg", "jörg", "jörg"},
		{"jo\u0308rg", "jörg", "jörg"}, // SASLprep
	} {
		c := &scramClient{hash: crypto.SHA256, user: tt.name, password: "x", flag: "n", nonce: "abc"}
		_, first, err := c.Start()
		if err != nil || string(first) != "n,,n="+tt.wire+",r=abc" {
			t.Errorf("%q: %q, %v", tt.name, first, err)
		}
		p := scramVectors[1].session()
		s := scramVectors[1].newServer(t, p)
		if _, _, err := s.Next(first); err != nil || strings.Join(p.asked, "|") != tt.asked {
			t.Errorf("%q: asked for %q, %v", tt.name, p.asked, err)
		}
	}
	p := scramVectors[1].session()
	p.user = "jörg"
	c := &scramClient{hash: crypto.SHA256, user: "jörg", password: "pencil", flag: "n", nonce: "abc"}
	_, first, _ := c.Start()
	first = []byte(strings.Replace(string(first), "ö", "o\u0308", 1)) // as clients send it that do not prepare names
	c.bare = strings.TrimPrefix(string(first), "n,,")
	s := scramVectors[1].newServer(t, p)
	question, _, err := s.Next(first)
	if err != nil {
		t.Fatal(err)
	}
	final, err := c.Next(question)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Next(final); err != nil || s.attempt.user != "jörg" {
		t.Errorf("%v, authenticated as %+q", err, s.attempt.user)
	}
	for _, c := range []*scramClient{
		{hash: crypto.SHA256, user: "\ue000", password: "x", flag: "n", nonce: "abc"},
		{hash: crypto.SHA256, user: "x", password: "\ue000", flag: "n", nonce: "abc"},
	} {
		if name, _, err := c.Start(); err == nil || name != "SCRAM-SHA-256" {
			t.Errorf("%s: something that cannot be prepared: %v", name, err)
		}
	}
}

// RFC 4013 section 3, and what RFC 3454 has beyond the examples.
func TestP21_SASLprep(t *testing.T) {
	for _, tt := range []struct {
		in, out string
		ok      bool
	}{
		{"I\u00adX", "IX", true},
		{"user", "user", true},
		{"USER", "USER", true},
		{"\u00aa", "a", true},
		{"\u2168", "IX", true},
		{"\u0007", "", false},
		{"\u0627\u0031", "", false},
		{"\u0627\u0031\u0628", "\u0627\u0031\u0628", true},
		{"a\u0627", "", false},
		{"\u0627a\u0628", "", false},
		{"a\u00a0b\u3000c\u200bd", "a b c d", true},
		{"", "", false},
		{"\u00ad", "", false},
		{"a\x7f", "", false},
		{"ä\u0085", "", false},
		{"ä\ue000", "", false},
		{"ä\ufffe", "", false},
		{"ä\U0001ffff", "", false},
		{"ä\ufdd0", "", false},
		{"ä\u2028", "", false},
		{"ä\u2ff0", "", false},
		{"ä\ufffd", "", false},
		{"ä\U000e0041", "", false},
		{"ä\xff", "", false},
		{"p\u0308", "p\u0308", true},
	} {
		if out, err := saslPrep(tt.in); out != tt.out || (err == nil) != tt.ok {
			t.Errorf("%+q: %+q, %v", tt.in, out, err)
		}
	}
}

// TestSCRAMPolicyImpossible has a session whose policy no secret can follow: nobody is told by that which names exist.
func TestSCRAMPolicyImpossible(t *testing.T) {
	for _, policy := range []SCRAMPolicy{{Iterations: 1000}, {Iterations: maxIterations + 1}, {SaltSize: -1}, {SaltSize: maxSaltSize + 1}} {
		for _, user := range []string{"user", "nobody"} {
			v := scramVectors[0]
			s := v.session()
			s.policy = &policy
			policy.Hashes = s.hashes
			_, _, err := v.newServer(t, s).Next([]byte("n,,n=" + user + ",r=abc"))
			if e := replyIn(err); e == nil || e.Code != 454 {
				t.Errorf("%+v: %s is answered with %v, want 454", policy, user, err)
			}
		}
	}
}

// TestSCRAMNoSecret has a session that looks a user up in a map, and returns what is there: nothing for a user who has
// no secret with that hash function.
func TestSCRAMNoSecret(t *testing.T) {
	v := scramVectors[0]
	s := v.session()
	s.change = func(secret *SCRAMSecret) { *secret = SCRAMSecret{} }
	for _, user := range []string{"user", "nobody"} {
		question, _, err := v.newServer(t, s).Next([]byte("n,,n=" + user + ",r=abc"))
		if err != nil || !strings.HasPrefix(string(question), "r=abc") {
			t.Errorf("%s is answered with %q, %v", user, question, err)
		}
	}
}

// TestBehindProxy has a proxy speak for a client: neither the proxy's certificate nor its channel is the client's.
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
