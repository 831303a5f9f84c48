package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
)

// TestGreetings checks what follows the greetings that servers have.
func TestGreetings(t *testing.T) {
	const fine = "C: EHLO client.example\nS: 250 mail.example\nC: QUIT\nS: 221 bye"
	for _, tt := range []struct {
		name, script string
		code         int // -1: a protocol error
	}{
		{"A06 of several lines", "S: 220-mail.example\nS: 220-250 mail.example\nS: 220 ready\n" + fine, 0},
		{"A09 without text", "S: 220\n" + fine, 0},
		{"A09 of another code", "S: 299 mail.example\n" + fine, 0},
		{"A07 554", "S: 554 no service\nC: QUIT\nS: 221 bye", 554},
		{"A07 554 and gone", "S: 554 no service\nCLOSE", 554},
		{"A08 521", "S: 521 no mail\nC: QUIT\nS: 521 no mail", 521},
		{"A07 421", "S: 421 later\nHANGUP", 421},
		{"A07 450", "S: 450 later\nC: QUIT\nS: 221 bye", 450},
		{"A13 HTTP", "S: HTTP/1.1 400 Bad Request\nCLOSE", -1},
		{"A13 SSH", "S: SSH-2.0-OpenSSH\nCLOSE", -1},
		{"G09 a code that is none", "S: 120 mail.example\nCLOSE", -1},
		{"G10 two codes", "S: 220-mail.example\nS: 250 ok\nCLOSE", -1},
		{"G19 334", "S: 334 mail.example\nCLOSE", -1},
		{"e.3 55 a reply to EHLO with it", "S: 220 mail.example\nS: 250-mail.example\nS: 250 AUTH PLAIN\nCLOSE", -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := clienttest.New(t, tt.script)
			c, err := Dial(context.Background(), host, inPlaintext(srv))
			if err == nil {
				c.Close()
			}
			switch e, ok := asReply(err); {
			case tt.code > 0 && (!ok || e.Code != tt.code || Temporary(err) != (tt.code < 500)):
				t.Errorf("%v, want the code %d", err, tt.code)
			case tt.code == 0 && err != nil:
				t.Error(err)
			case tt.code < 0:
				if _, ok := asType[*ProtocolError](err); !ok {
					t.Errorf("%v, want a ProtocolError", err)
				}
			}
		})
	}
}

// TestA05_WaitsForGreeting checks that nothing is sent before the greeting.
func TestA05_WaitsForGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go func() {
			here.SetReadDeadline(time.Now().Add(2 * time.Second))
			if n, err := here.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the client sent %d octets, %v", n, err)
			}
			io.WriteString(here, "421 later\r\n")
			here.Close()
		}()
		if _, err := NewClient(context.Background(), there, "mail.example", nil); err == nil {
			t.Error("no error")
		}
	})
}

// TestHelo checks when HELO follows a refused EHLO.
func TestHelo(t *testing.T) {
	credentials := func(o *Options) { o.Credentials, o.AllowPlaintextAuth = auth.Password("u", "p"), true }
	for _, tt := range []struct {
		name   string
		code   string
		change func(*Options)
		helo   bool
	}{
		{"B08 500", "500", nil, true},
		{"B08 502", "502", nil, true},
		{"501", "501", nil, false},
		{"504", "504", nil, false},
		{"550", "550", nil, false},
		{"B08 451", "451", nil, false},
		{"B08 421", "421", nil, false},
		{"B09 TLS required", "502", func(o *Options) { o.TLS = ext.TLSRequired }, false},
		{"TLS opportunistic", "502", func(o *Options) { o.TLS = ext.TLSOpportunistic }, true},
		{"B09 credentials", "502", credentials, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			script := "S: 220 mail.example\nC: EHLO client.example\nS: " + tt.code + " no\n"
			if tt.helo {
				script += "C: HELO client.example\nS: 250 mail.example\n" +
					"C: MAIL FROM:<a@b.example>\nS: 250 ok\nC: RCPT TO:<c@d.example>\nS: 250 ok\nC: DATA\nS: 354 go on\n" +
					"C: x\nC: .\nS: 250 ok\n"
			}
			opt := inPlaintext(clienttest.New(t, script))
			if tt.change != nil {
				tt.change(opt)
			}
			err := Send(context.Background(), host, opt, message("x", "c@d.example"))
			if tt.helo != (err == nil) {
				t.Errorf("%v, want HELO: %v", err, tt.helo)
			}
			if e, ok := asReply(err); !tt.helo && (!ok || e.Code != atoi(tt.code) || e.Verb != "EHLO") {
				t.Errorf("%v, want the reply to EHLO", err)
			}
		})
	}
}

