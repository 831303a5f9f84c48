package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// TestStatus checks by which status codes senders are told of errors (RFC 3463).
func TestStatus(t *testing.T) {
	no := &proto.Error{Code: 550, Status: proto.Status{5, 1, 1}}
	for _, tt := range []struct {
		err  interface{ Status() proto.Status }
		want string
	}{
		{&LostError{Err: io.EOF}, "4.4.2"},
		{&LostError{Err: &net.OpError{Op: "dial", Err: io.EOF}}, "4.4.1"},
		{&LostError{Err: &net.OpError{Op: "read", Err: io.EOF}}, "4.4.2"},
		{&LostError{Err: io.EOF, unconnected: true}, "4.4.1"},
		{&closedError{no}, "4.4.2"},
		{&LimitError{Err: no}, "4.5.3"},
		{&MessageError{Err: io.EOF}, "5.6.0"},
	} {
		if got := tt.err.Status().String(); got != tt.want {
			t.Errorf("%#v: %s, want %s", tt.err, got, tt.want)
		}
	}
}

// TestPredicates checks what SafeToRetry and Temporary make of errors.
func TestPredicates(t *testing.T) {
	send := func(unknown bool, errs ...error) error {
		res := &Result{}
		var first error
		for _, err := range errs {
			res.Recipients = append(res.Recipients, proto.Outcome{Err: err})
			if first == nil {
				first = err
			}
		}
		return &SendError{Result: res, Unknown: unknown, Err: first}
	}
	no, later := &proto.Error{Code: 550}, &proto.Error{Code: 450}
	for _, tt := range []struct {
		err             error
		safe, temporary bool
	}{
		{nil, false, false},
		{send(false, no, no), true, false},
		{send(false, no, later), true, true},
		{send(false, nil, later), false, true},
		{send(false, nil, no), false, false},
		{send(true, &LostError{Err: net.ErrClosed}), false, true},
		{fmt.Errorf("wrapped: %w", send(false, nil, no)), false, false},
		{&LostError{Err: net.ErrClosed}, true, true},
		{&ProtocolError{Err: proto.ErrOutOfStep}, true, true},
		{&ext.TLSError{Err: errors.New("x")}, true, false},
		{&ext.TLSError{Err: later}, true, true},
		{&ext.AuthError{Err: &proto.Error{Code: 454}}, true, true},
		{&ext.AuthError{Err: &proto.Error{Code: 535}}, true, false},
		{ErrClosed, true, true},
		{&closedError{no}, true, true},
		{context.Canceled, true, false},
		{context.DeadlineExceeded, true, true},
		{fmt.Errorf("of somebody else: %w", context.Canceled), false, false},
		{fmt.Errorf("of somebody else: %w", context.DeadlineExceeded), false, false},
		{&LostError{Err: context.Canceled}, true, false},
		{fmt.Errorf("wrapped: %w", &LostError{Err: context.Canceled}), true, false},
		{&LostError{Err: context.DeadlineExceeded}, true, true},
		{&LostError{Err: os.ErrDeadlineExceeded}, true, true},
		{&LostError{Err: errors.Join(errors.New("refused"), context.Canceled)}, true, true},
		{&LostError{Err: errors.Join(context.Canceled, context.Canceled)}, true, false},
		{&ext.TLSError{Err: context.Canceled}, true, false},
		{&closedError{&LostError{Err: context.Canceled}}, true, true},
		{&LimitError{Err: &closedError{&LostError{Err: context.Canceled}}}, true, true},
		{send(false, &LostError{Err: context.Canceled}, no), true, false},
		{send(false, later, errors.New("of somebody else")), false, true},
		{send(false, errors.New("of somebody else")), false, false},
		{&SendError{Result: &Result{}, Err: errNoRecipients}, true, false},
		{&SendError{Result: &Result{}, Err: errors.New("of somebody else")}, false, false},
		{&MessageError{What: "x", Err: errors.New("y")}, true, false},
		{&LimitError{Err: errNoDialer}, true, true},
		{&ext.UnsupportedError{}, true, false},
		{&ehlo.TooLargeError{}, true, false},
		{&LostError{Err: net.ErrClosed, InDoubt: true}, false, true},
		{&ProtocolError{Err: proto.ErrOutOfStep, InDoubt: true}, false, true},
		{fmt.Errorf("wrapped: %w", inDoubt(&LostError{Err: net.ErrClosed})), false, true},
		{fmt.Errorf("wrapped: %w", inDoubt(&ProtocolError{Err: proto.ErrOutOfStep})), false, true},
		{inDoubt(ErrClosed), false, true},
		{inDoubt(context.Canceled), false, false},
		{inDoubt(context.DeadlineExceeded), false, true},
		{errors.New("of somebody else"), false, false},
		{fmt.Errorf("flattened: %v", &LostError{Err: net.ErrClosed}), false, false},
	} {
		if SafeToRetry(tt.err) != tt.safe || Temporary(tt.err) != tt.temporary {
			t.Errorf("%v: safe %v, temporary %v", tt.err, SafeToRetry(tt.err), Temporary(tt.err))
		}
	}
}

// TestTemporaryDial cancels connecting by the network, whose errors are not those of package context.
func TestTemporaryDial(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for _, ctx := range []context.Context{canceled, late} {
		_, err := Dial(ctx, "127.0.0.1:25", nil)
		if want := ctx == late; !errors.Is(err, ctx.Err()) || Temporary(err) != want || !SafeToRetry(err) {
			t.Errorf("%v: temporary %v, safe to retry %v", err, Temporary(err), SafeToRetry(err))
		}
	}
}

