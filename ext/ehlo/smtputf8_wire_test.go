package ehlo_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A postmaster is a session that knows one user, and records the addresses of envelopes in both forms.
type postmaster struct {
	keeper
	seen []string
}

func (p *postmaster) Mail(_ context.Context, from proto.Address, _ proto.Params) error {
	p.seen = append(p.seen, from.Local+" "+from.Domain.Name()+" "+from.Domain.ASCII())
	return nil
}

func (p *postmaster) Rcpt(ctx context.Context, to proto.Address, params proto.Params) error {
	if to.Local == "gone" {
		return proto.Refuse(550, proto.Status{}, "Ask Jörg")
	}
	return p.Mail(ctx, to, params)
}

func (p *postmaster) Verify(context.Context, string) (ehlo.Mailbox, error) {
	joerg, err := proto.ParseAddress("jörg@bücher.example")
	return ehlo.Mailbox{Name: "Jörg", Address: joerg}, err
}

func (p *postmaster) Expand(ctx context.Context, list string) ([]ehlo.Mailbox, error) {
	m, err := p.Verify(ctx, list)
	return []ehlo.Mailbox{m}, err
}

// TestUTF8Server checks the rules of RFC 6531 for servers.
func TestUTF8Server(t *testing.T) {
	const utf8 = from + " SMTPUTF8"
	for _, tt := range []struct {
		name  string
		lines []string
		want  string // how the reply begins
	}{
		{"S03 with the parameter", []string{utf8, "RCPT TO:<jörg@bücher.example>"}, "250 2.1.5 "},
		{"S03 sender without", []string{"MAIL FROM:<jörg@b.example>"}, "550 5.6.7 "},
		{"S03 recipient without", []string{from, "RCPT TO:<c@bücher.example>"}, "553 5.6.7 "},
		{"S04 value", []string{from + " SMTPUTF8=1"}, "501 5.5.4 "},
		{"S05 VRFY", []string{"VRFY x SMTPUTF8"}, "250 2.1.5 Jörg <jörg@bücher.example>\r\n"},
		{"S05 EXPN", []string{"EXPN x SMTPUTF8"}, "250 2.1.5 Jörg <jörg@bücher.example>\r\n"},
		{"S05 for one command only", []string{"VRFY x SMTPUTF8", "VRFY x"}, "550 5.6.8 "},
		{"S05 the transaction does not count", []string{utf8, to, "VRFY x"}, "550 5.6.8 "},
		{"S05 not for others", []string{from, "VRFY x SMTPUTF8", "RCPT TO:<gone@d.example>"}, "550 5.0.0 Ask J?rg\r\n"},
		{"S06 VRFY", []string{"VRFY jörg"}, "550 5.6.8 "},
		{"S06 EXPN", []string{"EXPN x"}, "550 5.6.8 "},
		{"S08 overlong", []string{utf8, "RCPT TO:<\xc0\x80@d.example>"}, "501 5.5.2 "},
		{"S08 surrogate", []string{utf8, "RCPT TO:<\xed\xa0\x80@d.example>"}, "501 5.5.2 "},
		{"S08 beyond Unicode", []string{"MAIL FROM:<a@\xf5\x80\x80\x80.example> SMTPUTF8"}, "501 5.5.2 "},
		{"S16 64 octets", []string{utf8, "RCPT TO:<" + strings.Repeat("ö", 32) + "@d.example>"}, "250 2.1.5 "},
		{"S16 66 octets", []string{utf8, "RCPT TO:<" + strings.Repeat("ö", 33) + "@d.example>"}, "501 5.1.3 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := sayTo(t, ehlo.Default(), &postmaster{}, append([]string{Caps}, tt.lines...)...); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%q: %q, want %q", tt.lines, got, tt.want)
			}
		})
	}
	offered := strings.Split(sayTo(t, ehlo.Default(), &postmaster{}, Caps), "\r\n")
	t.Run("S01 with 8BITMIME", func(t *testing.T) {
		if !slices.Contains(offered, "250-8BITMIME") || !slices.Contains(offered, "250-SMTPUTF8") {
			t.Errorf("offered %q", offered)
		}
		if _, err := server.New(backend(&postmaster{}), &server.Options{Extensions: []ext.Extension{ehlo.SMTPUTF8()}}); err == nil {
			t.Error("a server has it without 8BITMIME")
		}
	})
	t.Run("S02 without arguments", func(t *testing.T) {
		if !slices.Contains(offered, "250-SMTPUTF8") {
			t.Errorf("offered %q", offered)
		}
	})
	t.Run("S07 both forms of a domain", func(t *testing.T) {
		p := &postmaster{}
		sayTo(t, ehlo.Default(), p, Caps, "MAIL FROM:<jörg@BÜCHER.example> SMTPUTF8", "RCPT TO:<c@xn--bcher-kva.example>")
		want := []string{"jörg BÜCHER.example xn--bcher-kva.example", "c xn--bcher-kva.example xn--bcher-kva.example"}
		if !slices.Equal(p.seen, want) {
			t.Errorf("the session sees %q, want %q", p.seen, want)
		}
	})
}

