package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/server"
)

const cutByStress = "421 4.4.2 Timeout while the server is busy"

// TestDefaultStress: what the defaults are is what their comments say.
func TestDefaultStress(t *testing.T) {
	for _, c := range []struct {
		load     server.Load
		full     float64
		stressed bool
	}{
		{server.Load{}, 0, false},
		{server.Load{Conns: 5000}, 0, false},
		{server.Load{Conns: 900, MaxConns: 1000}, 0.9, false},
		{server.Load{Conns: 901, MaxConns: 1000}, 0.901, true},
		{server.Load{Conns: 10, MaxConns: 10}, 1, true},
		{server.Load{Conns: 9, MaxConns: 9}, 1, false},
		{server.Load{Conns: 1, MaxConns: 1000, Handshakes: 225, MaxHandshakes: 250}, 0.9, false},
		{server.Load{Conns: 1, MaxConns: 1000, Handshakes: 226, MaxHandshakes: 250}, 0.904, true},
		{server.Load{Handshakes: 9, MaxHandshakes: 9}, 1, false},
		{server.Load{Conns: 1, MaxConns: 1000, Memory: 9 << 20, MaxMemory: 10 << 20}, 0.9, false},
		{server.Load{Conns: 1, MaxConns: 1000, Memory: 91, MaxMemory: 100}, 0.91, true},
		{server.Load{Memory: 101, MaxMemory: 100}, 1, true},
	} {
		if got := c.load.Max(); got != c.full {
			t.Errorf("%+v is full to %v, want %v", c.load, got, c.full)
		}
		switch st := server.DefaultStress(c.load); {
		case (st != nil) != c.stressed:
			t.Errorf("under %+v holds %+v", c.load, st)
		case st != nil && *st != server.Stress{Command: 10 * time.Second, Content: 10 * time.Second,
			MinRateGrace: 10 * time.Second, Write: 10 * time.Second, Handshake: 10 * time.Second, Errors: 1, Junk: 10}:
			t.Errorf("under %+v holds %+v", c.load, *st)
		}
	}
}

// TestStressEndsWaits: idle clients that hold nearly all connections lose them when one more comes, wherever they are
// in the dialogue. Those that stress does not concern stay.
func TestStressEndsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		srv := newServer(t, &store{}, server.Options{
			Limits: server.Limits{Conns: 20}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		})
		var stays, idle []*peer
		for _, addr := range []string{"127.0.0.1:1", "198.51.100.7:1"} {
			p := dialFrom(t, srv, addr)
			p.hello()
			stays = append(stays, p)
		}
		for i := range 16 {
			p := dialFrom(t, srv, fmt.Sprintf("192.0.2.%d:1", i+1))
			p.hello()
			switch i % 5 {
			case 1:
				p.begin()
			case 2:
				p.begin()
				p.ask("DATA", "354 ")
				p.send("Subject: x\r\n")
			case 3:
				p.send("NOO")
			case 4:
				p.begin()
				p.send("BDAT 4\r\nx\r\n")
				p.send("BDAT 1")
			}
			idle = append(idle, p)
		}
		<-time.After(4 * time.Minute)
		if s := srv.Stats(); s.Open != 18 || s.Stresses != 0 || srv.Load().Max() != 0.9 {
			t.Fatalf("%d connections are open, %v full, and stress has begun %d times", s.Open, srv.Load().Max(), s.Stresses)
		}
		start := time.Now()
		p := dialFrom(t, srv, "203.0.113.1:1")
		p.hello()
		for _, p := range idle {
			for line := range p.lines {
				if strings.HasPrefix(line, "421 ") {
					if !strings.HasPrefix(line, cutByStress) {
						t.Errorf("a client that waits gets %q", line)
					}
				}
			}
			if err := p.ended(); !isBusy(err) {
				t.Errorf("ServeConn returned %v", err)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("idle clients are gone after %v, want at once", d)
		}
		p.begin()
		p.ask("DATA", "354 ", "x\r\n.", "250 ")
		<-time.After(9 * time.Second)
		p.ask("NOOP", "250 ")
		<-time.After(30 * time.Second) // stress is over before this one has waited for 10 seconds
		p.ask("NOOP", "250 ")
		for _, p := range append(stays, p) {
			p.ask("NOOP", "250 ")
			p.quit()
		}
		if s := srv.Stats(); s.Stresses != 1 || s.StressClosed != 16 || s.ConnsRefused != 0 {
			t.Errorf("stress has begun %d times, and ended %d connections, want 1 and 16", s.Stresses, s.StressClosed)
		}
		synctest.Wait()
		text := log.String()
		if strings.Count(text, "stress") != 2 || !strings.Contains(text, `level=WARN msg="smtp: under stress`) ||
			!strings.Contains(text, "conns=19 max_conns=20") ||
			!strings.Contains(text, `level=INFO msg="smtp: no longer under stress`) || !strings.Contains(text, "lasted=10s") {
			t.Errorf("the log is\n%s", text)
		}
	})
}

