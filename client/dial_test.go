package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
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
			c, err := Dial(context.Background(), host, inClear(srv))
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
	credentials := func(o *Options) { o.Credentials, o.AllowInsecureAuth = ext.Password("u", "p"), true }
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
			opt := inClear(clienttest.New(t, script))
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

// TestB17B24_HelloName checks how a client introduces itself.
func TestB17B24_HelloName(t *testing.T) {
	for _, tt := range []struct{ option, want string }{
		{"client.example", "client.example"},
		{"münchen.example", "xn--mnchen-3ya.example"},
		{"[192.0.2.1]", "[192.0.2.1]"},
		{"[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"},
		{"x\r\nMAIL FROM:<e@v>", ""},
		{"x y", ""},
	} {
		if tt.want == "" {
			if _, err := Dial(context.Background(), host, &Options{Hostname: tt.option}); err == nil || !strings.Contains(err.Error(), "Hostname") {
				t.Errorf("Hostname %q: %v, want an error that names the option", tt.option, err)
			}
			continue
		}
		srv := clienttest.New(t, "S: 220 mail.example\nC: EHLO "+tt.want+"\nS: 250 mail.example")
		opt := inClear(srv)
		opt.Hostname = tt.option
		c, err := Dial(context.Background(), host, opt)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	cfg, err := newConfig(&Options{Hostname: "\u760d\u760aRCPT"}) // octets that end in those of CR and LF
	if err != nil || !strings.HasPrefix(cfg.Hostname, "xn--") || strings.ContainsAny(cfg.Hostname, "\r\n") || has8bit([]byte(cfg.Hostname)) {
		t.Errorf("the name is %q, %v", cfg.Hostname, err)
	}
	for name, want := range map[string]bool{
		"mail.example.org": true, "box": false, "localhost": false, "localhost.localdomain": false, "box.localdomain": false,
		"box.": false, "": false, "localhost.example.org": false,
	} {
		if got := isQualified(name); got != want {
			t.Errorf("%q is a name to go by: %v, want %v", name, got, want)
		}
	}
	for _, tt := range []struct {
		addr net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.ParseIP("192.0.2.1")}, "[192.0.2.1]"},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1")}, "[192.0.2.1]"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1")}, "[IPv6:2001:db8::1]"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, "[IPv6:fe80::1]"},
		{&net.UnixAddr{Name: "@"}, "[127.0.0.1]"},
		{nil, "[127.0.0.1]"},
	} {
		if got := addrLiteral(tt.addr); got != tt.want {
			t.Errorf("at %v the client is %s, want %s", tt.addr, got, tt.want)
		}
	}
}

// TestAddr checks what Dial makes of addresses.
func TestAddr(t *testing.T) {
	for _, tt := range []struct{ addr, network, dial, host string }{
		{"mail.example.org:25", "tcp", "mail.example.org:25", "mail.example.org"},
		{"[2001:db8::1]:25", "tcp", "[2001:db8::1]:25", "2001:db8::1"},
		{"münchen.example:25", "tcp", "xn--mnchen-3ya.example:25", "xn--mnchen-3ya.example"},
		{"unix:/run/lmtp", "unix", "/run/lmtp", ""},
		{"mail.example.org", "", "", ""},
		{":25", "", "", ""},
		{"mail.example.org:", "", "", ""},
		{"", "", "", ""},
	} {
		network, dial, host, err := target(tt.addr)
		if network != tt.network || dial != tt.dial || host != tt.host || (err == nil) != (tt.network != "") {
			t.Errorf("%q is %q %q of %q, %v", tt.addr, network, dial, host, err)
		}
	}
	for host, want := range map[string]string{"mail.example.": "mail.example", "fe80::1%eth0": "fe80::1", "192.0.2.1": "192.0.2.1"} {
		cfg := &config{}
		if got := cfg.tlsConfig(host); got.ServerName != want || got.MinVersion != tls.VersionTLS12 {
			t.Errorf("for %q: ServerName %q, MinVersion %x", host, got.ServerName, got.MinVersion)
		}
	}
	cfg := &config{Options: Options{TLSConfig: &tls.Config{ServerName: "other.example", MinVersion: tls.VersionTLS13}}}
	if got := cfg.tlsConfig("mail.example"); got.ServerName != "other.example" || got.MinVersion != tls.VersionTLS13 {
		t.Errorf("ServerName %q, MinVersion %x", got.ServerName, got.MinVersion)
	}
	refused := errors.New("no route")
	_, err := Dial(context.Background(), host, &Options{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, refused }})
	if !errors.Is(err, refused) || !Temporary(err) || !SafeToRetry(err) {
		t.Errorf("a host that cannot be reached: %v", err)
	}
}

