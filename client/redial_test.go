package client

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// TestV08_NoOtherConnection has clients that cannot make another connection, or must not.
func TestV08_NoOtherConnection(t *testing.T) {
	spent := limited("MAILMAX=1") + taken("c@d.example")
	check := func(t *testing.T, c *Client, cause error) {
		t.Helper()
		if _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err != nil {
			t.Fatal(err)
		}
		_, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
		limit, ok := asType[*LimitError](err)
		if !ok || limit.Err != cause || limit.Limits.MailMax != 1 || !Temporary(err) || !SafeToRetry(err) {
			t.Errorf("%v, want %v", err, cause)
		}
		if err := c.Noop(context.Background()); err != nil {
			t.Errorf("the session is of no use any more: %v", err)
		}
	}
	t.Run("made elsewhere", func(t *testing.T) {
		srv := clienttest.New(t, spent+"C: NOOP\nS: 250 ok\n")
		conn, err := srv.Dial(context.Background(), "tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewClient(context.Background(), conn, "mail.example", inPlaintext(srv))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		check(t, c, errNoDialer)
	})
	t.Run("altered", func(t *testing.T) {
		list := append(ehlo.Default(), ext.Extension{
			Keyword: "XANEW", Verbs: []proto.Verb{{Name: "XANEW", In: proto.Ready, Last: true, OK: proto.Hello}},
		})
		c := dial(t, func(o *Options) { o.Extensions = list }, hello("XANEW")+"C: XANEW x\nS: 220 hello\n"+
			strings.TrimPrefix(spent, "S: 220 mail.example\n")+"C: NOOP\nS: 250 ok\n")
		if _, err := c.Do(context.Background(), "XANEW", "x"); err != nil {
			t.Fatal(err)
		}
		check(t, c, errAltered)
	})
}

// TestV08_WeakerConnection has a server that offers TLS on the first connection and not on the second. A client that
// used TLS on the first connection does not send the rest of its messages in plaintext.
func TestV08_WeakerConnection(t *testing.T) {
	first := hello("STARTTLS") + "C: STARTTLS\nS: 220 go\nTLS\n" +
		strings.TrimPrefix(limited("MAILMAX=1"), "S: 220 mail.example\n")
	c := dial(t, func(o *Options) { o.TLS = ext.TLSOpportunistic }, first+taken("c@d.example")+bye, hello()+bye)
	if _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err != nil {
		t.Fatal(err)
	}
	_, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
	if _, ok := asType[*ext.TLSError](err); !ok || !SafeToRetry(err) {
		t.Errorf("%v, want a TLSError", err)
	}
}

// TestV08_CommandBeforeMessage has a command of an extension before a message that the server does not take over this
// connection: it goes over the one that the message goes over.
func TestV08_CommandBeforeMessage(t *testing.T) {
	list := append(ehlo.Default(), ext.Extension{Keyword: "XNOTE", Verbs: []proto.Verb{{Name: "XNOTE", In: proto.Ready}}})
	start := hello("PIPELINING", "XNOTE", "LIMITS MAILMAX=1")
	note := "C: XNOTE x\nS: 250 ok\n"
	c := dial(t, func(o *Options) { o.Extensions = list }, start+taken("c@d.example")+bye, start+note+taken("c@d.example"))
	if _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Do(context.Background(), "XNOTE", "x"); r.Code != 250 || err != nil {
		t.Fatalf("%v, %v", r, err)
	}
	if _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err != nil {
		t.Error(err)
	}
}

// TestV08_CloseMeanwhile closes a client that is making another connection.
func TestV08_CloseMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := clienttest.New(t, limited("MAILMAX=1")+taken("c@d.example")+bye)
		first := true
		opt := inPlaintext(srv)
		opt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if first {
				first = false
				return srv.Dial(ctx, network, addr)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c, err := Dial(context.Background(), host, opt)
		if err != nil {
			t.Fatal(err)
		}
		send := func() error {
			_, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
			return err
		}
		if err := send(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- send() }()
		synctest.Wait() // it waits for the connection
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, ErrClosed) || !SafeToRetry(err) {
			t.Errorf("%v, want ErrClosed", err)
		}
		if err := send(); !errors.Is(err, ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// TestCloseEndsRedialAtOnce: Close ends a redial that waits for the network.
func TestCloseEndsRedialAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := clienttest.New(t, limited("MAILMAX=1")+taken("c@d.example")+bye)
		first := true
		opt := inPlaintext(srv)
		opt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if first {
				first = false
				return srv.Dial(ctx, network, addr)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c, err := Dial(context.Background(), host, opt)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); ended <- err }()
		synctest.Wait()
		start := time.Now()
		c.Close()
		if err := <-ended; !errors.Is(err, ErrClosed) || time.Since(start) != 0 {
			t.Errorf("%v, after %v", err, time.Since(start))
		}
	})
}

// TestReasonOfFailedRedial: later calls say why there is no connection.
func TestReasonOfFailedRedial(t *testing.T) {
	srv := clienttest.New(t, limited("MAILMAX=1")+taken("c@d.example")+bye)
	opt, first, down := inPlaintext(srv), true, errors.New("the network is down")
	opt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if first {
			first = false
			return srv.Dial(ctx, network, addr)
		}
		return nil, down
	}
	c, err := Dial(context.Background(), host, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		_, err = c.Send(context.Background(), message("hello\r\n", "c@d.example"))
	}
	if !errors.Is(err, down) {
		t.Fatal(err)
	}
	if err := c.Noop(context.Background()); !errors.Is(err, ErrClosed) || !errors.Is(err, down) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestSendQuitsRenewedConnection fails on HEAD: Send says QUIT on the connection that it began with, and leaks the one
// that a renewal has made.
func TestSendQuitsRenewedConnection(t *testing.T) {
	closed := 0
	opt := inPlaintext(clienttest.New(t,
		limited("MAILMAX=1 RCPTMAX=1")+taken("c@d.example")+bye,
		limited("MAILMAX=1 RCPTMAX=1")+taken("e@f.example")+bye))
	opt.Trace = &Trace{Closed: func(context.Context, *Client, error) { closed++ }}
	var last *Client
	opt.Trace.Connected = func(_ context.Context, c *Client) { last = c }
	if err := Send(context.Background(), host, opt, message("hello\r\n", "c@d.example", "e@f.example")); err != nil {
		t.Fatal(err)
	}
	if closed != 2 {
		t.Errorf("%d of 2 connections were closed", closed)
		last.Close() // or the test would hang
	}
}
