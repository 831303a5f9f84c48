package server_test

import (
	"context"
	"io"
	"testing"

	"smtpkit.example/smtp/server"
)

func TestMessageFunc(t *testing.T) {
	type message struct{ from, to, body, param string }
	var got message
	b := server.MessageFunc(func(_ context.Context, m *server.Message) error {
		body, err := io.ReadAll(m.Body)
		got = message{from: m.From.String(), body: string(body)}
		for _, r := range m.To {
			got.to += r.Address.String() + " "
		}
		got.param, _ = m.Params.Get("BODY")
		if m.Conn.Hello() != "client.example" {
			t.Errorf("Hello is %q", m.Conn.Hello())
		}
		m.Conn.Accept("queued as 17")
		return err
	})
	p := dial(t, newServer(t, b, server.Options{}))
	p.hello()
	p.ask("MAIL FROM:<> BODY=8BITMIME", "250 ", "RCPT TO:<a@b.example>", "250 ", "RCPT TO:<Postmaster>", "250 ",
		"DATA", "354 ", "..x\r\n.", "250 2.0.0 queued as 17\r\n")
	if want := (message{"", "a@b.example Postmaster ", ".x\r\n", "8BITMIME"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// A second message knows nothing of the first.
	p.ask("MAIL FROM:<x@y.example>", "250 ", "RCPT TO:<c@d.example>", "250 ", "DATA", "354 ", ".", "250 ")
	if want := (message{"x@y.example", "c@d.example ", "", ""}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	p.quit()
}
