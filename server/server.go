package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// ErrServerClosed is the error of [Server.Serve] and its kin after Shutdown or Close. It is also the cause for which
// the contexts of sessions end then.
var ErrServerClosed = errors.New("smtp: server closed")

// A Server receives mail by SMTP or LMTP. Make one with [New]. Its methods may be called concurrently, and it may serve
// several listeners at a time.
type Server struct {
	backend   Backend
	opt       Options     // with defaults
	set       *ext.Set    // of opt.Extensions
	tlsConfig *tls.Config // opt.TLSConfig, with recordCertificate; nil if there is none

	// What the extensions in use do.
	chunks      map[string]bool  // the verbs that carry content in chunks
	statusCodes bool             // replies carry enhanced status codes
	guards      []*ext.Extension // have a Guard
	checkMail   []*ext.Extension // have a CheckMail
	checkRcpt   []*ext.Extension // have a CheckRcpt

	// The shutdown.
	closing     atomic.Bool
	done        chan struct{} // closed when closing is set
	lastCommand time.Time     // until when a client may go on with a transaction; set before closing is

	mu        sync.Mutex                 // guards what follows, and Conn.counted and Conn.host
	listeners map[*net.Listener]struct{} // that are being served
	conns     map[*Conn]struct{}         // that are being served, or turned away
	active    int                        // how many of conns count for Limits.Conns
	hosts     map[netip.Prefix]int       // how many of these come from each host
	drained   chan struct{}              // closed when conns is empty; nil if nobody waits for that
}

// New returns a server whose mail goes to b. The options may be nil, and are copied. New returns an error if b is nil,
// if an option is malformed, or if extensions contradict each other. It does not know what sessions can do: a server
// that requires authentication needs sessions that implement an interface of package auth, and AUTH in its list.
func New(b Backend, opt *Options) (*Server, error) {
	switch f := b.(type) {
	case nil:
		return nil, errors.New("smtp: server.New needs a Backend")
	case MessageFunc:
		if f == nil {
			return nil, errors.New("smtp: server.New needs a Backend, and the MessageFunc is nil")
		}
	case BackendFunc:
		if f == nil {
			return nil, errors.New("smtp: server.New needs a Backend, and the BackendFunc is nil")
		}
	}
	var o Options
	if opt != nil {
		o = *opt
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	set, err := ext.NewSet(o.Protocol, o.Extensions)
	if err == nil {
		err = set.CheckServer()
	}
	if err != nil {
		return nil, err
	}
	s := &Server{
		backend:   b,
		opt:       o,
		set:       set,
		chunks:    make(map[string]bool),
		done:      make(chan struct{}),
		listeners: make(map[*net.Listener]struct{}),
		conns:     make(map[*Conn]struct{}),
		hosts:     make(map[netip.Prefix]int),
	}
	if o.TLSConfig != nil {
		s.tlsConfig = recordCertificate(o.TLSConfig)
	}
	s.describe(set)
	return s, nil
}

// describe records what the extensions of set do.
func (s *Server) describe(set *ext.Set) {
	for i := range set.Extensions() {
		e := &set.Extensions()[i]
		if e.Chunk != "" {
			s.chunks[e.Chunk] = true
		}
		for _, v := range e.Verbs {
			if e.Fetch != nil && v.In&proto.Chunks != 0 {
				s.chunks[v.Name] = true
			}
		}
		s.statusCodes = s.statusCodes || e.StatusCodes
		if e.Guard != nil {
			s.guards = append(s.guards, e)
		}
		if e.CheckMail != nil {
			s.checkMail = append(s.checkMail, e)
		}
		if e.CheckRcpt != nil {
			s.checkRcpt = append(s.checkRcpt, e)
		}
	}
}

// Serve accepts connections from l and serves them, until the server or l is closed. It closes l. After Shutdown or
// Close it returns [ErrServerClosed] at once, while connections may live on.
//
// If l accepts connections of type *tls.Conn, the server makes their handshakes. An error of Accept is logged, and
// Accept tried again after a pause, unless l is closed: then Serve returns the error. LMTP is not served on TCP port
// 25, where everybody expects SMTP (RFC 2033 section 5).
func (s *Server) Serve(l net.Listener) error { return s.serve(l, false) }

// ServeTLS is Serve for clients that speak TLS from the first octet, as on port 465 (RFC 8314 section 3.3). It returns
// an error if there is no Options.TLSConfig.
func (s *Server) ServeTLS(l net.Listener) error {
	if s.opt.TLSConfig == nil {
		l.Close()
		return errors.New("smtp: ServeTLS needs Options.TLSConfig")
	}
	return s.serve(l, true)
}

func (s *Server) serve(l net.Listener, implicit bool) error {
	if s.opt.Protocol == proto.LMTP && portOf(l.Addr()) == 25 {
		l.Close()
		return errors.New("smtp: LMTP must not be used on TCP port 25: listen on another port, or on a Unix socket " +
			"(RFC 2033 section 5)")
	}
	if !s.track(&l) {
		l.Close()
		return ErrServerClosed
	}
	defer s.untrack(&l)
	if (s.opt.RequireAuth || s.set.Submission()) && s.opt.TLSConfig == nil && !s.opt.AllowInsecureAuth {
		s.opt.Logger.Warn("smtp: nobody can authenticate on a connection in plaintext, and there is no TLS to be started: "+
			"set Options.TLSConfig, unless the listener brings TLS with it", "addr", l.Addr())
	}
	var delay time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			delay = 0
			c := newConn(context.Background(), s, nc)
			refusal := s.admit(c)
			go c.run(implicit, refusal)
			continue
		}
		if s.closing.Load() {
			return ErrServerClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("smtp: %w", err)
		}
		delay = min(max(2*delay, acceptDelay), maxAcceptDelay)
		s.opt.Logger.Error("smtp: accept failed, trying again", "err", err, "after", delay)
		if !s.pause(delay) {
			return ErrServerClosed
		}
	}
}

