package server_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestF15_UnreadContent: the server skips the content that Data leaves unread, and checks it.
func TestF15_UnreadContent(t *testing.T) {
	refuse := func(context.Context, io.Reader) error { return &proto.Error{Code: 550, Text: "spam"} }
	opt := server.Options{Limits: server.Limits{MessageSize: 2 << 20}}
	for _, c := range []struct {
		name    string
		data    func(context.Context, io.Reader) error
		content string
		want    string
	}{
		{"accepted unread", readNothing, strings.Repeat("MAIL FROM:<x@y>\r\n", 10000), "250 "},
		{"refused unread", refuse, strings.Repeat("QUIT\r\n", 10000), "550 5.0.0 spam"},
		{"bare LF after an acceptance", readNothing, "a\nb\r\n", "554 5.6.0"},
		{"bare CR after an acceptance", readNothing, "a\rb\r\n", "554 5.6.0"},
		{"too large after an acceptance", readNothing, strings.Repeat("12345678\r\n", 300_000), "552 5.3.4"},
		{"too large and refused", refuse, strings.Repeat("12345678\r\n", 300_000), "550 5.0.0 spam"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := withData(t, opt, c.data)
			p.ask("DATA", "354 ", c.content+".", c.want, "NOOP", "250 ")
			p.begin()
			p.quit()
		})
	}
}

// TestF16Z185_EndlessContent: the server gives up a client that goes on sending content which was refused.
func TestF16Z185_EndlessContent(t *testing.T) {
	p, _ := withData(t, server.Options{Limits: server.Limits{MessageSize: 1 << 20}}, func(_ context.Context, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	p.ask("DATA", "354 ")
	block := strings.Repeat("12345678\r\n", 1000)
	sent := 0
	for ; sent < 10<<20; sent += len(block) {
		if _, err := io.WriteString(p.nc, block); err != nil {
			break
		}
	}
	if sent > 3<<20 {
		t.Errorf("the server read %d octets of a message that must not have more than %d", sent, 1<<20)
	}
	p.expect("552 5.3.4")
	if err := p.ended(); err == nil {
		t.Error("ServeConn returned nil")
	}
}

// TestSkippedOctetsOfOneMessage: what was skipped before a message does not count against the client behind it.
func TestSkippedOctetsOfOneMessage(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{Limits: server.Limits{MessageSize: 1000}}))
	p.hello()
	unwanted := strings.Repeat("x", 600_000)
	p.chunk("BDAT 600000", unwanted, "503")
	p.begin()
	p.ask("DATA", "354", "a\r\n.", "250")
	p.chunk("BDAT 600000", unwanted, "503")
	p.quit()
}

// TestSkippedOctetsAddUp: a client that goes on sending octets that nobody wants is given up.
func TestSkippedOctetsAddUp(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{Limits: server.Limits{MessageSize: 1000}}))
	p.hello()
	p.chunk("BDAT 600000", strings.Repeat("x", 600_000), "503")
	p.ask("BDAT 600000", "503") // without its octets, for which the server does not wait any more
	_ = p.ended()
}

// TestN13_JustTooLarge: the octets of a chunk that is too large are read and dropped, and the session goes on, up to
// twice the largest message (RFC 3030 section 2). The numbers of the first line are those of a report.
func TestN13_JustTooLarge(t *testing.T) {
	const limit = 4 << 20
	for _, c := range []struct {
		name string
		size int
		verb string
	}{
		{"of a report", 4195304, "BDAT 4195304 LAST"},
		{"by one octet", limit + 1, "BDAT 4194305 LAST"},
		{"not the last", limit + 1, "BDAT 4194305"},
		{"twice as large", 2 * limit, "BDAT 8388608 LAST"},
	} {
		for _, data := range []func(context.Context, io.Reader) error{nil, readNothing} {
			t.Run(c.name, func(t *testing.T) {
				p, st := withData(t, server.Options{Limits: server.Limits{MessageSize: limit}}, data)
				p.chunk(c.verb, strings.Repeat("QUIT\r\n", c.size/6+1)[:c.size], "552 5.3.4")
				p.ask("RSET", "250 ")
				p.begin()
				p.chunk("BDAT 2 LAST", "\r\n", "250 ")
				p.quit()
				if data == nil && len(st.messages()) != 1 {
					t.Errorf("%d messages, want the second", len(st.messages()))
				}
			})
		}
	}
	t.Run("more than twice", func(t *testing.T) {
		p, _ := withData(t, server.Options{Limits: server.Limits{MessageSize: limit}}, nil)
		p.ask("BDAT 8388609 LAST", "552 5.3.4") // without its octets, for which nobody waits
		if p.ended() == nil {
			t.Error("ServeConn returned nil")
		}
	})
	t.Run("behind a MAIL that was refused for its size", func(t *testing.T) {
		p := dial(t, newServer(t, &store{}, server.Options{Limits: server.Limits{MessageSize: limit}}))
		p.hello()
		p.send("MAIL FROM:<a@b.example> SIZE=8388608\r\nRCPT TO:<c@d.example>\r\n")
		p.chunk("BDAT 8388608 LAST", strings.Repeat("QUIT\r\n", 2*limit/6+1)[:2*limit], "552 5.3.4")
		p.expect("503 ", "503 ")
		p.begin()
		p.quit()
	})
	t.Run("in two chunks", func(t *testing.T) {
		p, _ := withData(t, server.Options{Limits: server.Limits{MessageSize: limit}}, nil)
		half := strings.Repeat("x", limit)
		p.chunk("BDAT 4194304", half, "250 ")
		p.chunk("BDAT 4194304 LAST", half, "552 5.3.4")
		p.begin()
		p.quit()
	})
}