func isBusy(err error) bool {
	return err != nil && strings.Contains(err.Error(), strings.TrimPrefix(cutByStress, "421 "))
}

// always returns Options.Stress for a server that is always under stress, of the clients at 192.0.2.0/24 that is.
func always(st server.Stress) func(server.Load) *server.Stress {
	return func(server.Load) *server.Stress { return &st }
}

// TestStressOfNewWaits: as long as stress lasts, no wait is longer than it permits. A wait for a command line counts
// from its beginning.
func TestStressOfNewWaits(t *testing.T) {
	st := server.Stress{Command: 4 * time.Second, Content: 6 * time.Second, Write: 8 * time.Second}
	for _, c := range []struct {
		name string
		want time.Duration
		do   func(p *peer)
	}{
		{"command", 4 * time.Second, func(*peer) {}},
		{"command that dribbles", 4 * time.Second, func(p *peer) {
			for range 3 {
				<-time.After(time.Second)
				p.send("N")
			}
		}},
		{"RCPT", 4 * time.Second, func(p *peer) { p.begin() }},
		{"exchange", 4 * time.Second, func(p *peer) { p.ask("AUTH LOGIN", "334 ") }},
		{"content", 6 * time.Second, func(p *peer) {
			p.begin()
			p.ask("DATA", "354 ")
		}},
		{"content that goes on", 11 * time.Second, func(p *peer) {
			p.begin()
			p.ask("DATA", "354 ")
			<-time.After(5 * time.Second)
			p.send("x")
		}},
		{"chunk", 6 * time.Second, func(p *peer) {
			p.begin()
			p.send("BDAT 10\r\nx")
		}},
		{"next chunk", 4 * time.Second, func(p *peer) {
			p.begin()
			p.ask("BDAT 3\r\nx", "250 ")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, c.want, func(t *testing.T) {
				srv := newServer(t, authStore{&store{}}, server.Options{Stress: always(st), AllowInsecureAuth: true})
				p := dialFrom(t, srv, "192.0.2.1:1")
				p.hello()
				c.do(p)
				p.expect(cutByStress)
				if err := p.ended(); !isBusy(err) {
					t.Errorf("ServeConn returned %v", err)
				}
			})
		})
	}
	t.Run("write", func(t *testing.T) {
		inBubble(t, 8*time.Second, func(t *testing.T) {
			srv := newServer(t, &store{}, server.Options{Stress: always(st)})
			here, there := net.Pipe()
			defer here.Close()
			a := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1"))
			if err := srv.ServeConn(context.Background(), hosted{there, a}); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("ServeConn returned %v", err)
			}
		})
	})
	t.Run("greeting delay", func(t *testing.T) {
		inBubble(t, 4*time.Second, func(t *testing.T) {
			srv := newServer(t, &store{}, server.Options{Stress: always(st), GreetingDelay: time.Minute})
			p := dialFrom(t, srv, "192.0.2.1:1")
			p.hello()
			p.quit()
			if n := srv.Stats().StressClosed; n != 0 {
				t.Errorf("a delay that was cut short counts as %d connections closed", n)
			}
		})
	})
	t.Run("spared", func(t *testing.T) {
		inBubble(t, 5*time.Minute, func(t *testing.T) {
			srv := newServer(t, &store{}, server.Options{Stress: always(st)})
			p := dialFrom(t, srv, "127.0.0.1:1")
			p.hello()
			p.expect("421 4.4.2 Timeout, closing")
			_ = p.ended()
		})
	})
	t.Run("without other timeouts", func(t *testing.T) {
		inBubble(t, 4*time.Second, func(t *testing.T) {
			none := server.Timeouts{Command: -1, Age: -1}
			p := dialFrom(t, newServer(t, &store{}, server.Options{Stress: always(st), Timeouts: none}), "192.0.2.1:1")
			p.hello()
			p.expect(cutByStress)
			_ = p.ended()
		})
	})
	t.Run("behind a proxy", func(t *testing.T) { // on the same machine, which names a client that is not
		inBubble(t, 4*time.Second, func(t *testing.T) {
			x := ehlo.XCLIENT(netip.MustParsePrefix("127.0.0.1/32"))
			srv := newServer(t, &store{}, server.Options{
				Stress: always(st), Extensions: append([]ext.Extension{x}, ehlo.Default()...),
			})
			p := dialFrom(t, srv, "127.0.0.1:1")
			p.hello()
			p.ask("XCLIENT ADDR=192.0.2.1", "220 ")
			p.expect(cutByStress)
			_ = p.ended()
		})
	})
}