// TestUTF8Client checks the rules of RFC 6531 for clients: what they send to a server with or without SMTPUTF8.
func TestUTF8Client(t *testing.T) {
	const (
		joerg  = "FROM:<jörg@b.example> SMTPUTF8"
		ascii  = "FROM:<a@b.example>"
		forAll = ascii + " SMTPUTF8"
		both   = "8BITMIME SMTPUTF8"
	)
	for _, tt := range []struct {
		name, offer string // the keywords
		mail, rcpt  string // what the client has to send; "" if it must not
		from, to    string // those of the envelope
		need        ext.Feature
	}{
		{"S09 ASCII", both, ascii, "c@d.example", "a@b.example", "c@d.example", 0},
		{"S09 header", both, forAll, "c@d.example", "a@b.example", "c@d.example", ext.UTF8},
		{"S09 sender", both, joerg, "c@d.example", "jörg@b.example", "c@d.example", 0},
		{"S12 argument", both + "_x=1", joerg, "c@d.example", "jörg@b.example", "c@d.example", 0},
		{"S13 recipient alone", both, forAll, "jörg@d.example", "a@b.example", "jörg@d.example", 0},
		{"S10 local part", "8BITMIME", "", "", "a@b.example", "jörg@d.example", 0},
		{"S10 header", "8BITMIME", "", "", "a@b.example", "c@d.example", ext.UTF8},
		{"S10 domain alone", "8BITMIME", "FROM:<a@xn--mnchen-3ya.example>", "c@xn--bcher-kva.example", "a@münchen.example", "c@bücher.example", 0},
		{"S10 without 8BITMIME", "SMTPUTF8", "", "", "a@b.example", "jörg@d.example", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			script := "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
			for keyword := range strings.SplitSeq(tt.offer, " ") {
				script += "S: 250-" + strings.ReplaceAll(keyword, "_", " ") + "\n"
			}
			script += "S: 250 HELP\n"
			if tt.mail != "" {
				script += fmt.Sprintf("C~ %q\nS: 250 ok\nC~ %q\nS: 250 ok\nC: DATA\nS: 354 go on\nC: x\nC: .\nS: 250 ok",
					"MAIL "+tt.mail+"\r\n", "RCPT TO:<"+tt.rcpt+">\r\n")
			}
			srv := clienttest.New(t, script)
			c, err := client.Dial(t.Context(), clienttest.Hostname+":25",
				&client.Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, DialContext: srv.Dial})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			m, err := client.NewMessage(tt.from, []string{tt.to}, strings.NewReader("x\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			m.Needs = tt.need
			_, err = c.Send(t.Context(), m)
			if tt.mail != "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e, ok := grammar.AsType[*ext.UnsupportedError](err); !ok || e.Keyword != "SMTPUTF8" {
				t.Errorf("%v, want an UnsupportedError", err)
			}
		})
	}
	t.Run("S11 EHLO", func(t *testing.T) {
		srv := clienttest.New(t, "S: 220 mail.example\nC: EHLO xn--mnchen-3ya.example\nS: 250-mail.example\nS: 250 SMTPUTF8")
		c, err := client.Dial(t.Context(), clienttest.Hostname+":25",
			&client.Options{Hostname: "münchen.example", TLS: ext.TLSInsecureNone, DialContext: srv.Dial})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}

// A gateway relays what it gets, and reports why it cannot.
type gateway struct{ forwarder }

func (g *gateway) Data(ctx context.Context, body io.Reader) error {
	g.m.Needs = ext.UTF8
	err := g.forwarder.Data(ctx, body)
	if e, ok := grammar.AsType[*ext.UnsupportedError](err); ok {
		return &proto.Error{Code: 554, Status: e.Status(), Text: "The message cannot be sent on", Err: err}
	}
	return err
}

// TestS15_TooLate checks the status code if the next server does not support SMTPUTF8, and the message has been
// accepted from the client. It is 5.6.9 for UTF-8 in the header (RFC 6531 section 3.5), and 5.6.7 for UTF-8 in an
// address.
func TestS15_TooLate(t *testing.T) {
	next := newServer(t, &keeper{}, &server.Options{Hostname: "next.example", Extensions: []ext.Extension{ehlo.EightBitMIME()}})
	dial, _ := over(t, next, &client.Options{TLS: ext.TLSInsecureNone})
	quiet := slog.New(slog.DiscardHandler)
	for rcpt, want := range map[string]string{to: "554 5.6.9 ", "RCPT TO:<jörg@d.example>": "554 5.6.7 "} {
		srv := newServer(t, &gateway{forwarder{next: dial}}, &server.Options{Hostname: "mail.example", Logger: quiet})
		got := talk(t, srv, Caps, from+" SMTPUTF8", rcpt, "DATA", "Subject: Grüße\r\n\r\nx\r\n.")
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %s", rcpt, got, want)
		}
	}
}
