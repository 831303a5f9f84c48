package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/server"
)

func TestZ181_HandshakeTimeout(t *testing.T) {
	config, _ := tlsPair(t)
	inBubble(t, time.Minute, func(t *testing.T) {
		srv := newServer(t, &store{}, server.Options{})
		here, there := net.Pipe()
		defer here.Close()
		if err := srv.ServeConn(context.Background(), tls.Server(there, config)); err == nil {
			t.Error("ServeConn returned nil")
		}
	})
}

// TestA11_ImplicitTLS: a client that stalls in the handshake delays no other, and gets nothing in plaintext.
func TestA11_ImplicitTLS(t *testing.T) {
	config, trust := tlsPair(t)
	st := &store{}
	srv := newServer(t, st, server.Options{TLSConfig: config})
	addr, served := listen(t, srv.ServeTLS)
	stalled := connect(t, addr)
	clear := connect(t, addr)
	clear.send("EHLO client.example\r\n")
	for got := clear.reply(); got != ""; got = clear.reply() {
		if strings.Contains(got, "220") {
			t.Errorf("the server says %q in plaintext", got)
		}
	}
	nc, err := tls.Dial("tcp", addr, trust)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, nc)
	p.expect("220 ")
	p.send("EHLO x\r\n")
	if got := p.reply(); strings.Contains(got, "STARTTLS") || !strings.HasPrefix(got, "250-") {
		t.Errorf("the server says %q inside TLS", got)
	}
	p.begin()
	p.quit()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown returned %v with a handshake under way", err)
	}
	if got := stalled.reply(); got != "" {
		t.Errorf("the server says %q in plaintext", got)
	}
	if err := <-served; err != server.ErrServerClosed {
		t.Errorf("ServeTLS returned %v", err)
	}
}

func TestServeTLSWithoutConfig(t *testing.T) {
	srv := newServer(t, &store{}, server.Options{})
	_, served := listen(t, srv.ServeTLS)
	if err := <-served; err == nil || !strings.Contains(err.Error(), "TLSConfig") {
		t.Errorf("ServeTLS returned %v", err)
	}
}

func TestO21_ALPN(t *testing.T) {
	config, trust := tlsPair(t)
	srv := newServer(t, &store{}, server.Options{TLSConfig: config})
	addr, served := listen(t, srv.ServeTLS)
	for proto, fine := range map[string]bool{"smtp": true, "h2": false, "": true} {
		c := trust.Clone()
		if proto != "" {
			c.NextProtos = []string{proto}
		}
		nc, err := tls.Dial("tcp", addr, c)
		if (err == nil) != fine {
			t.Errorf("a client that speaks %q gets %v", proto, err)
		}
		if err == nil {
			p := newPeer(t, nc)
			p.expect("220 ")
			p.quit()
		}
	}
	_ = srv.Shutdown(t.Context())
	<-served
}

