package ehlo_test

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"io"
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
		session.meet(c)
		return session, nil
	}), server.Options{Extensions: all(), TLSConfig: theirs})
	c, err := client.Dial(t.Context(), addr, &client.Options{Extensions: all(), TLSConfig: ours})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// V11: the session in plaintext had other limits
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

// call2 passes on the results of a reader, whatever their type.
func call2[T any](v T, ok bool) (any, bool) { return v, ok }

// TestR07E22_NotOffered checks for each parameter that the client does not send it to a server without the extension.
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
			t.Errorf("%s: %v, want an UnsupportedError", keyword, err)
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

// TestB04_Offered compares the offer to a session that implements all interfaces with the offer to one that implements
// none. The server knows a parameter only where its extension is offered.
func TestB04_Offered(t *testing.T) {
	for _, tt := range []struct {
		session server.Session
		want    string
		code    string
	}{
		{&able{quota: ehlo.Quota{MailMax: 50}}, "DSN|MT-PRIORITY MIXER|DELIVERBY 60|RRVS|LIMITS RCPTMAX=3 MAILMAX=50|FUTURERELEASE 3600 *|" +
			"NO-SOLICITING net.example:ADV|MTRK|SUBMITTER|CONPERM|CONNEG", "250 "},
		{&keeper{}, "LIMITS RCPTMAX=3 MAILMAX=1000|NO-SOLICITING net.example:ADV", "555 5.5.4 "},
	} {
		reply := say(t, tt.session, Caps)
		var lines []string
		_, reply, _ = strings.Cut(reply, "VRFY\r\n")
		for line := range strings.Lines(reply) {
			line = strings.TrimRight(line[4:], "\r\n")
			if keyword, args, _ := strings.Cut(line, " "); keyword == "FUTURERELEASE" {
				interval, until, _ := strings.Cut(args, " ")
				if _, err := time.Parse(time.RFC3339, until); err == nil {
					line = keyword + " " + interval + " *"
				}
			}
			lines = append(lines, line)
		}
		if got := strings.Join(lines, "|"); got != tt.want {
			t.Errorf("%T: offered %s, want %s", tt.session, got, tt.want)
		}
		for _, param := range []string{"RET=FULL", "ENVID=1", "MT-PRIORITY=0", "BY=60;R", "HOLDFOR=60", mtrk + " ENVID=1@b", "SUBMITTER=alice@b", "CONPERM"} {
			if got := say(t, tt.session, Caps, from+" "+param); !strings.HasPrefix(got, tt.code) {
				t.Errorf("%T: MAIL with %s: %q, want %s", tt.session, param, got, tt.code)
			}
		}
		for _, param := range []string{"NOTIFY=NEVER", "ORCPT=rfc822;a", since} {
			if got := say(t, tt.session, Caps, from, to+" "+param); !strings.HasPrefix(got, tt.code) {
				t.Errorf("%T: RCPT with %s: %q, want %s", tt.session, param, got, tt.code)
			}
		}
	}
}

// TestR04_Lines checks that command lines may have 512 octets and what each extension declares in its RFC, and not an
// octet more (RFC 5321 section 4.5.3.1.4).
func TestR04_Lines(t *testing.T) {
	const (
		mail = 26 + 16 + 500 + 10 + 9 + 107 + 11 + 15 + 17 + 34 + 1007 + 40 + 265 + 8 // as all has them
		rcpt = 29 + 507 + 33 + 7
	)
	if 512+rcpt < 1036 {
		t.Error("RFC 3461 section 5.4 demands lines of 1036 octets")
	}
	full := to + " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + strings.Repeat("x", 493) + " " + since + ";C"
	for _, tt := range []struct {
		lines []string
		limit int
		want  string
	}{
		{[]string{Caps, from}, 512 + mail, "250 2.1.0 "},
		{[]string{Caps, from, full}, 512 + rcpt, "250 2.1.5 "},
	} {
		last := len(tt.lines) - 1
		line := tt.lines[last]
		for extra, want := range map[int]string{0: tt.want, 1: "500 5.5."} {
			padded := line + strings.Repeat(" ", tt.limit-len(line)-len("\r\n")+extra)
			if got := say(t, &able{}, append(slices.Clone(tt.lines[:last]), padded)...); !strings.HasPrefix(got, want) {
				t.Errorf("%.20s... with %d octets: %q, want %q", line, len(padded)+2, got, want)
			}
		}
	}
	set, err := ext.NewSet(proto.SMTP, all())
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Table().Lookup("MAIL").Grow; got != mail {
		t.Errorf("MAIL grows by %d octets, want %d", got, mail)
	}
	if got := set.Table().Lookup("RCPT").Grow; got != rcpt {
		t.Errorf("RCPT grows by %d octets, want %d", got, rcpt)
	}
}

// TestEveryParameterRefused: the server answers 501 to a malformed or repeated parameter, and 555 to one that is not
// offered, whatever its extension.
func TestEveryParameterRefused(t *testing.T) {
	list := append(all(), ehlo.PRDR())
	offered := inTLS(t, list)
	without := inTLS(t, []ext.Extension{ehlo.StartTLS(), ehlo.EnhancedStatusCodes()})
	count := 0
	refused := func(command string, p ext.Param) {
		count++
		bad := command + p.Key // without the value that it needs
		switch {
		case p.Flag:
			bad += "=1"
		case p.Optional:
			bad += "="
		}
		offered.say(bad, "501 5.5.")
		value := "=x"
		if p.Flag {
			value = ""
		}
		if _, err := io.WriteString(offered.nc, command+p.Key+value+" "+strings.ToLower(p.Key)+value+"\r\n"); err != nil {
			t.Fatal(err)
		}
		if reply := offered.expect("501 5.5.4 "); !strings.Contains(reply, "twice") {
			t.Errorf("%s twice: %q", p.Key, reply)
		}
		without.say(command+p.Key+"=x", "555 5.5.4 ")
	}
	for _, e := range list {
		for _, p := range e.Mail {
			refused(from+" ", p)
		}
	}
	offered.say(from, "250 ")
	without.say(from, "250 ")
	for _, e := range list {
		for _, p := range e.Rcpt {
			refused(to+" ", p)
		}
	}
	if count < 20 {
		t.Errorf("there are %d parameters, which cannot be all", count)
	}
}

// A divided session also reports an outcome for each recipient.
type divided struct{ registrar }

func (*divided) DataEach(context.Context, io.Reader, func(int, proto.Reply, error)) error { return nil }

// inTLS returns a talker that has sent EHLO under TLS to a server with the extensions of list.
func inTLS(t *testing.T, list []ext.Extension) *talker {
	t.Helper()
	theirs, ours := ownTLS(t)
	p := newTalker(t, listening(t, backend(&divided{}), server.Options{Extensions: list, TLSConfig: theirs, Limits: server.Limits{Errors: -1}}))
	p.say(Caps, "250")
	p.say("STARTTLS", "220 ")
	p.nc = tls.Client(p.nc, ours)
	p.say(Caps, "250")
	return p
}
