package ehlo

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

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

func TestStartTLSServeRefuses(t *testing.T) {
	cert, _ := prototest.Certificate(t, "mail.example")
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, tt := range []struct {
		name string
		x    fake.Server
		args string
		want string
	}{
		{"O01 arguments", fake.Server{Conn: fake.ServerState{TLSConfig: config}}, "foo", "501 5.5.4 "},
		{"O02 active", fake.Server{Conn: fake.ServerState{TLSConfig: config, TLS: &tls.ConnectionState{}}}, "", "503 5.5.1 "},
		{"O01 no configuration", fake.Server{}, "", "502 5.5.1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.x.Serve(t, StartTLS(), tt.args); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q, want %s", got, tt.want)
			}
			if len(tt.x.Sent) != 0 {
				t.Errorf("sent %v", tt.x.Sent)
			}
		})
	}
}

func TestStartTLSAdvertise(t *testing.T) {
	for _, tt := range []struct {
		name string
		x    *fake.Server
		want bool
	}{
		{"in clear", &fake.Server{Conn: fake.ServerState{TLSConfig: &tls.Config{}}}, true},
		{"O20 no configuration", &fake.Server{}, false},
		{"O02 within TLS", &fake.Server{Conn: fake.ServerState{TLSConfig: &tls.Config{}, TLS: &tls.ConnectionState{}}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if o, _ := testkit.MakeSet(t, StartTLS()).Offer(tt.x); o.Has(0) != tt.want {
				t.Errorf("offered %v", o.Has(0))
			}
		})
	}
}

// startTLS connects a client and a server of the extension by a pipe, and returns the outcome for each.
func startTLS(t *testing.T, server *tls.Config, p ext.Policy) (x *fake.Server, c *fake.Client, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	x = &fake.Server{Conn: fake.ServerState{TLSConfig: server}, NetConn: a}
	x.Conn.Verb = &StartTLS().Verbs[0]
	c = &fake.Client{Conn: fake.ClientState{Policy: p}, NetConn: b, Replies: []proto.Reply{{Code: 220}}}
	done := make(chan error)
	go func() {
		_, err := StartTLS().Serve(t.Context(), x)
		if err != nil {
			a.Close()
		}
		done <- err
	}()
	clientErr = StartTLS().Negotiate(t.Context(), c)
	if clientErr != nil {
		b.Close()
	}
	serverErr = <-done
	t.Cleanup(func() { a.Close(); b.Close() })
	return x, c, serverErr, clientErr
}

func TestStartTLSBothEnds(t *testing.T) {
	cert, pool := prototest.Certificate(t, "mail.example")
	config := &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true}
	for _, tt := range []struct {
		name   string
		mode   ext.TLSMode
		client *tls.Config
		ok     bool
	}{
		{"verified", ext.TLSRequired, &tls.Config{RootCAs: pool, ServerName: "mail.example"}, true},
		{"O14 unknown authority", ext.TLSRequired, &tls.Config{ServerName: "mail.example", RootCAs: x509.NewCertPool()}, false},
		{"O14 other name", ext.TLSRequired, &tls.Config{RootCAs: pool, ServerName: "other.example"}, false},
		{"opportunistic does not care", ext.TLSOpportunistic, &tls.Config{ServerName: "other.example", RootCAs: x509.NewCertPool()}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, c, serverErr, clientErr := startTLS(t, config, ext.Policy{TLS: tt.mode, TLSConfig: tt.client})
			if !tt.ok {
				if _, ok := grammar.AsType[*ext.TLSError](clientErr); !ok || serverErr == nil {
					t.Errorf("client: %v, server: %v", clientErr, serverErr)
				}
				return
			}
			if clientErr != nil || serverErr != nil {
				t.Fatalf("client: %v, server: %v", clientErr, serverErr)
			}
			if len(x.Sent) != 1 || x.Sent[0].Code != 220 {
				t.Errorf("sent %v", x.Sent)
			}
			if tt.client.MinVersion != 0 || tt.client.InsecureSkipVerify {
				t.Error("the caller's configuration was written to")
			}
			got := make([]byte, 4)
			go x.Next.Write([]byte("test"))
			if _, err := io.ReadFull(c.Next, got); err != nil || string(got) != "test" {
				t.Errorf("%q, %v through the connection", got, err)
			}
		})
	}
}

// TestO18_StartTLSVersion checks that no version below TLS 1.2 is used, even if the caller asks for it.
func TestO18_StartTLSVersion(t *testing.T) {
	cert, pool := prototest.Certificate(t, "mail.example")
	server := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	client := &tls.Config{RootCAs: pool, ServerName: "mail.example", MinVersion: tls.VersionTLS10}
	_, _, _, err := startTLS(t, server, ext.Policy{TLSConfig: client})
	if _, ok := grammar.AsType[*ext.TLSError](err); !ok {
		t.Errorf("%v with TLS 1.1", err)
	}
}

