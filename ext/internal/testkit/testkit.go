// Package testkit has the helpers that the tests of package ext and of the packages below it share.
package testkit

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Params returns the parameters in s, such as "SIZE=1000 BODY=8BITMIME".
func Params(s string) proto.Params {
	var p proto.Params
	for _, f := range strings.Fields(s) {
		key, value, has := strings.Cut(f, "=")
		p = append(p, proto.Param{Key: key, Value: value, HasValue: has})
	}
	return p
}

// Wrap returns a session that wraps another, as middleware does. ext.As finds the inner one.
func Wrap(session any) any { return wrapped{session} }

type wrapped struct{ session any }

func (w wrapped) Unwrap() any { return w.session }

// One returns a list of one parameter.
func One(key, value string) proto.Params {
	return proto.Params{{Key: key, Value: value, HasValue: true}}
}

// Address parses s, and fails the test if it is no address.
func Address(t testing.TB, s string) proto.Address {
	t.Helper()
	a, err := proto.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// MakeSet returns the set of the extensions for SMTP, and fails the test if they make none.
func MakeSet(t testing.TB, list ...ext.Extension) *ext.Set {
	t.Helper()
	s, err := ext.NewSet(proto.SMTP, list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// All returns the offer of a server that advertises every extension of s.
func All(s *ext.Set) ext.Offer {
	text := "mail.example"
	for _, e := range s.Extensions() {
		if e.Keyword != "" {
			text += "\n" + e.Keyword
		}
	}
	return s.Offered(proto.ParseCaps(proto.Reply{Code: 250, Text: text}))
}

// Everything returns what a server advertises that has the usual extensions, and PLAIN and LOGIN for AUTH.
func Everything() proto.Caps {
	return proto.ParseCaps(proto.Reply{Code: 250, Text: "mail.example\nPIPELINING\nSIZE 10240\n8BITMIME\nENHANCEDSTATUSCODES\n" +
		"STARTTLS\nAUTH PLAIN LOGIN\nSMTPUTF8\nCHUNKING\nBINARYMIME\nHELP\nVRFY\nEXPN"})
}
