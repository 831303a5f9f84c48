package main

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// TestSubmission says who may submit, by which mechanisms, and from which addresses.
func TestSubmission(t *testing.T) {
	a := start(t, nil, "-hostname", "mx.a.example", "-domain", "a.example", "-domain", "a2.example", "-user",
		"alice:secret",
		"-user", "boss:secret:*", "-user", "carol:secret:info@a.example,carol@home.example", "-alias", "info=carol")
	a.talk(1, "MAIL FROM:<alice@a.example> > 530 5.7.0 ")
	insecure := &tls.Config{InsecureSkipVerify: true}
	for n, mode := range map[int]ext.TLSMode{1: ext.TLSRequired, 2: ext.TLSImplicit} {
		for _, mechanism := range []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"} {
			for _, password := range []string{"secret", "wrong"} {
				if password == "wrong" && (n == 1 || mechanism != "PLAIN" && mechanism != "SCRAM-SHA-1") {
					continue // each failure takes a second
				}
				err := client.Verify(t.Context(), a.addr(n), &client.Options{
					TLS: mode, TLSConfig: insecure, AllowUnverifiedAuth: true,
					Credentials: auth.Password("alice", password, mechanism),
				})
				if (err == nil) != (password == "secret") {
					t.Errorf("%s at port %d with %s: %v", mechanism, n, password, err)
				}
			}
		}
	}
	for _, test := range []struct {
		user, from string
		code       int
	}{
		{"alice", "alice@a.example", 0}, {"alice", "Alice@A2.example", 0}, {"alice", "", 0},
		{"alice", "carol@a.example", 550}, {"alice", "alice@elsewhere.example", 550},
		{"carol", "info@a.example", 0}, {"carol", "carol@home.example", 0}, {"carol", "carol@a.example", 550},
		{"boss", "anybody@elsewhere.example", 0},
	} {
		err := a.submit(test.user, "secret", test.from, "carol@a.example", letter)
		var refused *proto.Error
		if errors.As(err, &refused); (err == nil) != (test.code == 0) ||
			err != nil && (refused == nil || refused.Code != test.code) {
			t.Errorf("%s sends from %q: %v, want %d", test.user, test.from, err, test.code)
		}
	}
	err := a.submit("alice", "secret", "alice@a.example", "nobody@a.example", letter)
	if err == nil || !strings.Contains(err.Error(), "550 5.1.1") {
		t.Errorf("for an unknown user here: %v", err)
	}
}

// TestAliases has an alias lead to a user, to somebody elsewhere, and round in a circle; and notifies of success once.
func TestAliases(t *testing.T) {
	a, b := pair(t)
	success := func(m *client.Message) {
		for i := range m.To {
			m.To[i].Params = ehlo.DSNRcpt{Notify: ehlo.NotifySuccess}.AddTo(nil)
		}
	}
	if err := a.submit("alice", "secret", "alice@a.example", "info@a.example away@a.example alice@a.example", letter,
		success); err != nil {
		t.Fatal(err)
	}
	b.log.wait(t, 1, `msg="smtp: delivered" .*to=<bob@b.example>`)
	a.log.wait(t, 1, `msg="smtp: delivered" .*to=<alice@a.example>`)

	// Copy goes to alice, and to copy@b.example, which comes back as mail for copy@a.example, and so on.
	if err := a.submit("alice", "secret", "alice@a.example", "copy@a.example", letter); err != nil {
		t.Fatal(err)
	}
	a.log.wait(t, 1, `msg="smtp: given up" .*to=<copy@b.example> status=5.4.6`)
}

func TestAliasTable(t *testing.T) {
	c, err := parse([]string{"-domain", "a.example", "-domain", "b.example", "-user", "joe:x", "-user", "jane:x",
		"-alias", "all=joe",
		"-alias", "all=jane", "-alias", "all@a.example=out@c.example", "-alias", "joe@b.example=joe@b.example",
		"-alias", "joe@b.example=joe@c.example", "-alias", "both=all", "-alias", "postmaster@b.example=jane@a.example"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDirectory(c)
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		"joe@a.example": "joe@a.example", "BOTH@a.example": "joe@a.example jane@a.example out@c.example",
		"all@b.example": "joe@b.example joe@c.example jane@b.example", "joe@b.example": "joe@b.example joe@c.example",
		"postmaster@a.example": "joe@a.example", "postmaster": "joe@a.example", "Postmaster@b.example": "jane@a.example",
		"nobody@a.example": "", "x@c.example": "x@c.example",
	} {
		var got []string
		address := proto.Address{Local: from}
		if strings.Contains(from, "@") {
			if address, err = proto.ParseAddress(from); err != nil {
				t.Fatal(err)
			}
		}
		for _, to := range d.expand(address) {
			got = append(got, to.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s is %v, want %s", from, got, want)
		}
	}
	for _, alias := range []string{"x=y", "x=x", "x@c.example=joe", "=joe", "x=", "x"} {
		c, err := parse([]string{"-domain", "a.example", "-user", "joe:x", "-alias", alias})
		if err == nil {
			_, err = newDirectory(c)
		}
		if err == nil {
			t.Errorf("the alias %s is no error", alias)
		}
	}
}
