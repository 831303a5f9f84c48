package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto/prototest"
)

// meet dials addr, where a server of config is, and returns what Dial does. The server refuses everybody with 554 once
// there is TLS. The name is that in the ClientHello.
func meet(t *testing.T, config *tls.Config, addr string, opt Options) (sni string, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		sni = hello.ServerName
		return nil, nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		secured := tls.Server(conn, config)
		if secured.Handshake() == nil {
			io.WriteString(secured, "554 no service\r\n")
			(&lineReader{r: secured}).line()
			io.WriteString(secured, "221 bye\r\n")
		}
	}()
	opt.TLS = ext.TLSImplicit
	opt.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
	}
	c, err := Dial(t.Context(), addr, &opt)
	if err == nil {
		c.Close()
	}
	l.Close()
	<-done
	return sni, err
}

// TestServerIdentity checks whom the client takes for the server it was told to go to (RFC 7817 section 3, RFC 6125).
// What the server is reached by is of no interest: the name is that of the caller.
func TestServerIdentity(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cert  []string
		addr  string
		serve string // Options.TLSConfig.ServerName
		ok    bool
	}{
		{"O14 the name", []string{"mail.example"}, "mail.example:465", "", true},
		{"O14 one of the names", []string{"www.example", "mail.example"}, "mail.example:465", "", true},
		{"O14 any case", []string{"Mail.EXAMPLE"}, "mAIL.example:465", "", true},
		{"O14 the root's dot", []string{"mail.example"}, "mail.example.:465", "", true},
		{"O14 A-label", []string{"xn--mnchen-3ya.example"}, "münchen.example:465", "", true},
		{"O14 another name", []string{"www.example"}, "mail.example:465", "", false},
		{"O14 a name below", []string{"mail.example"}, "a.mail.example:465", "", false},
		{"O14 wildcard", []string{"*.example.org"}, "mail.example.org:465", "", true},
		{"O14 wildcard is one label", []string{"*.example.org"}, "a.mail.example.org:465", "", false},
		{"O14 wildcard is a label", []string{"*.example.org"}, "example.org:465", "", false},
		{"O14 wildcard in part of a label", []string{"m*.example.org"}, "mail.example.org:465", "", false},
		{"O14 wildcard at the end of a label", []string{"*l.example.org"}, "mail.example.org:465", "", false},
		{"O14 wildcard not leftmost", []string{"mail.*.org"}, "mail.example.org:465", "", false},
		{"O14 common name", []string{"CN=mail.example"}, "mail.example:465", "", false},
		{"O14 common name beside others", []string{"CN=mail.example", "www.example"}, "mail.example:465", "", false},
		{"O15 the name of an MX", []string{"mx.hoster.example"}, "mail.example:465", "", false},
		{"O15 the address it has", []string{"127.0.0.1"}, "mail.example:465", "", false},
		{"O15 another name by choice", []string{"mx.hoster.example"}, "mail.example:465", "mx.hoster.example", true},
		{"O16 IPv4 address", []string{"192.0.2.1"}, "192.0.2.1:465", "", true},
		{"O16 IPv6 address", []string{"2001:db8::1"}, "[2001:db8:0:0::1]:465", "", true},
		{"O16 another address", []string{"192.0.2.2"}, "192.0.2.1:465", "", false},
		{"O16 address as a name", []string{"DNS:192.0.2.1"}, "192.0.2.1:465", "", false},
		{"O16 address as common name", []string{"CN=192.0.2.1"}, "192.0.2.1:465", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cert, roots := prototest.Certificate(t, tt.cert...)
			_, err := meet(t, &tls.Config{Certificates: []tls.Certificate{cert}}, tt.addr,
				Options{TLSConfig: &tls.Config{RootCAs: roots, ServerName: tt.serve}})
			_, refused := asType[*ext.TLSError](err)
			if e, ok := asReply(err); refused == tt.ok || tt.ok && (!ok || e.Code != 554) {
				t.Errorf("%v; taken for the server: %v, want %v", err, !refused, tt.ok)
			}
		})
	}
}

// TestO17_SNI checks that the client tells the server whom it looks for: a name, and never an address (RFC 6066 section
// 3).
func TestO17_SNI(t *testing.T) {
	cert, roots := prototest.Certificate(t, "mail.example", "xn--mnchen-3ya.example", "192.0.2.1")
	for addr, want := range map[string]string{
		"mail.example:465": "mail.example", "mail.example.:465": "mail.example",
		"münchen.example:465": "xn--mnchen-3ya.example",
		"192.0.2.1:465":       "",
	} {
		got, err := meet(t, &tls.Config{Certificates: []tls.Certificate{cert}}, addr,
			Options{TLSConfig: &tls.Config{RootCAs: roots}})
		if e, ok := asReply(err); got != want || !ok || e.Code != 554 {
			t.Errorf("%s: the server is told %q, want %q; %v", addr, got, want, err)
		}
	}
}

// TestO18_Version checks that no version below TLS 1.2 is used, whatever the caller says.
func TestO18_Version(t *testing.T) {
	cert, roots := prototest.Certificate(t, "mail.example")
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		for _, least := range []uint16{0, tls.VersionTLS10} {
			_, err := meet(t, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10,
				MaxVersion: version},
				"mail.example:465", Options{TLSConfig: &tls.Config{RootCAs: roots, MinVersion: least}})
			if _, refused := asType[*ext.TLSError](err); refused == want {
				t.Errorf("%s: %v, want it to be used: %v", tls.VersionName(version), err, want)
			}
		}
	}
}

