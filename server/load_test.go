package server_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestI12_HandshakesAtATime: one handshake more than may be under way waits for its turn, and not for ever. What a
// client leaves undone has its place until the timeout.
func TestI12_HandshakesAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config, client := tlsPair(t)
		var limited []string
		srv := newServer(t, &store{}, server.Options{
			TLSConfig: config, Limits: server.Limits{Handshakes: 1},
			Trace: &server.Trace{Limited: func(_ context.Context, _ *server.Conn, e *proto.Error) {
				limited = append(limited, e.Error())
			}},
		})
		dialWire := func() *wire {
			w := dialWire(t, srv)
			w.ask("", "220 ")
			w.ask("EHLO client.example\r\n", "250-")
			return w
		}
		start := time.Now()
		stalled, b := dialWire(), dialWire()
		stalled.ask("STARTTLS\r\n", "220 ")
		b.ask("STARTTLS\r\n", "454 4.7.0 Too many TLS handshakes")
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("the refusal came after %v, want 10s", d)
		}
		b.ask("NOOP\r\n", "250 ")
		// One that begins with TLS is closed without a word.
		here, there := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- srv.ServeConn(context.Background(), tls.Server(there, config)) }()
		heard := make(chan string, 1)
		go func() {
			octets, _ := io.ReadAll(here)
			heard <- string(octets)
		}()
		if err, said := <-done, <-heard; err == nil || !strings.Contains(err.Error(), "handshakes") || said != "" {
			t.Errorf("the server says %q and returns %v, want no word and an error", said, err)
		}
		here.Close()
		if s := srv.Stats(); s.HandshakesRefused != 2 || s.HandshakesFailed != 0 || len(limited) != 2 {
			t.Errorf("%d were refused, %d failed, and %q traced", s.HandshakesRefused, s.HandshakesFailed, limited)
		}
		<-time.After(time.Until(start.Add(55 * time.Second)))
		p := b.startTLS(client) // when the one that stalled is given up, after a minute
		if d := time.Since(start); d != time.Minute {
			t.Errorf("the handshake was made after %v, want 1m", d)
		}
		p.ask("EHLO client.example", "250-")
		p.quit()
		c := dialWire()
		p = c.startTLS(client)
		p.ask("EHLO client.example", "250-")
		p.quit()
		if d := time.Since(start); d != time.Minute {
			t.Errorf("a handshake had to wait although none was under way: %v", d)
		}
		<-stalled.done
		if m := srv.Stats().Memory; m != 0 {
			t.Errorf("%d octets are held by no connection", m)
		}
	})
}

// fillMemory opens n connections.
func fillMemory(t *testing.T, srv *server.Server, n int) (conns []*peer) {
	t.Helper()
	for range n {
		p := dial(t, srv)
		p.hello()
		conns = append(conns, p)
	}
	return conns
}

// TestI13_MemoryOfAll: what all connections hold together is bounded, and counted as the option says.
func TestI13_MemoryOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config, client := tlsPair(t)
		st := &store{}
		srv := newServer(t, st, server.Options{TLSConfig: config, Limits: server.Limits{Memory: 1 << 20, ConnsPerHost: -1}})
		conns := fillMemory(t, srv, 64) // of 16 KiB
		if m := srv.Stats().Memory; m != 1<<20 {
			t.Fatalf("64 connections hold %d octets, want 1 MiB", m)
		}
		p := dial(t, srv)
		p.expect("421 mail.example Too busy")
		<-p.done
		const short = "452 4.3.1 Insufficient memory"
		st.calls()
		conns[0].ask("MAIL FROM:<a@b.example>", short)
		if calls := st.calls(); calls != "" {
			t.Errorf("the session was asked %s", calls)
		}
		for _, p := range conns[57:] { // which makes room for a transaction
			p.quit()
		}
		conns[0].ask("MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<c@d.example>", short)
		conns[1].ask("MAIL FROM:<a@b.example>", short, "STARTTLS", "454 ")
		conns[56].quit()
		conns[0].ask("RCPT TO:<c@d.example>", "250 ", "DATA", "354 ", "x\r\n.", "250 ")
		conns[1].ask("MAIL FROM:<a@b.example>", "250 ", "RSET", "250 ")
		conns[0].ask("MAIL FROM:<a@b.example>", "250 ")
		for _, p := range conns[:56] {
			p.quit()
		}
		if s := srv.Stats(); s.Memory != 0 || s.MemoryRefused != 5 || s.ConnsRefused != 1 {
			t.Errorf("%d octets are held by none, and %d refusals are counted, want 5", s.Memory, s.MemoryRefused)
		}
		w := dialWire(t, srv)
		w.ask("", "220 ")
		w.ask("EHLO client.example\r\n", "250-")
		p = w.startTLS(client)
		p.ask("EHLO client.example", "250-")
		if m := srv.Stats().Memory; m != (16+40)<<10 {
			t.Errorf("a connection with TLS holds %d octets, want 56 KiB", m)
		}
		p.quit()
	})
}

