// Package testkit has what the tests of extensions share.
package testkit

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"

	"smtpkit.example/smtp/proto"
)

// Params returns the parameters in s, which is written as on the wire.
func Params(s string) proto.Params {
	var p proto.Params
	for _, f := range strings.Fields(s) {
		key, value, has := strings.Cut(f, "=")
		p = append(p, proto.Param{Key: key, Value: value, HasValue: has})
	}
	return p
}

// Wrap returns session in another one, as middleware does.
func Wrap(session any) any { return wrapped{session} }

type wrapped struct{ session any }

func (w wrapped) Unwrap() any { return w.session }

// One returns the parameter key with a value.
func One(key, value string) proto.Params {
	return proto.Params{{Key: key, Value: value, HasValue: true}}
}

// Address returns the address that s is.
func Address(t testing.TB, s string) proto.Address {
	t.Helper()
	a, err := proto.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// MakeSet returns a set of extensions.
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
