package client

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) { prototest.Main(m) }

const host = clienttest.Hostname + ":25"

// inClear returns options for a session in clear with srv.
func inClear(srv *clienttest.Server) *Options {
	return &Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, DialContext: srv.Dial}
}

// dial returns a client of a server that plays scripts, one for each connection.
func dial(t *testing.T, change func(*Options), scripts ...string) *Client {
	t.Helper()
	opt := inClear(clienttest.New(t, scripts...))
	if change != nil {
		change(opt)
	}
	c, err := Dial(context.Background(), host, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// message returns a message to recipients, from a@b.example.
func message(body string, to ...string) *Message {
	m, err := NewMessage("a@b.example", to, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	return m
}

// codes returns the codes of the errors of recipients, 0 for those that are served and -1 for errors without a code.
func codes(res *Result) string {
	var b bytes.Buffer
	for _, r := range res.Recipients {
		code := 0
		if r.Err != nil {
			code = -1
			if e, ok := asReply(r.Err); ok {
				code = e.Code
			}
		}
		fmt.Fprintf(&b, " %d", code)
	}
	return strings.TrimSpace(b.String())
}

func asReply(err error) (*proto.Error, bool) {
	for e := err; e != nil; {
		if p, ok := e.(*proto.Error); ok {
			return p, true
		}
		u, ok := e.(interface{ Unwrap() error })
		if !ok {
			return nil, false
		}
		e = u.Unwrap()
	}
	return nil, false
}

// hello is how a session with a server begins that offers keywords.
func hello(keywords ...string) string {
	lines := append([]string{"mail.example"}, keywords...)
	var b strings.Builder
	b.WriteString("S: 220 mail.example\nC: EHLO client.example\n")
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		b.WriteString("S: 250" + sep + l + "\n")
	}
	return b.String()
}
