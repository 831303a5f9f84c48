package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
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

// TestUnprepared checks that what an extension finds wrong with a message counts as an error of the message, unless it says what
// it is.
func TestUnprepared(t *testing.T) {
	odd, own, later := errors.New("odd"), &ext.TooLargeError{Size: 2, Max: 1}, &proto.Error{Code: 451}
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
		{&closedError{no}, "4.4.2"},
		{&LimitError{Err: no}, "4.5.3"},
		{&MessageError{Err: io.EOF}, "5.6.0"},
	} {
		if got := tt.err.Status().String(); got != tt.want {
			t.Errorf("%#v: %s, want %s", tt.err, got, tt.want)
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

// TestP23_Trace checks what a trace is told, and above all what it is not.
func TestP23_Trace(t *testing.T) {
	var log []string
	type key struct{}
	note := func(ctx context.Context, format string, args ...any) {
		log = append(log, fmt.Sprintf(format, args...))
		if ctx.Value(key{}) != "of the call" {
			t.Errorf("%q has another context", log[len(log)-1])
		}
	}
	srv := clienttest.New(t, `TLS
S: 220 mail.example
C: EHLO client.example
S: 250-mail.example
S: 250-PIPELINING
S: 250 AUTH LOGIN
C: AUTH LOGIN
S: 334 VXNlcm5hbWU6
C: YWxpY2U=
S: 334 UGFzc3dvcmQ6
C: c2VjcmV0
S: 235 welcome
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 354 go on
C: hush
C: .
S: 250 ok
C: QUIT
S: 221 bye`)
	err := Send(context.WithValue(context.Background(), key{}, "of the call"), host, &Options{
		Hostname: "client.example", TLS: ext.TLSImplicit, TLSConfig: clienttest.TLSConfig(), DialContext: srv.Dial,
		Credentials: ext.Password("alice", "secret"),
		Trace: &Trace{
			Connected: func(ctx context.Context, c *Client) { note(ctx, "connected to %v", c.RemoteAddr()) },
			Secured: func(ctx context.Context, c *Client, s tls.ConnectionState) {
				note(ctx, "TLS with %s, %v", s.ServerName, c.Verified())
			},
			Command: func(ctx context.Context, _ *Client, verb, args string) {
				note(ctx, "C: %s", strings.Trim(verb+" "+args, " "))
			},
			Content: func(ctx context.Context, _ *Client, n int64, r proto.Reply) {
				note(ctx, "content of %d octets, %d %s", n, r.Code, r.Text)
			},
			Reply: func(ctx context.Context, _ *Client, verb string, r proto.Reply) {
				note(ctx, "S: %d %s (%s)", r.Code, strings.ReplaceAll(r.Text, "\n", "/"), verb)
			},
			Closed: func(ctx context.Context, _ *Client, err error) { note(ctx, "closed: %v", err) },
		},
	}, message("hush\r\n", "c@d.example"))
	if err != nil {
		t.Fatal(err)
	}
	want := `connected to pipe
TLS with mail.example, true
S: 220 mail.example ()
C: EHLO client.example
S: 250 mail.example/PIPELINING/AUTH LOGIN (EHLO)
C: AUTH ***
S: 334 *** (AUTH)
C: ***
S: 334 *** (AUTH)
C: ***
S: 235 welcome (AUTH)
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>
C: DATA
S: 250 ok (MAIL)
S: 250 ok (RCPT)
S: 354 go on (DATA)
S: 250 ok (DATA)
content of 9 octets, 250 ok
C: QUIT
S: 221 bye (QUIT)
closed: <nil>`
	if got := strings.Join(log, "\n"); got != want {
		t.Errorf("traced\n%s\n\nwant\n%s", got, want)
	}
}

// TestOutsideExtension checks that an extension that nobody here knows works: a keyword, a parameter, a need and a verb. Without
// its keyword the verb is not sent.
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
	list := append(ext.Default(), colour)
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
		t.Errorf("XPAINT to a server without it: %v, want a NeedError", err)
	}
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
		{context.Canceled, true, true},
		{&MessageError{What: "x", Err: errors.New("y")}, true, false},
	} {
		if SafeToRetry(tt.err) != tt.safe || Temporary(tt.err) != tt.temporary {
			t.Errorf("%v: safe %v, temporary %v", tt.err, SafeToRetry(tt.err), Temporary(tt.err))
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
