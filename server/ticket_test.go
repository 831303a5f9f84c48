package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"smtpkit.example/smtp/server"
)

// TestO26_SessionTickets: no client gets a session ticket, of either version, unless the operator asks for them. The
// client of crypto/tls says whether it got one by resuming the session.
func TestO26_SessionTickets(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  func(*server.Options)
		want bool
	}{
		{"default", func(*server.Options) {}, false},
		{"keys", func(o *server.Options) { o.TLSConfig.SetSessionTicketKeys([][32]byte{{1}}) }, false},
		{"GetConfigForClient", perClient, false},
		{"SessionTickets", func(o *server.Options) { o.SessionTickets = true }, true},
		{"SessionTickets and GetConfigForClient", func(o *server.Options) {
			perClient(o)
			o.SessionTickets = true
		}, true},
		{"disabled in spite of SessionTickets", func(o *server.Options) {
			o.TLSConfig.SessionTicketsDisabled = true
			o.SessionTickets = true
		}, false},
		{"WrapSession", func(o *server.Options) {
			config := o.TLSConfig
			config.WrapSession = config.EncryptTicket
			config.UnwrapSession = config.DecryptTicket
		}, true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprintf("%s/%x", c.name, version), func(t *testing.T) {
				config, trust := tlsPair(t)
				opt := server.Options{TLSConfig: config}
				c.opt(&opt)
				trust.MaxVersion = version
				trust.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				s := newServer(t, &store{}, opt)
				addr, served := listen(t, s.Serve)
				resumed := false
				for range 2 {
					nc, err := net.Dial("tcp", addr)
					if err != nil {
						t.Fatal(err)
					}
					w := &wire{t: t, nc: nc}
					w.ask("", "220 ")
					w.ask("EHLO x\r\n", "250-")
					p := w.startTLS(trust)
					p.ask("EHLO x", "250-")
					resumed = p.nc.(*tls.Conn).ConnectionState().DidResume
					p.quit()
				}
				if resumed != c.want {
					t.Errorf("the second connection resumed the session of the first: %v, want %v", resumed, c.want)
				}
				_ = s.Shutdown(t.Context())
				<-served
			})
		}
	}
}

// perClient has the configuration found for each client.
func perClient(o *server.Options) {
	each := o.TLSConfig
	o.TLSConfig = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return each, nil }}
}

// TestO26_NothingBehindTheHandshake: with TLS 1.3, the server's first record behind the handshake is its reply. A
// ticket would be one before that.
func TestO26_NothingBehindTheHandshake(t *testing.T) {
	config, trust := tlsPair(t)
	s := newServer(t, &store{}, server.Options{TLSConfig: config})
	here, there := net.Pipe()
	counted := &recordCounter{Conn: here}
	done := make(chan error, 1)
	go func() { done <- s.ServeConn(context.Background(), there) }()
	w := &wire{t: t, nc: counted, done: done}
	w.ask("", "220 ")
	w.ask("EHLO x\r\n", "250-")
	p := w.startTLS(trust)
	before := counted.n.Load()
	p.ask("NOOP", "250 ")
	if got := counted.n.Load() - before; got != 1 {
		t.Errorf("%d records came with the first reply inside TLS, want 1", got)
	}
	p.quit()
}

// A recordCounter counts the records of TLS that its reader gets. The reader of crypto/tls takes the five octets of a
// record's header first, or as many records as there are; so it is given one record at a time.
type recordCounter struct {
	net.Conn
	rest int
	n    atomic.Int64
}

func (c *recordCounter) Read(p []byte) (int, error) {
	if c.rest > 0 {
		n, err := c.Conn.Read(p[:min(len(p), c.rest)])
		c.rest -= n
		return n, err
	}
	if len(p) < 5 {
		return c.Conn.Read(p) // in plaintext: wire reads one octet at a time
	}
	n, err := io.ReadFull(c.Conn, p[:5])
	if n == 5 {
		c.rest = int(p[3])<<8 | int(p[4])
		c.n.Add(1)
	}
	return n, err
}

// TestO18_ObsoleteTLS: TLS 1.0 and 1.1 need the option that is named for them, which leaves MinVersion alone.
func TestO18_ObsoleteTLS(t *testing.T) {
	for _, c := range []struct {
		name    string
		allow   bool
		each    bool
		least   uint16
		version uint16
		want    bool
	}{
		{"not allowed", false, false, tls.VersionTLS10, tls.VersionTLS10, false},
		{"1.0", true, false, 0, tls.VersionTLS10, true},
		{"1.1", true, false, 0, tls.VersionTLS11, true},
		{"1.1, and 1.0 comes", true, false, tls.VersionTLS11, tls.VersionTLS10, false},
		{"1.2, and 1.1 comes", true, false, tls.VersionTLS12, tls.VersionTLS11, false},
		{"each its own", true, true, 0, tls.VersionTLS10, true},
		{"new clients", true, false, 0, tls.VersionTLS13, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, trust := tlsPair(t)
			config.MinVersion = c.least
			opt := server.Options{TLSConfig: config, AllowObsoleteTLS: c.allow}
			if c.each {
				perClient(&opt)
			}
			w := dialWire(t, newServer(t, &store{}, opt))
			w.ask("", "220 ")
			w.ask("EHLO x\r\n", "250-")
			w.ask("STARTTLS\r\n", "220 ")
			trust.MinVersion, trust.MaxVersion = tls.VersionTLS10, c.version
			tc := tls.Client(w.nc, trust)
			if err := tc.Handshake(); (err == nil) != c.want {
				t.Fatalf("the handshake of %s: %v", tls.VersionName(c.version), err)
			}
			if c.want {
				newPeer(t, tc).quit()
				<-w.done
			}
		})
	}
}