// TestStartTLS checks the ways in which TLS begins or does not.
func TestStartTLS(t *testing.T) {
	const (
		offer  = "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\nS: 250-AUTH PLAIN\nS: 250 STARTTLS\n"
		secret = "TLS\nC: EHLO client.example\nS: 250-mail.example\nS: 250 SIZE\n"
		send   = "C: MAIL FROM:<a@b.example>*\nS: 250 ok\nC: RCPT TO:<c@d.example>\nS: 250 ok\nC: DATA\nS: 354 go on\n" +
			"C: x\nC: .\nS: 250 ok\n"
	)
	trust := func(o *Options) { o.TLSConfig = clienttest.TLSConfig() }
	required := func(o *Options) { trust(o); o.TLS = ext.TLSRequired }
	opportunistic := func(o *Options) { o.TLS = ext.TLSOpportunistic }
	for _, tt := range []struct {
		name, script string
		change       func(*Options)
		ok           bool
	}{
		{"O10 required", offer + "C: STARTTLS\nS: 220 go\n" + secret + send, required, true},
		{"O12 required and not offered", hello("SIZE"), required, false},
		{"O12 required and garbled", hello("XXXXXXXA", "SIZE"), required, false},
		{"O09 required and refused", offer + "C: STARTTLS\nS: 454 no\n", required, false},
		{"O09 required and refused for good", offer + "C: STARTTLS\nS: 500 no\n", required, false},
		{"O09 250 is not 220", offer + "C: STARTTLS\nS: 250 ok\nHANGUP", required, false},
		{"O09 221", offer + "C: STARTTLS\nS: 221 bye\nHANGUP", required, false},
		{"O14 unknown root", offer + "C: STARTTLS\nS: 220 go\nTLS", func(o *Options) {
			o.TLS, o.TLSConfig = ext.TLSRequired, &tls.Config{RootCAs: x509.NewCertPool()}
		}, false},
		{"O13 no TLS behind 220", offer + "C: STARTTLS\nS: 220 go\nS: 554 no\nCLOSE", required, false},
		{"O08 a reply slipped in", offer + "C: STARTTLS\nS: 220 go\nS: 250-mail.example\nS: 250 AUTH PLAIN\nCLOSE", required, false},
		{"opportunistic", offer + "C: STARTTLS\nS: 220 go\n" + secret + send, opportunistic, true},
		{"O09 opportunistic and refused", offer + "C: STARTTLS\nS: 454 no\n" + send, opportunistic, true},
		{"opportunistic and not offered", hello("SIZE") + send, opportunistic, true},
		{"O13 opportunistic and failed", offer + "C: STARTTLS\nS: 220 go\nS: 554 no\nCLOSE", opportunistic, false},
		{"none", offer + send, func(o *Options) {}, true},
		{"O11 implicit", "TLS\nS: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\nS: 250 STARTTLS\n" + send,
			func(o *Options) { trust(o); o.TLS = ext.TLSImplicit }, true},
		{"O14 another name", "TLS", func(o *Options) {
			trust(o)
			o.TLS = ext.TLSImplicit
			o.TLSConfig.ServerName = "other.example"
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{TB: t}
			srv := clienttest.New(rec, tt.script)
			opt := inClear(srv)
			tt.change(opt)
			err := Send(context.Background(), host, opt, message("x", "c@d.example"))
			srv.Wait()
			if (err == nil) != tt.ok {
				t.Errorf("%v, want success: %v", err, tt.ok)
			}
			if _, ok := asType[*ext.TLSError](err); !tt.ok && !ok {
				t.Errorf("%v, want a TLSError", err)
			}
			if failed := strings.Contains(rec.failed, "handshake"); failed != strings.HasSuffix(tt.script, "TLS") || !failed && rec.failed != "" {
				t.Errorf("the server says %q", rec.failed)
			}
		})
	}
}

