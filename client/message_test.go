package client

import (
	"context"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestD21D22_Injection checks that nothing a caller passes can become a command of its own: it is refused before a byte of
// it is sent.
func TestD21D22_Injection(t *testing.T) {
	for _, addr := range []string{
		"a@b>\r\nRCPT TO:<evil@x",
		"a@b.example\r\nRCPT TO:<evil@x>",
		"\"a\r\nDATA\r\nx\"@b.example",
		"a@b.example> NOTIFY=NEVER",
		"a\x00@b.example",
		"<a@b.example> NOTIFY=NEVER",
		"<a@b.example>>",
		"<<a@b.example>",
		"Alice <a@b.example>",
		"a@b\u2028c.example",
		"",
	} {
		_, err := NewMessage("a@b.example", []string{addr}, nil)
		if e, ok := asType[*MessageError](err); !ok || !strings.Contains(e.Error(), "recipient") {
			t.Errorf("the recipient %q: %v, want a MessageError", addr, err)
		}
		if _, err := NewMessage(addr, nil, nil); addr != "" && err == nil {
			t.Errorf("the sender %q is no error", addr)
		}
	}
	c := dial(t, nil, hello("PIPELINING", "SIZE", "HELP", "VRFY", "XCAP")+`
C: MAIL FROM:<"a> NOTIFY=NEVER"@b.example> SIZE=2
C: RCPT TO:<"victim@evil.example> NOTIFY=NEVER"@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 354 go on
C:
C: .
S: 250 ok
C: NOOP
S: 250 ok`)
	ctx := context.Background()
	// CVE-2025-59937: a quoted local part keeps its quotes.
	m, err := NewMessage(`"a> NOTIFY=NEVER"@b.example`, []string{`"victim@evil.example> NOTIFY=NEVER"@d.example`}, strings.NewReader("\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(ctx, m); err != nil {
		t.Error(err)
	}
	for _, local := range []string{"a\r\nDATA", "a\x00", "a\nb", "a\xffb", strings.Repeat("a", 600)} {
		m := message("x", "c@d.example")
		m.To[0].Address.Local = local
		_, err := c.Send(ctx, m)
		_, message := asType[*MessageError](err)
		_, need := asType[*ext.UnsupportedError](err) // for what is not ASCII
		if !message && !need {
			t.Errorf("the local part %.20q: %v, want a MessageError or a NeedError", local, err)
		}
	}
	for _, value := range []string{"100\r\nRCPT TO:<e@v>", "1 2", "1=2", ""} {
		m := message("x", "c@d.example")
		m.Mail = proto.Params{{Key: "SIZE", Value: value, HasValue: true}}
		m.Body = endless{}
		if _, err := c.Send(ctx, m); err == nil {
			t.Errorf("SIZE=%q is no error", value)
		}
	}
	for _, args := range []string{"x\r\nMAIL FROM:<e@v>", "x\ny", "\x00", "\x1b", strings.Repeat("x", 600)} {
		for _, verb := range []string{"NOOP", "VRFY", "HELP"} {
			if _, err := c.Do(ctx, verb, args); err == nil {
				t.Errorf("%s %.20q is no error", verb, args)
			}
		}
	}
	for _, verb := range []string{"NOOP\r\nMAIL", "DATA", "BDAT", "EHLO", "HELO", "QUIT", "XCAP", "", "STARTTLS", "EXPN"} {
		if _, err := c.Do(ctx, verb, ""); err == nil {
			t.Errorf("Do(%q) is no error", verb)
		}
	}
	if err := c.Noop(ctx); err != nil {
		t.Errorf("the connection: %v", err)
	}
}

// TestRetry sends a message again that was refused for now: it has to have its content.
func TestRetry(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING")+
		"C: MAIL*\nC: RCPT*\nC: DATA\nS: 451 not yet\nS: 503 no\nS: 503 no\n"+
		groupUpToData+"C: ..hello\nC: .\nS: 250 ok\nC: QUIT\nS: 221 bye")
	m := message("hello\r\n", "c@d.example")
	body := strings.NewReader("skipped.hello\r\n")
	if _, err := body.Seek(int64(len("skipped")), io.SeekStart); err != nil {
		t.Fatal(err)
	}
	m.Body = body
	if _, err := c.Send(context.Background(), m); !Temporary(err) || !SafeToRetry(err) {
		t.Fatalf("the first time: %v", err)
	}
	if body.Len() != len(".hello\r\n") {
		t.Errorf("%d octets of the body are left, want it back at its beginning", body.Len())
	}
	// On the wire its dot is doubled.
	if _, err := c.Send(context.Background(), m); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

// TestSendTwice sends a message twice: it has its content the second time too.
func TestSendTwice(t *testing.T) {
	once := groupUpToData + "C: ..hello\nC: .\nS: 250 ok\n"
	c := dial(t, nil, hello("PIPELINING")+once+once)
	m := message(".hello\r\n", "c@d.example")
	for range 2 {
		if _, err := c.Send(context.Background(), m); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Send(context.Background(), nil); !SafeToRetry(err) || !strings.Contains(err.Error(), "no recipients") {
		t.Errorf("nil for a message: %v", err)
	}
}
