package bench

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log"
	"net"
	netsmtp "net/smtp"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// discard is a session that takes everything and keeps nothing, for both libraries.
type discard struct{}

func (discard) Mail(context.Context, proto.Address, proto.Params) error { return nil }
func (discard) Rcpt(context.Context, proto.Address, proto.Params) error { return nil }
func (discard) Data(_ context.Context, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

type goDiscard struct{}

func (goDiscard) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return goDiscard{}, nil }
func (goDiscard) Mail(string, *gosmtp.MailOptions) error          { return nil }
func (goDiscard) Rcpt(string, *gosmtp.RcptOptions) error          { return nil }
func (goDiscard) Reset()                                          {}
func (goDiscard) Logout() error                                   { return nil }
func (goDiscard) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func listen(b *testing.B) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// serveOurs and serveGo start a server and return its address.
func serveOurs(b *testing.B) string {
	srv, err := server.New(server.BackendFunc(func(context.Context, *server.Conn) (server.Session, error) {
		return discard{}, nil
	}), &server.Options{Hostname: "bench.example"})
	if err != nil {
		b.Fatal(err)
	}
	l := listen(b)
	go func() { _ = srv.Serve(l) }()
	b.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

func serveGo(b *testing.B) string {
	srv := gosmtp.NewServer(goDiscard{})
	srv.Domain = "bench.example"
	srv.ErrorLog = log.New(io.Discard, "", 0)
	l := listen(b)
	go func() { _ = srv.Serve(l) }()
	b.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

// peer is a client made of prepared octets, so that the time is the server's.
type peer struct {
	conn net.Conn
	r    *bufio.Reader
}

func (p *peer) say(b *testing.B, octets []byte, replies int) {
	if _, err := p.conn.Write(octets); err != nil {
		b.Fatal(err)
	}
	for replies > 0 {
		line, err := p.r.ReadSlice('\n')
		if err != nil || line[0] > '3' {
			b.Fatalf("%q, %v", line, err)
		}
		if line[3] == ' ' {
			replies--
		}
	}
}

var sizes = []struct {
	name string
	size int
}{{"1KiB", 1 << 10}, {"1MiB", 1 << 20}}

// BenchmarkServe is a server that receives messages in two flights each: MAIL, RCPT and DATA in a group, then the content.
func BenchmarkServe(b *testing.B) {
	for _, size := range sizes {
		content := wire([]byte(strings.Repeat(texts[0].line, 1+size.size/len(texts[0].line))))
		for _, by := range []struct {
			name  string
			serve func(*testing.B) string
		}{{"smtpkit", serveOurs}, {"go-smtp", serveGo}} {
			b.Run("size="+size.name+"/by="+by.name, func(b *testing.B) {
				conn, err := net.Dial("tcp", by.serve(b))
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				p := &peer{conn, bufio.NewReader(conn)}
				p.say(b, nil, 1)
				p.say(b, []byte("EHLO peer.example\r\n"), 1)
				group := []byte("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
				b.SetBytes(int64(len(content)))
				b.ReportAllocs()
				for b.Loop() {
					p.say(b, group, 3)
					p.say(b, content, 1)
				}
			})
		}
	}
}

// BenchmarkSend is a client that sends messages over one connection to a server of ours.
func BenchmarkSend(b *testing.B) {
	for _, size := range sizes {
		text := []byte(strings.Repeat(texts[0].line, 1+size.size/len(texts[0].line)))
		name := "size=" + size.name
		b.Run(name+"/by=smtpkit", func(b *testing.B) {
			c, err := client.Dial(b.Context(), serveOurs(b), &client.Options{TLS: ext.TLSInsecureNone})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				m.Body = bytes.NewReader(text)
				if _, err := c.Send(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/by=go-smtp", func(b *testing.B) {
			c, err := gosmtp.Dial(serveOurs(b))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.SendMail("a@b.example", []string{"c@d.example"}, bytes.NewReader(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/by=net-smtp", func(b *testing.B) {
			c, err := netsmtp.Dial(serveOurs(b))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if err := sendNet(c, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// sendNet sends a message with net/smtp.
func sendNet(c *netsmtp.Client, text []byte) error {
	if err := c.Mail("a@b.example"); err != nil {
		return err
	}
	if err := c.Rcpt("c@d.example"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return w.Close()
}