// before is a connection that has received octets before the hand-over.
type before struct {
	net.Conn
	r io.Reader
}

func (b before) Read(p []byte) (int, error) { return b.r.Read(p) }

// TestO04O08_StartTLSInjection: plaintext behind the command or the reply breaks the handshake, and is never read as
// SMTP.
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
			x := &fake.Server{Conn: fake.ServerState{TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}, NetConn: conn}
			x.Conn.Verb = &StartTLS().Verbs[0]
			_, err = StartTLS().Serve(t.Context(), x)
			after = x.Next
		} else {
			c := &fake.Client{Conn: fake.ClientState{Policy: ext.Policy{TLSConfig: &tls.Config{ServerName: "mail.example"}}}, NetConn: conn,
				Replies: []proto.Reply{{Code: 220}}}
			err, after = StartTLS().Negotiate(t.Context(), c), c.Next
		}
		if err == nil || after != nil {
			t.Errorf("%s: %v, connection %v", side, err, after)
		}
		a.Close()
		b.Close()
	}
}

func TestStartTLSNegotiate(t *testing.T) {
	active := &tls.ConnectionState{}
	for _, tt := range []struct {
		name   string
		mode   ext.TLSMode
		tls    *tls.ConnectionState
		code   int // of the reply to STARTTLS; 0 if it is not to be sent
		wantOK bool
	}{
		{"O11 active already", ext.TLSRequired, active, 0, true},
		{"implicit", ext.TLSImplicit, active, 0, true},
		{"none", ext.TLSInsecureNone, nil, 0, true},
		{"O09 454", ext.TLSRequired, nil, 454, false},
		{"O09 500", ext.TLSRequired, nil, 500, false},
		{"O09 250 (CVE-2016-0772)", ext.TLSRequired, nil, 250, false},
		{"O09 221", ext.TLSRequired, nil, 221, false},
		{"opportunistic 454", ext.TLSOpportunistic, nil, 454, true},
		{"opportunistic 502", ext.TLSOpportunistic, nil, 502, true},
		{"opportunistic 250", ext.TLSOpportunistic, nil, 250, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &fake.Client{Conn: fake.ClientState{Policy: ext.Policy{TLS: tt.mode, TLSConfig: &tls.Config{}}, TLS: tt.tls}}
			if tt.code != 0 {
				c.Replies = []proto.Reply{{Code: tt.code, Text: "x"}}
			}
			err := StartTLS().Negotiate(t.Context(), c)
			if (err == nil) != tt.wantOK || c.Next != nil {
				t.Errorf("%v, connection %v", err, c.Next)
			}
			if (len(c.Sent) > 0) != (tt.code != 0) {
				t.Errorf("sent %q", c.Sent)
			}
			if err == nil {
				return
			}
			if _, ok := grammar.AsType[*ext.TLSError](err); !ok {
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

func TestStartTLSNegotiateLost(t *testing.T) {
	c := &fake.Client{Conn: fake.ClientState{Policy: ext.Policy{TLS: ext.TLSOpportunistic, TLSConfig: &tls.Config{}}}}
	if err := StartTLS().Negotiate(t.Context(), c); !errors.Is(err, fake.ErrHungUp) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	c = &fake.Client{Conn: fake.ClientState{Policy: ext.Policy{TLSConfig: &tls.Config{ServerName: "x"}}}, NetConn: a, Replies: []proto.Reply{{Code: 220}}}
	if err := StartTLS().Negotiate(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want it to end with the context", err)
	}
}

// TestP27_NothingBehindAuth: a client sends nothing behind AUTH or STARTTLS before it has the reply, with or without
// PIPELINING.
func TestP27_NothingBehindAuth(t *testing.T) {
	table := testkit.MakeSet(t, Default()...).Table()
	for line, code := range map[string]int{"AUTH PLAIN =": 235, "STARTTLS ": 454} {
		m := proto.NewMachine(table)
		step := func(line string, code int) error {
			verb, args, _ := strings.Cut(line, " ")
			err := m.Command(table.Lookup(verb), []byte(args))
			if err == nil && code != 0 {
				_, err = m.Reply(code)
			}
			return err
		}
		if _, err := m.Reply(220); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(step("EHLO x", 250), step(line, 0)); err != nil {
			t.Fatal(err)
		}
		for _, next := range []string{"MAIL FROM:<>", "NOOP ", "QUIT "} {
			if err := step(next, 0); err != proto.ErrMustWait {
				t.Errorf("%s behind %s: %v, want ErrMustWait", next, line, err)
			}
		}
		if _, err := m.Reply(code); err != nil {
			t.Fatal(err)
		}
		if err := step("MAIL FROM:<>", 250); err != nil {
			t.Errorf("MAIL after %d: %v", code, err)
		}
	}
}