// pause waits for d and reports false if the server was closed meanwhile.
func (s *Server) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.done:
		return false
	}
}

// ServeConn serves one connection, such as an end of a net.Pipe, and closes it. If nc is a *tls.Conn, the server makes
// the handshake. The values of ctx reach the session, and when ctx ends the connection is closed at once. While the
// client is silent, read deadlines of nc pass, so nc has to be able to read on after one.
//
// ServeConn returns nil after QUIT. Otherwise it returns why the connection ended: the error of ctx, [ErrServerClosed],
// the *proto.Error of a 421, or an error of the network.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	c := newConn(ctx, s, nc)
	refusal := s.admit(c)
	stop := context.AfterFunc(ctx, func() { c.forceClose(context.Cause(ctx)) })
	defer stop()
	return c.run(false, refusal)
}

// Shutdown ends the service gracefully. It closes the listeners. A client without an open transaction gets 421 at once.
// One with an open transaction gets it when the transaction is over, or after 30 seconds if no content has arrived by
// then.
//
// Shutdown returns nil when all connections are closed. If ctx ends first, it closes the others as Close does, and
// returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.stop()
	s.mu.Lock()
	for c := range s.conns {
		c.link.wake(s.lastCommand)
	}
	if len(s.conns) == 0 {
		s.mu.Unlock()
		return err
	}
	if s.drained == nil {
		s.drained = make(chan struct{})
	}
	drained := s.drained
	s.mu.Unlock()
	select {
	case <-drained:
		return err
	case <-ctx.Done():
		s.forceAll()
		return ctx.Err()
	}
}

// Close closes the listeners and all connections, without a reply. The contexts of sessions end; Close does not wait
// for their methods to return.
func (s *Server) Close() error {
	err := s.stop()
	s.forceAll()
	return err
}

// stop closes the listeners, so that no more connections are accepted.
func (s *Server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing.Load() {
		s.lastCommand = time.Now().Add(shutdownGrace)
		s.closing.Store(true)
		close(s.done)
	}
	var err error
	for l := range s.listeners {
		if e := (*l).Close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
		delete(s.listeners, l)
	}
	return err
}

func (s *Server) forceAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.forceClose(ErrServerClosed)
	}
}

func (s *Server) track(l *net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) untrack(l *net.Listener) {
	s.mu.Lock()
	_, open := s.listeners[l]
	delete(s.listeners, l)
	s.mu.Unlock()
	if open {
		(*l).Close()
	}
}

// admit adds c to the connections, and returns the refusal if there are too many. Call forget when c has ended.
func (s *Server) admit(c *Conn) *proto.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	host := hostOf(c.link.nc)
	switch {
	case s.closing.Load():
		return errShutdown
	case s.opt.Limits.Conns > 0 && s.active >= s.opt.Limits.Conns:
		return errTooMany
	case host.IsValid() && s.opt.Limits.ConnsPerHost > 0 && s.hosts[host] >= s.opt.Limits.ConnsPerHost:
		return errTooManyOfOne
	}
	c.counted = true
	s.active++
	if host.IsValid() {
		c.host = host
		s.hosts[host]++
	}
	return nil
}

func (s *Server) forget(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.counted {
		s.active--
	}
	if c.host.IsValid() {
		if s.hosts[c.host]--; s.hosts[c.host] == 0 {
			delete(s.hosts, c.host)
		}
	}
	if len(s.conns) == 0 && s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
}

// hostOf returns what the connections from one host have in common: the IPv4 address, or the /64 of the IPv6 address,
// which a host usually has to itself. It is invalid for a connection that is not made over IP.
func hostOf(nc net.Conn) netip.Prefix {
	addr := addrPort(nc.RemoteAddr()).Addr().Unmap().WithZone("")
	if !addr.IsValid() {
		return netip.Prefix{}
	}
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func portOf(a net.Addr) uint16 { return addrPort(a).Port() }

// addrPort returns the address and port of TCP, and the zero value for another network.
func addrPort(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
