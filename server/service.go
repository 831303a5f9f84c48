package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Service is what a server does for the clients of some listeners: it has a backend and options of its own. A server
// that relays on port 25 and takes submissions on port 587 has two. Make one with [Server.Service]; its methods may be
// called concurrently.
type Service struct {
	*common
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

	looked looked // at which types of sessions
}

// newService returns a service of the server whose services have all in common.
func newService(all *common, b Backend, opt *Options) (*Service, error) {
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
	s := &Service{common: all, backend: b, opt: o, set: set, chunks: make(map[string]bool)}
	if o.TLSConfig != nil {
		s.tlsConfig = s.opt.recordCertificate(o.TLSConfig)
	}
	s.describe(set)
	if err := s.checkAuth(); err != nil {
		return nil, err
	}
	return s, nil
}

// describe records what the extensions of set do.
func (s *Service) describe(set *ext.Set) {
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
func (s *Service) Serve(l net.Listener) error { return s.serve(l, false) }

// ServeTLS is Serve for clients that speak TLS from the first octet, as on port 465 (RFC 8314 section 3.3). It returns
// an error if there is no Options.TLSConfig.
func (s *Service) ServeTLS(l net.Listener) error {
	if s.opt.TLSConfig == nil {
		l.Close()
		return errors.New("smtp: ServeTLS needs Options.TLSConfig")
	}
	return s.serve(l, true)
}

func (s *Service) serve(l net.Listener, implicit bool) error {
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
	base := context.Background()
	if f := s.opt.BaseContext; f != nil {
		if base = f(l); base == nil {
			l.Close()
			return errors.New("smtp: Options.BaseContext has returned nil: it has to return a context")
		}
	}
	var delay time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			delay = 0
			c := newConn(base, s, nc)
			refusal := s.admit(c)
			go course{c}.run(implicit, refusal)
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

// ServeConn serves one connection, such as an end of a net.Pipe, and closes it. If nc is a *tls.Conn, the server makes
// the handshake. The values of ctx reach the session, and when ctx ends the connection is closed at once. While the
// client is silent, read deadlines of nc pass, so nc has to be able to read on after one.
//
// ServeConn returns nil after QUIT. Otherwise it returns why the connection ended: the error of ctx, [ErrServerClosed],
// the *proto.Error of a 421, or an error of the network.
func (s *Service) ServeConn(ctx context.Context, nc net.Conn) error {
	c := newConn(ctx, s, nc)
	refusal := s.admit(c)
	stop := context.AfterFunc(ctx, func() { c.forceClose(context.Cause(ctx)) })
	defer stop()
	return course{c}.run(false, refusal)
}
