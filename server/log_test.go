package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/proxyproto"
)

// TestLogNamesTheClient: the log names the client that a proxy speaks for, and the proxy as peer.
func TestLogNamesTheClient(t *testing.T) {
	trusted := netip.MustParsePrefix("127.0.0.0/8")
	for _, tt := range []struct {
		name, send, want string
		proxy            bool
	}{
		{"client", "", "remote=127.0.0.1:PORT in=Mail", false},
		{"XCLIENT", "XCLIENT ADDR=192.0.2.1 PORT=4000\r\nEHLO x\r\n", "remote=192.0.2.1:4000 peer=127.0.0.1:PORT in=Mail", false},
		{"PROXY", "", "remote=198.51.100.7:1025 peer=127.0.0.1:PORT in=Mail", true},
		{"PROXY and XCLIENT", "XCLIENT ADDR=192.0.2.1 PORT=4000\r\nEHLO x\r\n", "remote=192.0.2.1:4000 peer=127.0.0.1:PORT in=Mail", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			networks := []netip.Prefix{trusted, netip.MustParsePrefix("198.51.100.0/24")}
			srv := newServer(t, &store{mail: refuseAll}, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)),
				Extensions: append(ehlo.Default(), ehlo.XCLIENT(networks...))})
			addr, served := listen(t, func(l net.Listener) error {
				if tt.proxy {
					l = proxyproto.NewListener(l, &proxyproto.Options{Trusted: []netip.Prefix{trusted}})
				}
				return srv.Serve(l)
			})
			p := connect(t, addr)
			_, port, err := net.SplitHostPort(p.nc.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			if tt.proxy {
				p.send("PROXY TCP4 198.51.100.7 192.0.2.25 1025 25\r\n")
			}
			p.hello()
			if p.send(tt.send); tt.send != "" {
				p.expect("220 ", "250-")
			}
			p.ask("MAIL FROM:<a@b.example>", "451 4.3.0")
			p.send("QUIT\r\n")
			p.expect("221 ")
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			<-served
			if want := strings.ReplaceAll(tt.want, "PORT", port); !strings.Contains(log.String(), want) {
				t.Errorf("the log is %q, want %q in it", &log, want)
			}
		})
	}
}

// TestRefusalIsLogged: a refusal that says why, in its cause or in what it is wrapped in, is logged with all it says.
// The refusal itself is everyday business.
func TestRefusalIsLogged(t *testing.T) {
	full := proto.Refuse(452, proto.Status{4, 2, 2}, "Mailbox full")
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"plain", full, ""},
		{"with a cause", &proto.Error{Code: 452, Text: "Mailbox full", Err: errors.New("quota is 5 GB")},
			`level=INFO msg="smtp: refused" remote=pipe in=Rcpt err="smtp: 452 Mailbox full: quota is 5 GB"`},
		{"wrapped", fmt.Errorf("quota db: %w", full),
			`level=INFO msg="smtp: refused" remote=pipe in=Rcpt err="quota db: smtp: 452 4.2.2 Mailbox full"`},
		{"joined", errors.Join(full, errors.New("and the disk too")),
			`level=INFO msg="smtp: refused" remote=pipe in=Rcpt err="smtp: 452 4.2.2 Mailbox full\nand the disk too"`},
		{"no refusal", errors.New("disk on fire"),
			`level=ERROR msg="smtp: the session failed" remote=pipe in=Rcpt err="disk on fire"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			st := &store{rcpt: func(context.Context, proto.Address, proto.Params) error { return tt.err }}
			p := dial(t, newServer(t, st, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<c@d.example>", "45")
			p.quit()
			_, got, _ := strings.Cut(strings.TrimSpace(log.String()), " ")
			got = regexp.MustCompile(` conn=[0-9A-V]{8}-[0-9a-z]+`).ReplaceAllString(got, "")
			if got != tt.want {
				t.Errorf("the log is %s, want %s", got, tt.want)
			}
		})
	}
}

func TestErrorIsLogged(t *testing.T) {
	var log bytes.Buffer
	st := &store{mail: func(context.Context, proto.Address, proto.Params) error { return errors.New("disk on fire") }}
	p := dial(t, newServer(t, st, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "451 4.3.0")
	p.quit()
	if !strings.Contains(log.String(), "disk on fire") {
		t.Errorf("the log is %q, want the error in it", &log)
	}
}

// TestVerdictIsLogged checks that a check which could not find something out is logged, and others are not.
func TestVerdictIsLogged(t *testing.T) {
	var log bytes.Buffer
	st := &store{}
	st.newSession = func(_ context.Context, c *server.Conn) error {
		c.Record(server.Verdict{Method: "spf", Result: "pass"})
		c.Record(server.Verdict{Method: "iprev", Result: "temperror", Err: errors.New("no answer")})
		return nil
	}
	p := dial(t, newServer(t, st, server.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	p.hello()
	p.quit()
	want := `msg="smtp: a check failed"`
	if got := log.String(); strings.Contains(got, "spf") || !strings.Contains(got, want) ||
		!strings.Contains(got, `level=INFO`) || !strings.Contains(got, `method=iprev result=temperror err="no answer"`) {
		t.Errorf("the log is %q", got)
	}
}

type nilConn struct{ net.Conn }

func (nilConn) NetConn() net.Conn { return nil }

// TestLogWithoutNetConn: a connection that says that there is none below it is logged all the same.
func TestLogWithoutNetConn(t *testing.T) {
	s := newServer(t, &store{mail: func(context.Context, proto.Address, proto.Params) error { return io.ErrNoProgress }}, server.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	here, there := net.Pipe()
	p := dialOver(t, s, here, nilConn{there})
	p.hello()
	p.ask("MAIL FROM:<a@b.example>", "451")
	p.quit()
}
