package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
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
