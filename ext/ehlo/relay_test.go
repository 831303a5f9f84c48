package ehlo_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A forwarder is a session that hands on what it gets to the next server, recipient by recipient, before it accepts it.
type forwarder struct {
	next func(context.Context) (*client.Client, error)
	m    client.Message
}

func (r *forwarder) Mail(_ context.Context, from proto.Address, _ proto.Params) error {
	r.m = client.Message{From: from}
	return nil
}

func (r *forwarder) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	r.m.To = append(r.m.To, proto.Recipient{Address: to})
	return nil
}

func (r *forwarder) Data(ctx context.Context, body io.Reader) error {
	c, err := r.next(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	r.m.Body = body
	_, err = c.Send(ctx, &r.m)
	return err
}

// over returns a function that makes a client of srv over a pipe, and one that has the raw connection.
func over(t *testing.T, srv *server.Server, opt *client.Options) (func(context.Context) (*client.Client, error), func() net.Conn) {
	raw := func() net.Conn {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = srv.ServeConn(context.Background(), far)
		}()
		t.Cleanup(func() {
			near.Close()
			<-done
		})
		return near
	}
	return func(ctx context.Context) (*client.Client, error) {
		return client.NewClient(ctx, raw(), "next.example", opt)
	}, raw
}

func backend(s server.Session) server.Backend {
	return server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) { return s, nil })
}

func newServer(t *testing.T, s server.Session, opt *server.Options) *server.Server {
	t.Helper()
	srv, err := server.New(backend(s), opt)
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// keeper keeps the recipients of its messages.
type keeper struct{ to []string }

func (k *keeper) Mail(context.Context, proto.Address, proto.Params) error { return nil }
func (k *keeper) Rcpt(_ context.Context, to proto.Address, p proto.Params) error {
	k.to = append(k.to, to.String())
	if len(p) > 0 {
		k.to = append(k.to, "with parameters")
	}
	return nil
}
func (k *keeper) Data(_ context.Context, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// TestQuotedThroughRelay sends quoted local parts through a server and a client to another server. None of them becomes
// another address or a parameter on the way (CVE-2025-59937).
func TestQuotedThroughRelay(t *testing.T) {
	for sent, want := range map[string]string{
		`"victim@evil.example> NOTIFY=NEVER"@d.example`: `"victim@evil.example> NOTIFY=NEVER"@d.example`,
		`"a b"@d.example`:     `"a b"@d.example`,
		`"a\"b\\c"@d.example`: `"a\"b\\c"@d.example`,
		`"plain"@d.example`:   `plain@d.example`,
		`"<>"@d.example`:      `"<>"@d.example`,
		`a%b!c@d.example`:     `a%b!c@d.example`,
	} {
		k := &keeper{}
		last := newServer(t, k, &server.Options{Hostname: "last.example"})
		next, _ := over(t, last, &client.Options{Hostname: "relay.example", TLS: ext.TLSInsecureNone})
		first := newServer(t, &forwarder{next: next}, &server.Options{Hostname: "relay.example"})
		_, raw := over(t, first, nil)
		conn := raw()
		go func() {
			_, _ = io.WriteString(conn, "EHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<"+sent+">\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n")
		}()
		replies, err := io.ReadAll(conn)
		if err != nil || !strings.HasSuffix(string(replies), "221 2.0.0 Bye\r\n") {
			t.Errorf("%s: %v, replies %q", sent, err, replies)
		}
		if len(k.to) != 1 || k.to[0] != want {
			t.Errorf("%s has become %q, want %s", sent, k.to, want)
		}
	}
}

// TestLMTPWithoutDelay delivers twenty messages by LMTP. Nobody waits for anything but the other end, so no time passes.
func TestLMTPWithoutDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		srv := newServer(t, k, &server.Options{Hostname: "store.example", Protocol: proto.LMTP})
		dial, _ := over(t, srv, &client.Options{Hostname: "mta.example", TLS: ext.TLSInsecureNone, Protocol: proto.LMTP})
		start := time.Now()
		c, err := dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			m, err := client.NewMessage("a@b.example", []string{"c@d.example", "c@d.example"}, strings.NewReader("hi\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			if res, err := c.Send(t.Context(), m); err != nil || res.Sent() != 2 {
				t.Fatal(res, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 0 || len(k.to) != 40 {
			t.Errorf("%d recipients in %v, want 40 in no time", len(k.to), took)
		}
	})
}
