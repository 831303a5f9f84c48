package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
)

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
	for host, want := range map[string]string{"mail.example.": "mail.example", "fe80::1%eth0": "fe80::1",
		"192.0.2.1": "192.0.2.1"} {
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

// TestUnixSocket delivers by LMTP over a socket in the file system.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lmtp")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	srv := clienttest.New(t, `S: 220 mail.example
C: LHLO [127.0.0.1]
S: 250 mail.example
C: MAIL FROM:<a@b.example>
S: 250 ok
C: RCPT TO:<c@d.example>
S: 250 ok
C: DATA
S: 354 go on
C: x
C: .
S: 250 ok`)
	done := make(chan struct{})
	go func() {
		defer close(done)
		near, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer near.Close()
		far, err := srv.Dial(context.Background(), "", "")
		if err != nil {
			t.Error(err)
			return
		}
		defer far.Close()
		go io.Copy(near, far)
		io.Copy(far, near)
	}()
	var remote string
	opt := &Options{Hostname: "[127.0.0.1]", Protocol: proto.LMTP, Trace: &Trace{
		Connected: func(_ context.Context, c *Client) { remote = c.RemoteAddr().String() },
	}}
	if err := Send(context.Background(), "unix:"+path, opt, message("x", "c@d.example")); err != nil || remote != path {
		t.Errorf("%v; connected to %q", err, remote)
	}
	<-done
}

// TestUnixPolicy checks what the modes of TLS mean on a unix socket: none is required there unless it is asked for.
func TestUnixPolicy(t *testing.T) {
	const script = "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
	for _, tt := range []struct {
		name, script string
		change       func(*Options)
		want         string // in the error; "" if there is none
	}{
		{"default", script + "S: 250 STARTTLS\n", func(*Options) {}, ""},
		{"opportunistic", script + "S: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nTLS\nC: EHLO client.example\n" +
			"S: 250 mail.example\n",
			func(o *Options) { o.TLS = ext.TLSOpportunistic }, ""},
		{"implicit", "TLS\n" + script + "S: 250 SIZE\n", func(o *Options) { o.TLS = ext.TLSImplicit }, ""},
		{"credentials", script + "S: 250 AUTH PLAIN\n", func(o *Options) { o.Credentials = auth.Password("u", "p") },
			"on a unix socket, which others cannot read, AllowPlaintextAuth does no harm"},
		{"credentials, permitted", script + "S: 250 AUTH PLAIN\nC: AUTH PLAIN AHUAcA==\nS: 235 fine\n", func(o *Options) {
			o.Credentials, o.AllowPlaintextAuth = auth.Password("u", "p"), true
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opt := inPlaintext(clienttest.New(t, tt.script))
			opt.TLS, opt.TLSConfig = ext.TLSRequired, clienttest.TLSConfig()
			opt.TLSConfig.ServerName = clienttest.Hostname
			tt.change(opt)
			c, err := Dial(t.Context(), "unix:/run/mail", opt)
			if err == nil {
				c.Close()
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestHints checks that an error of Dial says what to do about the mistake that it often comes from.
func TestHints(t *testing.T) {
	start := "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\nS: 250 STARTTLS\nC: STARTTLS\n" +
		"S: 220 go\nTLS\n"
	secured := "TLS\nS: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
	for _, tt := range []struct {
		name, script string
		change       func(*Options)
		want         string
		not          string
	}{
		{"implicit TLS, and the server begins in plaintext", "S: 220 mail.example\nHANGUP", func(o *Options) {
			dial := o.DialContext
			o.TLS, o.DialContext = ext.TLSImplicit, func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				return &listensFirst{Conn: conn}, err
			}
		}, "use TLSRequired in place of TLSImplicit", ""},
		{"a private authority", "TLS", func(o *Options) { o.TLS, o.TLSConfig.RootCAs = ext.TLSImplicit, x509.NewCertPool() },
			"RootCAs", ""},
		{"a private authority, later", start, func(o *Options) { o.TLSConfig.RootCAs = x509.NewCertPool() }, "RootCAs", ""},
		{"another name", "TLS", func(o *Options) { o.TLS, o.TLSConfig.ServerName = ext.TLSImplicit, "other.example" },
			"other.example", "RootCAs"},
		{"a certificate that is not verified", secured + "S: 250 AUTH PLAIN\n", func(o *Options) {
			o.TLS, o.TLSConfig.InsecureSkipVerify, o.Credentials = ext.TLSImplicit, true, auth.Password("u", "p")
		}, "leave that out and set RootCAs", ""},
		{"nobody authenticates there", secured + "S: 250 SIZE\n", func(o *Options) {
			o.TLS, o.TLSConfig.InsecureSkipVerify, o.Credentials = ext.TLSImplicit, true, auth.Password("u", "p")
		}, "does not offer to authenticate", "RootCAs"},
		{"LMTP there", "S: 220 mail.example\nC: EHLO client.example\nS: 500 what\nC: HELO client.example\nS: 500 what\n",
			func(o *Options) { o.TLS = ext.TLSInsecureNone }, "set Options.Protocol to proto.LMTP", ""},
		{"SMTP there", "S: 220 mail.example\nC: LHLO client.example\nS: 502 what\n",
			func(o *Options) { o.TLS, o.Protocol = ext.TLSInsecureNone, proto.LMTP }, "is this an SMTP server?", ""},
		{"refused", "S: 220 mail.example\nC: EHLO client.example\nS: 550 no\n",
			func(o *Options) { o.TLS = ext.TLSInsecureNone }, "550 no", "LMTP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opt := inPlaintext(clienttest.New(&recorder{TB: t}, tt.script))
			opt.TLS, opt.TLSConfig = ext.TLSRequired, clienttest.TLSConfig()
			tt.change(opt)
			c, err := Dial(t.Context(), host, opt)
			if err == nil {
				c.Close()
				t.Fatal("no error")
			}
			if text := err.Error(); !strings.Contains(text, tt.want) || tt.not != "" && strings.Contains(text, tt.not) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if strings.Count(err.Error(), "smtp: ") != 1 {
				t.Errorf("%q has not one prefix", err)
			}
		})
	}
}

// A listensFirst is a connection whose first Write waits for nothing: over a pipe, which holds nothing, two sides that
// both begin would wait for each other.
type listensFirst struct {
	net.Conn
	dropped bool
}

func (l *listensFirst) Write(p []byte) (int, error) {
	if !l.dropped {
		l.dropped = true
		return len(p), nil
	}
	return l.Conn.Write(p)
}