// TestStressOfSlowContent: content that comes too slowly ends earlier.
func TestStressOfSlowContent(t *testing.T) {
	inBubble(t, 11*time.Second, func(t *testing.T) {
		st := server.Stress{MinRateGrace: 10 * time.Second}
		p := dialFrom(t, newServer(t, &store{}, server.Options{Stress: always(st)}), "192.0.2.1:1")
		p.hello()
		p.begin()
		p.ask("DATA", "354 ")
		for range 11 {
			<-time.After(time.Second)
			p.send("x")
		}
		p.expect("421 4.4.2 Message comes too slowly")
		_ = p.ended()
	})
}

// TestStressOfHandshakes: handshakes that stop do not have their places for a minute, nor do those that have begun
// before.
func TestStressOfHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config, client := tlsPair(t)
		srv := newServer(t, &store{}, server.Options{TLSConfig: config, Limits: server.Limits{Handshakes: 10}})
		start := time.Now()
		dial := func(i int) *wire {
			here, there := net.Pipe()
			a := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 1))
			w := &wire{t: t, nc: here, done: make(chan error, 1)}
			go func() { w.done <- srv.ServeConn(context.Background(), hosted{there, a}) }()
			t.Cleanup(func() { here.Close() })
			w.ask("", "220 ")
			w.ask("EHLO client.example\r\n", "250-")
			return w
		}
		var stalled []*wire
		here, there := net.Pipe() // for one that begins with TLS
		defer here.Close()
		a := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.200:1"))
		implicit := &wire{t: t, nc: here, done: make(chan error, 1)}
		go func() { implicit.done <- srv.ServeConn(context.Background(), tls.Server(hosted{there, a}, config)) }()
		stalled = append(stalled, implicit)
		for i := range 8 {
			w := dial(i)
			w.ask("STARTTLS\r\n", "220 ")
			stalled = append(stalled, w)
		}
		<-time.After(4 * time.Second)
		last := dial(100)
		last.ask("STARTTLS\r\n", "220 ") // 10 of 10
		if l, n := srv.Load(), srv.Stats().Stresses; l.Handshakes != 10 || l.MaxHandshakes != 10 || l.Max() != 1 || n != 1 {
			t.Errorf("the load is %+v, and stress has begun %d times", l, n)
		}
		<-time.After(time.Second)
		p := dial(101).startTLS(client)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("the handshake was made after %v, want 10s", d)
		}
		for _, w := range stalled {
			if err := <-w.done; !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "under stress") {
				t.Errorf("ServeConn returned %v", err)
			}
		}
		p.ask("EHLO client.example", "250-")
		if err := <-last.done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ServeConn returned %v", err)
		}
		if d := time.Since(start); d != 14*time.Second {
			t.Errorf("the last handshake was given up after %v, want 14s", d)
		}
		p.ask("NOOP", "250 ")
		<-time.After(20 * time.Second)
		p.ask("NOOP", "250 ") // 14 seconds had passed without stress
		p.quit()
		if s := srv.Stats(); s.Stresses != 1 || s.StressClosed != 10 || s.HandshakesFailed != 10 || s.HandshakesRefused != 0 {
			t.Errorf("the counters are %+v", s)
		}
	})
}

