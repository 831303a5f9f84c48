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

// ErrServerClosed is returned by Serve and its kin after Shutdown or Close.
var ErrServerClosed = errors.New("smtp: server closed")

// A Server receives mail by SMTP or LMTP. Make one with [New]. Its methods may be called concurrently, and it may
// serve several listeners at a time.
type Server struct {
	backend   Backend
	opt       Options
	set       *ext.Set
	tlsConfig *tls.Config     // opt.TLSConfig, watched
	chunks    map[string]bool // the verbs that carry content in chunks
	status    bool            // an extension in use has replies carry enhanced status codes
	guards    bool            // an extension in use has a Guard
	// The extensions that check the parameters of MAIL and RCPT.
	checkMail, checkRcpt []*ext.Extension

	closing atomic.Bool
	done    chan struct{} // closed when closing is set
	// lastCommand is until when a client may go on with a transaction without content; set before closing is.
	lastCommand time.Time

	mu        sync.Mutex
	listeners map[*net.Listener]struct{}
	conns     map[*Conn]struct{}
	active    int // those of conns that count
	hosts     map[netip.Prefix]int
	drained   chan struct{} // closed when conns is empty, if somebody waits for it
}

// New returns a server whose mail goes to b. The options may be nil and are copied. It returns an error if options or
// extensions contradict each other.
func New(b Backend, opt *Options) (*Server, error) {
	if b == nil {
		return nil, errors.New("smtp: server.New needs a Backend")
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
		s.tlsConfig = watched(o.TLSConfig)
	}
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
		s.status = s.status || e.StatusCodes
		s.guards = s.guards || e.Guard != nil
		if e.CheckMail != nil {
			s.checkMail = append(s.checkMail, e)
		}
		if e.CheckRcpt != nil {
			s.checkRcpt = append(s.checkRcpt, e)
		}
	}
	return s, nil
}

// ListenAndServe listens on the TCP address addr, ":25" if it is empty, and calls Serve. LMTP has no port of its own, and
// needs an address.
func (s *Server) ListenAndServe(addr string) error {
	return s.listen(addr, ":25", s.Serve)
}

// ListenAndServeTLS listens on the TCP address addr, ":465" if it is empty, and calls ServeTLS.
func (s *Server) ListenAndServeTLS(addr string) error {
	return s.listen(addr, ":465", s.ServeTLS)
}

func (s *Server) listen(addr, otherwise string, serve func(net.Listener) error) error {
	if s.closing.Load() {
		return ErrServerClosed
	}
	if addr == "" {
		if s.opt.Protocol == proto.LMTP {
			return errors.New("smtp: LMTP has no port of its own: say which one to listen on")
		}
		addr = otherwise
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("smtp: %w", err)
	}
	return serve(l)
}

// Serve serves the connections that l accepts until the server or l is closed. It closes l, and returns
// ErrServerClosed after Shutdown or Close, even while connections live on. A connection that is a *tls.Conn already
// is taken as it is. Errors of Accept other than that l is closed are logged, and Accept is tried again after a
// pause. LMTP is not served on TCP port 25, where everybody expects SMTP (RFC 2033 section 5).
func (s *Server) Serve(l net.Listener) error { return s.serve(l, false) }

// ServeTLS is like Serve for connections that speak TLS from the first octet, as on port 465 (RFC 8314 section 3.3).
// The handshakes are made by the goroutines of the connections and delay nobody else.
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
		s.opt.Logger.Warn("smtp: nobody can authenticate on a connection in clear, and there is no TLS to be started: "+
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
		delay = min(max(2*delay, acceptDelay), acceptDelayMax)
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

// ServeConn serves one connection, such as an end of a net.Pipe or the standard input of a process that inetd
// started, and closes it. If nc is a *tls.Conn, it makes the handshake. ServeConn returns nil after QUIT and
// otherwise why the connection came to its end. When ctx ends, the connection is closed at once.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	c := newConn(ctx, s, nc)
	refusal := s.admit(c)
	stop := context.AfterFunc(ctx, func() { c.force(context.Cause(ctx)) })
	defer stop()
	return c.run(false, refusal)
}

// Shutdown ends the service gracefully. It closes the listeners and tells 421 to each client: at once if it has no
// transaction open, otherwise when the transaction is over, or after 30 seconds if no content has come by then. It returns nil when all connections are closed. When ctx
// ends before that, it closes the remaining ones as Close does and returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.stop()
	s.mu.Lock()
	for c := range s.conns {
		c.wake()
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

// Close closes the listeners and all connections without a word. The contexts of sessions end; Close does not wait
// for them to return.
func (s *Server) Close() error {
	err := s.stop()
	s.forceAll()
	return err
}

// stop closes the listeners and has no more connections accepted.
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
		c.force(ErrServerClosed)
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

// admit takes c among the connections and returns why it must be refused, or nil. Forget has to follow.
func (s *Server) admit(c *Conn) *proto.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	host := hostOf(c.nc)
	switch {
	case s.closing.Load():
		return errShutdown
	case s.opt.MaxConns > 0 && s.active >= s.opt.MaxConns:
		return errTooMany
	case host.IsValid() && s.opt.MaxConnsPerHost > 0 && s.hosts[host] >= s.opt.MaxConnsPerHost:
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

// hostOf returns what the connections of a client's host have in common: the IPv4 address, or the /64 that an IPv6
// host has at its disposal. It is invalid for connections that are not made over IP.
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

// addrPort returns the address and port of TCP, the zero value of another network.
func addrPort(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
