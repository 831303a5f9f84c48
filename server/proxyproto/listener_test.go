package proxyproto_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/proxyproto"
)

// TestMain fails if a test leaves a goroutine behind.
func TestMain(m *testing.M) { prototest.Main(m) }

var balancers = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}

// A switchboard is a listener whose connections are pipes from made-up addresses.
type switchboard struct {
	calls  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newSwitchboard() *switchboard {
	return &switchboard{calls: make(chan net.Conn), closed: make(chan struct{})}
}

type call struct {
	net.Conn
	from net.Addr
}

func (c *call) RemoteAddr() net.Addr { return c.from }

func (s *switchboard) Accept() (net.Conn, error) {
	select {
	case nc := <-s.calls:
		return nc, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *switchboard) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *switchboard) Addr() net.Addr { return &net.TCPAddr{} }

// dial makes a connection from an address.
func (s *switchboard) dial(from string) net.Conn {
	here, there := net.Pipe()
	s.calls <- &call{there, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	return here
}

// What is sent, and from where.
const (
	balancer = "192.0.2.1:999"
	stranger = "203.0.113.1:999"
	header   = "PROXY TCP4 198.51.100.7 192.0.2.25 1025 25\r\n"
)

// collect accepts until the listener is closed, and returns what was accepted.
func collect(l net.Listener) <-chan net.Conn {
	out := make(chan net.Conn, 100)
	go func() {
		defer close(out)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			out <- nc
		}
	}()
	return out
}

func TestAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSwitchboard()
		l := proxyproto.NewListener(s, &proxyproto.Options{Trusted: balancers})
		defer l.Close()
		accepted := collect(l)
		for _, tt := range []struct {
			name, from string
			pieces     []string
			remote     string
			local      string
			rest       string
		}{
			{"header", balancer, []string{header + "abc"}, "198.51.100.7:1025", "192.0.2.25:25", "abc"},
			{"in pieces", balancer, strings.Split(header+"abc", ""), "198.51.100.7:1025", "192.0.2.25:25", "abc"},
			{"nothing known", balancer, []string{"PROXY UNKNOWN\r\nabc"}, balancer, "pipe", "abc"},
			{"W15 Z162 stranger with header", stranger, []string{header}, stranger, "pipe", header},
			{"stranger", stranger, []string{"abc"}, stranger, "pipe", "abc"},
		} {
			nc := s.dial(tt.from)
			go func() {
				for _, piece := range tt.pieces {
					io.WriteString(nc, piece)
				}
				nc.Close()
			}()
			got := <-accepted
			rest, err := io.ReadAll(got)
			if got.RemoteAddr().String() != tt.remote || got.LocalAddr().String() != tt.local || string(rest) != tt.rest || err != nil {
				t.Errorf("%s: from %v at %v: %q, %v", tt.name, got.RemoteAddr(), got.LocalAddr(), rest, err)
			}
			if p, ok := got.(interface{ NetConn() net.Conn }); ok != (tt.from == balancer) || ok && p.NetConn().RemoteAddr().String() != balancer {
				t.Errorf("%s: the connection to the proxy is not to be found", tt.name)
			}
			got.Close()
		}
	})
}

// TestW15_BadHeader: whoever does not begin with a header is hung up on, and not greeted.
func TestW15_BadHeader(t *testing.T) {
	for name, sent := range map[string]string{
		"SMTP": "EHLO x\r\n", "malformed": "PROXY TCP4 x\r\n", "Z162 one MiB": "PROXY TCP4 " + strings.Repeat("1", 1<<20), "cut short": "PROXY TC", "nothing": "",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSwitchboard()
				var rejected []error
				l := proxyproto.NewListener(s, &proxyproto.Options{Trusted: balancers, Rejected: func(proxy net.Addr, err error) {
					if proxy.String() != balancer {
						t.Errorf("rejected %v", proxy)
					}
					rejected = append(rejected, err)
				}})
				accepted := collect(l)
				nc := s.dial(balancer)
				io.WriteString(nc, sent)
				if sent == "" || sent == "PROXY TC" {
					nc.Close()
				} else if b, err := io.ReadAll(nc); len(b) > 0 || err != nil {
					t.Errorf("was told %q, %v", b, err)
				}
				synctest.Wait()
				if len(rejected) != 1 || (rejected[0] == io.EOF) != (sent == "") {
					t.Errorf("rejected for %v", rejected)
				}
				l.Close()
				if got, ok := <-accepted; ok {
					t.Errorf("accepted %v", got)
				}
			})
		})
	}
}

// TestZ162_SlowHeader shows that a slow proxy delays nobody, and is given up in the end.
func TestZ162_SlowHeader(t *testing.T) {
	for _, limit := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			s := newSwitchboard()
			var why error
			l := proxyproto.NewListener(s, &proxyproto.Options{Trusted: balancers, Timeout: limit, Rejected: func(_ net.Addr, err error) { why = err }})
			defer l.Close()
			accepted := collect(l)
			start := time.Now()
			slow := s.dial(balancer)
			io.WriteString(slow, "PROXY TCP4 ")
			nc := s.dial(balancer)
			go io.WriteString(nc, header)
			got := <-accepted
			if got.RemoteAddr().String() != "198.51.100.7:1025" || time.Since(start) != 0 {
				t.Errorf("%v was accepted after %v", got.RemoteAddr(), time.Since(start))
			}
			if limit == 0 {
				limit = 10 * time.Second
			}
			<-time.After(limit / 2)
			io.WriteString(slow, "198.51.100.7 ")
			if _, err := slow.Read(make([]byte, 1)); err != io.EOF || time.Since(start) != limit {
				t.Errorf("hung up after %v, %v", time.Since(start), err)
			}
			synctest.Wait()
			if !errors.Is(why, os.ErrDeadlineExceeded) {
				t.Errorf("rejected for %v", why)
			}
			// What was accepted has no deadline left.
			done := make(chan error, 1)
			go func() { _, err := got.Read(make([]byte, 1)); done <- err }()
			<-time.After(time.Hour)
			go io.WriteString(nc, "x")
			if err := <-done; err != nil {
				t.Errorf("reading after an hour: %v", err)
			}
			got.Close()
		})
	}
}