// TestO23_CloseNotify checks that a client ends TLS before it ends the connection.
func TestO23_CloseNotify(t *testing.T) {
	cert, roots := prototest.Certificate(t, "mail.example")
	here, there := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		secured := tls.Server(here, &tls.Config{Certificates: []tls.Certificate{cert}})
		in := &lineReader{r: secured}
		io.WriteString(secured, "220 mail.example\r\n")
		for _, reply := range []string{"250 mail.example\r\n", "221 bye\r\n"} {
			in.line()
			io.WriteString(secured, reply)
		}
		_, err := secured.Read(make([]byte, 1))
		here.Close()
		ended <- err
	}()
	c, err := NewClient(t.Context(), there, "mail.example",
		&Options{TLS: ext.TLSImplicit, TLSConfig: &tls.Config{RootCAs: roots}})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := <-ended; err != io.EOF {
		t.Errorf("the server reads %v, want io.EOF, which is what it makes of close_notify", err)
	}
}

// TestO25_StateOfTLS checks that a caller can tell what TLS a session has, and what is wrong with a certificate that
// was of no importance.
func TestO25_StateOfTLS(t *testing.T) {
	cert, roots := prototest.Certificate(t, "mail.example")
	for _, tt := range []struct {
		name     string
		mode     ext.TLSMode
		host     string
		roots    *x509.CertPool
		verified bool
		want     any // the type of the error, as a pointer to it; nil if there is none
	}{
		{"verified", ext.TLSRequired, "mail.example", roots, true, nil},
		{"opportunistic", ext.TLSOpportunistic, "mail.example", roots, false, nil},
		{"opportunistic, unknown authority", ext.TLSOpportunistic, "mail.example", x509.NewCertPool(), false,
			new(x509.UnknownAuthorityError)},
		{"opportunistic, another name", ext.TLSOpportunistic, "mx.example", roots, false, new(x509.HostnameError)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			here, there := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer here.Close()
				in := &lineReader{r: here}
				io.WriteString(here, "220 mail.example\r\n")
				in.line()
				io.WriteString(here, "250-mail.example\r\n250 STARTTLS\r\n")
				in.line()
				io.WriteString(here, "220 go\r\n")
				secured := tls.Server(here, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12})
				in = &lineReader{r: secured}
				for _, reply := range []string{"250 mail.example\r\n", "221 bye\r\n"} {
					in.line()
					io.WriteString(secured, reply)
				}
				secured.Read(make([]byte, 1))
			}()
			c, err := NewClient(t.Context(), there, tt.host, &Options{TLS: tt.mode, TLSConfig: &tls.Config{RootCAs: tt.roots}})
			if err != nil {
				t.Fatal(err)
			}
			if s := c.TLS(); s == nil || s.Version != tls.VersionTLS12 || s.CipherSuite == 0 || c.Verified() != tt.verified {
				t.Errorf("TLS %+v, verified %v", s, c.Verified())
			}
			err = c.CertificateError()
			if (err == nil) != (tt.want == nil) || err != nil && !errors.As(err, tt.want) {
				t.Errorf("the certificate: %v, want %T", err, tt.want)
			}
			c.Close()
			<-done
		})
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
	ifOffered := func(o *Options) { trust(o); o.TLS = ext.TLSIfOffered }
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
		{"O08 a reply slipped in", offer + "C: STARTTLS\nS: 220 go\nS: 250-mail.example\nS: 250 AUTH PLAIN\nCLOSE", required,
			false},
		{"opportunistic", offer + "C: STARTTLS\nS: 220 go\n" + secret + send, opportunistic, true},
		{"O09 opportunistic and refused", offer + "C: STARTTLS\nS: 454 no\n" + send, opportunistic, true},
		{"opportunistic and not offered", hello("SIZE") + send, opportunistic, true},
		{"O13 opportunistic and failed", offer + "C: STARTTLS\nS: 220 go\nS: 554 no\nCLOSE", opportunistic, false},
		{"if offered", offer + "C: STARTTLS\nS: 220 go\n" + secret + send, ifOffered, true},
		{"if offered, and not", hello("SIZE") + send, ifOffered, true},
		{"if offered, and refused", offer + "C: STARTTLS\nS: 454 no\n", ifOffered, false},
		{"if offered, and failed", offer + "C: STARTTLS\nS: 220 go\nS: 554 no\nCLOSE", ifOffered, false},
		{"if offered, and an unknown root", offer + "C: STARTTLS\nS: 220 go\nTLS", func(o *Options) {
			o.TLS, o.TLSConfig = ext.TLSIfOffered, &tls.Config{RootCAs: x509.NewCertPool()}
		}, false},
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
			opt := inPlaintext(srv)
			tt.change(opt)
			err := Send(context.Background(), host, opt, message("x", "c@d.example"))
			srv.Wait()
			if (err == nil) != tt.ok {
				t.Errorf("%v, want success: %v", err, tt.ok)
			}
			if _, ok := asType[*ext.TLSError](err); !tt.ok && !ok {
				t.Errorf("%v, want a TLSError", err)
			}
			if none := strings.HasPrefix(tt.name, "O12"); errors.Is(err, errors.ErrUnsupported) != none {
				t.Errorf("%v, want one that says that TLS is not offered: %v", err, none)
			}
			if failed := strings.Contains(rec.failed, "handshake"); failed != strings.HasSuffix(tt.script, "TLS") ||
				!failed && rec.failed != "" {
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
