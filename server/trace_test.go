package server_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"

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
			Connect:    func(*server.Conn) { note("connect") },
			Command:    func(_ *server.Conn, verb, args string) { note("> %s %s", verb, args) },
			Reply:      func(_ *server.Conn, r proto.Reply) { note("< %d", r.Code) },
			Message:    func(_ *server.Conn, octets int64, r proto.Reply) { note("message %d %d", octets, r.Code) },
			Disconnect: func(_ *server.Conn, err error) { note("disconnect %v", err) },
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
const traced = `connect
< 220
> EHLO client.example
< 250
> AUTH 
< 535
> AUTH 
< 535
>  
< 500
>  
< 500
> AUTH 
< 235
> MAIL FROM:<a@b.example>
< 250
> RCPT TO:<c@d.example>
< 250
> DATA 
< 354
< 250
message 9 250
> BDAT 7
< 503
> MAIL FROM:<a@b.example>
< 250
> RCPT TO:<c@d.example>
< 250
> BDAT 7
< 250
> BDAT 0 LAST
< 250
message 7 250
> QUIT 
< 221
disconnect <nil>`

func TestTraceOfAConnectionLost(t *testing.T) {
	var seen error
	connects := 0
	srv := newServer(t, &store{}, server.Options{Limits: server.Limits{Conns: 1}, Trace: &server.Trace{
		Connect:    func(*server.Conn) { connects++ },
		Disconnect: func(_ *server.Conn, err error) { seen = err },
	}})
	p := dial(t, srv)
	p.hello()
	other := dial(t, srv)
	other.expect("421 ")
	<-other.done
	p.nc.Close()
	err := <-p.done
	if seen == nil || seen != err {
		t.Errorf("Disconnect was told %v, and ServeConn returned %v", seen, err)
	}
	if connects != 1 {
		t.Errorf("Connect was called %d times, want once: one connection was refused", connects)
	}
}
