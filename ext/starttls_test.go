package ext

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/internal/grammar"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

func TestStartTLSServeRefuses(t *testing.T) {
	cert, _ := prototest.Certificate(t, "mail.example")
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, tt := range []struct {
		name string
		x    fakeServer
		args string
		want string
	}{
		{"O01 arguments", fakeServer{tlsConfig: config}, "foo", "501 5.5.4 "},
		{"O02 active", fakeServer{tlsConfig: config, tls: &tls.ConnectionState{}}, "", "503 5.5.1 "},
		{"O01 no configuration", fakeServer{}, "", "502 5.5.1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.x.serve(t, StartTLS(), tt.args); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %s", got, tt.want)
			}
			if len(tt.x.sent) != 0 {
				t.Errorf("sent %v", tt.x.sent)
			}
		})
	}
}

func TestStartTLSAdvertise(t *testing.T) {
	for _, tt := range []struct {
		name string
		x    *fakeServer
		want bool
	}{
		{"in clear", &fakeServer{tlsConfig: &tls.Config{}}, true},
		{"O20 no configuration", &fakeServer{}, false},
		{"O02 within TLS", &fakeServer{tlsConfig: &tls.Config{}, tls: &tls.ConnectionState{}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if o, _ := newSet(t, StartTLS()).Offer(tt.x); o.Has(0) != tt.want {
				t.Errorf("offered %v", o.Has(0))
			}
		})
	}
}

// startTLS lets a client and a server of the extension meet over a pipe, and returns how it ended for each.
func startTLS(t *testing.T, server *tls.Config, p Policy) (x *fakeServer, d *fakeClient, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	x = &fakeServer{tlsConfig: server, conn: a}
	x.verb = &StartTLS().Verbs[0]
	d = &fakeClient{policy: p, conn: b, replies: []proto.Reply{{Code: 220}}}
	done := make(chan error)
	go func() {
		_, err := StartTLS().Serve(t.Context(), x)
		if err != nil {
			a.Close()
		}
		done <- err
	}()
	clientErr = StartTLS().Negotiate(t.Context(), d)
	if clientErr != nil {
		b.Close()
	}
	serverErr = <-done
	t.Cleanup(func() { a.Close(); b.Close() })
	return x, d, serverErr, clientErr
}

func TestStartTLSBothEnds(t *testing.T) {
	cert, pool := prototest.Certificate(t, "mail.example")
	config := &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true}
	for _, tt := range []struct {
		name   string
		mode   TLSMode
		client *tls.Config
		ok     bool
	}{
		{"verified", TLSRequired, &tls.Config{RootCAs: pool, ServerName: "mail.example"}, true},
		{"O14 unknown authority", TLSRequired, &tls.Config{ServerName: "mail.example", RootCAs: x509.NewCertPool()}, false},
		{"O14 other name", TLSRequired, &tls.Config{RootCAs: pool, ServerName: "other.example"}, false},
		{"opportunistic does not care", TLSOpportunistic, &tls.Config{ServerName: "other.example", RootCAs: x509.NewCertPool()}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, d, serverErr, clientErr := startTLS(t, config, Policy{TLS: tt.mode, TLSConfig: tt.client})
			if !tt.ok {
				if _, ok := grammar.AsType[*TLSError](clientErr); !ok || serverErr == nil {
					t.Errorf("client: %v, server: %v", clientErr, serverErr)
				}
				return
			}
			if clientErr != nil || serverErr != nil {
				t.Fatalf("client: %v, server: %v", clientErr, serverErr)
			}
			if len(x.sent) != 1 || x.sent[0].Code != 220 {
				t.Errorf("sent %v", x.sent)
			}
			if tt.client.MinVersion != 0 || tt.client.InsecureSkipVerify {
				t.Error("the caller's configuration was written to")
			}
			got := make([]byte, 4)
			go x.after.Write([]byte("test"))
			if _, err := io.ReadFull(d.after, got); err != nil || string(got) != "test" {
				t.Errorf("%q, %v through the connection", got, err)
			}
		})
	}
}

