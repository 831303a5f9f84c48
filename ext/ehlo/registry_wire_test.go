package ehlo_test

import (
	"bytes"
	"crypto/sha1"
	"net/netip"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// A registryRow is a service extension whose use shows in what the client sends and the session gets.
type registryRow struct {
	name    string
	body    string
	change  func(*client.Message)
	keyword string // without which the message cannot be sent or is sent otherwise
	refused bool   // it cannot
	got     func(m *meeting) bool
}

// setMail and setRcpt return a change of the parameters of a message.
func setMail(p interface {
	AddTo(proto.Params) proto.Params
}) func(*client.Message) {
	return func(m *client.Message) { m.Mail = p.AddTo(m.Mail) }
}

func setRcpt(p interface {
	AddTo(proto.Params) proto.Params
}) func(*client.Message) {
	return func(m *client.Message) { m.To[0].Params = p.AddTo(m.To[0].Params) }
}

func registryRows() []registryRow {
	sum := sha1.Sum([]byte("secret"))
	since := ehlo.ValidSince{Time: time.Date(2014, 4, 3, 23, 1, 0, 0, time.UTC)}
	alice := proto.Address{Local: "alice", Domain: proto.AddrLiteral(netip.MustParseAddr("192.0.2.1"))}
	mail := func(m *meeting) proto.Params { return m.session.mail[0] }
	return []registryRow{
		{"a01 PIPELINING", "x\r\n", nil, "PIPELINING", false, func(m *meeting) bool {
			return m.said("C: MAIL FROM:<a@b.example> SIZE=3", "C: RCPT TO:<c@d.example>", "C: BDAT 3 LAST", "S: 250", "S: 250", "S: 250")
		}},
		{"a02 SIZE", "x\r\n", nil, "SIZE", false, func(m *meeting) bool {
			n, ok := ehlo.ReadSize(mail(m))
			return n == 3 && ok
		}},
		{"a03 8BITMIME", "é\r\n", nil, "8BITMIME", true, func(m *meeting) bool {
			body, _ := mail(m).Get("BODY")
			return body == "8BITMIME" && m.session.body == "é\r\n"
		}},
		{"a04 ENHANCEDSTATUSCODES", "x\r\n", nil, "ENHANCEDSTATUSCODES", false, func(m *meeting) bool {
			return m.res.Recipients[0].Rcpt.Status == proto.Status{2, 1, 5} && m.res.Reply.Status.Class() == 2
		}},
		{"a07 SMTPUTF8", "x\r\n", func(m *client.Message) { m.To[0].Address.Local = "jörg" }, "SMTPUTF8", true, func(m *meeting) bool {
			return mail(m).Has("SMTPUTF8") && m.session.user.Local == "jörg"
		}},
		{"a08 DSN", "x\r\n", setRcpt(ehlo.DSNRcpt{Notify: ehlo.NotifyNever}), "DSN", true, func(m *meeting) bool {
			d, ok := ehlo.ReadDSNRcpt(m.session.rcpt[0])
			return d.Notify == ehlo.NotifyNever && ok
		}},
		{"a09 CHUNKING", "x\r\n.\r\n", nil, "CHUNKING", false, func(m *meeting) bool {
			return m.said("C: BDAT 6 LAST") && m.session.body == "x\r\n.\r\n"
		}},
		{"a10 BINARYMIME", "\x00\n\r.", func(m *client.Message) { m.Needs = ext.Binary }, "BINARYMIME", true, func(m *meeting) bool {
			body, _ := mail(m).Get("BODY")
			return body == "BINARYMIME" && m.session.body == "\x00\n\r."
		}},
		{"a15 REQUIRETLS", "x\r\n", func(m *client.Message) {
			m.Mail = ehlo.AddRequireTLS(nil)
		}, "REQUIRETLS", true, func(m *meeting) bool { return ehlo.ReadRequireTLS(mail(m)) }},
		{"a16 MT-PRIORITY", "x\r\n", setMail(ehlo.Priority(-3)), "MT-PRIORITY", true, func(m *meeting) bool {
			n, ok := ehlo.ReadPriority(mail(m))
			return n == -3 && ok
		}},
		{"a17 FUTURERELEASE", "x\r\n", setMail(ehlo.Hold{For: time.Minute}), "FUTURERELEASE", true, func(m *meeting) bool {
			h, ok := ehlo.ReadHold(mail(m))
			return h == ehlo.Hold{For: time.Minute} && ok
		}},
		{"a18 DELIVERBY", "x\r\n", setMail(ehlo.By{In: time.Hour, Return: true}), "DELIVERBY", true, func(m *meeting) bool {
			b, ok := ehlo.ReadBy(mail(m))
			return b == ehlo.By{In: time.Hour, Return: true} && ok
		}},
		{"a19 RRVS", "x\r\n", setRcpt(since), "RRVS", true, func(m *meeting) bool {
			v, ok := ehlo.ReadValidSince(m.session.rcpt[0])
			return v.Time.Equal(since.Time) && ok
		}},
		{"a23 NO-SOLICITING", "x\r\n", setMail(ehlo.Solicitation{"org.example:x"}), "NO-SOLICITING", true, func(m *meeting) bool {
			s, ok := ehlo.ReadSolicitation(mail(m))
			return s.String() == "org.example:x" && ok
		}},
		{"a24 MTRK", "x\r\n", func(m *client.Message) {
			setMail(ehlo.DSNMail{EnvID: "1@b.example"})(m)
			setMail(ehlo.Tracking{Certifier: sum[:]})(m)
		}, "MTRK", true, func(m *meeting) bool {
			r, ok := ehlo.ReadTracking(mail(m))
			return bytes.Equal(r.Certifier, sum[:]) && ok
		}},
		{"a25 CONPERM", "x\r\n", func(m *client.Message) { m.Mail = ehlo.AddConPerm(nil) }, "CONPERM", true, func(m *meeting) bool {
			return ehlo.ReadConPerm(mail(m))
		}},
		{"a25 CONNEG", "x\r\n", func(m *client.Message) { m.To[0].Params = ehlo.AddConNeg(nil) }, "CONNEG", true, func(m *meeting) bool {
			filter, ok := ehlo.ReadContent(m.res.Recipients[0].Rcpt)
			return filter == "(image-file-structure=TIFF)" && ok && ehlo.ReadConNeg(m.session.rcpt[0])
		}},
		{"a27 SUBMITTER", "x\r\n", func(m *client.Message) {
			m.Mail = ehlo.AddResponsible(nil, alice)
		}, "SUBMITTER", true, func(m *meeting) bool {
			a, ok := ehlo.ReadResponsible(mail(m))
			return a == alice && ok
		}},
	}
}

// TestRegistry has our client use each extension of IANA's registry at our server, and do without it at a server that
// does not offer it. Extensions that take more than a message are in [TestRegistryDialogue], [TestODMR],
// [TestObsoleteBothEnds] and [TestForeign].
func TestRegistry(t *testing.T) {
	for _, tt := range registryRows() {
		t.Run(tt.name, func(t *testing.T) {
			m := meet(t, all())
			if err := m.send(t, tt.body, tt.change); err != nil || !tt.got(m) {
				t.Errorf("%v; said %q; the session got %v, %v and %q", err, m.log, m.session.mail, m.session.rcpt, m.session.body)
			}
			m = meet(t, all(), tt.keyword)
			err := m.send(t, tt.body, tt.change)
			need, ok := grammar.AsType[*ext.UnsupportedError](err)
			switch {
			case tt.refused && (!ok || need.Keyword != tt.keyword || len(m.session.mail) > 0 || len(m.log) > 0):
				t.Errorf("where it is not offered: %v; said %q", err, m.log)
			case !tt.refused && (err != nil || tt.got(m)):
				t.Errorf("where it is not offered: %v; said %q, and it has been used", err, m.log)
			}
		})
	}
	t.Run("a22 BURL", testBURL)
}

// TestRegistryDialogue tests the extensions that are not about a message.
func TestRegistryDialogue(t *testing.T) {
	m := meet(t, all())
	for _, tt := range []struct {
		name string
		ok   func() bool
	}{
		{"a02 SIZE exceeded", func() bool {
			_, ok := grammar.AsType[*ehlo.TooLargeError](m.send(t, strings.Repeat("x", 1001), nil))
			return ok && len(m.log) == 0
		}},
		{"a05 STARTTLS", func() bool {
			return m.c.TLS() != nil && m.session.conn.TLS() != nil && !m.c.Caps().Has("STARTTLS")
		}},
		{"a06 AUTH", func() bool { return m.c.Identity() == "alice" && m.session.conn.Identity() == "alice" }},
		{"a11 HELP", func() bool { return m.does(t, "HELP", "", 214) }},
		{"a12 VRFY", func() bool { return m.does(t, "VRFY", "c", 252) }},
		{"a13 EXPN", func() bool { return m.send(t, "x", nil) == nil && m.does(t, "EXPN", "list", 250) }},
		{"a14 LIMITS", func() bool {
			l, ok := ehlo.ReadLimits(m.c.Caps())
			return ok && l == ext.ServerLimits{MailMax: 50, RcptMax: 100}
		}},
		{"a20 ETRN", func() bool {
			n, err := ehlo.SendETRN(t.Context(), meet(t, dialIn()).c, ehlo.Node{Name: "example.org"})
			return n == 14 && err == nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if m.log = nil; !tt.ok() {
				t.Errorf("said %q", m.log)
			}
		})
	}
}