// TestOwnCertificates: a session learns which certificate was presented, with implicit TLS and with STARTTLS.
func TestOwnCertificates(t *testing.T) {
	config, trust := tlsPair(t)
	cert := config.Certificates[0]
	made := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }}
	told := make(chan string, 3)
	st := &store{newSession: func(_ context.Context, c *server.Conn) error {
		var raw string
		for _, own := range c.OwnCertificates() {
			raw += string(own.Raw)
		}
		told <- raw
		return nil
	}}
	srv := newServer(t, st, server.Options{TLSConfig: made})
	addr, served := listen(t, srv.ServeTLS)
	nc, err := tls.Dial("tcp", addr, trust)
	if err != nil {
		t.Fatal(err)
	}
	implicit := newPeer(t, nc)
	implicit.expect("220 ")
	implicit.quit()

	w := dialWire(t, srv)
	w.ask("", "220 ")
	w.ask("EHLO x\r\n", "250-")
	p := w.startTLS(trust)
	p.ask("EHLO x", "250-")
	p.quit()
	want := string(cert.Certificate[0])
	for i, want := range []string{want, "", want} {
		if got := <-told; got != want {
			t.Errorf("session %d learns %x, want %x", i, got, want)
		}
	}

	// A client that names no host is shown the first one that it can use.
	other, _ := tlsPair(t)
	for name, config := range map[string]*tls.Config{
		"GetCertificate": made, "several": {Certificates: []tls.Certificate{cert, other.Certificates[0]}},
	} {
		w := dialWire(t, newServer(t, st, server.Options{TLSConfig: config}))
		w.ask("", "220 ")
		<-told
		w.ask("EHLO x\r\n", "250-")
		w.startTLS(&tls.Config{InsecureSkipVerify: true}).ask("EHLO x", "250-")
		if got := <-told; got != want {
			t.Errorf("%s: a session whose client names no host learns %x, want %x", name, got, want)
		}
	}

	failing := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("the disk is on fire") }
	none := newServer(t, st, server.Options{TLSConfig: &tls.Config{GetCertificate: failing}})
	w = dialWire(t, none)
	w.ask("", "220 ")
	w.ask("EHLO x\r\n", "250-")
	w.ask("STARTTLS\r\n", "220 ")
	if err := tls.Client(w.nc, trust).Handshake(); err == nil {
		t.Error("a server without a certificate made a handshake")
	}
	_ = srv.Shutdown(t.Context())
	<-served
}

// TestO06_InClear: a server with TLS accepts mail in plaintext, unless Options.RequireTLS is set.
func TestO06_InClear(t *testing.T) {
	config, _ := tlsPair(t)
	p, st := withData(t, server.Options{TLSConfig: config}, nil)
	p.ask("DATA", "354 ", "hello\r\n.", "250 ")
	p.quit()
	if len(st.messages()) != 1 {
		t.Error("the message is not there")
	}
}

// TestO18_Version: TLS 1.1 is not used, whatever the configuration says.
func TestO18_Version(t *testing.T) {
	for i, least := range []uint16{0, tls.VersionTLS10, tls.VersionTLS10} {
		config, trust := tlsPair(t)
		config.MinVersion = least
		if i == 2 {
			each := config
			config = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return each, nil }}
		}
		srv := newServer(t, &store{}, server.Options{TLSConfig: config})
		addr, served := listen(t, srv.ServeTLS)
		for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true} {
			c := trust.Clone()
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, version
			nc, err := tls.Dial("tcp", addr, c)
			if (err == nil) != want {
				t.Errorf("%s: %v", tls.VersionName(version), err)
			}
			if err == nil {
				p := newPeer(t, nc)
				p.expect("220 ")
				p.quit()
			}
		}
		_ = srv.Shutdown(t.Context())
		<-served
	}
}

// TestO19_ClientCertificate: a client is asked for a certificate only if the configuration says so.
func TestO19_ClientCertificate(t *testing.T) {
	for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequestClientCert} {
		config, trust := tlsPair(t)
		config.ClientAuth = auth
		asked := false
		trust.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &tls.Certificate{}, nil
		}
		w := dialWire(t, newServer(t, &store{}, server.Options{TLSConfig: config}))
		w.ask("", "220 ")
		w.ask("EHLO x\r\n", "250-")
		w.startTLS(trust).quit()
		if asked != (auth != tls.NoClientCert) {
			t.Errorf("with %v the client is asked for a certificate: %v", auth, asked)
		}
	}
}

// TestO20_NoCertificate: New refuses a TLSConfig without a certificate, and without TLSConfig there is no STARTTLS.
func TestO20_NoCertificate(t *testing.T) {
	_, err := server.New(&store{}, &server.Options{TLSConfig: &tls.Config{}})
	if err == nil || !strings.HasPrefix(err.Error(), "smtp: Options.TLSConfig has no certificate") {
		t.Errorf("%v with a configuration that has no certificate", err)
	}
	p := dial(t, newServer(t, &store{}, server.Options{}))
	p.expect("220 ")
	p.send("EHLO x\r\n")
	if got := p.reply(); strings.Contains(got, "STARTTLS") {
		t.Errorf("the server says %q", got)
	}
	p.ask("STARTTLS", "502 ")
	p.quit()
}