// TestG18_ErrorText checks that what a server says cannot do anything in a log.
func TestG18_ErrorText(t *testing.T) {
	here, there := net.Pipe()
	go func() {
		in := &lineReader{r: here}
		io.WriteString(here, "220 mail.example\r\n")
		in.line()
		io.WriteString(here, "250 mail.example\r\n")
		in.line()
		io.WriteString(here, "550-5.7.1 \x1b[2Jgo\r\n550 away\r\n")
		here.Close()
	}()
	c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Send(context.Background(), message("x", "c@d.example", "e@d.example"))
	want := `smtp: not sent to any of 2 recipients: MAIL: 550 5.7.1 \x1b[2Jgo / away`
	if err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

// TestErrors checks the text of errors: one "smtp: " at the beginning, and what happened to what.
func TestErrors(t *testing.T) {
	refused := &proto.Error{Code: 550, Status: proto.Status{5, 1, 1}, Text: "no", Verb: "RCPT"}
	to, err := proto.ParseAddress("c@d.example")
	if err != nil {
		t.Fatal(err)
	}
	some := &Result{Recipients: []proto.Outcome{{Recipient: proto.Recipient{Address: to}, Err: refused}, {}}}
	more := &Result{Recipients: []proto.Outcome{{}, {Recipient: proto.Recipient{Address: to}, Err: refused},
		{Err: refused}}}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&LostError{Doing: "waiting for the reply to MAIL", Err: io.EOF},
			"smtp: connection lost while waiting for the reply to MAIL: EOF"},
		{&ProtocolError{Err: proto.ErrOutOfStep}, "smtp: the server does not follow the protocol: " +
			strings.TrimPrefix(proto.ErrOutOfStep.Error(), "smtp: ")},
		{&LostError{Doing: "connecting to h:25", Err: errRefused, unconnected: true},
			"smtp: connecting to h:25: " + errRefused.Error()},
		{&closedError{refused}, "smtp: the connection is closed: RCPT: 550 5.1.1 no"},
		{&LimitError{ext.ServerLimits{RcptMax: 2, MailMax: 3}, errNoDialer},
			"smtp: the server takes 3 messages over a connection, 2 recipients in a transaction, and this was not offered " +
				"to it: " + errNoDialer.Error()},
		{&LimitError{ext.ServerLimits{}, errNotRepeatable},
			"smtp: this was not offered to the server: " + errNotRepeatable.Error()},
		{&MessageError{What: `the recipient "x"`, Err: errors.New("smtp: it is none")},
			`smtp: the recipient "x": it is none`},
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
	if _, err := NewMessage("", []string{"x"}, nil); err == nil ||
		!strings.HasPrefix(err.Error(), `smtp: the recipient "x": `) {
		t.Errorf("an address that is none: %v", err)
	}
}

// TestTemporaryNetwork has credentials fail because their source cannot be reached.
func TestTemporaryNetwork(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, true},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, true},
		{&net.DNSError{IsTemporary: true}, true},
		{&net.DNSError{IsTimeout: true}, true},
		{&net.DNSError{IsNotFound: true}, false},
		{errors.New("no account"), false},
	} {
		if got := Temporary(&ext.AuthError{Err: tt.err}); got != tt.want {
			t.Errorf("%#v: %v", tt.err, got)
		}
	}
}

// own is the error of a function that verifies a server, with a status code of its own.
type own proto.Status

func (own) Error() string          { return "not this server" }
func (o own) Status() proto.Status { return proto.Status(o) }

// TestTemporaryHandshake has handshakes end in all sorts of ways.
func TestTemporaryHandshake(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{io.EOF, true},
		{io.ErrUnexpectedEOF, true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{context.DeadlineExceeded, true},
		{&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, false},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, false},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, false},
		{errors.New("the server does not offer it"), false},
		{own{4, 7, 5}, true},
		{fmt.Errorf("wrapped: %w", own{4, 7, 5}), true},
		{own{5, 7, 5}, false},
	} {
		if got := Temporary(&ext.TLSError{Err: tt.err}); got != tt.want {
			t.Errorf("%#v: %v", tt.err, got)
		}
	}
	if !Temporary(ErrBusy) {
		t.Error("a client in use is so for good")
	}
}

// TestTold: after 421, messages that were sent behind the refused one are not in doubt.
func TestTold(t *testing.T) {
	m := "C: MAIL*\nC: RCPT*\nC: BDAT 7 LAST\nC: hello\n"
	c := dial(t, nil, hello("PIPELINING", "CHUNKING")+firstChunk+m+"C: RSET\n"+m+"S: 250 ok\nS: 250 ok\nS: 421 bye\nHANGUP\n")
	sendFirst(t, c)
	n := 0
	c.SendAll(context.Background(), slices.Values([]*Message{
		message("hello\r\n", "c@d.example"), message("hello\r\n", "c@d.example"),
	}), func(_ *Message, res *Result, err error) bool {
		n++
		if e, ok := asType[*SendError](err); !ok || e.Unknown || codes(res) != "421" {
			t.Errorf("%v, %s", err, codes(res))
		}
		return true
	})
	if n != 2 {
		t.Errorf("%d outcomes", n)
	}
}
