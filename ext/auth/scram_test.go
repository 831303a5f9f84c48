package auth

import (
	"cmp"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/fake"
)

// scramVector is an example exchange of an RFC.
type scramVector struct {
	name           string
	hash           crypto.Hash
	client, server string // what each adds to the nonce
	salt           string // base64
	messages       [4]string
}

var scramVectors = []scramVector{
	{"P34 RFC 5802 section 5", crypto.SHA1, "fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j", "QSXCR+Q6sek8bf92", [4]string{
		"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
		"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
		"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
		"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
	}},
	{"P34 RFC 7677 section 3", crypto.SHA256, "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "W22ZaJ0SNY7soEsUEjb6gQ==", [4]string{
		"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
	}},
}

// pencils is a session with the user of the vectors, whose password is "pencil".
type pencils struct {
	quick
	hashes []crypto.Hash
	salt   []byte
	user   string // "user" if it is empty
	err    error  // of SCRAMSecret, for the user
	asked  []string
	change func(*SCRAMSecret)
	policy *SCRAMPolicy // in place of the one that fits
}

func (p *pencils) SCRAMPolicy() SCRAMPolicy {
	if p.policy != nil {
		return *p.policy
	}
	return SCRAMPolicy{Hashes: p.hashes, Iterations: 4096, SaltSize: len(p.salt)}
}

func (p *pencils) SCRAMSecret(_ context.Context, user string, hash crypto.Hash) (SCRAMSecret, error) {
	p.asked = append(p.asked, user)
	if user != cmp.Or(p.user, "user") {
		return SCRAMSecret{}, fmt.Errorf("%q: %w", user, ErrCredentials)
	}
	s, err := newSCRAMSecret(hash, "pencil", p.salt, 4096)
	if p.change != nil {
		p.change(&s)
	}
	return s, errors.Join(err, p.err)
}

// session returns the session of the vector.
func (v *scramVector) session() *pencils {
	salt, _ := base64.StdEncoding.DecodeString(v.salt)
	return &pencils{hashes: []crypto.Hash{v.hash}, salt: salt}
}

func (v *scramVector) newClient() *scramClient {
	return &scramClient{hash: v.hash, user: "user", password: "pencil", flag: "n", nonce: v.client}
}

func (v *scramVector) newServer(t testing.TB, s any) *scramServer {
	return &scramServer{attempt: &attempt{ctx: t.Context(), conn: fake.NewServer(s)}, hash: v.hash, nonce: v.server}
}

func TestSCRAMVectors(t *testing.T) {
	for _, v := range scramVectors {
		t.Run(v.name, func(t *testing.T) {
			c := v.newClient()
			_, first, err := c.Start()
			if err != nil || string(first) != v.messages[0] {
				t.Fatalf("%q, %v", first, err)
			}
			final, err := c.Next([]byte(v.messages[1]))
			if err != nil || string(final) != v.messages[2] {
				t.Fatalf("%q, %v", final, err)
			}
			if c.Done() {
				t.Error("done before the server has proved itself")
			}
			if last, err := c.Next([]byte(v.messages[3])); err != nil || last == nil || len(last) > 0 || !c.Done() {
				t.Fatalf("%q, %v, done: %v", last, err, c.Done())
			}
			if _, err := c.Next(nil); err == nil {
				t.Error("the client goes on after the end")
			}

			s := v.newServer(t, v.session())
			for i, done := range []bool{false, true} {
				challenge, got, err := s.Next([]byte(v.messages[2*i]))
				if err != nil || got != done || string(challenge) != v.messages[2*i+1] {
					t.Fatalf("%q, %v, %v", challenge, got, err)
				}
			}
			if s.attempt.user != "user" {
				t.Errorf("authenticated as %q", s.attempt.user)
			}
			if _, _, err := s.Next([]byte{}); err == nil {
				t.Error("the server goes on after the end")
			}
		})
	}
}

func TestSCRAMSecret(t *testing.T) {
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
		s, err := NewSCRAMSecret(hash, "pencil", 0)
		if err != nil || len(s.Salt) != 16 || s.Iterations != 15000 {
			t.Fatalf("%+v, %v", s, err)
		}
		if !s.Matches("pencil") || s.Matches("pencil ") || s.Matches("") {
			t.Error("it does not tell its password from others")
		}
		if other, _ := NewSCRAMSecret(hash, "pencil", 0); string(other.Salt) == string(s.Salt) {
			t.Error("the same salt twice")
		}
		s.Hash = crypto.SHA384
		if s.Matches("pencil") {
			t.Error("a secret for another hash function matches")
		}
	}
	if (SCRAMSecret{}).Matches("") {
		t.Error("the zero secret has a password")
	}
	for _, tt := range []struct {
		hash       crypto.Hash
		password   string
		iterations int
	}{
		{crypto.SHA512, "pencil", 0},
		{0, "pencil", 0},
		{crypto.SHA256, "", 0},
		{crypto.SHA256, "pen\x00cil", 0},
		{crypto.SHA256, "pencil", 4095},
		{crypto.SHA256, "pencil", 1000001},
		{crypto.SHA256, "pencil", -1},
	} {
		if _, err := NewSCRAMSecret(tt.hash, tt.password, tt.iterations); err == nil || !strings.HasPrefix(err.Error(), "smtp: ") {
			t.Errorf("%v, %q, %d: %v", tt.hash, tt.password, tt.iterations, err)
		}
	}
}

// RFC 5802 section 7: the name on the wire, and the name that the session gets.
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
	first = []byte(strings.Replace(string(first), "ö", "o\u0308", 1)) // as a client sends it that does not prepare names
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

// FuzzSASLName looks for a name that changes on the wire, or has two forms there.
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
