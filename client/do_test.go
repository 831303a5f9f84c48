package client

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// TestBeginsAnew checks that after a command whose success makes the session begin anew the client introduces itself,
// and knows nothing any more of what the server offered before.
func TestBeginsAnew(t *testing.T) {
	list := append(ehlo.Default(), ext.Extension{
		Keyword: "XANEW",
		Verbs:   []proto.Verb{{Name: "XANEW", In: proto.Hello | proto.Ready, Last: true, OK: proto.Hello}},
	})
	anew := func(o *Options) { o.Extensions = list }
	t.Run("accepted", func(t *testing.T) {
		c := dial(t, anew, hello("XANEW", "SIZE 10", "ENHANCEDSTATUSCODES")+`
C: XANEW x
S: 220 2.0.0 is not a status here
C: EHLO client.example
S: 250-mail.example
S: 250 XANEW
C: QUIT
S: 221 bye
`)
		negotiation{extensionConn{c: c.conn, over: new(atomic.Bool)}}.Authenticated("alice")
		r, err := c.Do(context.Background(), "XANEW", "x")
		if err != nil || r.Code != 220 {
			t.Errorf("%v, %v", r, err)
		}
		if c.Caps().Has("SIZE") || !c.Caps().Has("XANEW") || c.Identity() != "" {
			t.Errorf("the client still knows %v and %q", c.Caps(), c.Identity())
		}
	})
	t.Run("refused", func(t *testing.T) {
		c := dial(t, anew, hello("XANEW", "SIZE 10")+"C: XANEW x\nS: 550 no\nC: QUIT\nS: 221 bye\n")
		if r, err := c.Do(context.Background(), "XANEW", "x"); err != nil || r.Code != 550 || !c.Caps().Has("SIZE") {
			t.Errorf("%v, %v", r, err)
		}
	})
	t.Run("without it afterwards", func(t *testing.T) {
		c := dial(t, anew, hello("XANEW")+"C: XANEW x\nS: 220 hello\nC: EHLO client.example\nS: 554 go away\nC: QUIT\n"+
			"S: 221 bye\n")
		r, err := c.Do(context.Background(), "XANEW", "x")
		if e, ok := asReply(err); !ok || e.Code != 554 || r.Code != 220 {
			t.Errorf("%v, %v", r, err)
		}
		if c.Caps().Has("XANEW") {
			t.Error("the client still knows what was offered before")
		}
	})
	t.Run("without authentication afterwards", func(t *testing.T) {
		c := dial(t, func(o *Options) {
			anew(o)
			o.Credentials, o.AllowPlaintextAuth = auth.Password("alice", "secret"), true
		}, hello("XANEW", "AUTH PLAIN")+"C: AUTH *\nS: 235 ok\nC: XANEW x\nS: 220 hello\nC: EHLO client.example\n"+
			"S: 250 mail.example\n"+
			"C: QUIT\nS: 221 bye\n")
		if _, err := c.Do(context.Background(), "XANEW", "x"); !isAuthError(err) {
			t.Errorf("%v, want an AuthError", err)
		}
		if _, err := c.Send(context.Background(), message("x", "a@b.example")); !errors.Is(err, ErrClosed) ||
			!isAuthError(err) {
			t.Errorf("the message was sent without authentication: %v", err)
		}
	})
	t.Run("while dialling", func(t *testing.T) {
		once := false
		list := append([]ext.Extension(nil), list...)
		list[len(list)-1].Negotiate = func(ctx context.Context, d ext.Negotiation) error {
			if once {
				return nil
			}
			once = true
			_, err := d.Do(ctx, "XANEW", "y")
			return err
		}
		c := dial(t, func(o *Options) { o.Extensions = list }, hello("XANEW")+`
C: XANEW y
S: 220 hello
C: EHLO client.example
S: 250-mail.example
S: 250 SIZE 5
C: QUIT
S: 221 bye
`)
		if !c.Caps().Has("SIZE") {
			t.Errorf("the client knows %v", c.Caps())
		}
	})
}

func isAuthError(err error) bool {
	_, ok := asType[*ext.AuthError](err)
	return ok
}

// TestDo checks that Do returns refusals as replies, and that Reset ends what Do began.
func TestDo(t *testing.T) {
	c := dial(t, nil, hello("VRFY")+`
C: VRFY nobody
S: 550 no
C: MAIL FROM:<>
S: 250 ok
C: RSET
S: 250 ok
C: MAIL FROM:<>
S: 250 ok
C: RSET
S: 250 ok
C: MAIL FROM:<a@b.example>
S: 550 no`)
	ctx := context.Background()
	if r, err := c.Do(ctx, "VRFY", "nobody"); err != nil || r.Code != 550 {
		t.Errorf("VRFY: %+v, %v", r, err)
	}
	if r, err := c.Do(ctx, "MAIL", "FROM:<>"); err != nil || r.Code != 250 {
		t.Errorf("MAIL: %+v, %v", r, err)
	}
	if err := c.Reset(ctx); err != nil {
		t.Error(err)
	}
	if r, err := c.Do(ctx, "MAIL", "FROM:<>"); err != nil || r.Code != 250 {
		t.Errorf("MAIL: %+v, %v", r, err)
	}
	if _, err := c.Send(ctx, message("x", "c@d.example")); err == nil {
		t.Error("a refused message is no error")
	}
}

// TestV08_CommandInTransaction has a command of an extension within a transaction that uses up what the server takes:
// it goes over the connection of the transaction.
func TestV08_CommandInTransaction(t *testing.T) {
	list := append(ehlo.Default(), ext.Extension{Keyword: "XNOTE", Verbs: []proto.Verb{{Name: "XNOTE", In: proto.Mail}}})
	c := dial(t, func(o *Options) { o.Extensions = list },
		hello("PIPELINING", "XNOTE", "LIMITS MAILMAX=1")+"C: MAIL FROM:<>\nS: 250 ok\nC: XNOTE x\nS: 299 fine\n")
	for _, cmd := range []string{"MAIL FROM:<>", "XNOTE x"} {
		verb, args, _ := strings.Cut(cmd, " ")
		if r, err := c.Do(t.Context(), verb, args); r.Code/100 != 2 || err != nil {
			t.Errorf("%s: %v, %v", cmd, r, err)
		}
	}
}

// TestConverse checks that a function has the connection to itself, over a new one if the server takes no more over the
// old one, and that its error is returned.
func TestConverse(t *testing.T) {
	start := hello("PIPELINING", "LIMITS MAILMAX=1")
	c := dial(t, nil, start+taken("c@d.example")+bye, start+"C: NOOP\nS: 250 second\n")
	ctx := t.Context()
	if _, err := c.Send(ctx, message("hello\r\n", "c@d.example")); err != nil {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	err := c.Converse(ctx, func(ctx context.Context, conn ext.ClientConn) error {
		if err := c.Noop(ctx); err != ErrBusy {
			t.Errorf("another call: %v, want ErrBusy", err)
		}
		if r, err := conn.Do(ctx, "NOOP", ""); r.Text != "second" || err != nil {
			t.Errorf("%v, %v", r, err)
		}
		if _, err := conn.Line(ctx, "x"); err == nil {
			t.Error("a line without an exchange is no error")
		}
		return mine
	})
	if err != mine {
		t.Errorf("%v, want the error of the function", err)
	}
	c.Close()
	err = c.Converse(ctx, func(context.Context, ext.ClientConn) error { t.Error("called on a closed client"); return nil })
	if err != ErrClosed {
		t.Errorf("%v, want ErrClosed", err)
	}
}
