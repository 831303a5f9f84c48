package ehlo_test

import (
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestR06R08_Relay relays DSN parameters exactly as received to a server that offers DSN, and drops them for one that
// does not.
func TestR06R08_Relay(t *testing.T) {
	mail := proto.Params{{Key: "Ret", Value: "hdrs", HasValue: true}, {Key: "envid", Value: "A+4A", HasValue: true}}
	rcpt := proto.Params{{Key: "ORCPT", Value: "RFC822;A+4A@Example", HasValue: true}, {Key: "Notify", Value: "success,failure", HasValue: true}}
	for _, offers := range []bool{true, false} {
		session := &able{}
		var next server.Session = session
		list := all()
		if !offers {
			list = []ext.Extension{ehlo.Pipelining()}
		}
		dial, _ := over(t, newServer(t, next, &server.Options{Hostname: "next.example", Extensions: list}), &client.Options{TLS: ext.TLSInsecureNone})
		c, err := dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.Mail, m.To[0].Params = mail, rcpt
		if !c.Caps().Has("DSN") {
			_, m.Mail = ehlo.SplitDSN(mail)
			_, m.To[0].Params = ehlo.SplitDSN(rcpt)
		}
		if _, err := c.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		dsn, _ := ehlo.SplitDSN(session.mail[0])
		if offers != slices.Equal(dsn, mail) || offers != slices.Equal(session.rcpt[0], rcpt) || !offers && len(dsn)+len(session.rcpt[0]) > 0 {
			t.Errorf("offered %v: %v and %v arrived", offers, dsn, session.rcpt[0])
		}
	}
}

// TestR03_SameReply checks that well-formed DSN parameters do not change the reply (RFC 3461 section 5.1).
func TestR03_SameReply(t *testing.T) {
	for _, tt := range [][2]string{
		{from, from + " RET=HDRS ENVID=QQ314159"},
		{"MAIL FROM:<>", "MAIL FROM:<> RET=FULL"},
	} {
		if a, b := say(t, &able{}, Caps, tt[0]), say(t, &able{}, Caps, tt[1]); a != b {
			t.Errorf("%q to %s, %q to %s", a, tt[0], b, tt[1])
		}
	}
	if a, b := say(t, &able{}, Caps, from, to), say(t, &able{}, Caps, from, to+" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob@Example.com"); a != b {
		t.Errorf("%q to %s, %q with parameters", a, to, b)
	}
}

func TestDSNReplies(t *testing.T) {
	testReplies(t, ableSession, []replyCase{
		{"R01 RET", []string{from + " RET=ALL"}, "501 5.5.4 "},
		{"R01 RET twice", []string{from + " RET=FULL RET=FULL"}, "501 5.5.4 "},
		{"R01 ENVID twice", []string{from + " ENVID=1 envid=1"}, "501 5.5.4 "},
		{"R02 NOTIFY", []string{from, to + " NOTIFY=NEVER,SUCCESS"}, "501 5.5.4 "},
		{"R02 NOTIFY twice", []string{from, to + " NOTIFY=NEVER NOTIFY=NEVER"}, "501 5.5.4 "},
		{"R02 ORCPT", []string{from, to + " ORCPT=d@e.example"}, "501 5.5.4 "},
		{"R02 ORCPT twice", []string{from, to + " ORCPT=rfc822;a ORCPT=rfc822;a"}, "501 5.5.4 "},
		{"R02 in the other command", []string{from + " NOTIFY=NEVER"}, "555 5.5.4 "},
		{"R04 ENVID of 100 octets", []string{from + " RET=HDRS ENVID=" + strings.Repeat("x", 100)}, "250 2.1.0 "},
		{"R04 ENVID of 101 octets", []string{from + " ENVID=" + strings.Repeat("x", 101)}, "501 5.5.4 "},
		{"R04 NOTIFY and ORCPT", []string{from, to + " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + strings.Repeat("x", 493)}, "250 2.1.5 "},
		{"R04 ORCPT of 501 octets", []string{from, to + " ORCPT=rfc822;" + strings.Repeat("x", 494)}, "501 5.5.4 "},
		{"R05 ENVID with LF", []string{from + " ENVID=a+0A"}, "501 5.5.4 "},
		{"R12 DSN", []string{"MAIL FROM:<> ENVID=1", to + " NOTIFY=NEVER"}, "250 2.1.5 "},
		{"R17 UTF-8", []string{from + " SMTPUTF8", to + " ORCPT=utf-8;jörg@d.example"}, "250 2.1.5 "},
		{"R17 UTF-8 without leave", []string{from, to + " ORCPT=utf-8;jörg@d.example"}, "553 5.6.7 "},
		{"R17 in ASCII", []string{from, to + ` ORCPT=utf-8;j\x{F6}rg@d.example`}, "250 2.1.5 "},
	})
}
