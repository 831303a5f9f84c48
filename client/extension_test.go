package client

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// TestOutsideExtension checks that an extension that nobody here knows works: a keyword, a parameter, a need and a
// verb. Without its keyword the verb is not sent.
func TestOutsideExtension(t *testing.T) {
	colour := ext.Extension{
		Keyword: "XCOLOUR",
		Verbs:   []proto.Verb{{Name: "XPAINT", In: proto.Ready | proto.Hello}},
		Mail:    []ext.Param{{Key: "XCOLOUR", MaxLength: len(" XCOLOUR=purple"), Values: []string{"PURPLE"}}},
		Prepare: func(c proto.Caps, e *ext.Envelope) error {
			e.Mail = e.Mail.Set("XCOLOUR", "purple")
			return nil
		},
	}
	list := append(ehlo.Default(), colour)
	c := dial(t, func(o *Options) { o.Extensions = list }, hello("XCOLOUR")+`
C: XPAINT the town
S: 299 painted
C: MAIL FROM:<a@b.example> XCOLOUR=purple
S: 250 ok
C: RCPT TO:<c@d.example>
S: 250 ok
C: DATA
S: 354 go on
C: x
C: .
S: 250 ok`)
	ctx := context.Background()
	if r, err := c.Do(ctx, "xpaint", "the town"); err != nil || r.Code != 299 || r.Text != "painted" {
		t.Errorf("XPAINT: %+v, %v", r, err)
	}
	if _, err := c.Send(ctx, message("x", "c@d.example")); err != nil {
		t.Error(err)
	}
	c = dial(t, func(o *Options) { o.Extensions = list }, hello("SIZE"))
	_, err := c.Do(ctx, "XPAINT", "the town")
	if e, ok := asType[*ext.UnsupportedError](err); !ok || e.Keyword != "XCOLOUR" {
		t.Errorf("XPAINT to a server without it: %v, want an UnsupportedError", err)
	}
}

// TestB09_NothingInPlaintext checks that no extension can send anything before TLS where TLS is required.
func TestB09_NothingInPlaintext(t *testing.T) {
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
	opt := inPlaintext(srv)
	opt.TLS, opt.Extensions = ext.TLSRequired, []ext.Extension{nosy}
	_, err := Dial(context.Background(), host, opt)
	for _, err := range []error{got, err} {
		if _, ok := asType[*ext.TLSError](err); !ok {
			t.Errorf("%v, want a TLSError", err)
		}
	}
}

// TestHandoverKeepsInput checks that what arrives with the reply that leads to a hand-over is read first by the
// protocol that follows, and that a client can be used after a hand-over outside of Dial.
func TestHandoverKeepsInput(t *testing.T) {
	take := ext.Extension{
		Keyword: "XTAKE",
		Verbs:   []proto.Verb{{Name: "XTAKE", In: proto.Ready, Last: true, OK: proto.Handover}},
	}
	opt := inPlaintext(clienttest.New(t, hello("XTAKE")+`
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

// TestAuthenticatedOutsideNegotiate: a session that was authenticated by Do is not as Dial made it, so there is no
// other connection.
func TestAuthenticatedOutsideNegotiate(t *testing.T) {
	c := dial(t, nil, hello()+bye)
	if err := c.renewable(); err != nil {
		t.Fatal(err)
	}
	negotiation{extensionConn{c: c.conn, over: new(atomic.Bool)}}.Authenticated("alice")
	if err := c.renewable(); err != errAltered {
		t.Errorf("%v, want %v: another connection would not be authenticated", err, errAltered)
	}
}

// TestConnAfterConverse: the connection that Converse lends refuses to be used after the call, and cannot say that the
// client has authenticated.
func TestConnAfterConverse(t *testing.T) {
	c := dial(t, nil, hello()+"C: NOOP\nS: 250 ok\n"+bye)
	var kept ext.ClientConn
	err := c.Converse(t.Context(), func(ctx context.Context, conn ext.ClientConn) error {
		kept = conn
		_, err := conn.Do(ctx, "NOOP", "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kept.Do(t.Context(), "NOOP", ""); err != errOver {
		t.Errorf("a command after the call: %v", err)
	}
	if _, ok := kept.(ext.Negotiation); ok {
		t.Error("the connection is one by which a user can claim to have authenticated")
	}
}
