package ehlo_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A lemonade is a submission server whose sessions resolve URLs.
type lemonade struct{ *witness }

func (l lemonade) NewSession(_ context.Context, c *server.Conn) (server.Session, error) {
	return &lemonadeSession{witnessSession{w: l.witness, conn: c}}, nil
}

type lemonadeSession struct{ witnessSession }

// access is the URLAUTH of a URL that grants access to harry (RFC 4467 section 3).
const access = ";urlauth=submit+harry:internal:91354a473744909de610943775f92038"

func (s *lemonadeSession) ResolveURL(_ context.Context, url string) (io.ReadCloser, int64, error) {
	text, ok := map[string]string{
		"imap://harry@imap.example/outbox/;uid=1" + access: "Subject: from the outbox\r\n\r\n",
		"imap://harry@imap.example/outbox/;uid=2" + access: "whole\r\n.\r\n",
	}[url]
	if !ok {
		return nil, 0, ehlo.ErrURLFailed
	}
	return io.NopCloser(strings.NewReader(text)), int64(len(text)), nil
}

// testBURL has our client submit a message that our server fetches, in parts and whole (RFC 4468). TestRegistry runs
// it.
func testBURL(t *testing.T) {
	w := &witness{}
	theirs, ours := ownTLS(t)
	list := ehlo.Submission(ehlo.SubmissionPolicy{URLs: []string{"imap"}})
	addr := listening(t, lemonade{w}, server.Options{Extensions: list, TLSConfig: theirs})
	c, err := client.Dial(t.Context(), addr, &client.Options{
		Extensions: list, TLSConfig: ours, Credentials: auth.Password("harry", "secret of harry", "PLAIN"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if args, ok := c.Caps().Args("BURL"); !ok || args != "imap" {
		t.Errorf("offered are %v", c.Caps())
	}
	begin := func() {
		t.Helper()
		for _, line := range [][2]string{{"MAIL", "FROM:<a@b.example>"}, {"RCPT", "TO:<c@d.example>"}} {
			if r, err := c.Do(t.Context(), line[0], line[1]); err != nil || r.Code != 250 {
				t.Fatalf("%v: %v, %v", line, r, err)
			}
		}
	}
	const box = "imap://harry@imap.example/outbox/;uid="
	begin()
	if err := errors.Join(ehlo.SendBURL(t.Context(), c, box+"1"+access, false), ehlo.SendBURL(t.Context(), c, box+"2"+access, true)); err != nil {
		t.Fatal(err)
	}
	begin()
	if err := ehlo.SendBURL(t.Context(), c, box+"2"+access, true); err != nil {
		t.Fatal(err)
	}
	begin()
	err = ehlo.SendBURL(t.Context(), c, box+"3"+access, false)
	if e, ok := grammar.AsType[*proto.Error](err); !ok || e.Code != 554 || e.Status != (proto.Status{5, 6, 6}) {
		t.Errorf("a URL that leads nowhere: %v", err)
	}
	if err := ehlo.SendBURL(t.Context(), c, box+"2"+access, true); !errors.Is(err, proto.ErrSequence) {
		t.Errorf("behind what was refused: %v, want ErrSequence", err)
	}
	send(t, c, "an ordinary one\r\n") // which resets first
	var got []string
	for _, m := range w.seen {
		got = append(got, m.body)
	}
	want := "Subject: from the outbox\r\n\r\nwhole\r\n.\r\n|whole\r\n.\r\n|an ordinary one\r\n"
	if strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