// TestPending shows that the connections without a header are bounded, and closed with the listener.
func TestPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSwitchboard()
		l := proxyproto.NewListener(s, &proxyproto.Options{Trusted: balancers, MaxPending: 2, Timeout: time.Hour})
		accepted := collect(l)
		first, second := s.dial(balancer), s.dial(balancer)
		var third net.Conn
		made := make(chan struct{})
		go func() { third = s.dial(balancer); close(made) }()
		synctest.Wait()
		select {
		case <-made:
			t.Fatal("a third connection was accepted")
		default:
		}
		go io.WriteString(first, header)
		(<-accepted).Close()
		<-made
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for _, nc := range []net.Conn{second, third} {
			if _, err := nc.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after Close: %v", err)
			}
		}
		if nc, ok := <-accepted; ok {
			t.Errorf("accepted %v after Close", nc)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
	})
}

// broken is a listener whose Accept fails a few times.
type broken struct {
	*switchboard
	errs chan error
}

func (b *broken) Accept() (net.Conn, error) {
	select {
	case err := <-b.errs:
		return nil, err
	default:
		return b.switchboard.Accept()
	}
}

func TestAcceptError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := errors.New("too many open files")
		b := &broken{newSwitchboard(), make(chan error, 3)}
		for range 3 {
			b.errs <- ours
		}
		l := proxyproto.NewListener(b, nil)
		for range 3 {
			if nc, err := l.Accept(); err != ours || nc != nil {
				t.Fatalf("%v, %v", nc, err)
			}
		}
		go b.dial(balancer).Close()
		nc, err := l.Accept() // without options nobody is trusted
		if err != nil || nc.RemoteAddr().String() != balancer {
			t.Errorf("%v, %v", nc, err)
		}
		nc.Close()
		l.Close()
	})
}

// TestClientAndServer has our client, behind a header, talk to our server: in plaintext, and with TLS from the first
// octet behind the header.
func TestClientAndServer(t *testing.T) {
	theirs, ours := certificates(t)
	for _, implicit := range []bool{false, true} {
		var remotes []string
		srv, err := server.New(server.MessageFunc(func(_ context.Context, m *server.Message) error {
			remotes = append(remotes, m.Conn.RemoteAddr().String())
			_, err := io.Copy(io.Discard, m.Body)
			return err
		}), &server.Options{Hostname: "mail.example", TLSConfig: theirs, Limits: server.Limits{ConnsPerHost: 1}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := proxyproto.NewListener(inner, &proxyproto.Options{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
		done := make(chan error, 1)
		opt := client.Options{Hostname: "client.example", TLS: ext.TLSInsecureNone, TLSConfig: ours}
		serve := srv.Serve
		if implicit {
			opt.TLS, serve = ext.TLSImplicit, srv.ServeTLS
		}
		go func() { done <- serve(l) }()

		var clients []*client.Client
		var want []string
		for i, append := range []func([]byte, netip.AddrPort, netip.AddrPort) []byte{proxyproto.AppendV1, proxyproto.AppendV2} {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 4000)
			opt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err == nil {
					_, err = nc.Write(append(nil, from, netip.MustParseAddrPort("192.0.2.25:25")))
				}
				return nc, err
			}
			// Two at a time: the limit for each host is by the address of the client.
			c, err := client.Dial(t.Context(), inner.Addr().String(), &opt)
			if err != nil {
				t.Fatal(err)
			}
			clients = slices.Insert(clients, i, c)
			want = slices.Insert(want, i, from.String())
		}
		for _, c := range clients {
			m, err := client.NewMessage("a@b.example", []string{"c@d.example"}, strings.NewReader("hello\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Send(t.Context(), m); err != nil {
				t.Error(err)
			}
			c.Close()
		}
		if !slices.Equal(remotes, want) {
			t.Errorf("the messages came from %v, want %v", remotes, want)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	}
}

// TestZ162_Stranger shows that a header of somebody who is not trusted reaches the server as a command, which refuses
// it.
func TestZ162_Stranger(t *testing.T) {
	srv, err := server.New(server.MessageFunc(func(context.Context, *server.Message) error { return nil }), &server.Options{Hostname: "mail.example"})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(proxyproto.NewListener(inner, &proxyproto.Options{Trusted: balancers})) }()
	nc, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(nc)
	io.WriteString(nc, header)
	for _, want := range []string{"220 mail.example", "500 5.5.1 "} {
		if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("the server says %q, %v, want %s", line, err, want)
		}
	}
	nc.Close()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	<-done
}

// certificates returns the configuration of a server with a certificate of its own making, and that of a client which
// trusts it.
func certificates(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	cert, pool := prototest.Certificate(t, "mail.example")
	return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: pool, ServerName: "mail.example"}
}
