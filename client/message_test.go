package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestD21D22_Injection checks that nothing a caller passes can become a command of its own: it is refused before a byte
// of it is sent.
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
	m, err := NewMessage(`"a> NOTIFY=NEVER"@b.example`, []string{`"victim@evil.example> NOTIFY=NEVER"@d.example`},
		strings.NewReader("\n"))
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
			t.Errorf("the local part %.20q: %v, want a MessageError or an UnsupportedError", local, err)
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

// TestNewMessage checks the forms of addresses that NewMessage takes, and what it says of others.
func TestNewMessage(t *testing.T) {
	for _, tt := range []struct {
		from string
		to   []string
		want string // both addresses, or part of the error
	}{
		{"a@b.example", []string{"c@d.example"}, "a@b.example c@d.example"},
		{"<a@b.example>", []string{"<c@d.example>"}, "a@b.example c@d.example"},
		{"", []string{`<"x y"@d.example>`}, ` "x y"@d.example`},
		{"<>", []string{"c@d.example"}, " c@d.example"},
		{"a@b.example", nil, "smtp: the message: it has no recipients"},
		{"a@b.example", []string{"Carol <c@d.example>"},
			`smtp: the recipient "Carol <c@d.example>": write the address alone, without a name`},
		{"Alice B <a@b.example>", []string{"c@d.example"},
			`smtp: the sender "Alice B <a@b.example>": write the address alone`},
		{"user..name@example.net", []string{"<.x@d.example>"}, `"user..name"@example.net ".x"@d.example`},
		{"a..(@b.example", []string{"c@d.example"}, `smtp: the sender "a..(@b.example": `},
		{"a@b.example", []string{"<>"}, `smtp: the recipient "<>": `},
		{"a@b.example", []string{"<c@d.example"}, `smtp: the recipient "<c@d.example": `},
	} {
		m, err := NewMessage(tt.from, tt.to, nil)
		if err != nil {
			if _, ok := asType[*MessageError](err); !ok || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%q to %q: %v, want %s", tt.from, tt.to, err, tt.want)
			}
			continue
		}
		from := ""
		if !m.From.IsNull() {
			from = m.From.String()
		}
		if got := from + " " + m.To[0].Address.String(); got != tt.want {
			t.Errorf("%q to %q: %s, want %s", tt.from, tt.to, got, tt.want)
		}
	}
}

// TestUsedBody sends messages again whose body has been read. One that cannot be read again must not be sent empty.
func TestUsedBody(t *testing.T) {
	once := groupUpToData + "C: hello\nC: .\nS: 250 ok\n"
	refused := "C: MAIL*\nC: RCPT*\nC: DATA\nS: 451 not yet\nS: 503 no\nS: 503 no\n"
	buffer := bytes.NewBufferString("hello\r\n")
	m, err := NewMessage("a@b.example", []string{"c@d.example"}, buffer)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, nil, hello("PIPELINING")+refused+once+once)
	if _, err := c.Send(t.Context(), m); !Temporary(err) || !SafeToRetry(err) {
		t.Fatalf("the first time: %v", err)
	}
	for range 2 {
		if _, err := c.Send(t.Context(), m); err != nil || buffer.String() != "hello\r\n" {
			t.Errorf("from a buffer: %v; %q is left in it", err, buffer)
		}
	}
	for name, body := range map[string]func() io.Reader{
		"pointer": func() io.Reader { return io.MultiReader(strings.NewReader("hello\r\n")) },
		"struct":  func() io.Reader { return oddPieces{strings.NewReader("hello\r\n")} },
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, nil, hello("PIPELINING")+refused+once+once+"C: NOOP\nS: 250 ok")
			m := message("", "c@d.example")
			for i, want := range []string{"refused", "used", "ok", "used", "ok"} {
				if want == "ok" || i == 0 {
					m.Body = body()
				}
				_, err := c.Send(t.Context(), m)
				_, bad := asType[*MessageError](err)
				if _, no := asReply(err); bad != (want == "used") || no != (want == "refused") || bad && !SafeToRetry(err) {
					t.Errorf("%d: %v, want it %s", i, err, want)
				}
			}
			if err := c.Noop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("in parts", func(t *testing.T) {
		c := dial(t, nil, limited("RCPTMAX=1")+taken("a@x.example"))
		m := message("", "a@x.example", "b@x.example")
		m.Body = io.MultiReader(strings.NewReader("hello\r\n"))
		if _, err := c.Send(t.Context(), m); !Temporary(err) {
			t.Fatalf("the first time: %v", err)
		}
		m.To = m.To[1:]
		if _, err := c.Send(t.Context(), m); !errors.Is(err, errUsed) {
			t.Errorf("the second time: %v", err)
		}
	})
	t.Run("SendAll", func(t *testing.T) {
		c := dial(t, nil, hello("PIPELINING")+once)
		m := message("", "c@d.example")
		m.Body = io.MultiReader(strings.NewReader("hello\r\n"))
		var got outcomes
		if err := c.SendAll(t.Context(), slices.Values([]*Message{m, m, nil}), got.each); err != nil ||
			got.String() != "0, -1, " {
			t.Errorf("%s, %v", got, err)
		}
	})
	t.Run("not read", func(t *testing.T) {
		c := dial(t, nil, hello("PIPELINING")+once)
		m := message("", "c@d.example")
		m.Body = io.MultiReader(strings.NewReader("hello\r\n"))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Send(gone, m); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if _, err := c.Send(t.Context(), m); err != nil {
			t.Errorf("a body that had not been read: %v", err)
		}
	})
}

// TestUsedReaderThatCannotBeCompared panics on HEAD: io.NopCloser returns a struct that is comparable by its type, and
// holds a func.
func TestUsedReaderThatCannotBeCompared(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING")+taken("c@d.example")+taken("c@d.example")+bye)
	m := message("", "c@d.example")
	for range 2 {
		m.Body = io.NopCloser(readerFunc(strings.NewReader("hello\r\n").Read))
		if _, err := c.Send(context.Background(), m); err != nil {
			t.Error(err)
		}
	}
}

// TestBufferWrittenLater: what is written to a bytes.Buffer behind NewMessage is part of the message, and stays in the
// buffer.
func TestBufferWrittenLater(t *testing.T) {
	var b bytes.Buffer
	m, err := NewMessage("a@b.example", []string{"c@d.example"}, &b)
	if err != nil {
		t.Fatal(err)
	}
	b.WriteString("Subject: late\r\n\r\n")
	for range 2 {
		if _, err := m.Body.(io.Seeker).Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(m.Body); err != nil || string(got) != "Subject: late\r\n\r\n" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if b.Len() != 17 {
		t.Errorf("%d octets are left in the buffer", b.Len())
	}
}
