package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestO01_NotNow: STARTTLS can be refused for the moment, and the session goes on in clear (RFC 3207 section 4).
func TestO01_NotNow(t *testing.T) {
	config, _ := tlsPair(t)
	busy := ext.Extension{Keyword: "XBUSY", Guard: func(_ context.Context, _ ext.ServerConn, v *proto.Verb, _ string) error {
		if v.Name != "STARTTLS" {
			return nil
		}
		return &proto.Error{Code: 454, Status: proto.Status{4, 7, 0}, Text: "TLS not available now"}
	}}
	p := dial(t, newServer(t, &store{}, server.Options{TLSConfig: config, Extensions: append(ehlo.Default(), busy)}))
	p.hello()
	p.ask("STARTTLS", "454 4.7.0 TLS not available now")
	p.begin()
	p.quit()
}

// TestO03_IdentityForgotten: who has authenticated in clear has to do so again inside TLS.
func TestO03_IdentityForgotten(t *testing.T) {
	config, trust := tlsPair(t)
	w := dialWire(t, newServer(t, authStore{&store{}}, server.Options{TLSConfig: config, RequireAuth: true, AllowInsecureAuth: true}))
	w.ask("", "220 ")
	w.ask("EHLO x\r\n", "250-")
	w.ask(plain("alice", "secret")+"\r\n", "235 ")
	p := w.startTLS(trust)
	p.ask("EHLO x", "250-", "MAIL FROM:<a@b.example>", "530 5.7.0", plain("alice", "secret"), "235 ")
	p.begin()
	p.quit()
}

// TestO06_InClear: a server that can do TLS takes mail without it, unless it is told otherwise.
func TestO06_InClear(t *testing.T) {
	config, _ := tlsPair(t)
	p, st := withData(t, server.Options{TLSConfig: config}, nil)
	p.ask("DATA", "354 ", "hello\r\n.", "250 ")
	p.quit()
	if len(st.messages()) != 1 {
		t.Error("the message is not there")
	}
}

// TestO18_Version: TLS 1.1 is not spoken, whatever the configuration says.
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

// TestO20_NoCertificate: what has no certificate is not on offer, and who believes that it has is told.
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

// TestO22_HandshakeFails: a failed handshake is noted, and followed by nothing but an alert and the end of the connection.
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
	if !strings.Contains(log.String(), "STARTTLS") {
		t.Errorf("the log is %q, want the failure in it", &log)
	}
}

// TestO23_CloseNotify: TLS is ended before the connection.
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
