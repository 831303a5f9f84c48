package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

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
		Credentials: auth.Password("alice", "secret"),
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
C: AUTH LOGIN
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

// TestTraceContent checks that the content of a message is traced once, with its octets as they were transmitted, and
// only if it was sent to its end and answered.
func TestTraceContent(t *testing.T) {
	chunk := "C: BDAT 65536\nC+ \"x\" * 65536\n"
	group := "C: MAIL*\nC: RCPT*\n"
	for _, tt := range []struct {
		name   string
		script string
		body   string
		want   string
	}{
		{"DATA", hello("PIPELINING") + groupUpToData + "C: ..x\nC: .\nS: 250 ok\n", ".x", "8 250"},
		{"refused at the end", hello("PIPELINING") + groupUpToData + "C: x\nC: .\nS: 554 no\n", "x", "6 554"},
		{"chunks", hello("CHUNKING", "PIPELINING") + group + chunk +
			"S: 250 ok\nS: 250 ok\nS: 250 ok\nC: BDAT 3 LAST\nC~ \"x\\r\\n\"\nS: 250 ok\n",
			strings.Repeat("x", blockSize+1) + "\n", "65539 250"},
		{"a chunk refused", hello("CHUNKING", "PIPELINING") + group + chunk +
			"S: 250 ok\nS: 250 ok\nS: 552 no\nC: RSET\nS: 250 ok\n",
			strings.Repeat("x", blockSize+1), ""},
		{"no answer", hello("PIPELINING") + groupUpToData + "C: x\nC: .\nCLOSE", "x", ""},
		{"LMTP", strings.Replace(hello("PIPELINING"), "EHLO", "LHLO", 1) +
			"C: MAIL*\nC: RCPT*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go on\nC: x\nC: .\nS: 250 one\n" +
			"S: 452 two\n", "x", "6 250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			to := []string{"c@d.example"}
			c := dial(t, func(o *Options) {
				if tt.name == "LMTP" {
					o.Protocol, to = proto.LMTP, append(to, "e@d.example")
				}
				o.Trace = &Trace{Content: func(_ context.Context, _ *Client, octets int64, r proto.Reply) {
					got = append(got, fmt.Sprint(octets, " ", r.Code))
				}}
			}, tt.script)
			_, _ = c.Send(t.Context(), message(tt.body, to...))
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("traced %q, want %q", got, tt.want)
			}
		})
	}
}

// TestTraceClosed checks that each connection of a client is traced from its beginning to its end, with the reason.
func TestTraceClosed(t *testing.T) {
	var log []string
	trace := func(o *Options) {
		o.Trace = &Trace{
			Connected: func(_ context.Context, c *Client) { log = append(log, "connected") },
			Closed:    func(_ context.Context, c *Client, err error) { log = append(log, fmt.Sprint("closed: ", err)) },
		}
	}
	c := dial(t, trace, limited("MAILMAX=1")+taken("c@d.example")+bye,
		hello("PIPELINING")+"C: MAIL*\nC: RCPT*\nC: DATA\nS: 421 bye\nHANGUP")
	for range 2 {
		_, _ = c.Send(t.Context(), message("hello\r\n", "c@d.example"))
	}
	c.Close()
	const want = "connected, closed: <nil>, connected, closed: smtp: MAIL: 421 bye"
	if got := strings.Join(log, ", "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestTraceVerb checks what a reply is said to answer if nothing is outstanding: the verb of the content that is being
// sent, or nothing.
func TestTraceVerb(t *testing.T) {
	var log []string
	trace := &Trace{Reply: func(_ context.Context, _ *Client, verb string, r proto.Reply) {
		log = append(log, fmt.Sprintf("%q %d", verb, r.Code))
	}}
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		in := &lineReader{r: here}
		for _, reply := range []string{"220 mail.example", "250 mail.example", "250 ok", "250 ok", "354 go on"} {
			io.WriteString(here, reply+"\r\n")
			in.line()
		}
		io.WriteString(here, "552 too large\r\n")
	}()
	c, err := NewClient(t.Context(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone, Trace: trace})
	if err != nil {
		t.Fatal(err)
	}
	m := message("", "c@d.example")
	m.Body = endless{}
	if res, err := c.Send(t.Context(), m); codes(res) != "552" {
		t.Errorf("%s, %v", codes(res), err)
	}
	<-done
	here.Close()
	c = dial(t, func(o *Options) { o.Trace = trace }, hello()+"C: NOOP\nS: 250 ok\nS: 421 idle\nHANGUP")
	_ = c.Noop(t.Context()) // the 421 is noticed now, or by the next call
	if err := c.Noop(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after 421: %v", err)
	}
	const want = `"" 220, "EHLO" 250, "MAIL" 250, "RCPT" 250, "DATA" 354, "DATA" 552, ` +
		`"" 220, "EHLO" 250, "NOOP" 250, "" 421`
	if got := strings.Join(log, ", "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestTraceHidesSecrets: arguments are hidden for a verb that is Secret, and after a call of Secret.
func TestTraceHidesSecrets(t *testing.T) {
	list := append(ehlo.Default(), ext.Extension{
		Keyword: "XSEC",
		Verbs:   []proto.Verb{{Name: "XONE", In: proto.Ready}, {Name: "XTWO", In: proto.Ready, Secret: true}},
		Negotiate: func(ctx context.Context, d ext.Negotiation) error {
			d.Secret()
			_, err := d.Do(ctx, "XONE", "hush")
			return err
		},
	})
	var seen strings.Builder
	c := dial(t, func(o *Options) {
		o.Extensions = list
		o.Trace = &Trace{Command: func(_ context.Context, _ *Client, verb, args string) { seen.WriteString(verb + " " + args + "\n") }}
	}, hello("XSEC")+"C: XONE hush\nS: 250 ok\nC: XTWO hush\nS: 250 ok\nC: XONE open\nS: 250 ok\n"+bye)
	c.Do(context.Background(), "XTWO", "hush")
	c.Do(context.Background(), "XONE", "open")
	if got := seen.String(); strings.Contains(got, "hush") || !strings.Contains(got, "XONE open") {
		t.Errorf("the trace has %q", got)
	}
}

// TestContentThatWasNotSentIsNotTraced fails on HEAD: 421 right behind 354 makes Trace.Content report octets of which
// none was sent.
func TestContentThatWasNotSentIsNotTraced(t *testing.T) {
	c := dial(t, func(o *Options) {
		o.Trace = &Trace{Content: func(_ context.Context, _ *Client, octets int64, r proto.Reply) {
			t.Errorf("the trace has %d octets of content, and %v", octets, r)
		}}
	}, hello()+"C: MAIL*\nS: 250 ok\nC: RCPT*\nS: 250 ok\nC: DATA\nS: 354 go\nS: 421 bye\nHANGUP\n")
	if _, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err == nil {
		t.Error("no error")
	}
}