// TestO22_HandshakeFails: a failed handshake is noted, and followed by nothing but an alert and the end of the
// connection.
func TestO22_HandshakeFails(t *testing.T) {
	config, _ := tlsPair(t)
	var log bytes.Buffer
	srv := newServer(t, &store{}, server.Options{TLSConfig: config, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	w := dialWire(t, srv)
	w.ask("", "220 ")
	w.ask("EHLO x\r\n", "250-")
	w.ask("STARTTLS\r\n", "220 ")
	heard, written := make(chan []byte), make(chan struct{})
	go func() {
		b, _ := io.ReadAll(w.nc)
		heard <- b
	}()
	go func() {
		defer close(written)
		_, _ = io.WriteString(w.nc, "MAIL FROM:<a@b.example>\r\nRSET\r\n") // the server need not read it all
	}()
	if b := <-heard; len(b) > 0 && !isAlert(b) {
		t.Errorf("the server says %q", b)
	}
	if err := <-w.done; err == nil {
		t.Error("ServeConn returned nil")
	}
	<-written
	if !strings.Contains(log.String(), "TLS handshake failed") || !strings.Contains(log.String(), "STARTTLS") {
		t.Errorf("the log is %q, want the failure in it", &log)
	}
}

// TestO23_CloseNotify: the server ends TLS before it closes the connection.
func TestO23_CloseNotify(t *testing.T) {
	config, trust := tlsPair(t)
	w := dialWire(t, newServer(t, &store{}, server.Options{TLSConfig: config}))
	w.ask("", "220 ")
	w.ask("EHLO x\r\n", "250-")
	w.ask("STARTTLS\r\n", "220 ")
	w.nc = tls.Client(w.nc, trust)
	w.ask("QUIT\r\n", "221 ")
	if n, err := w.nc.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d octets and %v, want io.EOF, which is what is made of close_notify", n, err)
	}
}

// TestO24_Renewed: a certificate can be replaced while the server runs.
func TestO24_Renewed(t *testing.T) {
	first, trustFirst := tlsPair(t)
	second, trustSecond := tlsPair(t)
	current := &first.Certificates[0]
	srv := newServer(t, &store{}, server.Options{TLSConfig: &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current, nil },
	}})
	for range 2 {
		w := dialWire(t, srv)
		w.ask("", "220 ")
		w.ask("EHLO x\r\n", "250-")
		w.startTLS(trustFirst).quit()
		current, trustFirst = &second.Certificates[0], trustSecond
	}
}

// TestPanicBeforeTLS: on a connection that begins with TLS nothing is sent in plaintext, whatever panics.
func TestPanicBeforeTLS(t *testing.T) {
	config, _ := tlsPair(t)
	s := newServer(t, &store{}, server.Options{TLSConfig: config, Trace: &server.Trace{
		Connected: func(context.Context, *server.Conn) { panic("boom") },
	}})
	addr, served := listen(t, s.ServeTLS)
	p := connect(t, addr)
	if got := p.reply(); got != "" {
		t.Errorf("the server says %q in plaintext", got)
	}
	s.Close()
	<-served
}

// TestPanicBeforeListenersTLS: a panic before the handshake of a listener's TLS ends the connection of a silent client
// too.
func TestPanicBeforeListenersTLS(t *testing.T) { synctest.Test(t, testPanicBeforeListenersTLS) }

func testPanicBeforeListenersTLS(t *testing.T) {
	conf, _ := tlsPair(t)
	s := newServer(t, &store{}, server.Options{TLSConfig: conf, Trace: &server.Trace{Connected: func(context.Context, *server.Conn) { panic("x") }}})
	here, there := net.Pipe()
	defer here.Close()
	done := make(chan error, 1)
	go func() { done <- s.ServeConn(context.Background(), tls.Server(there, conf)) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("a silent client keeps the connection, whose Trace has panicked")
	}
}
