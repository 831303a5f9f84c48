package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

func TestP23_Trace(t *testing.T) {
	var seen []string
	note := func(format string, args ...any) { seen = append(seen, fmt.Sprintf(format, args...)) }
	var log bytes.Buffer
	srv := newServer(t, authStore{&store{}}, server.Options{
		AllowInsecureAuth: true,
		Logger:            slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Trace: &server.Trace{
			Connected: func(context.Context, *server.Conn) { note("connected") },
			Secured:   func(context.Context, *server.Conn, tls.ConnectionState) { note("secured") },
			Command:   func(_ context.Context, _ *server.Conn, verb, args string) { note("> %s %s", verb, args) },
			Reply: func(_ context.Context, _ *server.Conn, verb string, r proto.Reply) {
				note("< %s %d", verb, r.Code)
				if said := r.Text == "***"; said != (r.Code == 334) {
					t.Errorf("the text of %d is %q", r.Code, r.Text)
				}
			},
			Content: func(_ context.Context, _ *server.Conn, octets int64, r proto.Reply) {
				note("content %d %d", octets, r.Code)
			},
			Closed: func(_ context.Context, _ *server.Conn, err error) { note("closed %v", err) },
		},
	})
	p := dial(t, srv)
	p.hello()
	secret := base64.StdEncoding.EncodeToString([]byte("\x00alice\x00hunter2"))
	p.ask(plain("alice", "hunter2"), "535 ", "AUTH PLAIN", "334 ", secret, "535 ",
		secret, "500 ", // a password that missed its exchange
		"FOO "+secret, "500 ",
		plain("alice", "secret"), "235 ")
	p.begin()
	p.ask("DATA", "354 ", "hunter2\r\n.", "250 ")
	p.chunk("BDAT 7", "hunter2", "503 ")
	p.begin()
	p.chunk("BDAT 7", "hunter2", "250 ")
	p.chunk("BDAT 0 LAST", "", "250 ")
	p.quit()
	if got := strings.Join(seen, "\n"); got != traced {
		t.Errorf("the trace is\n%s\nwant\n%s", got, traced)
	}
	for _, word := range []string{"hunter2", secret} {
		if strings.Contains(log.String(), word) {
			t.Errorf("the log has %q in it: %s", word, &log)
		}
	}
}

// traced is the trace of TestP23_Trace.
const traced = `connected
<  220
> EHLO client.example
< EHLO 250
> AUTH PLAIN ***
< AUTH 535
> AUTH PLAIN
< AUTH 334
>  ***
< AUTH 535
>  ***
<  500
>  ***
<  500
> AUTH PLAIN ***
< AUTH 235
> MAIL FROM:<a@b.example>
< MAIL 250
> RCPT TO:<c@d.example>
< RCPT 250
> DATA 
< DATA 354
< DATA 250
content 9 250
> BDAT 7
< BDAT 503
> MAIL FROM:<a@b.example>
< MAIL 250
> RCPT TO:<c@d.example>
< RCPT 250
> BDAT 7
< BDAT 250
> BDAT 0 LAST
< BDAT 250
content 7 250
> QUIT 
< QUIT 221
closed <nil>`

func TestTraceOfAConnectionLost(t *testing.T) {
	var seen error
	connects := 0
	srv := newServer(t, &store{}, server.Options{Limits: server.Limits{Conns: 1}, Trace: &server.Trace{
		Connected: func(context.Context, *server.Conn) { connects++ },
		Closed:    func(_ context.Context, _ *server.Conn, err error) { seen = err },
	}})
	p := dial(t, srv)
	p.hello()
	other := dial(t, srv)
	other.expect("421 ")
	<-other.done
	p.nc.Close()
	err := <-p.done
	if seen == nil || seen != err {
		t.Errorf("Closed was told %v, and ServeConn returned %v", seen, err)
	}
	if connects != 1 {
		t.Errorf("Connected was called %d times, want once: one connection was refused", connects)
	}
}

// dialogue is a Trace that notes the events of one connection.
func dialogue(seen *[]string) *server.Trace {
	note := func(ctx context.Context, format string, args ...any) {
		*seen = append(*seen, fmt.Sprintf(format, args...))
		if ctx.Value(spanKey{}) != "span" {
			*seen = append(*seen, "without its context")
		}
	}
	return &server.Trace{
		Connected: func(ctx context.Context, c *server.Conn) { note(ctx, "connected %q", c.Hello()) },
		Secured: func(ctx context.Context, c *server.Conn, state tls.ConnectionState) {
			note(ctx, "secured %v %q", state.HandshakeComplete && c.TLS() != nil, c.Hello())
		},
		Command: func(ctx context.Context, _ *server.Conn, verb, args string) { note(ctx, "> %s %s", verb, args) },
		Reply: func(ctx context.Context, _ *server.Conn, verb string, r proto.Reply) {
			note(ctx, "< %s %d", verb, r.Code)
		},
		Content: func(ctx context.Context, _ *server.Conn, octets int64, r proto.Reply) {
			note(ctx, "content %d %d", octets, r.Code)
		},
		Closed: func(ctx context.Context, _ *server.Conn, err error) { note(ctx, "closed %v", err == nil) },
	}
}

