package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
)

// proxied is a proxy at the other end of a pipe, which answers with reply. It keeps the request.
type proxied struct {
	reply   string
	request bytes.Buffer
	config  *tls.Config // of TLS with the proxy
	conn    net.Conn    // where the server is, after the reply
	ended   chan struct{}
}

func (p *proxied) forward(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		defer here.Close()
		conn := here
		if p.config != nil {
			conn = tls.Server(here, p.config)
		}
		in := bufio.NewReader(conn)
		for line := ""; line != "\r\n"; {
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				return
			}
			p.request.WriteString(line)
		}
		io.WriteString(conn, p.reply)
		if p.conn == nil {
			io.Copy(io.Discard, in)
			return
		}
		defer p.conn.Close()
		go func() {
			defer p.conn.Close()
			io.Copy(p.conn, in)
		}()
		io.Copy(conn, p.conn)
	}()
	return there, nil
}

const established = "HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\n"

// TestConnect checks the request (RFC 9110 section 9.3.6), and which replies begin a tunnel. The greeting comes in the
// same segment as the reply, and is not lost.
func TestConnect(t *testing.T) {
	for _, tt := range []struct {
		name    string
		reply   string
		change  func(*HTTPProxy)
		request string
		want    string // in the error
	}{
		{"200", established, nil,
			"CONNECT mail.example:25 HTTP/1.1\r\nHost: mail.example:25\r\n\r\n", ""},
		{"a password", established, func(p *HTTPProxy) { p.Username, p.Password = "Aladdin", "open sesame" }, // RFC 7617
			"CONNECT mail.example:25 HTTP/1.1\r\nHost: mail.example:25\r\n" +
				"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n", ""},
		{"HTTP/1.0 and 201", "HTTP/1.0 201 x\n\n", nil, "", ""},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", nil, "", ""},
		{"100 first", "HTTP/1.1 100 Continue\r\n\r\n" + established, nil, "", ""},
		{"101", "HTTP/1.1 101 Switching\r\n\r\n", nil, "", `it refuses the connection: "101 Switching"`},
		{"403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", nil, "", `it refuses the connection: "403 Forbidden"`},
		{"407", "HTTP/1.1 407 Who\r\n\r\n", nil, "", "see HTTPProxy.Username"},
		{"302", "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", nil, "", "it refuses the connection"},
		{"no HTTP", "220 mail.example\r\n\r\n", nil, "", `this is not HTTP/1.1: "220 mail.example"`},
		{"a long reply", "HTTP/1.1 200 ok\r\nX: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", nil, "", "its reply is too long"},
		{"a long story", strings.Repeat("HTTP/1.1 100 ok\r\n\r\n", 1000), nil, "", "its reply is too long"},
		{"a colon", "", func(p *HTTPProxy) { p.Username = "a:b" }, "", "must not have a colon"},
		{"no port", "", func(p *HTTPProxy) { p.Addr = "proxy.example" }, "", "HTTPProxy.Addr has to be host:port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peer := &proxied{reply: tt.reply + "220 hello\r\n"}
			p := &HTTPProxy{Addr: "proxy.example:3128", Forward: peer.forward}
			if tt.change != nil {
				tt.change(p)
			}
			conn, err := p.DialContext(t.Context(), "tcp", "mail.example:25")
			if err == nil {
				if greeting, err := (&lineReader{r: conn}).line(); greeting != "220 hello" {
					t.Errorf("%q, %v behind the reply", greeting, err)
				}
				conn.Close()
			}
			if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) ||
				!strings.HasPrefix(err.Error(), "smtp: ")) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if peer.ended != nil {
				<-peer.ended // so the connection is closed if there is an error
			}
			if got := peer.request.String(); tt.request != "" && got != tt.request {
				t.Errorf("%q, want %q", got, tt.request)
			}
		})
	}
}

