package client

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

var _ = []Sender{(*Client)(nil), SenderFunc(nil)}

// addresses returns the addresses of recipients.
func addresses(to []proto.Recipient) string {
	var all []string
	for _, r := range to {
		all = append(all, r.Address.String())
	}
	return strings.Join(all, " ")
}

// TestSendErrorRetry has a server treat each recipient in another way, and sends the message that is left.
func TestSendErrorRetry(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING", "DSN")+`
C: MAIL FROM:<a@b.example>
C: RCPT TO:<never@d.example>
C: RCPT TO:<later@d.example>
C: RCPT TO:<served@d.example>
C: RCPT TO:<full@d.example> NOTIFY=NEVER
C: DATA
S: 250 ok
S: 550 no
S: 451 not now
S: 250 ok
S: 450 mailbox full
S: 354 go on
C: hello
C: .
S: 250 ok
C: MAIL FROM:<a@b.example>
C: RCPT TO:<later@d.example>
C: RCPT TO:<full@d.example> NOTIFY=NEVER
C: DATA
S: 250 ok
S: 250 ok
S: 550 no
S: 354 go on
C: hello
C: .
S: 250 ok
`)
	m := message("hello\r\n", "never@d.example", "later@d.example", "served@d.example", "full@d.example")
	m.To[3].Params = ehlo.DSNRcpt{Notify: ehlo.NotifyNever}.AddTo(nil)
	_, err := c.Send(t.Context(), m)
	failed, ok := asType[*SendError](err)
	if !ok {
		t.Fatal(err)
	}
	again := failed.Retry(m)
	if again == nil || addresses(again.To) != "later@d.example full@d.example" || len(m.To) != 4 {
		t.Fatalf("again to %v", again)
	}
	res, err := c.Send(t.Context(), again)
	if codes(res) != "0 550" {
		t.Errorf("%s, %v", codes(res), err)
	}
	if failed, ok = asType[*SendError](err); !ok || failed.Retry(again) != nil {
		t.Errorf("there is somebody left: %v", err)
	}
}

// TestSendErrorRetryDoubt: who may have got the message is not tried again.
func TestSendErrorRetryDoubt(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING")+`
C: MAIL*
C: RCPT*
C: RCPT*
C: DATA
S: 250 ok
S: 250 ok
S: 451 not now
S: 354 go on
C: hello
C: .
CLOSE
`)
	m := message("hello\r\n", "c@d.example", "e@d.example")
	_, err := c.Send(t.Context(), m)
	failed, ok := asType[*SendError](err)
	if !ok || !failed.Unknown {
		t.Fatal(err)
	}
	if again := failed.Retry(m); again == nil || addresses(again.To) != "e@d.example" {
		t.Errorf("again to %v", again)
	}
	// The same from a Sender that does not mark the recipient.
	failed.Result.Recipients[0].Err = &LostError{Err: io.EOF}
	if again := failed.Retry(m); again == nil || addresses(again.To) != "e@d.example" {
		t.Errorf("again to %v, which has no mark", again)
	}
}

// TestSendErrorRetryUsed: a Body that is used up can be replaced, and is not sent as an empty message.
func TestSendErrorRetryUsed(t *testing.T) {
	c := dial(t, nil, hello()+`
C: MAIL*
S: 451 not now
C: MAIL*
S: 250 ok
C: RCPT*
S: 250 ok
C: DATA
S: 354 go on
C: other
C: .
S: 250 ok
`)
	m := message("", "c@d.example")
	m.Body = oddPieces{strings.NewReader("hello\r\n")}
	_, err := c.Send(t.Context(), m)
	failed, ok := asType[*SendError](err)
	if !ok {
		t.Fatal(err)
	}
	again := failed.Retry(m)
	_, err = c.Send(t.Context(), again)
	if _, ok := asType[*MessageError](err); !ok {
		t.Errorf("the Body is read again: %v", err)
	}
	again.Body = strings.NewReader("other\r\n")
	if _, err = c.Send(t.Context(), again); err != nil {
		t.Error(err)
	}
}

// TestDialSender has a Sender dial once for each message, and tells of each recipient when nobody is there.
func TestDialSender(t *testing.T) {
	script := hello("PIPELINING") + taken("c@d.example") + bye
	s := DialSender(host, inPlaintext(clienttest.New(t, script, script)))
	for range 2 {
		if res, err := s.Send(t.Context(), message("hello\r\n", "c@d.example")); err != nil || codes(res) != "0" {
			t.Errorf("%v, %v", res, err)
		}
	}
	nobody := &Options{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errRefused }}
	res, err := DialSender(host, nobody).Send(t.Context(), message("", "c@d.example", "e@d.example"))
	failed, ok := asType[*SendError](err)
	if !ok || failed.Result != res || codes(res) != "-1 -1" || !errors.Is(err, errRefused) ||
		!Temporary(err) || !SafeToRetry(err) {
		t.Errorf("%v", err)
	}
	if res, err = DialSender(host, nobody).Send(t.Context(), nil); res == nil || err == nil {
		t.Errorf("no message: %v, %v", res, err)
	}
}