// TestRefusedSendersHoldNothing: a transaction that was refused holds no memory.
func TestRefusedSendersHoldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, &store{mail: refuseAll}, server.Options{Limits: server.Limits{Memory: 1 << 20}})
		p := dial(t, srv)
		p.hello()
		for range 20 {
			p.ask("MAIL FROM:<a@b.example>", "451 ")
		}
		if m := srv.Stats().Memory; m != 16<<10 {
			t.Errorf("the connection holds %d octets, want 16 KiB", m)
		}
		p.quit()
	})
}

// TestMemoryOfReplies: replies that a client does not read are counted, and do not grow when memory is short.
func TestMemoryOfReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []int{0, 63} {
			srv := newServer(t, &store{}, server.Options{Limits: server.Limits{Memory: 1 << 20, Junk: -1}})
			conns := fillMemory(t, srv, n)
			w := dialWire(t, srv)
			w.ask("", "220 ")
			w.ask("EHLO client.example\r\n", "250-")
			go func() { _, _ = io.WriteString(w.nc, strings.Repeat("RSET\r\n", 20_000)) }()
			synctest.Wait()
			m := srv.Stats().Memory
			if others := int64(n+1) * 16 << 10; m > 1<<20 || n == 0 && m < others+8<<10 {
				t.Errorf("beside %d connections, one that does not read holds %d octets", n, m-others)
			}
			w.nc.Close()
			<-w.done
			for _, p := range conns {
				p.quit()
			}
			if m := srv.Stats().Memory; m != 0 {
				t.Errorf("%d octets are held by no connection", m)
			}
		}
	})
}

// TestMemoryHasALimit: it cannot be switched off.
func TestMemoryHasALimit(t *testing.T) {
	for _, n := range []int64{-1, 1<<20 - 1} {
		_, err := server.New(&store{}, &server.Options{Limits: server.Limits{Memory: n}})
		if err == nil || !strings.Contains(err.Error(), "Limits.Memory") {
			t.Errorf("with %d octets the error is %v", n, err)
		}
	}
}

// An addrFunc is an address of TCP that calls look when the server looks at it.
type addrFunc struct {
	*net.TCPAddr
	look func()
}

func (a addrFunc) AddrPort() netip.AddrPort {
	a.look()
	return a.TCPAddr.AddrPort()
}

// TestMemoryIsReserved: a transaction that begins while a connection is let in does not take what that was promised.
func TestMemoryIsReserved(t *testing.T) {
	for n := range 8 { // at each time at which the server looks at the address
		synctest.Test(t, func(t *testing.T) {
			srv := newServer(t, &store{}, server.Options{
				Limits: server.Limits{Memory: 1 << 20, ConnsPerHost: -1},
				Stress: func(server.Load) *server.Stress { return nil },
			})
			conns := fillMemory(t, srv, 57) // which leaves room for a transaction, or for connections
			here, there := net.Pipe()
			looks := 0
			a := addrFunc{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1")), func() {
				if looks++; looks == n+1 {
					conns[0].send("MAIL FROM:<a@b.example>\r\n")
					conns[0].reply()
				}
			}}
			p := dialOver(t, srv, here, hosted{there, a})
			p.reply()
			if m := srv.Stats().Memory; m > 1<<20 {
				t.Errorf("all hold %d octets, more than 1 MiB", m)
			}
			here.Close()
			<-p.done
			for _, p := range conns {
				p.quit()
			}
			if m := srv.Stats().Memory; m != 0 {
				t.Errorf("%d octets are held by none", m)
			}
		})
	}
}

// TestConnectionsOverRateHoldNothing: a connection that is refused has no memory, not even while it is told so.
func TestConnectionsOverRateHoldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, &store{}, server.Options{Limits: server.Limits{ConnsPerMinute: 1}})
		greeted(t, srv, "192.0.2.1:1", "220 ")
		here, there := net.Pipe()
		defer here.Close()
		a := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1"))
		done := make(chan error)
		go func() { done <- srv.ServeConn(context.Background(), hosted{there, a}) }()
		synctest.Wait() // the 421 is not read
		if m := srv.Stats().Memory; m != 0 {
			t.Errorf("it holds %d octets", m)
		}
		if err := <-done; err == nil {
			t.Error("ServeConn returned nil")
		}
	})
}