// A recorder keeps what a test is failed with.
type recorder struct {
	testing.TB
	failed string
}

func (r *recorder) Errorf(format string, args ...any) { r.failed = fmt.Sprintf(format, args...) }

// TestPolicy checks that a policy that the session does not come up to ends it before mail is sent.
func TestPolicy(t *testing.T) {
	secured := "TLS\nS: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
	auth := secured + "S: 250 AUTH PLAIN\nC: AUTH PLAIN AHUAcA==\n"
	implicit := func(o *Options) {
		o.TLS, o.TLSConfig, o.Credentials = ext.TLSImplicit, clienttest.TLSConfig(), ext.Password("u", "p")
	}
	for _, tt := range []struct {
		name, script string
		change       func(*Options)
		ok           bool
	}{
		{"P28 authenticated", auth + "S: 235 fine\nC: QUIT\nS: 221 bye", implicit, true},
		{"refused", auth + "S: 535 no\nC: QUIT\nS: 221 bye", implicit, false},
		{"not offered", secured + "S: 250 SIZE\nC: QUIT\nS: 221 bye", implicit, false},
		{"O10 offered before TLS alone", hello("AUTH PLAIN", "STARTTLS") + "C: STARTTLS\nS: 220 go\n" +
			"TLS\nC: EHLO client.example\nS: 250-mail.example\nS: 250 SIZE\nC: QUIT\nS: 221 bye",
			func(o *Options) { implicit(o); o.TLS = ext.TLSRequired }, false},
		{"not without", secured + "S: 250 AUTH PLAIN\nC: QUIT\nS: 221 bye",
			func(o *Options) { implicit(o); o.Without = []string{"auth"} }, false},
		{"P24 in clear", hello("AUTH PLAIN") + "C: QUIT\nS: 221 bye", func(o *Options) { o.Credentials = ext.Password("u", "p") }, false},
		{"in clear, as asked", hello("AUTH PLAIN") + "C: AUTH PLAIN AHUAcA==\nS: 235 fine\nC: QUIT\nS: 221 bye",
			func(o *Options) { o.Credentials, o.AllowInsecureAuth = ext.Password("u", "p"), true }, true},
		{"TLS required and not offered", hello("AUTH PLAIN") + "C: QUIT\nS: 221 bye",
			func(o *Options) {
				o.TLS, o.Credentials, o.AllowInsecureAuth = ext.TLSRequired, ext.Password("u", "p"), true
			}, false},
		{"P24 not verified", secured + "S: 250 AUTH PLAIN\nC: QUIT\nS: 221 bye",
			func(o *Options) { implicit(o); o.TLSConfig.InsecureSkipVerify = true }, false},
		{"P24 not verified, with a function for something else", "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n" +
			"S: 250 STARTTLS\nC: STARTTLS\nS: 220 go\n" + strings.Replace(secured, "S: 220 mail.example\n", "", 1) +
			"S: 250 AUTH PLAIN\nC: QUIT\nS: 221 bye", func(o *Options) {
			implicit(o)
			o.TLS = ext.TLSOpportunistic
			o.TLSConfig.RootCAs = x509.NewCertPool()
			o.TLSConfig.VerifyConnection = func(tls.ConnectionState) error { return nil }
		}, false},
		{"verified by a function", auth + "S: 235 fine\nC: QUIT\nS: 221 bye", func(o *Options) {
			implicit(o)
			o.TLSConfig.InsecureSkipVerify = true
			o.TLSConfig.VerifyConnection = func(tls.ConnectionState) error { return nil }
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opt := inClear(clienttest.New(t, tt.script))
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

// TestB09_NothingInClear checks that no extension can send anything before TLS where TLS is required.
func TestB09_NothingInClear(t *testing.T) {
	var got error
	nosy := ext.Extension{
		Keyword: "XNOSY",
		Verbs: []proto.Verb{
			{Name: "XNOSY", In: proto.Ready, Last: true},
			{Name: "XTAKE", In: proto.Ready, Last: true, OK: proto.Handover},
		},
		Negotiate: func(ctx context.Context, d ext.Negotiation) error {
			_, got = d.Do(ctx, "XNOSY", "secret")
			return nil
		},
	}
	srv := clienttest.New(t, hello("XNOSY"))
	opt := inClear(srv)
	opt.TLS, opt.Extensions = ext.TLSRequired, []ext.Extension{nosy}
	_, err := Dial(context.Background(), host, opt)
	for _, err := range []error{got, err} {
		if _, ok := asType[*ext.TLSError](err); !ok {
			t.Errorf("%v, want a TLSError", err)
		}
	}
}

// TestB07B19B20_Caps checks what a client knows of the server: keywords in any case, unknown ones too, AUTH in all its forms, and
// none of what was said before TLS.
func TestB07B19B20_Caps(t *testing.T) {
	opt := inClear(clienttest.New(t, hello("pipelining", "XFOO a=b", "AUTH PLAIN", "AUTH=LOGIN", "sIzE 99999999999999999999999")))
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

// TestHandoverKeepsInput checks that what arrives with the reply that leads to a hand-over is read first by the protocol
// that follows, and that a client can be used after a hand-over outside of Dial.
func TestHandoverKeepsInput(t *testing.T) {
	take := ext.Extension{
		Keyword: "XTAKE",
		Verbs:   []proto.Verb{{Name: "XTAKE", In: proto.Ready, Last: true, OK: proto.Handover}},
	}
	opt := inClear(clienttest.New(t, hello("XTAKE")+`
C: XTAKE
S: 220 go
S: this is no reply
C: nor is this a command
C: EHLO client.example
S: 250-mail.example
S: 250 XMORE
C: NOOP
S: 250 ok
C: QUIT
S: 221 bye`))
	opt.Extensions = []ext.Extension{take}
	ctx := context.Background()
	c, err := Dial(ctx, host, opt)
	if err != nil {
		t.Fatal(err)
	}
	never := func(context.Context, net.Conn) (net.Conn, error) { t.Error("nothing to take"); return nil, nil }
	handOver := func(take func(context.Context, net.Conn) (net.Conn, error)) error {
		return c.Converse(ctx, func(ctx context.Context, d ext.ClientConn) error { return d.Handover(ctx, take) })
	}
	if err := handOver(never); err == nil {
		t.Error("a hand-over that no command led to is no error")
	}
	if _, err := c.Do(ctx, "XTAKE", ""); err != nil {
		t.Fatal(err)
	}
	err = handOver(func(_ context.Context, conn net.Conn) (net.Conn, error) {
		line, err := (&lineReader{r: conn}).line()
		if line != "this is no reply" {
			t.Errorf("read %q, %v", line, err)
		}
		io.WriteString(conn, "nor is this a command\r\n")
		return conn, nil
	})
	if err != nil || c.Caps().Has("XTAKE") || !c.Caps().Has("XMORE") {
		t.Errorf("%v; offered are %v", err, c.Caps().Keywords())
	}
	if err := c.Noop(ctx); err != nil {
		t.Error(err)
	}
	c.Close()
}
