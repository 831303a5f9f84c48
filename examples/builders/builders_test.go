package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-message/mail"
	gomail "github.com/wneessen/go-mail"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
)

func TestMain(m *testing.M) { prototest.Main(m) }

// A delivery is a message that the server has got.
type delivery struct {
	from    string
	to      []string
	content string
}

// receive starts a server, which refuses the first attempts with 451. It returns its address, and what it gets.
func receive(t *testing.T, refuse int) (addr string, got chan delivery) {
	t.Helper()
	got = make(chan delivery, 10)
	srv, err := server.New(server.MessageFunc(func(_ context.Context, m *server.Message) error {
		content, err := io.ReadAll(m.Body)
		if err != nil {
			return err
		}
		if refuse--; refuse >= 0 {
			return proto.Refuse(451, proto.Status{4, 3, 0}, "Later")
		}
		d := delivery{from: m.From.String(), content: string(content)}
		for _, r := range m.To {
			d.to = append(d.to, r.Address.String())
		}
		got <- d
		return nil
	}), &server.Options{Hostname: "mail.example", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, server.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String(), got
}

// attachments returns the text and the attachments of a message, as go-message reads them.
func attachments(t *testing.T, content string) (header mail.Header, text string, files map[string]string) {
	t.Helper()
	r, err := mail.CreateReader(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	files = make(map[string]string)
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			return r.Header, text, files
		}
		if err != nil {
			t.Fatal(err)
		}
		octets, err := io.ReadAll(p.Body)
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := p.Header.(*mail.AttachmentHeader); ok {
			name, _ := h.Filename()
			files[name] = string(octets)
		} else {
			text += string(octets)
		}
	}
}

// TestRun: the program delivers the file as it is.
func TestRun(t *testing.T) {
	addr, got := receive(t, 0)
	file := filepath.Join(t.TempDir(), "report.bin")
	octets := bytes.Repeat([]byte{0, 255, '\r', '\n', '.'}, 40_000)
	if err := os.WriteFile(file, octets, 0o600); err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "smtp", Host: addr, RawQuery: "tls=none"}
	if err := run(t.Context(), u.String(), "alice@example.org", "bob@example.net", file); err != nil {
		t.Fatal(err)
	}
	d := <-got
	_, text, files := attachments(t, d.content)
	if d.from != "alice@example.org" || !slices.Equal(d.to, []string{"bob@example.net"}) ||
		!strings.Contains(text, "Here it is.") || files["report.bin"] != string(octets) {
		t.Errorf("from %s to %v: %q, and %d octets", d.from, d.to, text, len(files["report.bin"]))
	}
}

// TestGoMail: addresses come from the builder, in brackets as it has them; Bcc is not in the content. A message that is
// refused at first is built anew for the next attempt.
func TestGoMail(t *testing.T) {
	addr, got := receive(t, 1)
	msg := gomail.NewMsg()
	for _, err := range []error{msg.From("alice@example.org"), msg.To("bob@example.net"), msg.Cc("carol@example.net"),
		msg.Bcc("dave@example.net")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	msg.Subject("Hello")
	msg.SetBodyString(gomail.TypeTextPlain, "How are you?")
	from, err := msg.GetSender(false)
	if err != nil {
		t.Fatal(err)
	}
	to, err := msg.GetRecipients()
	if err != nil {
		t.Fatal(err)
	}
	m, err := client.NewMessage(from, to, client.WriterBody(msg))
	if err != nil {
		t.Fatal(err)
	}
	opt := &client.Options{TLS: ext.TLSInsecureNone}
	retry := client.Retry{Attempts: 2, First: -1}
	if _, err := retry.Send(t.Context(), client.DialSender(addr, opt), m); err != nil {
		t.Fatal(err)
	}
	d := <-got
	header, text, _ := attachments(t, d.content)
	if subject, _ := header.Subject(); subject != "Hello" || !strings.Contains(text, "How are you?") ||
		!slices.Equal(d.to, []string{"bob@example.net", "carol@example.net", "dave@example.net"}) ||
		strings.Contains(d.content, "dave") {
		t.Errorf("to %v: %s", d.to, d.content)
	}
}

// TestGoMessage: go-message writes the message; the addresses are those that it has in its header.
func TestGoMessage(t *testing.T) {
	addr, got := receive(t, 0)
	var h mail.Header
	to := []*mail.Address{{Name: "Bob", Address: "bob@example.net"}, {Address: "carol@example.net"}}
	h.SetAddressList("From", []*mail.Address{{Name: "Alice", Address: "alice@example.org"}})
	h.SetAddressList("To", to)
	h.SetSubject("Grüße")

	body := client.WriterFunc(func(w io.Writer) error {
		all, err := mail.CreateWriter(w, h)
		if err != nil {
			return err
		}
		var th mail.InlineHeader
		th.SetContentType("text/plain", map[string]string{"charset": "utf-8"})
		text, err := all.CreateSingleInline(th)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(text, "How are you?"); err != nil {
			return err
		}
		return errors.Join(text.Close(), all.Close())
	})
	m, err := client.NewMessage("alice@example.org", client.Addresses(to...), client.WriterBody(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Send(t.Context(), addr, &client.Options{TLS: ext.TLSInsecureNone}, m); err != nil {
		t.Fatal(err)
	}
	d := <-got
	header, text, _ := attachments(t, d.content)
	if subject, _ := header.Subject(); subject != "Grüße" || !strings.Contains(text, "How are you?") ||
		!slices.Equal(d.to, []string{"bob@example.net", "carol@example.net"}) {
		t.Errorf("to %v: %s", d.to, d.content)
	}
}
