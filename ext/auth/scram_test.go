package auth

import (
	"cmp"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/fake"

	"smtpkit.example/smtp/proto"
)

// scramVector is an exchange of an RFC.
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

func (p *pencils) SCRAM() SCRAMPolicy {
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

// What a server might say to have the client do endless work, or reveal what it can be attacked by.
func TestSCRAMClientRefuses(t *testing.T) {
	const nonce = "fyko+d2lbbFgONRv9qkxdawL"
	first := func(nonce, salt, count string) string { return "r=" + nonce + ",s=" + salt + ",i=" + count }
	good := nonce + "3rfc"
	for _, tt := range []struct{ name, message, want string }{
		{"P34 iterations 2^31", first(good, "QSXCR+Q6sek8bf92", "2147483648"), "2147483648"},
		{"92 iterations beyond an int", first(good, "QSXCR+Q6sek8bf92", "99999999999999999999"), "none"},
		{"P34 one iteration too many", first(good, "QSXCR+Q6sek8bf92", "1000001"), "1000001"},
		{"P34 one too few", first(good, "QSXCR+Q6sek8bf92", "4095"), "4095"},
		{"iterations 0", first(good, "QSXCR+Q6sek8bf92", "0"), "none"},
		{"iterations negative", first(good, "QSXCR+Q6sek8bf92", "-4096"), "none"},
		{"iterations with a sign", first(good, "QSXCR+Q6sek8bf92", "+4096"), "none"},
		{"iterations with a zero", first(good, "QSXCR+Q6sek8bf92", "04096"), "none"},
		{"iterations missing", "r=" + good + ",s=QSXCR+Q6sek8bf92", "malformed"},
		{"92 empty salt", first(good, "", "4096"), "malformed"},
		{"salt not base64", first(good, "QSXC!", "4096"), "malformed"},
		{"salt of 1025 octets", first(good, base64.StdEncoding.EncodeToString(make([]byte, 1025)), "4096"), "malformed"},
		{"P34 nonce not extended", first(nonce, "QSXCR+Q6sek8bf92", "4096"), "nonce"},
		{"P34 another nonce", first("x"+good, "QSXCR+Q6sek8bf92", "4096"), "nonce"},
		{"92 half a nonce", first(nonce[:10], "QSXCR+Q6sek8bf92", "4096"), "nonce"},
		{"92 nonce in lower case", first(strings.ToLower(good), "QSXCR+Q6sek8bf92", "4096"), "nonce"},
		{"control character in nonce", first(good+"\x01", "QSXCR+Q6sek8bf92", "4096"), "malformed"},
		{"mandatory extension", "m=x," + first(good, "QSXCR+Q6sek8bf92", "4096"), "malformed"},
		{"mandatory extension at the end", first(good, "QSXCR+Q6sek8bf92", "4096,m=x"), "malformed"},
		{"another order", "s=QSXCR+Q6sek8bf92,r=" + good + ",i=4096", "malformed"},
		{"comma at the end", first(good, "QSXCR+Q6sek8bf92", "4096,"), "malformed"},
		{"error", "e=unknown-user", "unknown-user"},
		{"final message", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "malformed"},
		{"empty", "", "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := scramVectors[0].newClient()
			c.Start()
			response, err := c.Next([]byte(tt.message))
			if err == nil || !strings.Contains(err.Error(), tt.want) || response != nil {
				t.Errorf("%q, %v, want %q", response, err, tt.want)
			}
		})
	}
	for _, message := range []string{"4096", "1000000", "4096,x=y,z=1"} {
		c := scramVectors[0].newClient()
		c.Start()
		if _, err := c.Next([]byte(first(good, "QSXCR+Q6sek8bf92", message))); err != nil {
			t.Errorf("i=%s: %v", message, err)
		}
	}
}

// Row 91: the server does not know the password, or does not say.
func TestSCRAMClientVerifies(t *testing.T) {
	v := scramVectors[1]
	for _, message := range []string{
		"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "v=", "", "v",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4", v.messages[3] + ",m=x", "x=y," + v.messages[3], "e=invalid-proof",
		v.messages[1],
	} {
		c := v.newClient()
		c.Start()
		if _, err := c.Next([]byte(v.messages[1])); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Next([]byte(message)); err == nil || c.Done() {
			t.Errorf("%q: %v, done: %v", message, err, c.Done())
		}
	}
}

