package auth

import (
	"crypto"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

// Malformed messages of a client, and messages of a client without the password.
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
		{"Z84 NUL in name", "n,,n=us\x00er,r=x", ""},
		{"Z84 LF in name", "n,,n=us\ner,r=x", ""},
		{"invalid UTF-8", "n,,n=us\xff,r=x", ""},
		{"Z84 another authzid", "n,a=root,n=user,r=x", ""},
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

// A client knows the password, and signs another nonce or binding than was agreed. A man in the middle may be the
// cause.
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

// A client cannot tell whether a user exists: a made-up salt has the usual length, and is the same each time.
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

// If the session fails, the client gets 454 and the failure does not count.
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

// TestSCRAMPolicyImpossible has a policy that no secret can follow. It must not reveal which users exist.
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

// TestSCRAMNoSecret has a session that returns the zero secret for a user without one for the hash function.
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

// FuzzSCRAMServer looks for messages that authenticate without the password, and for a name that is read in two ways.
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
		// The parsed parts are those of the message, which will be signed.
		m, err := parseClientFirst(first)
		if err != nil || m.header+m.bare != first || strings.Count(m.header, ",") != 2 {
			t.Fatalf("%q: %+v, %v", first, m, err)
		}
		if !strings.HasPrefix(m.bare, "n="+quoteName(m.user)+",r="+m.nonce) || !strings.HasPrefix(x.Sent[1].Text, b64("r=" + m.nonce)[:4]) {
			t.Fatalf("%q: %+v, %v", first, m, x.Sent[1])
		}
	})
}
