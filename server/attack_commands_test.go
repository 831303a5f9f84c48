package server_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/server"
)

// TestZ22_LFOnly: a command that ends with LF alone has no reply. The server waits for CRLF as long as for any command.
func TestZ22_LFOnly(t *testing.T) {
	inBubble(t, 5*time.Minute, func(t *testing.T) {
		p := dial(t, newServer(t, &store{}, server.Options{}))
		p.hello()
		p.send("NOOP\n")
		p.expect("421 4.4.2")
		_ = p.ended()
	})
}

// TestZ24_EndlessLine: of ten million octets without CRLF the server reads one megabyte, holds none, says 500 once, and
// closes. Behind a shorter line it goes on.
func TestZ24_EndlessLine(t *testing.T) {
	srv := newServer(t, &store{}, server.Options{})
	block := strings.Repeat("x", 100_000)
	p := dial(t, srv)
	p.hello()
	before := srv.Stats().Memory
	for range 10 {
		p.send(block)
		if m := srv.Stats().Memory; m != before {
			t.Fatalf("the connection holds %d octets, want %d", m, before)
		}
	}
	p.ask("", "500 5.5.2", "NOOP", "250 ")
	sent := 0
	for ; sent < 10_000_000; sent += len(block) {
		if _, err := io.WriteString(p.nc, block); err != nil {
			break
		}
	}
	if sent > 1_200_000 {
		t.Errorf("the server read %d octets of a line", sent)
	}
	p.expect("500 5.5.2")
	if p.ended() == nil {
		t.Error("ServeConn returned nil")
	}
}

// TestFloods sends a million commands that lead nowhere. The server answers as many as the limits say, and the next one
// with 421, and closes.
func TestFloods(t *testing.T) {
	for _, c := range []struct {
		name, say, want string
		n               int // replies before the 421
	}{
		{"Z25 empty lines", "\r\n", "500 ", 20},
		{"Z27 EHLO", "EHLO x\r\n", "250-", 1000},
		{"Z27 HELO", "HELO x\r\n", "250 ", 1000},
		{"Z27 RSET", "RSET\r\n", "250 ", 1000},
		{"Z27 NOOP", "NOOP\r\n", "250 ", 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := dial(t, newServer(t, &store{}, server.Options{}))
			p.expect("220 ")
			sent := make(chan error)
			go func() {
				block := strings.Repeat(c.say, 1000)
				var err error
				for range 1000 {
					if _, err = io.WriteString(p.nc, block); err != nil {
						break
					}
				}
				sent <- err
			}()
			n := 0
			reply := p.reply()
			for ; strings.HasPrefix(reply, c.want); reply = p.reply() {
				n++
			}
			if n != c.n || !strings.HasPrefix(reply, "421 ") {
				t.Errorf("after %d replies the server says %q, want 421 after %d", n, reply, c.n)
			}
			if p.ended() == nil || <-sent == nil {
				t.Error("the server took a million commands")
			}
		})
	}
}

// TestZ28_OtherProtocols: who speaks another protocol gets one reply at most, and the connection is closed. None of the
// lines is a command.
func TestZ28_OtherProtocols(t *testing.T) {
	for _, say := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@b.example>\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n",
		"SSH-2.0-OpenSSH_9.6\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n",
		"SSH-2.0-OpenSSH_9.6\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n",
	} {
		st := &store{}
		p := dial(t, newServer(t, st, server.Options{}))
		p.expect("220 ")
		p.send(say)
		if got := p.reply(); got != "" && !strings.HasPrefix(got, "421 ") && !strings.HasPrefix(got, "5") {
			t.Errorf("%q: the server says %q", say, got)
		}
		if p.ended() == nil {
			t.Errorf("%q: ServeConn returned nil", say)
		}
		if calls := st.calls(); strings.Contains(calls, "mail") {
			t.Errorf("%q: called %s", say, calls)
		}
	}
}

// TestZ29_EarlyTalkers: what comes before the greeting is carried out in its order, or refused by option. What comes
// before 354 is content.
func TestZ29_EarlyTalkers(t *testing.T) {
	const early = "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nNOOP\r\n.\r\nQUIT\r\n"
	for _, c := range []struct {
		early server.EarlyTalkers
		want  string
		kept  int
	}{
		{server.NoteEarly, "220 250 250 250 354 250 221", 1},
		{server.RefuseEarly, "554", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			st := &store{}
			srv := newServer(t, st, server.Options{EarlyTalkers: c.early, GreetingDelay: time.Second})
			near, far := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = srv.ServeConn(context.Background(), far)
			}()
			go func() { _, _ = io.WriteString(near, early) }()
			said, err := io.ReadAll(near)
			near.Close()
			<-done
			if err != nil {
				t.Fatal(err)
			}
			if got := codesOf(string(said)); got != c.want {
				t.Errorf("%v: replies %s, want %s", c.early, got, c.want)
			}
			if m := st.messages(); len(m) != c.kept || c.kept == 1 && m[0] != "NOOP\r\n" {
				t.Errorf("%v: kept are %q", c.early, m)
			}
		})
	}
}

// TestZ30_Telnet: the octets of a telnet client that interrupts a process are no command.
func TestZ30_Telnet(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{}))
	p.expect("220 ")
	p.ask("HELO\xff\xf4\xff\xfd\x06", "501 ", "HELO x", "250 ")
	p.quit()
}
