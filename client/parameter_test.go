package client

import (
	"context"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

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
	if e, ok := asType[*ext.TooLargeError](err); !ok || e.Size != 12 || e.Max != 10 || Temporary(err) {
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

// TestN20_NoChunks checks that no chunk is sent to a server which does not offer to take them, nor to one whose offer the
// caller does without.
func TestN20_NoChunks(t *testing.T) {
	const send = "C: MAIL FROM:<a@b.example>\nS: 250 ok\nC: RCPT TO:<c@d.example>\nS: 250 ok\nC: DATA\nS: 354 go on\nC: x\nC: .\nS: 250 ok\n"
	for name, c := range map[string]*Client{
		"not offered": dial(t, nil, hello()+send),
		"without":     dial(t, func(o *Options) { o.Without = []string{"chunking"} }, hello("CHUNKING")+send),
	} {
		if _, err := c.Send(context.Background(), message("x", "c@d.example")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "without" {
			continue
		}
		if r, err := c.Do(context.Background(), "BDAT", "0 LAST"); err == nil {
			t.Errorf("%s: BDAT was sent and answered %v", name, r)
		}
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
		m.Mail = ext.AddSubmitter(m.Mail, a)
		if _, err := c.Send(context.Background(), m); err != nil {
			t.Error(err)
		}
	}
}

// TestPrepareSpoils has an extension change parameters in place: those of the message stay as they are.
func TestPrepareSpoils(t *testing.T) {
	spoils := ext.Extension{Keyword: "XSPOIL", Mail: []ext.Param{{Key: "XM", MaxLength: 9}}, Rcpt: []ext.Param{{Key: "XR", MaxLength: 9}},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			e.Mail[0].Value, e.To[0].Params[0].Value = "2", "2"
			return nil
		}}
	c := dial(t, func(o *Options) { o.Extensions = []ext.Extension{spoils} }, hello("XSPOIL")+
		"C: MAIL FROM:<a@b.example> XM=2\nS: 250 ok\nC: RCPT TO:<c@d.example> XR=2\nS: 250 ok\nC: DATA\nS: 354 go on\nC: .\nS: 250 ok\n")
	m := message("", "c@d.example")
	m.Mail, m.To[0].Params = m.Mail.Set("XM", "1"), m.To[0].Params.Set("XR", "1")
	if _, err := c.Send(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	if m.Mail[0].Value != "1" || m.To[0].Params[0].Value != "1" {
		t.Errorf("the message has %v and %v now", m.Mail, m.To[0].Params)
	}
}