func atoi(s string) int { return int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0') }

// TestPolicy checks that a policy that the session does not come up to ends it before mail is sent.
func TestPolicy(t *testing.T) {
	secured := "TLS\nS: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
	login := secured + "S: 250 AUTH PLAIN\nC: AUTH PLAIN AHUAcA==\n"
	implicit := func(o *Options) {
		o.TLS, o.TLSConfig, o.Credentials = ext.TLSImplicit, clienttest.TLSConfig(), auth.Password("u", "p")
	}
	for _, tt := range []struct {
		name, script string
		change       func(*Options)
		ok           bool
	}{
		{"P28 authenticated", login + "S: 235 fine\nC: QUIT\nS: 221 bye", implicit, true},
		{"refused", login + "S: 535 no\nC: QUIT\nS: 221 bye", implicit, false},
		{"not offered", secured + "S: 250 SIZE\nC: QUIT\nS: 221 bye", implicit, false},
		{"O10 offered before TLS alone", hello("AUTH PLAIN", "STARTTLS") + "C: STARTTLS\nS: 220 go\n" +
			"TLS\nC: EHLO client.example\nS: 250-mail.example\nS: 250 SIZE\nC: QUIT\nS: 221 bye",
			func(o *Options) { implicit(o); o.TLS = ext.TLSRequired }, false},
		{"not without", secured + "S: 250 AUTH PLAIN\nC: QUIT\nS: 221 bye",
			func(o *Options) { implicit(o); o.Without = []string{"auth"} }, false},
		{"P24 in plaintext", hello("AUTH PLAIN") + "C: QUIT\nS: 221 bye",
			func(o *Options) { o.Credentials = auth.Password("u", "p") }, false},
		{"in plaintext, as asked", hello("AUTH PLAIN") + "C: AUTH PLAIN AHUAcA==\nS: 235 fine\nC: QUIT\nS: 221 bye",
			func(o *Options) { o.Credentials, o.AllowPlaintextAuth = auth.Password("u", "p"), true }, true},
		{"TLS required and not offered", hello("AUTH PLAIN") + "C: QUIT\nS: 221 bye",
			func(o *Options) {
				o.TLS, o.Credentials, o.AllowPlaintextAuth = ext.TLSRequired, auth.Password("u", "p"), true
			}, false},
		{"P24 not verified", secured + "S: 250 AUTH PLAIN\nC: QUIT\nS: 221 bye",
			func(o *Options) { implicit(o); o.TLSConfig.InsecureSkipVerify = true }, false},
		{"P24 not verified, with a function for something else", "S: 220 mail.example\nC: EHLO client.example\n" +
			"S: 250-mail.example\n" +
			"S: 250 STARTTLS\nC: STARTTLS\nS: 220 go\n" + strings.Replace(secured, "S: 220 mail.example\n", "", 1) +
			"S: 250 AUTH PLAIN\nC: QUIT\nS: 221 bye", func(o *Options) {
			implicit(o)
			o.TLS = ext.TLSOpportunistic
			o.TLSConfig.RootCAs = x509.NewCertPool()
			o.TLSConfig.VerifyConnection = func(tls.ConnectionState) error { return nil }
		}, false},
		{"verified by a function", login + "S: 235 fine\nC: QUIT\nS: 221 bye", func(o *Options) {
			implicit(o)
			o.TLSConfig.InsecureSkipVerify = true
			o.TLSConfig.VerifyConnection = func(tls.ConnectionState) error { return nil }
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opt := inPlaintext(clienttest.New(t, tt.script))
			tt.change(opt)
			c, err := Dial(context.Background(), host, opt)
			if (err == nil) != tt.ok {
				t.Errorf("%v, want success: %v", err, tt.ok)
			}
			if err == nil {
				if c.Identity() != "u" {
					t.Errorf("authenticated as %q", c.Identity())
				}
				c.Close()
				return
			}
			_, auth := asType[*ext.AuthError](err)
			_, tls := asType[*ext.TLSError](err)
			if !auth && !tls {
				t.Errorf("%v, want an AuthError or a TLSError", err)
			}
		})
	}
}

// TestB07B19B20_Caps checks what a client knows of the server: keywords in any case, unknown ones too, AUTH in all its
// forms, and none of what was said before TLS.
func TestB07B19B20_Caps(t *testing.T) {
	opt := inPlaintext(clienttest.New(t, hello("pipelining", "XFOO a=b", "AUTH PLAIN", "AUTH=LOGIN",
		"sIzE 99999999999999999999999")))
	opt.Without = []string{"Pipelining"}
	c, err := Dial(context.Background(), host, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	foo, _ := c.Caps().Args("xfoo")
	auth, _ := c.Caps().Args("AUTH")
	if foo != "a=b" || auth != "PLAIN LOGIN" || c.Caps().Has("PIPELINING") || c.conn.session.pipelining {
		t.Errorf("XFOO %q, AUTH %q, PIPELINING %v", foo, auth, c.Caps().Has("PIPELINING"))
	}
}

// TestQ06_StatusCodes checks that status codes are looked for where the server offers them, and only there.
func TestQ06_StatusCodes(t *testing.T) {
	const refused = "C: MAIL FROM:<a@b.example>\nS: 250 2.1.0 ok\nC: RCPT TO:<c@d.example>\nS: 550-5.1.1 no\n" +
		"S: 550 5.1.1 such user\n" +
		"C: RSET\nS: 250 ok\nC: MAIL FROM:<a@b.example>\nS: 250 2.1.0 ok\nC: RCPT TO:<c@d.example>\n" +
		"S: 550 10.0.0.1 is bad\nC: RSET\nS: 250 ok\n"
	for _, tt := range []struct {
		offer []string
		first proto.Reply
	}{
		{[]string{"ENHANCEDSTATUSCODES"}, proto.Reply{Code: 550, Status: proto.Status{5, 1, 1}, Text: "no\nsuch user"}},
		{nil, proto.Reply{Code: 550, Text: "5.1.1 no\n5.1.1 such user"}},
	} {
		c := dial(t, nil, hello(tt.offer...)+refused)
		for _, want := range []proto.Reply{tt.first, {Code: 550, Text: "10.0.0.1 is bad"}} {
			_, err := c.Send(context.Background(), message("x", "c@d.example"))
			e, ok := asReply(err)
			if !ok || e.Code != want.Code || e.Status != want.Status || e.Text != want.Text {
				t.Errorf("offered %v: %#v, want %v", tt.offer, e, want)
			}
		}
	}
}

// TestNoGreeting has a port where TLS comes first: nothing is heard there, and the error says what may be the matter.
func TestNoGreeting(t *testing.T) {
	for mode, hint := range map[ext.TLSMode]bool{ext.TLSRequired: true, ext.TLSImplicit: false} {
		synctest.Test(t, func(t *testing.T) {
			script := "HANGUP"
			if mode == ext.TLSImplicit {
				script = "TLS\nHANGUP"
			}
			opt := inPlaintext(clienttest.New(t, script))
			opt.TLS, opt.TLSConfig = mode, clienttest.TLSConfig()
			_, err := Dial(context.Background(), host, opt)
			if e, ok := asType[*LostError](err); !ok || !e.Timeout() || strings.Contains(err.Error(), "TLSImplicit") != hint {
				t.Errorf("%v", err)
			}
		})
	}
}
