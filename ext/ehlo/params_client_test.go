package ehlo_test

import (
	"context"
	"crypto/sha1"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestEveryParameter has the client send all parameters to the server over TLS, and the session read them.
func TestEveryParameter(t *testing.T) {
	session := &able{highest: 5, quota: ehlo.Quota{MailMax: 9}}
	theirs, ours := ownTLS(t)
	addr := listening(t, server.BackendFunc(func(_ context.Context, c *server.Conn) (server.Session, error) {
		if c.TLS() == nil {
			return &keeper{}, nil
		}
		return session, nil
	}), server.Options{Extensions: all(), TLSConfig: theirs})
	c, err := client.Dial(t.Context(), addr, &client.Options{Extensions: all(), TLSConfig: ours})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// V11: the session in clear had other limits
	if l, ok := ehlo.ReadLimits(c.Caps()); !ok || l != (ext.ServerLimits{MailMax: 9, RcptMax: 1000}) {
		t.Errorf("the server states %+v", l)
	}

	sum := sha1.Sum([]byte("secret"))
	m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, strings.NewReader("Subject: x\r\n\r\nx\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	dsnMail := ehlo.DSNMail{Return: ehlo.ReturnFull, EnvID: "1 2=3@b.example"}
	by := ehlo.By{In: 2 * time.Hour, Return: true, Trace: true}
	hold := ehlo.Hold{For: 90 * time.Minute / 2}
	classes := ehlo.Solicitation{"org.example:nobody", "org.example:else"}
	tracking := ehlo.Tracking{Certifier: sum[:], Timeout: time.Hour, HasTimeout: true}
	for _, p := range []interface {
		AddTo(proto.Params) proto.Params
	}{dsnMail, by, hold, classes, tracking, ehlo.Priority(5)} {
		m.Mail = p.AddTo(m.Mail)
	}
	alice := proto.Address{Local: "alice", Domain: m.From.Domain}
	m.Mail = ehlo.AddResponsible(ehlo.AddConPerm(ehlo.AddRequireTLS(m.Mail)), alice)
	dsnRcpt := ehlo.DSNRcpt{Notify: ehlo.NotifySuccess | ehlo.NotifyDelay, Original: ehlo.NewOriginalRecipient(m.To[0].Address)}
	valid := ehlo.ValidSince{Time: time.Date(2014, 4, 3, 23, 1, 0, 0, time.UTC), Continue: true}
	m.To[0].Params = ehlo.AddConNeg(valid.AddTo(dsnRcpt.AddTo(nil)))
	res, err := c.Send(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if filter, ok := ehlo.ReadContent(res.Recipients[0].Rcpt); filter != "(image-file-structure=TIFF)" || !ok {
		t.Errorf("the recipient takes %q, %v", filter, ok)
	}

	p, r := session.mail[0], session.rcpt[0]
	dsnMail.Return = ehlo.ReturnHeaders // R16: the message requires TLS
	check := func(name string, want any) func(got any, ok bool) {
		return func(got any, ok bool) {
			t.Helper()
			if !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("%s arrived as %+v, %v, want %+v", name, got, ok, want)
			}
		}
	}
	call := func(v any, ok bool) (any, bool) { return v, ok }
	check("DSN of MAIL", dsnMail)(call2(ehlo.ReadDSNMail(p)))
	check("BY", by)(call2(ehlo.ReadBy(p)))
	check("HOLDFOR", hold)(call2(ehlo.ReadHold(p)))
	check("SOLICIT", classes)(call2(ehlo.ReadSolicitation(p)))
	check("MTRK", tracking)(call2(ehlo.ReadTracking(p)))
	check("MT-PRIORITY", ehlo.Priority(5))(call2(ehlo.ReadPriority(p)))
	check("SUBMITTER", alice)(call2(ehlo.ReadResponsible(p)))
	check("DSN of RCPT", dsnRcpt)(call2(ehlo.ReadDSNRcpt(r)))
	check("RRVS", valid)(call2(ehlo.ReadValidSince(r)))
	check("V03 REQUIRETLS", true)(call(ehlo.ReadRequireTLS(p), true))
	check("CONPERM", true)(call(ehlo.ReadConPerm(p), true))
	check("CONNEG", true)(call(ehlo.ReadConNeg(r), true))
}

// call2 lets a reader of any type be called where its results are wanted as they are.
func call2[T any](v T, ok bool) (any, bool) { return v, ok }

// TestV04_Unverified has a client that uses TLS with whomever refuse what requires it.
func TestV04_Unverified(t *testing.T) {
	session := &able{}
	theirs, _ := ownTLS(t)
	addr := listening(t, backend(session), server.Options{TLSConfig: theirs})
	for name, opt := range map[string]*client.Options{
		"not verified":   {TLS: ext.TLSOpportunistic},
		"in clear":       {TLS: ext.TLSInsecureNone},
		"keyword absent": {TLS: ext.TLSOpportunistic, Without: []string{"REQUIRETLS"}},
	} {
		c, err := client.Dial(t.Context(), addr, opt)
		if err != nil {
			t.Fatal(err)
		}
		m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, strings.NewReader("x\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		m.Mail = ehlo.AddRequireTLS(nil)
		_, err = c.Send(t.Context(), m)
		if e, ok := grammar.AsType[*ext.UnsupportedError](err); !ok || e.Keyword != "REQUIRETLS" {
			t.Errorf("%s: %v, want a NeedError", name, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(session.mail) != 0 {
		t.Errorf("the server got %v", session.mail)
	}
}

// TestR07E22_NotOffered has a client refuse to send what the server did not offer, parameter by parameter.
func TestR07E22_NotOffered(t *testing.T) {
	session := &able{}
	dial, _ := over(t, newServer(t, &keeper{}, &server.Options{Hostname: "mail.example", Extensions: []ext.Extension{ehlo.Pipelining()}}),
		&client.Options{TLS: ext.TLSInsecureNone, Extensions: all()})
	c, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := func(mail, rcpt proto.Params) error {
		m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.Mail, m.To[0].Params = mail, rcpt
		_, err = c.Send(t.Context(), m)
		return err
	}
	for keyword, p := range map[string][2]proto.Params{
		"DSN":           {ehlo.DSNMail{EnvID: "1"}.AddTo(nil), nil},
		"DSN ":          {nil, ehlo.DSNRcpt{Notify: ehlo.NotifyNever}.AddTo(nil)},
		"REQUIRETLS":    {ehlo.AddRequireTLS(nil), nil},
		"MT-PRIORITY":   {ehlo.Priority(-1).AddTo(nil), nil},
		"DELIVERBY":     {ehlo.By{In: time.Hour}.AddTo(nil), nil},
		"RRVS":          {nil, ehlo.ValidSince{Time: time.Unix(0, 0), Continue: true}.AddTo(nil)},
		"FUTURERELEASE": {ehlo.Hold{For: time.Hour}.AddTo(nil), nil},
		"NO-SOLICITING": {ehlo.Solicitation{"a"}.AddTo(nil), nil},
		"MTRK":          {ehlo.Tracking{Certifier: make([]byte, 20)}.AddTo(nil), nil},
		"SUBMITTER":     {proto.Params{}.Set("SUBMITTER", "a@b"), nil},
		"CONPERM":       {ehlo.AddConPerm(nil), nil},
		"CONNEG":        {nil, ehlo.AddConNeg(nil)},
	} {
		err := sent(p[0], p[1])
		if e, ok := grammar.AsType[*ext.UnsupportedError](err); !ok || e.Keyword != strings.TrimSpace(keyword) {
			t.Errorf("%s: %v, want a NeedError", keyword, err)
		}
	}
	if err := sent(nil, nil); err != nil {
		t.Errorf("without parameters: %v", err)
	}
	if len(session.mail) != 0 {
		t.Errorf("the server got %v", session.mail)
	}
	for _, verb := range []string{"ETRN", "TURN", "SEND", "SOML", "SAML", "VERB", "ONEX"} {
		if _, err := c.Do(t.Context(), verb, "example.org"); err == nil {
			t.Errorf("%s was sent", verb)
		}
	}
}

// TestR06R08_Relay hands on what was received, to the letter, to a server that offers DSN, and without it to one that does not.
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

// TestV10_Limits uses up what a server states, which is not a command less.
func TestV10_Limits(t *testing.T) {
	session := func() *able { return &able{quota: ehlo.Quota{MailMax: 2, RcptDomainMax: 1}} }
	if got := say(t, session(), Caps); !strings.Contains(got, "LIMITS RCPTMAX=3 MAILMAX=2 RCPTDOMAINMAX=1\r\n") {
		t.Errorf("offered %q", got)
	}
	for _, tt := range []struct {
		lines []string
		want  string
	}{
		{[]string{from, "RSET", from}, "250 "},
		{[]string{from, "RSET", from, "RSET", from}, "421 4.7.0 "}, // E12
		{[]string{from, to, "RCPT TO:<e@D.example>"}, "250 "},
		{[]string{from, to, "RCPT TO:<e@f.example>"}, "452 4.5.3 "},
		{[]string{from, to, "RSET", from, "RCPT TO:<e@f.example>"}, "452 4.5.3 "}, // it is for the session
		{[]string{from, to, to, to, to}, "452 4.5.3 "},
	} {
		if got := say(t, session(), append([]string{Caps}, tt.lines...)...); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.lines, got, tt.want)
		}
	}
	// V11: EHLO tells what holds now
	if got := sayTo(t, dialIn(), session(), Caps, "ETRN limit.example", Caps); !strings.Contains(got, "MAILMAX=7 ") {
		t.Errorf("after a change: %q", got)
	}
}

func TestW12_ETRNBothEnds(t *testing.T) {
	dial, _ := over(t, newServer(t, &able{}, &server.Options{Hostname: "mail.example", Extensions: dialIn()}),
		&client.Options{TLS: ext.TLSInsecureNone, Extensions: dialIn()})
	c, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := ehlo.SendETRN(t.Context(), c, ehlo.Node{Name: "example.org", Below: true}); n != 14 || err != nil {
		t.Errorf("ETRN: %d, %v, want 14", n, err)
	}
}
