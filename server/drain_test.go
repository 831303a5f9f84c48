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

// TestF16_EndlessContent: the server gives up a client that goes on sending content which was refused.
func TestF16_EndlessContent(t *testing.T) {
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