// No version below TLS 1.2 is used, even if the caller asks for it.
func TestO18_StartTLSVersion(t *testing.T) {
	cert, pool := prototest.Certificate(t, "mail.example")
	server := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	client := &tls.Config{RootCAs: pool, ServerName: "mail.example", MinVersion: tls.VersionTLS10}
	_, _, _, err := startTLS(t, server, Policy{TLSConfig: client})
	if _, ok := grammar.AsType[*TLSError](err); !ok {
		t.Errorf("%v with TLS 1.1", err)
	}
}

// before is a connection on which something was received before the hand-over.
type before struct {
	net.Conn
	r io.Reader
}

func (b before) Read(p []byte) (int, error) { return b.r.Read(p) }

// What stands in clear behind the command, or behind the reply, breaks the handshake and is never heard of again.
func TestO04O08_StartTLSInjection(t *testing.T) {
	cert, _ := prototest.Certificate(t, "mail.example")
	injected := []byte("RSET\r\n250-evil\r\n250 AUTH PLAIN\r\n")
	for _, side := range []string{"server", "client"} {
		a, b := net.Pipe()
		go io.Copy(io.Discard, b)
		conn := before{a, io.MultiReader(bytes.NewReader(injected), a)}
		var err error
		var after net.Conn
		if side == "server" {
			x := &fakeServer{tlsConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, conn: conn}
			x.verb = &StartTLS().Verbs[0]
			_, err = StartTLS().Serve(t.Context(), x)
			after = x.after
		} else {
			d := &fakeClient{policy: Policy{TLSConfig: &tls.Config{ServerName: "mail.example"}}, conn: conn,
				replies: []proto.Reply{{Code: 220}}}
			err, after = StartTLS().Negotiate(t.Context(), d), d.after
		}
		if err == nil || after != nil {
			t.Errorf("%s: %v, connection %v", side, err, after)
		}
		a.Close()
		b.Close()
	}
}

func TestStartTLSConnect(t *testing.T) {
	active := &tls.ConnectionState{}
	for _, tt := range []struct {
		name   string
		mode   TLSMode
		tls    *tls.ConnectionState
		code   int // of the reply to STARTTLS; 0 if it is not to be sent
		wantOK bool
	}{
		{"O11 active already", TLSRequired, active, 0, true},
		{"implicit", TLSImplicit, active, 0, true},
		{"none", TLSInsecureNone, nil, 0, true},
		{"O09 454", TLSRequired, nil, 454, false},
		{"O09 500", TLSRequired, nil, 500, false},
		{"O09 250 (CVE-2016-0772)", TLSRequired, nil, 250, false},
		{"O09 221", TLSRequired, nil, 221, false},
		{"opportunistic 454", TLSOpportunistic, nil, 454, true},
		{"opportunistic 502", TLSOpportunistic, nil, 502, true},
		{"opportunistic 250", TLSOpportunistic, nil, 250, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &fakeClient{policy: Policy{TLS: tt.mode, TLSConfig: &tls.Config{}}, tls: tt.tls}
			if tt.code != 0 {
				d.replies = []proto.Reply{{Code: tt.code, Text: "x"}}
			}
			err := StartTLS().Negotiate(t.Context(), d)
			if (err == nil) != tt.wantOK || d.after != nil {
				t.Errorf("%v, connection %v", err, d.after)
			}
			if (len(d.sent) > 0) != (tt.code != 0) {
				t.Errorf("sent %q", d.sent)
			}
			if err == nil {
				return
			}
			if _, ok := grammar.AsType[*TLSError](err); !ok {
				t.Errorf("%T %v, want a TLSError", err, err)
			}
			if text := err.Error(); !strings.HasPrefix(text, "smtp: TLS: ") || strings.Count(text, "smtp: ") != 1 {
				t.Errorf("%q", text)
			}
			if e, ok := grammar.AsType[*proto.Error](err); tt.code >= 400 && (!ok || e.Code != tt.code) {
				t.Errorf("%v does not have the server's code", err)
			}
		})
	}
}

func TestStartTLSConnectLost(t *testing.T) {
	d := &fakeClient{policy: Policy{TLS: TLSOpportunistic, TLSConfig: &tls.Config{}}}
	if err := StartTLS().Negotiate(t.Context(), d); !errors.Is(err, errHungUp) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	d = &fakeClient{policy: Policy{TLSConfig: &tls.Config{ServerName: "x"}}, conn: a, replies: []proto.Reply{{Code: 220}}}
	if err := StartTLS().Negotiate(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want it to end with the context", err)
	}
}
