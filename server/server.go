package server

import (
	"context"
	"errors"
	"net"
)

// ErrServerClosed is the error of [Server.Serve] and its kin after Shutdown or Close. It is also the cause for which
// the contexts of sessions end then.
var ErrServerClosed = errors.New("smtp: server closed")

// A Server receives mail by SMTP or LMTP. Make one with [New]. Its methods may be called concurrently, and it may serve
// several listeners at a time: all with the same options by its own methods, and others by those of a [Service].
type Server struct {
	first  *Service // of the backend and the options that New was given
	common *common
}

// New returns a server whose mail goes to b. The options may be nil, and are copied. New returns an error if b is nil,
// if an option is malformed, or if extensions contradict each other.
//
// What sessions can do shows when the first of a type is made. Then the server logs, as errors, methods with the name
// and not the signature of one that it looks for, and that nobody can authenticate where authentication is required.
func New(b Backend, opt *Options) (*Server, error) {
	all := newCommon()
	first, err := newService(all, b, opt)
	if err != nil {
		return nil, err
	}
	all.setBounds(&first.opt)
	all.stress.ask, all.stress.logger = first.opt.Stress, first.opt.Logger
	return &Server{first: first, common: all}, nil
}

// Service returns another service of the server, whose mail goes to b:
//
//	submission, err := srv.Service(users, &server.Options{TLSConfig: config, Extensions: ehlo.Submission(policy)})
//	go submission.ListenAndServe(":587")
//	go srv.ListenAndServe(":25")
//
// The services of a server end together, by [Server.Shutdown] or [Server.Close]. What bounds all connections together
// holds for all services together, and is what [New] was given: Options.Exempt and Stress, and of Options.Limits Conns,
// ConnsPerHost, IPv4Prefix, IPv6Prefix, the rates ConnsPerMinute, MessagesPerMinute and AuthFailuresPerHour, Handshakes
// and Memory. All other options are the service's own. Service returns the errors of New.
func (s *Server) Service(b Backend, opt *Options) (*Service, error) {
	return newService(s.common, b, opt)
}

// Serve accepts connections from l and serves them; see [Service.Serve].
func (s *Server) Serve(l net.Listener) error { return s.first.Serve(l) }

// ServeTLS is Serve for clients that speak TLS from the first octet; see [Service.ServeTLS].
func (s *Server) ServeTLS(l net.Listener) error { return s.first.ServeTLS(l) }

// ListenAndServe listens on addr, such as ":25" or "unix:/run/lmtp.sock", and serves; see [Service.ListenAndServe].
func (s *Server) ListenAndServe(addr string) error { return s.first.ListenAndServe(addr) }

// ListenAndServeTLS is ListenAndServe for clients that speak TLS from the first octet. The default is ":465"; see
// [Service.ListenAndServeTLS].
func (s *Server) ListenAndServeTLS(addr string) error { return s.first.ListenAndServeTLS(addr) }

// ServeConn serves one connection, such as an end of a net.Pipe, and closes it; see [Service.ServeConn].
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error { return s.first.ServeConn(ctx, nc) }

// Shutdown ends the service gracefully. It closes the listeners. A client without an open transaction gets 421 at once.
// One with an open transaction gets it when the transaction is over, or after 30 seconds if no content has arrived by
// then.
//
// Shutdown returns nil when all connections are closed. If ctx ends first, it closes the others as Close does, and
// returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error { return s.common.shutdown(ctx) }

// Close closes the listeners and all connections, without a reply. The contexts of sessions end; Close does not wait
// for their methods to return.
func (s *Server) Close() error {
	err := s.common.stop()
	s.common.forceAll()
	return err
}
