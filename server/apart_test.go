package server_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"

	"smtpkit.example/smtp/server"
)

// TestHandshakeCrashes: a configuration of TLS that panics, or ends its goroutine, ends the connection and leaves
// nothing behind. The log has the panic, and where it comes from.
func TestHandshakeCrashes(t *testing.T) {
	for name, crash := range map[string]func(){"panic": func() { panic("at the disco") }, "exit": runtime.Goexit} {
		for begin, turns := range map[string][]string{"implicit": nil, "STARTTLS": {"", "EHLO x\r\n", "STARTTLS\r\n"}} {
			t.Run(name+" "+begin, func(t *testing.T) {
				var log bytes.Buffer
				s := newServer(t, &store{}, server.Options{
					Logger: slog.New(slog.NewTextHandler(&log, nil)),
					TLSConfig: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
						crash()
						return nil, nil
					}},
				})
				serve := s.Serve
				if turns == nil {
					serve = s.ServeTLS
				}
				addr, served := listen(t, serve)
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				for _, turn := range turns {
					if _, err := io.WriteString(nc, turn); err != nil {
						t.Fatal(err)
					}
					if _, err := nc.Read(make([]byte, 4<<10)); err != nil {
						t.Fatal(err)
					}
				}
				if tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).Handshake() == nil {
					t.Error("the handshake succeeded")
				}
				if err := s.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				<-served
				logged := strings.Contains(log.String(), "disco") && strings.Contains(log.String(), "apart_test.go")
				if logged != (name == "panic") {
					t.Errorf("the log is %q", &log)
				}
			})
		}
	}
}