// Row 91 on the wire: a reply of success ends the attempt at any point, but only in the end is it one.
func TestSCRAMConnect(t *testing.T) {
	creds := Password("user", "pencil", "SCRAM-SHA-256")
	for _, tt := range []struct {
		name    string
		replies []proto.Reply
		lines   int
		want    string
	}{
		{"91 success at once", []proto.Reply{say(235, "")}, 1, "not proved its own identity"},
		{"91 success at once, with words", []proto.Reply{say(235, "v=6rriTRBi23WpRR/wtup+mMhUZUn")}, 1, "not proved its own identity"},
		{"empty challenge", []proto.Reply{say(334, ""), say(501, "")}, 2, "malformed"},
		{"error", []proto.Reply{say(334, b64("e=other-error")), say(501, "")}, 2, "other-error"},
		{"refused", []proto.Reply{say(535, "no")}, 1, "535"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := safeClient("AUTH SCRAM-SHA-256 PLAIN", creds, tt.replies...)
			err := Auth().Negotiate(t.Context(), d)
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(d.Sent) != tt.lines || d.Conn.Identity != "" {
				t.Errorf("%v, sent %q", err, d.Sent)
			}
		})
	}
}

// Malformed messages of a client, and those of somebody who does not know the password.
func TestSCRAMServerRefuses(t *testing.T) {
	v := scramVectors[1]
	first, final := v.messages[0], v.messages[2]
	nonce := v.client + v.server
	for _, tt := range []struct{ name, first, final string }{
		{"no header", "n=user,r=x", ""},
		{"empty", "", ""},
		{"binding without PLUS", "p=tls-exporter,,n=user,r=x", ""},
		{"unknown flag", "x,,n=user,r=x", ""},
		{"no name", "n,,r=x", ""},
		{"empty name", "n,,n=,r=x", ""},
		{"no nonce", "n,,n=user", ""},
		{"empty nonce", "n,,n=user,r=", ""},
		{"space in nonce", "n,,n=user,r=a b", ""},
		{"mandatory extension", "n,,m=x,n=user,r=x", ""},
		{"mandatory extension at the end", "n,,n=user,r=x,m=x", ""},
		{"stray = in name", "n,,n=us=er,r=x", ""},
		{"=2c in lower case", "n,,n=us=2cer,r=x", ""},
		{"84 NUL in name", "n,,n=us\x00er,r=x", ""},
		{"84 LF in name", "n,,n=us\ner,r=x", ""},
		{"invalid UTF-8", "n,,n=us\xff,r=x", ""},
		{"84 another authzid", "n,a=root,n=user,r=x", ""},
		{"empty authzid", "n,a=,n=user,r=x", ""},
		{"authzid without a=", "n,user,n=user,r=x", ""},
		{"P34 invalid proof", first, strings.Replace(final, "p=dHzb", "p=aHzb", 1)},
		{"short proof", first, "c=biws,r=" + nonce + ",p=dHzb"},
		{"no proof", first, "c=biws,r=" + nonce},
		{"proof not base64", first, "c=biws,r=" + nonce + ",p=!"},
		{"proof not last", first, final + ",x=y"},
		{"P34 another nonce", first, strings.Replace(final, nonce, nonce+"x", 1)},
		{"the client's nonce alone", first, strings.Replace(final, nonce, v.client, 1)},
		{"another header", first, strings.Replace(final, "c=biws", "c=eSws", 1)}, // y,,
		{"header not base64", first, strings.Replace(final, "c=biws", "c=biw", 1)},
		{"data of a binding", first, strings.Replace(final, "c=biws", "c=biwseA==", 1)},
		{"mandatory extension in the end", first, strings.Replace(final, ",p=", ",m=x,p=", 1)},
		{"extension that is not signed for", first, strings.Replace(final, ",p=", ",x=y,p=", 1)},
		{"empty end", first, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := v.newServer(t, v.session())
			_, _, err := s.Next([]byte(tt.first))
			if tt.first == first {
				if err != nil {
					t.Fatal(err)
				}
				_, _, err = s.Next([]byte(tt.final))
			}
			if err == nil || s.attempt.user != "" {
				t.Errorf("%v, authenticated as %q", err, s.attempt.user)
			}
			if e := replyIn(err); e != nil {
				t.Errorf("the client is told %d", e.Code)
			}
		})
	}
}

