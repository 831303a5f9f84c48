package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

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
	err = Send(context.Background(), "unix:"+path, &Options{Hostname: "[127.0.0.1]", Protocol: proto.LMTP, TLS: ext.TLSInsecureNone},
		message("x", "c@d.example"))
	if err != nil {
		t.Error(err)
	}
	<-done
}

// TestPanics checks that a connection on which something was left unfinished by a panic is not used again, and that the
// client is not busy for ever.
func TestPanics(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(c *Client)
	}{
		{"a body", func(c *Client) {
			m := message("", "c@d.example")
			m.Body = io.MultiReader(strings.NewReader(strings.Repeat("x", blockSize+1)),
				readerFunc(func([]byte) (int, error) { panic("body") }))
			c.Send(context.Background(), m)
		}},
		{"each", func(c *Client) {
			c.SendAll(context.Background(), numbered(3), func(*Message, *Result, error) bool { panic("each") })
		}},
	} {
		c, _ := pipe(t, "PIPELINING")
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic is gone", tt.name)
				}
			}()
			tt.run(c)
		}()
		if err := c.Noop(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: Noop: %v, want ErrClosed", tt.name, err)
		}
	}
}

// TestOptions checks the conventions of options: zero is the default, negative none, and what is passed is copied.
func TestOptions(t *testing.T) {
	opt := &Options{Without: []string{"SIZE"}, Timeouts: Timeouts{Mail: -1, Rcpt: time.Second}}
	cfg, err := newConfig(opt)
	if err != nil {
		t.Fatal(err)
	}
	opt.Without[0] = "CHUNKING"
	want := Timeouts{
		Connect: time.Minute, Greeting: 5 * time.Minute, Command: 5 * time.Minute, Mail: -1, Rcpt: time.Second,
		Data: 2 * time.Minute, Block: 3 * time.Minute, Content: 10 * time.Minute, Quit: 10 * time.Second,
	}
	if cfg.Timeouts != want || !slices.Equal(cfg.Without, []string{"SIZE"}) || opt.Timeouts.Data != 0 {
		t.Errorf("the options are %+v", cfg.Options)
	}
	for _, opt := range []*Options{
		{TLS: 9},
		{Protocol: 9},
		{Extensions: []ext.Extension{{Keyword: "not one"}}},
	} {
		if _, err := Dial(context.Background(), host, opt); err == nil {
			t.Errorf("%+v is no error", opt)
		}
		near, far := net.Pipe()
		if _, err := NewClient(context.Background(), near, "mail.example", opt); err == nil {
			t.Errorf("%+v is no error", opt)
		}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection given to NewClient is still open: %v", err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		opt := inClear(clienttest.New(t, hello()+"C: NOOP\nHANGUP"))
		opt.Timeouts = AllTimeouts(7 * time.Second)
		c, err := Dial(context.Background(), host, opt)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := c.Noop(context.Background()); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		opt := inClear(clienttest.New(t, hello()+"C: NOOP\nHANGUP"))
		opt.Timeouts = AllTimeouts(-1)
		c, err := Dial(context.Background(), host, opt)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 1000*time.Hour)
		defer cancel()
		if err := c.Noop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// TestErrors checks the text of errors: one "smtp: " at the beginning, and what happened to what.
func TestErrors(t *testing.T) {
	refused := &proto.Error{Code: 550, Status: proto.Status{5, 1, 1}, Text: "no", Verb: "RCPT"}
	to, err := proto.ParseAddress("c@d.example")
	if err != nil {
		t.Fatal(err)
	}
	some := &Result{Recipients: []proto.Outcome{{Recipient: proto.Recipient{Address: to}, Err: refused}, {}}}
	more := &Result{Recipients: []proto.Outcome{{}, {Recipient: proto.Recipient{Address: to}, Err: refused}, {Err: refused}}}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&LostError{Doing: "waiting for the reply to MAIL", Err: io.EOF}, "smtp: connection lost while waiting for the reply to MAIL: EOF"},
		{&ProtocolError{Err: proto.ErrOutOfStep}, "smtp: the server does not follow the protocol: " + strings.TrimPrefix(proto.ErrOutOfStep.Error(), "smtp: ")},
		{&closedError{refused}, "smtp: the connection is closed: RCPT: 550 5.1.1 no"},
		{&LimitError{ext.ServerLimits{RcptMax: 2, MailMax: 3}, errNoDialer},
			"smtp: the server takes 3 messages over a connection, 2 recipients in a transaction, and this was not offered to it: " + errNoDialer.Error()},
		{&LimitError{ext.ServerLimits{}, errNoSeeker}, "smtp: this was not offered to the server: " + errNoSeeker.Error()},
		{&MessageError{What: `the recipient "x"`, Err: errors.New("smtp: it is none")}, `smtp: the recipient "x": it is none`},
		{&SendError{Result: some, Err: refused}, "smtp: not sent to 1 of 2 recipients (c@d.example): RCPT: 550 5.1.1 no"},
		{&SendError{Result: more, Err: refused}, "smtp: not sent to 2 of 3 recipients (c@d.example, …): RCPT: 550 5.1.1 no"},
		{&SendError{Result: &Result{Recipients: some.Recipients[:1]}, Err: refused}, "smtp: RCPT: 550 5.1.1 no"},
		{&SendError{Result: some, Unknown: true, Err: &LostError{Doing: "x", Err: io.EOF}},
			"smtp: whether the message was accepted is unknown: connection lost while x: EOF"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	if _, err := NewMessage("", []string{"x"}, nil); err == nil || !strings.HasPrefix(err.Error(), `smtp: the recipient "x": `) {
		t.Errorf("an address that is none: %v", err)
	}
}
