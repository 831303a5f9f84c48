package netsmtp_test

import (
	"bufio"
	"bytes"
	"net"
	"net/smtp"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/netsmtp"
)

// sink takes connections and mail until l is closed. It allocates nothing for a message but its buffer.
func sink(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		take(conn)
	}
}

// take takes mail until QUIT. Replies leave when nothing more has come in.
func take(conn net.Conn) {
	defer conn.Close()
	in, out := bufio.NewReader(conn), bufio.NewWriter(conn)
	out.WriteString("220 sink.example\r\n")
	for content := false; ; {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		switch {
		case err != nil:
			return
		case content:
			if content = string(line) != ".\r\n"; !content {
				out.WriteString("250 ok\r\n")
			}
		case bytes.HasPrefix(line, []byte("EHLO")):
			out.WriteString("250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n")
		case bytes.HasPrefix(line, []byte("DATA")):
			content = true
			out.WriteString("354 go\r\n")
		case bytes.HasPrefix(line, []byte("QUIT")):
			out.WriteString("221 bye\r\n")
			out.Flush()
			return
		default:
			out.WriteString("250 ok\r\n")
		}
	}
}

// BenchmarkSendMail sends a message of 4 KB, with a connection for each, to a server on loopback that takes everything.
func BenchmarkSendMail(b *testing.B) {
	msg := []byte(content + strings.Repeat("The quick brown fox jumps over the lazy dog, once more.\r\n", 70))
	for _, library := range []struct {
		name string
		send func(addr string, a smtp.Auth, from string, to []string, msg []byte) error
	}{{"net/smtp", smtp.SendMail}, {"smtpkit", netsmtp.SendMail}} {
		b.Run("library="+library.name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				sink(l)
			}()
			defer func() {
				l.Close()
				<-done
			}()
			b.ReportAllocs()
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				if err := library.send(l.Addr().String(), nil, "alice@example.org", []string{"bob@example.net"}, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
