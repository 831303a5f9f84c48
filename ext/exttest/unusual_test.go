package exttest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/exttest"
	"smtpkit.example/smtp/proto"
)

// short returns a Check that accepts all values of up to n octets.
func short(n int) func(string) error {
	return func(v string) error {
		if len(v) > n {
			return fmt.Errorf("%q is longer than %d octets", v, n)
		}
		return nil
	}
}

// insist returns an extension without a keyword that refuses commands until ok returns true.
func insist(ok func(ext.ServerConn) bool) ext.Extension {
	return ext.Extension{Guard: func(_ context.Context, x ext.ServerConn, v *proto.Verb, _ string) error {
		if !ok(x) && !v.BeforeAuth {
			return refuse(530, "Not before you have done what I insist on")
		}
		return nil
	}}
}

// unusual has extensions without mistakes that do something unusual.
var unusual = []struct {
	name   string
	e      ext.Extension
	sample exttest.Sample
}{
	{"success ends the session", ext.Extension{Keyword: "XBYE",
		Verbs: []proto.Verb{{Name: "XBYE", In: proto.Session, Last: true, OK: proto.Closed}},
		Serve: answer(func(_ context.Context, x ext.Command) error {
			if x.Args() != "" {
				return refuse(501, "No arguments")
			}
			return refuse(221, "Bye")
		})}, exttest.Sample{}},
	{"failure ends the session", ext.Extension{Keyword: "XSURE",
		Verbs: []proto.Verb{{Name: "XSURE", In: proto.Session, Fail: proto.Closed}},
		Serve: answer(func(context.Context, ext.Command) error { return refuse(554, "You had one attempt") }),
	}, exttest.Sample{}},
	{"a reply with the time", ext.Extension{Keyword: "XTIME",
		Verbs: []proto.Verb{{Name: "XTIME", In: proto.Session, Last: true}},
		Serve: answer(func(context.Context, ext.Command) error { return refuse(250, time.Now().String()) }),
	}, exttest.Sample{}},
	{"part of a verb is not implemented", ext.Extension{Keyword: "XSUB",
		Verbs: []proto.Verb{{Name: "XSUB", In: proto.Session, Last: true}},
		Serve: answer(func(_ context.Context, x ext.Command) error {
			if x.Args() != "NOW" {
				return refuse(502, "Only NOW is implemented")
			}
			return nil
		})}, exttest.Sample{Dialogues: []string{"C: XSUB LATER\nS: 502 *\nC: XSUB NOW\nS: 250 *\n"}}},
	{"an offer with a nonce", ext.Extension{Keyword: "XNONCE",
		Advertise: func(ext.ServerConn) (string, bool) { return rand.Text(), true },
		Mail:      []ext.Param{{Key: "XPROOF", MaxLength: len(" XPROOF=") + 40, Check: short(40)}},
	}, exttest.Sample{}},
	{"an offer with the time", ext.Extension{Keyword: "XCLOCK",
		Advertise: func(ext.ServerConn) (string, bool) { return time.Now().UTC().Format(time.RFC3339Nano), true },
	}, exttest.Sample{}},
	{"a random ID for each message", ext.Extension{Keyword: "XID",
		Mail: []ext.Param{{Key: "XID", MaxLength: len(" XID=") + 32, Check: short(32)}},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			e.Mail = e.Mail.Set("XID", rand.Text())
			return nil
		}}, exttest.Sample{}},
	{"only with TLS", ext.Extension{Keyword: "XSEC",
		Advertise: func(x ext.ServerConn) (string, bool) { return "", x.TLS() != nil },
		Rcpt:      []ext.Param{{Key: "XSEC", MaxLength: len(" XSEC"), Flag: true}},
	}, exttest.Sample{}},
	{"only authenticated", ext.Extension{Keyword: "XAUTHED",
		Advertise: func(x ext.ServerConn) (string, bool) { return "", x.Identity() != "" },
		Rcpt:      []ext.Param{{Key: "XLABEL", MaxLength: len(" XLABEL=") + 100, Check: short(100)}},
	}, exttest.Sample{Identity: "bob"}},
	{"only before EHLO", ext.Extension{Keyword: "XPRE",
		Verbs: []proto.Verb{{Name: "XPRE", In: proto.Hello, Last: true}},
		Serve: answer(func(context.Context, ext.Command) error { return nil }),
	}, exttest.Sample{}},
	{"only in submission", ext.Extension{Keyword: "XSUBMIT", Role: ext.SubmissionOnly,
		Rcpt: []ext.Param{{Key: "XSUBMIT", MaxLength: len(" XSUBMIT"), Flag: true}},
	}, exttest.Sample{}},
	{"two rounds", ext.Extension{Keyword: "XPOW",
		Verbs: []proto.Verb{{Name: "XPOW", In: proto.Ready, Last: true, More: proto.Exchange}},
		Serve: answer(func(ctx context.Context, x ext.Command) error {
			for range 2 {
				if line, err := x.Challenge(ctx, proto.Reply{Code: 334, Text: rand.Text()}); err != nil || line == "*" {
					return errors.Join(err, refuse(501, "Cancelled"))
				}
			}
			return refuse(535, "Wrong")
		})}, exttest.Sample{}},
	{"a value that is optional and has a case", ext.Extension{Keyword: "XPLUS",
		Mail: []ext.Param{{Key: "XPLUS", MaxLength: len(" XPLUS=") + 8, Optional: true, Check: func(v string) error {
			if strings.ToLower(v) != v {
				return errors.New("XPLUS has to be in lower case")
			}
			return short(8)(v)
		}}}}, exttest.Sample{Mail: []string{"XPLUS", "XPLUS=abc"}, BadMail: []string{"XPLUS=ABC"}}},
	{"one key for MAIL and RCPT", ext.Extension{Keyword: "XDUAL",
		Mail: []ext.Param{{Key: "XD", MaxLength: len(" XD"), Flag: true}},
		Rcpt: []ext.Param{{Key: "XD", MaxLength: len(" XD=A"), Values: []string{"A", "B"}}},
	}, exttest.Sample{}},
	{"TLS demanded", insist(func(x ext.ServerConn) bool { return x.TLS() != nil }), exttest.Sample{}},
	{"the policy of submission", ehlo.SubmissionPolicy{}.Extension(), exttest.Sample{Identity: "bob"}},
	{"authentication demanded", insist(func(x ext.ServerConn) bool { return x.Identity() != "" }), exttest.Sample{Identity: "bob"}},
}

func TestUnusual(t *testing.T) {
	for _, tt := range unusual {
		t.Run(tt.name, func(t *testing.T) { exttest.Test(t, tt.e, tt.sample) })
	}
}