// A client that knows the password, and signs for another nonce or binding than has been agreed on, may have been
// talked into it by somebody in between.
func TestP34_SCRAMServerSigned(t *testing.T) {
	v := scramVectors[1]
	nonce := v.client + v.server
	for _, tt := range []struct {
		final string
		ok    bool
	}{
		{"c=biws,r=" + nonce, true},
		{"c=biws,r=" + nonce + ",x=y", true},
		{"c=biws,r=" + nonce + "x", false},
		{"c=biws,r=" + v.client, false},
		{"c=eSws,r=" + nonce, false},     // y,,
		{"c=biwseA==,r=" + nonce, false}, // data behind the header
		{"c=bg==,r=" + nonce, false},     // n
		{"c=biws,r=" + nonce + ",m=x", false},
	} {
		s := v.newServer(t, v.session())
		if _, _, err := s.Next([]byte(v.messages[0])); err != nil {
			t.Fatal(err)
		}
		k, err := deriveKeys(v.hash, "pencil", s.secret.Salt, 4096)
		if err != nil {
			t.Fatal(err)
		}
		signed := "n=user,r=" + v.client + "," + v.messages[1] + "," + tt.final
		proof := base64.StdEncoding.EncodeToString(xor(k.client, sum(v.hash, k.stored, signed)))
		if _, _, err := s.Next([]byte(tt.final + ",p=" + proof)); (err == nil) != tt.ok || (s.attempt.user == "user") != tt.ok {
			t.Errorf("%s: %v, authenticated as %q", tt.final, err, s.attempt.user)
		}
	}
}

// From what it is told, the client cannot tell whether the name exists: the salt of one that does not is
// no different, neither in length nor from one time to the next.
func TestP10_SCRAMUnknownUser(t *testing.T) {
	for _, v := range scramVectors {
		ask := func(session any, user string) (salt, rest string, last error) {
			s := v.newServer(t, session)
			challenge, _, err := s.Next([]byte("n,,n=" + user + ",r=" + v.client))
			if err != nil {
				t.Fatal(err)
			}
			a := &scramAttributes{string(challenge)}
			if nonce, err := a.next("r"); err != nil || nonce != v.client+v.server {
				t.Fatalf("%q", challenge)
			}
			salt, _ = a.next("s")
			proof := base64.StdEncoding.EncodeToString(make([]byte, v.hash.Size()))
			_, _, last = s.Next([]byte("c=biws,r=" + v.client + v.server + ",p=" + proof))
			if s.attempt.user != "" {
				t.Errorf("authenticated as %q", s.attempt.user)
			}
			return salt, a.rest, last
		}
		session := v.session()
		real, rest, err := ask(session, "user")
		one, rest1, err1 := ask(session, "one")
		again, _, _ := ask(v.session(), "one")
		two, _, _ := ask(session, "two")
		if one != again || one == two || len(one) != len(real) || rest != rest1 {
			t.Errorf("salts %q, %q, %q of names that do not exist and %q; then %q and %q", one, again, two, real, rest1, rest)
		}
		if !errors.Is(err, ErrCredentials) || !errors.Is(err1, ErrCredentials) {
			t.Errorf("%v and %v", err, err1)
		}
	}
	a, _ := SCRAMPolicy{Key: []byte("a")}.decoy("one", crypto.SHA256)
	b, _ := SCRAMPolicy{Key: []byte("b")}.decoy("one", crypto.SHA256)
	c, _ := SCRAMPolicy{Key: []byte("a")}.decoy("one", crypto.SHA1)
	if string(a.Salt) == string(b.Salt) || string(a.Salt) == string(c.Salt) || len(a.Salt) != 16 || a.Iterations != 15000 {
		t.Errorf("salts %x, %x, %x", a.Salt, b.Salt, c.Salt)
	}
	if _, err := (SCRAMPolicy{SaltSize: 1 << 20}).decoy("one", crypto.SHA256); err == nil {
		t.Error("a salt of any length")
	}
}

// The session's own faults are not the client's: 454, and a line in the log.
func TestSCRAMServerSessionFails(t *testing.T) {
	v := scramVectors[0]
	for _, tt := range []struct {
		name   string
		err    error
		change func(*SCRAMSecret)
		want   int
	}{
		{"database", errDatabase, nil, 454},
		{"P11 its own reply", proto.Refuse(534, proto.Status{}, "weak"), nil, 534},
		{"another hash function", nil, func(s *SCRAMSecret) { s.Hash = crypto.SHA256 }, 454},
		{"no salt", nil, func(s *SCRAMSecret) { s.Salt = nil }, 454},
		{"few iterations", nil, func(s *SCRAMSecret) { s.Iterations = 1 }, 454},
		{"no key", nil, func(s *SCRAMSecret) { s.StoredKey = nil }, 454},
		{"half a key", nil, func(s *SCRAMSecret) { s.ServerKey = s.ServerKey[:10] }, 454},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := v.session()
			p.err, p.change = tt.err, tt.change
			x := safeServer(p)
			if got := x.Serve(t, Auth(), "SCRAM-SHA-1 "+b64(v.messages[0])); !strings.HasPrefix(got, strconv.Itoa(tt.want)) {
				t.Errorf("%q, want %d", got, tt.want)
			}
			if len(x.Sent) != 0 || x.AuthFailures != 0 && tt.want == 454 {
				t.Errorf("challenges %v, %d failures", x.Sent, x.AuthFailures)
			}
		})
	}
}
