package client

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// TestNeeds checks that what the server does not offer is found before a byte of a message is sent.
func TestNeeds(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING", "SIZE 100"))
	ctx := context.Background()
	for _, tt := range []struct {
		name   string
		change func(*Message)
		want   string
	}{
		{"UTF-8 in the recipient", func(m *Message) { m.To[0].Address.Local = "jörg" }, "SMTPUTF8"},
		{"UTF-8 in the sender", func(m *Message) { m.From.Local = "jörg" }, "SMTPUTF8"},
		{"UTF-8 in the header", func(m *Message) { m.Needs = ext.UTF8 }, "SMTPUTF8"},
		{"a parameter", func(m *Message) { m.Mail = m.Mail.Set("BODY", "7BIT") }, "8BITMIME"},
		{"too large", func(m *Message) { m.Body = strings.NewReader(strings.Repeat("x", 101)) }, "100 at most"},
		{"too large, as the caller says", func(m *Message) { m.Body, m.Size = endless{}, 101 }, "100 at most"},
		{"no recipients", func(m *Message) { m.To = nil }, "no recipients"},
	} {
		m := message("x", "c@d.example")
		tt.change(m)
		res, err := c.Send(ctx, m)
		e, ok := asType[*SendError](err)
		if !ok || !strings.Contains(err.Error(), tt.want) || e.Result != res || Temporary(err) || !SafeToRetry(err) {
			t.Errorf("%s: %v, want an error about %s", tt.name, err, tt.want)
		}
	}
}

// TestUnprepared checks that what an extension finds wrong with a message counts as an error of the message, unless it
// says what it is.
func TestUnprepared(t *testing.T) {
	odd, own, later := errors.New("odd"), &ehlo.TooLargeError{Size: 2, Max: 1}, &proto.Error{Code: 451}
	for _, tt := range []struct{ err, want error }{
		{odd, &MessageError{What: "the message", Err: odd}}, {own, own}, {later, later},
	} {
		c := dial(t, func(o *Options) {
			o.Extensions = []ext.Extension{{Keyword: "X-ODD", Prepare: func(proto.Caps, *ext.Envelope) error { return tt.err }}}
		}, hello("X-ODD"))
		res, err := c.Send(context.Background(), message("x", "c@d.example"))
		if !errors.Is(err, tt.err) {
			t.Errorf("%v does not wrap %v", err, tt.err)
		}
		if got := res.Recipients[0].Err; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v: %#v, want %#v", tt.err, got, tt.want)
		}
	}
}

// TestUTF8 checks how addresses are written with SMTPUTF8, and a domain without it (RFC 6531 section 3.2).
func TestUTF8(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING", "SMTPUTF8", "8BITMIME")+`
C: MAIL FROM:<a@b.example> SMTPUTF8
C~ "RCPT TO:<jörg@münchen.example>\r\n"
C: DATA
S: 250 ok
S: 250 ok
S: 354 go on
C:
C: .
S: 250 ok
C: MAIL FROM:<a@b.example>
C: RCPT TO:<joerg@xn--mnchen-3ya.example>
C: DATA
S: 250 ok
S: 250 ok
S: 354 go on
C:
C: .
S: 250 ok`)
	for _, to := range []string{"jörg@münchen.example", "joerg@münchen.example"} {
		if _, err := c.Send(context.Background(), message("\n", to)); err != nil {
			t.Error(err)
		}
	}
}

// TestM09_TooLarge checks that a message above what the server accepts is not begun with, and says why.
func TestM09_TooLarge(t *testing.T) {
	c := dial(t, nil, hello("SIZE 10")+"C: NOOP\nS: 250 ok\n"+`
C: MAIL FROM:<a@b.example> SIZE=10
S: 250 ok
C: RCPT TO:<c@d.example>
S: 250 ok
C: DATA
S: 354 go on
C: 12345678
C: .
S: 250 ok`)
	_, err := c.Send(context.Background(), message("12345678\r\n\r\n", "c@d.example"))
	if e, ok := asType[*ehlo.TooLargeError](err); !ok || e.Size != 12 || e.Max != 10 || Temporary(err) {
		t.Errorf("%v, want a TooLargeError of 12 octets, 10 permitted", err)
	}
	if err := c.Noop(context.Background()); err != nil {
		t.Errorf("the connection: %v", err)
	}
	// Line ends count as CRLF, and the dot that is added does not.
	if _, err := c.Send(context.Background(), message("12345678\n", "c@d.example")); err != nil {
		t.Error(err)
	}
}

// TestP32_Submitter checks that a relay can pass on who submitted a message, and that it is unknown.
func TestP32_Submitter(t *testing.T) {
	for who, want := range map[string]string{"": "<>", "e=mc2@example.com": "e+3Dmc2@example.com"} {
		var a proto.Address
		if who != "" {
			var err error
			if a, err = proto.ParseAddress(who); err != nil {
				t.Fatal(err)
			}
		}
		c := dial(t, nil, hello("AUTH PLAIN")+"C: MAIL FROM:<a@b.example> AUTH="+want+"\n"+
			"S: 250 ok\nC: RCPT TO:<c@d.example>\nS: 250 ok\nC: DATA\nS: 354 go on\nC: x\nC: .\nS: 250 ok\n")
		m := message("x", "c@d.example")
		m.Mail = auth.AddSubmitter(m.Mail, a)
		if _, err := c.Send(context.Background(), m); err != nil {
			t.Error(err)
		}
	}
}

// TestPrepareSpoils has an extension change parameters in place: those of the message stay as they are.
func TestPrepareSpoils(t *testing.T) {
	spoils := ext.Extension{Keyword: "XSPOIL", Mail: []ext.Param{{Key: "XM", MaxLength: 9}},
		Rcpt: []ext.Param{{Key: "XR", MaxLength: 9}},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			e.Mail[0].Value, e.To[0].Params[0].Value = "2", "2"
			return nil
		}}
	c := dial(t, func(o *Options) { o.Extensions = []ext.Extension{spoils} }, hello("XSPOIL")+
		"C: MAIL FROM:<a@b.example> XM=2\nS: 250 ok\nC: RCPT TO:<c@d.example> XR=2\nS: 250 ok\nC: DATA\nS: 354 go on\n"+
		"C: .\nS: 250 ok\n")
	m := message("", "c@d.example")
	m.Mail, m.To[0].Params = m.Mail.Set("XM", "1"), m.To[0].Params.Set("XR", "1")
	if _, err := c.Send(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	if m.Mail[0].Value != "1" || m.To[0].Params[0].Value != "1" {
		t.Errorf("the message has %v and %v now", m.Mail, m.To[0].Params)
	}
}