// TestConnectTarget: nothing but an address gets into the request.
func TestConnectTarget(t *testing.T) {
	p := &HTTPProxy{Addr: "proxy.example:3128", Forward: func(context.Context, string, string) (net.Conn, error) {
		t.Error("dialled")
		return nil, errRefused
	}}
	for _, addr := range []string{"mail.example", "mail.example:25\r\nX: y", "mail.example:25 HTTP/1.0", "mäil.example:25"} {
		if _, err := p.DialContext(t.Context(), "tcp", addr); err == nil {
			t.Errorf("%q is taken", addr)
		}
	}
	if _, err := p.DialContext(t.Context(), "unix", "mail.example:25"); err == nil {
		t.Error("a unix socket is taken")
	}
}

// TestConnectOverTLS sends a message over TLS through a proxy that is spoken to over TLS, each with its own name.
func TestConnectOverTLS(t *testing.T) {
	srv := clienttest.New(t, "TLS\n"+hello("PIPELINING")+taken("c@d.example")+bye)
	far, err := srv.Dial(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	peer := &proxied{reply: established, conn: far,
		config: &tls.Config{Certificates: []tls.Certificate{clienttest.Certificate()}}}
	p := &HTTPProxy{Addr: "127.0.0.1:3128", Forward: peer.forward, TLSConfig: clienttest.TLSConfig()}
	opt := &Options{Hostname: "client.example", TLS: ext.TLSImplicit, TLSConfig: clienttest.TLSConfig(),
		DialContext: p.DialContext}
	if err := Send(t.Context(), host, opt, message("hello\r\n", "c@d.example")); err != nil {
		t.Error(err)
	}
	<-peer.ended

	p.Addr = "proxy.example:3128" // which the certificate is not for
	peer.conn, peer.request = nil, bytes.Buffer{}
	if _, err := p.DialContext(t.Context(), "tcp", host); err == nil || peer.request.Len() > 0 {
		t.Errorf("%v, and the proxy was sent %q", err, &peer.request)
	}
	<-peer.ended
}

// TestProxyTakesTooLong: the context ends the wait for the proxy, and has no effect afterwards.
func TestProxyTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &proxied{}
		opt := &Options{DialContext: (&HTTPProxy{Addr: "proxy.example:3128", Forward: peer.forward}).DialContext}
		_, err := Dial(t.Context(), host, opt)
		if lost, ok := asType[*LostError](err); !ok || !lost.Timeout() || !Temporary(err) {
			t.Error(err)
		}
		<-peer.ended
	})
	ctx, cancel := context.WithCancel(t.Context())
	peer := &proxied{reply: established + "220 hello\r\n"}
	conn, err := (&HTTPProxy{Addr: "proxy.example:3128", Forward: peer.forward}).DialContext(ctx, "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if greeting, err := (&lineReader{r: conn}).line(); greeting != "220 hello" {
		t.Errorf("%q, %v", greeting, err)
	}
	conn.Close()
	<-peer.ended
}

// TestProxyHeader: the header comes first, before TLS, and the wait for it to be taken ends with the context.
func TestProxyHeader(t *testing.T) {
	const header = "PROXY TCP4 192.0.2.1 198.51.100.1 4242 25\r\n"
	got := make(chan string, 1)
	dial := func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer here.Close()
			buf := make([]byte, len(header)+1)
			io.ReadFull(here, buf)
			got <- string(buf)
		}()
		return there, nil
	}
	opt := &Options{TLS: ext.TLSImplicit, DialContext: ProxyHeader(dial, func(net.Conn) []byte { return []byte(header) })}
	if _, err := Dial(t.Context(), host, opt); err == nil {
		t.Error("no error")
	}
	if sent := <-got; sent != header+"\x16" { // a handshake record of TLS
		t.Errorf("%q was sent", sent)
	}

	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer here.Close()
		stalled := ProxyHeader(func(context.Context, string, string) (net.Conn, error) { return there, nil },
			func(net.Conn) []byte { return []byte(header) })
		opt := &Options{DialContext: stalled}
		_, err := Dial(t.Context(), host, opt)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "sending the PROXY header") {
			t.Error(err)
		}
		if _, err := there.Write(nil); !errors.Is(err, io.ErrClosedPipe) {
			t.Error("the connection is open")
		}
	})
	failed := ProxyHeader(func(context.Context, string, string) (net.Conn, error) { return nil, errRefused }, nil)
	if _, err := failed(t.Context(), "tcp", host); err != errRefused {
		t.Error(fmt.Sprint(err))
	}
}