type spanKey struct{}

// TestTraceOfHandshakes: Secured is called for a handshake that succeeds, and not for one that fails.
func TestTraceOfHandshakes(t *testing.T) {
	config, trust := tlsPair(t)
	for _, tt := range []struct {
		name string
		talk func(w *wire)
		want string
	}{
		{"STARTTLS", func(w *wire) {
			w.ask("", "220 ")
			w.ask("EHLO x\r\n", "250-")
			w.startTLS(trust).ask("QUIT", "221 ")
		}, `connected "", <  220, > EHLO x, < EHLO 250, > STARTTLS , < STARTTLS 220, secured true "", > QUIT , < QUIT 221, closed true`},
		{"STARTTLS that fails", func(w *wire) {
			w.ask("", "220 ")
			w.ask("EHLO x\r\n", "250-")
			w.ask("STARTTLS\r\n", "220 ")
			w.nc.Close()
		}, `connected "", <  220, > EHLO x, < EHLO 250, > STARTTLS , < STARTTLS 220, closed false`},
		{"timeout", func(w *wire) {
			w.ask("", "220 ")
			w.ask("NOOP\r\n", "250 ")
			w.ask("", "421 ")
		}, `connected "", <  220, > NOOP , < NOOP 250, <  421, closed false`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen []string
				srv := newServer(t, &store{}, server.Options{TLSConfig: config, Trace: dialogue(&seen)})
				here, there := net.Pipe()
				w := &wire{t: t, nc: here, done: make(chan error, 1)}
				go func() { w.done <- srv.ServeConn(context.WithValue(t.Context(), spanKey{}, "span"), there) }()
				tt.talk(w)
				<-w.done
				here.Close()
				if got := strings.Join(seen, ", "); got != tt.want {
					t.Errorf("the trace is\n%s\nwant\n%s", got, tt.want)
				}
			})
		})
	}
}

// TestTraceOfImplicitTLS: the handshake comes between Connected and the greeting.
func TestTraceOfImplicitTLS(t *testing.T) {
	config, trust := tlsPair(t)
	for name, fine := range map[string]bool{"implicit": true, "implicit that fails": false} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan struct{})
			var seen []string
			trace := dialogue(new([]string))
			trace.Connected = func(context.Context, *server.Conn) { seen = append(seen, "connected") }
			trace.Secured = func(context.Context, *server.Conn, tls.ConnectionState) { seen = append(seen, "secured") }
			trace.Reply = func(context.Context, *server.Conn, string, proto.Reply) { seen = append(seen, "reply") }
			trace.Closed = func(context.Context, *server.Conn, error) { close(closed) }
			srv := newServer(t, &store{}, server.Options{TLSConfig: config, Trace: trace})
			addr, served := listen(t, srv.ServeTLS)
			client, want := trust, "connected secured reply"
			if !fine {
				client, want = &tls.Config{ServerName: "mail.example"}, "connected" // it trusts nobody
			}
			nc, err := tls.Dial("tcp", addr, client)
			if (err == nil) != fine {
				t.Errorf("%v", err)
			}
			if err == nil {
				newPeer(t, nc).expect("220 ")
				nc.Close()
			}
			<-closed
			if got := strings.Join(seen, " "); got != want {
				t.Errorf("the trace is %s, want %s", got, want)
			}
			_ = srv.Shutdown(t.Context())
			<-served
		})
	}
}

// TestTraceOfRecipients: each reply of LMTP belongs to the command that it answers, and so does what is said between
// chunks.
func TestTraceOfRecipients(t *testing.T) {
	var seen []string
	srv := newServer(t, &store{}, server.Options{Protocol: proto.LMTP, Trace: dialogue(&seen)})
	here, there := net.Pipe()
	p := newPeer(t, here)
	done := make(chan error, 1)
	go func() { done <- srv.ServeConn(context.WithValue(t.Context(), spanKey{}, "span"), there) }()
	p.expect("220 ")
	p.ask("LHLO x", "250-", "MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<c@d.example>", "250 ", "RCPT TO:<e@f.example>", "250 ")
	p.chunk("BDAT 3", "abc", "250 ")
	p.ask("NOOP", "250 ", "FOO bar", "500 ", "MAIL FROM:<x@y.example>", "503 ")
	p.chunk("BDAT 3 LAST", "abc", "250 ")
	p.expect("250 ")
	p.ask("QUIT", "221 ")
	<-done
	want := `connected "", <  220, > LHLO x, < LHLO 250, > MAIL FROM:<a@b.example>, < MAIL 250, > RCPT TO:<c@d.example>, < RCPT 250, ` +
		`> RCPT TO:<e@f.example>, < RCPT 250, > BDAT 3, < BDAT 250, > NOOP , < NOOP 250, >  ***, <  500, > MAIL FROM:<x@y.example>, ` +
		`< MAIL 503, > BDAT 3 LAST, < BDAT 250, < BDAT 250, content 6 250, > QUIT , < QUIT 221, closed true`
	if got := strings.Join(seen, ", "); got != want {
		t.Errorf("the trace is\n%s\nwant\n%s", got, want)
	}
}