// TestStressOfMemory: a transaction that takes nearly the last of the memory is a reason for stress, too.
func TestStressOfMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, &store{}, server.Options{Limits: server.Limits{Memory: 1 << 20}})
		var conns []*peer
		for i := range 57 { // of 16 KiB
			p := dialFrom(t, srv, fmt.Sprintf("192.0.2.%d:1", i+1))
			p.hello()
			conns = append(conns, p)
		}
		<-time.After(time.Minute)
		if l, n := srv.Load(), srv.Stats().Stresses; l.Memory != 57<<14 || l.MaxMemory != 1<<20 || n != 0 {
			t.Fatalf("the load is %+v, and stress has begun %d times", l, n)
		}
		conns[0].ask("MAIL FROM:<a@b.example>", "250 ")
		if n := srv.Stats().Stresses; n != 1 {
			t.Errorf("stress has begun %d times", n)
		}
		for _, p := range conns[1:] {
			p.expect(cutByStress)
			_ = p.ended()
		}
		conns[0].ask("RSET", "250 ")
		conns[0].quit()
	})
}

// TestStressLimits: under stress a client has less to do wrong.
func TestStressLimits(t *testing.T) {
	const wrong, junk = "421 4.7.0 Too many errors", "421 4.7.0 Too many commands"
	for _, c := range []struct {
		addr, say, want, end string
		n                    int
	}{
		{"192.0.2.1:1", "FOO", "500 ", wrong, 1},
		{"192.0.2.1:1", "NOOP", "250 ", junk, 9}, // EHLO is one
		{"127.0.0.1:1", "FOO", "500 ", wrong, 20},
		{"127.0.0.1:1", "NOOP", "250 ", junk, 999},
	} {
		synctest.Test(t, func(t *testing.T) {
			full := server.Load{Conns: 1, MaxConns: 1}
			full.Memory, full.MaxMemory = 1, 1
			st := func(server.Load) *server.Stress { return server.DefaultStress(full) }
			p := dialFrom(t, newServer(t, &store{}, server.Options{Stress: st}), c.addr)
			p.hello()
			for range c.n {
				p.ask(c.say, c.want)
			}
			p.ask(c.say, c.end)
			_ = p.ended()
		})
	}
	// A limit that is stricter anyway stays.
	synctest.Test(t, func(t *testing.T) {
		opt := server.Options{Stress: always(server.Stress{Errors: 5}), Limits: server.Limits{Errors: 1}}
		p := dialFrom(t, newServer(t, &store{}, opt), "192.0.2.1:1")
		p.hello()
		p.ask("FOO", "500 ", "FOO", wrong)
		_ = p.ended()
	})
	// Submission over STARTTLS, and many recipients more than a transaction may have, are no junk.
	synctest.Test(t, func(t *testing.T) {
		st := always(server.Stress{Errors: 1, Junk: 4})
		srv := newServer(t, authStore{&store{}}, server.Options{
			Stress: st, AllowInsecureAuth: true, Limits: server.Limits{Rcpts: 1, Errors: -1, Junk: -1},
		})
		p := dialFrom(t, srv, "192.0.2.1:1")
		p.expect("220 ")
		p.ask("EHLO client.example", "250-", "EHLO client.example", "250-", plain("alice", "secret"), "235 ")
		p.begin()
		for range 10 {
			p.ask("RCPT TO:<e@d.example>", "452 4.5.3")
		}
		p.ask("DATA", "354 ", "x\r\n.", "250 ", "FOO", "500 ", "FOO", wrong)
		_ = p.ended()
	})
}
