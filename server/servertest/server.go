package servertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// Hostname is the name of a server whose Options name no other. Its certificate is for it.
const Hostname = "mail.example"

// Options are the options of a server for tests. The zero value is a server for SMTP on a port of the loopback
// interface, which offers STARTTLS and accepts every message. [NewServer] copies the options.
type Options struct {
	// Server has any options of the server. These have other defaults than elsewhere: Hostname is [Hostname], TLSConfig
	// has a Certificate, and Logger drops what is less than an error.
	Server server.Options
	// Backend decides what is accepted; what it accepts is in the Inbox. Default: everything is accepted.
	Backend server.Backend

	// Memory makes connections in memory, by [Server.DialContext]. A bubble of testing/synctest needs that: make the
	// server inside of the bubble. Default: a port of the loopback interface.
	Memory bool
	// ImplicitTLS makes connections begin with TLS, as on port 465. Default: STARTTLS is offered.
	ImplicitTLS bool
	// NoTLS leaves TLS out. Passwords are then taken in plaintext.
	NoTLS bool
	// Certificate is the kind of certificate that the server presents, unless Server.TLSConfig is set. Default: [Good].
	Certificate Certificate

	// Users are the passwords of the users who can authenticate, by their names: with every mechanism of package auth. A
	// password is also the user's token of OAuth 2.0; for EXTERNAL see [Server.ClientCertificate]. The user "anonymous"
	// lets guests in. With a Backend, Users must be nil: its sessions authenticate. Default: AUTH is not offered.
	Users map[string]string
	// Submission makes a submission server (RFC 6409): clients have to authenticate. It needs Users, or a Backend.
	Submission bool

	// Keep is how many messages the Inbox keeps. Default 1000.
	Keep int
	// Wait is how long [Inbox.Wait] waits for a message. Default 10 seconds.
	Wait time.Duration
	// AllowErrors lets the test pass if the server logs an error, such as one of the Backend that is no *proto.Error, or a
	// panic.
	AllowErrors bool
}

// A Server is a mail server for a test. Make one with NewServer. Its methods may be called concurrently.
type Server struct {
	// Addr is where the server listens, such as "127.0.0.1:34567". In memory it is a name such as "mail.example:25", for
	// clients that are given [Server.DialContext].
	Addr string
	// Inbox has the messages that the server has accepted.
	Inbox *Inbox
	// Server is the server itself, for Shutdown and Stats.
	Server *server.Server

	t        testing.TB
	hostname string
	memory   *Listener // nil on loopback
	listener net.Listener
	implicit *tls.Config // nil if connections begin in plaintext
	config   *tls.Config // nil without TLS
	advise   bool        // a client that does not trust the certificate lacks ClientTLS
	base     context.Context
	serving  sync.WaitGroup
	faults   faults
	ending   context.Context // ends with Close
	end      context.CancelFunc

	mu    sync.Mutex
	lines []*line // of the last maxKept connections
	conns int     // how many connections there were
}

// maxKept is of how many connections the transcripts are kept.
const maxKept = 100

// NewServer starts a server. It is closed when the test and its subtests have ended. The options may be nil.
//
// The test fails if the server logs an error, unless AllowErrors is set. If the test fails for whatever reason, the
// transcripts of the connections are logged, and the faults that were declared and have not acted.
func NewServer(t testing.TB, opt *Options) *Server {
	t.Helper()
	var o Options
	if opt != nil {
		o = *opt
	}
	if !o.Memory && inBubble() {
		t.Fatal("smtp: servertest.NewServer in a bubble of testing/synctest: set Options.Memory, and give the client " +
			"Server.DialContext; a bubble with connections of a network would wait for ever")
	}
	s, err := newServer(t, o)
	if err != nil {
		t.Fatal(err)
	}
	s.serving.Go(s.serve)
	t.Cleanup(func() {
		t.Helper()
		s.Close()
		if t.Failed() {
			if idle := s.faults.idle(); idle != "" {
				t.Log(idle)
			}
			t.Log(s.transcripts())
		}
	})
	return s
}

func newServer(t testing.TB, o Options) (*Server, error) {
	s := &Server{t: t, Inbox: newInbox(t, o.Keep, o.Wait), faults: faults{t: t}}
	so := o.Server
	if so.Hostname == "" {
		so.Hostname = Hostname
	}
	s.hostname = so.Hostname
	s.ending, s.end = context.WithCancel(context.Background())
	s.advise = so.TLSConfig == nil && o.Certificate == Good
	if err := setTLS(&so, &o); err != nil {
		return nil, err
	}
	s.config = so.TLSConfig
	if err := s.setExtensions(&so, &o); err != nil {
		return nil, err
	}
	backend, err := backendOf(&o)
	if err != nil {
		return nil, err
	}
	so.Trace = s.trace(so.Trace)
	so.Logger = slog.New(&logHandler{t: t, next: so.Logger, allow: o.AllowErrors})
	if s.Server, err = server.New(server.Use(backend, record), &so); err != nil {
		return nil, err
	}
	if o.ImplicitTLS {
		s.implicit = hardened(so.TLSConfig)
	}
	if err := s.listen(&o); err != nil {
		return nil, err
	}
	s.base = context.Background()
	if so.BaseContext != nil {
		s.base = so.BaseContext(s.listener)
	}
	return s, nil
}

// setTLS sets the configuration of TLS.
func setTLS(so *server.Options, o *Options) error {
	if o.NoTLS {
		if o.ImplicitTLS || so.TLSConfig != nil {
			return errors.New("smtp: servertest.Options has NoTLS, and ImplicitTLS or Server.TLSConfig")
		}
		so.AllowInsecureAuth = true
		return nil
	}
	if so.TLSConfig != nil {
		return nil
	}
	cert, err := certificate(o.Certificate, so.Hostname)
	if err != nil {
		return err
	}
	a, err := trusted()
	if err != nil {
		return err
	}
	so.TLSConfig = &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool,
	}
	return nil
}

// hardened returns what server.Options.TLSConfig promises: the server does not see the configuration of implicit TLS.
func hardened(config *tls.Config) *tls.Config {
	c := config.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	if len(c.NextProtos) == 0 {
		c.NextProtos = []string{"smtp"}
	}
	return c
}

// setExtensions sets the list of extensions, and puts itself in between.
func (s *Server) setExtensions(so *server.Options, o *Options) error {
	list := so.Extensions
	switch {
	case o.Submission && (list != nil || so.Protocol == proto.LMTP):
		return errors.New("smtp: servertest.Options has Submission, and Server.Extensions or LMTP")
	case o.Submission && o.Users == nil && o.Backend == nil:
		return errors.New("smtp: servertest.Options has Submission, and neither Users nor a Backend: nobody could submit")
	case o.Submission:
		list = ehlo.Submission(ehlo.SubmissionPolicy{})
	case list == nil:
		list = ehlo.DefaultFor(so.Protocol)
	}
	so.Extensions = slices.Clone(list)
	for i := range so.Extensions {
		if so.Extensions[i].Keyword == "STARTTLS" {
			so.Extensions[i] = startTLS(so.Extensions[i])
		}
		so.Extensions[i] = s.hideable(so.Extensions[i])
	}
	so.Extensions = append(so.Extensions, guard())
	return nil
}

func backendOf(o *Options) (server.Backend, error) {
	switch {
	case o.Backend == nil && o.Users == nil:
		return keeper{}, nil
	case o.Backend == nil:
		return keeper{&users{passwords: maps.Clone(o.Users), secrets: make(map[secretKey]auth.SCRAMSecret)}}, nil
	case o.Users != nil:
		return nil, errors.New("smtp: servertest.Options has Users and a Backend: its sessions authenticate users")
	}
	return o.Backend, nil
}

func (s *Server) listen(o *Options) (err error) {
	if !o.Memory {
		s.listener, err = net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			s.Addr = s.listener.Addr().String()
		}
		return err
	}
	port := 25
	switch {
	case o.ImplicitTLS:
		port = 465
	case o.Submission:
		port = 587
	case o.Server.Protocol == proto.LMTP:
		port = 24
	}
	s.memory = Listen(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 25), Port: port})
	s.listener = s.memory
	s.Addr = fmt.Sprintf("%s:%d", s.hostname, port)
	return nil
}

// serve accepts connections until the listener is closed.
func (s *Server) serve() {
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.serving.Go(func() { s.serveConn(nc) })
	}
}

func (s *Server) serveConn(nc net.Conn) {
	l := &line{srv: s, closed: make(chan struct{})}
	l.bottom = newWire(nc, l)
	s.mu.Lock()
	s.conns++
	l.number = s.conns
	if s.lines = append(s.lines, l); len(s.lines) > maxKept {
		s.lines = slices.Delete(s.lines, 0, 1)
	}
	s.mu.Unlock()
	var conn net.Conn = l.bottom
	if s.implicit != nil {
		conn = secure(l.bottom, tls.Server(l.bottom, s.implicit))
	}
	err := s.Server.ServeConn(context.WithValue(s.base, lineKey{}, l), conn)
	if err != nil {
		l.log.add("-- the connection has ended: " + err.Error())
	}
}

// Close closes the server and its connections, and waits until their sessions have ended. It is called at the end of
// the test.
func (s *Server) Close() {
	s.listener.Close()
	s.Server.Close()
	s.end()
	s.serving.Wait()
}

// DialContext connects to the server, whatever the network and the address. Give it to a client as the field
// DialContext of its options.
func (s *Server) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.memory != nil {
		return s.memory.DialContext(ctx, network, addr)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", s.Addr)
}

// Dial is DialContext for the goroutine of the test, which ends with a failure if there is no connection.
func (s *Server) Dial() net.Conn {
	s.t.Helper()
	nc, err := s.DialContext(context.Background(), "tcp", s.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return nc
}

// ClientTLS returns a configuration of TLS for clients. It trusts the server's certificate if that is [Good], and not
// the others. Its ServerName is the server's hostname. If Server.TLSConfig was set, the client has to know by itself
// whom to trust.
func (s *Server) ClientTLS() *tls.Config {
	pool := x509.NewCertPool()
	if a, err := trusted(); err == nil {
		pool = a.pool.Clone()
	}
	return &tls.Config{RootCAs: pool, ServerName: s.hostname}
}

// Certificate returns the certificate that the server presents, without those of authorities: for the TLSA record of a
// test with DANE, for instance. It must not be modified. It is nil with NoTLS. Of several in Server.TLSConfig it is the
// first; those of GetCertificate alone are asked for the server's hostname.
func (s *Server) Certificate() *x509.Certificate { return leafOf(s.config, s.hostname) }

// ClientCertificate makes a certificate by which the server knows the user, for the mechanism EXTERNAL: put it into the
// Certificates of [Server.ClientTLS].
func (s *Server) ClientCertificate(user string) tls.Certificate {
	s.t.Helper()
	cert, err := userCertificate(user)
	if err != nil {
		s.t.Fatal(err)
	}
	return cert
}

// Transcripts returns what was said on each connection, in the order in which they began: lines such as
// "S: 220 mail.example ready" and "C: EHLO client.example". What passed inside of TLS is there in plaintext, passwords
// too; content is shortened. The transcripts of the last 100 connections are kept, and of each the first and the last
// 200 lines.
func (s *Server) Transcripts() []string {
	s.mu.Lock()
	lines := slices.Clone(s.lines)
	s.mu.Unlock()
	var all []string
	for _, l := range lines {
		all = append(all, l.log.String())
	}
	return all
}

// transcripts returns all of them as one text.
func (s *Server) transcripts() string {
	var b strings.Builder
	list := s.Transcripts()
	s.mu.Lock()
	conns := s.conns
	s.mu.Unlock()
	if conns == 0 {
		return "servertest: no client has connected"
	}
	for i, text := range list {
		fmt.Fprintf(&b, "servertest: connection %d:\n%s", conns-len(list)+i+1, text)
	}
	return b.String()
}

// A logHandler fails the test for what the server logs as an error.
type logHandler struct {
	t     testing.TB
	next  *slog.Logger // the user's; nil if there is none
	attrs []slog.Attr
	allow bool
}

func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError || h.next != nil && h.next.Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError && !h.allow {
		var b strings.Builder
		b.WriteString("the server has logged an error: " + r.Message)
		show := func(a slog.Attr) bool {
			value := a.Value.String()
			if l := lineOf(ctx); l != nil && a.Key == "session" && a.Value.Any() == reflect.TypeFor[recorder]() {
				value = l.sessionType()
			}
			fmt.Fprintf(&b, "; %s: %s", a.Key, value)
			return true
		}
		for _, a := range h.attrs {
			show(a)
		}
		r.Attrs(show)
		h.t.Error(b.String())
	}
	if h.next == nil || !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handler().Handle(ctx, r)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	w := *h
	w.attrs = append(slices.Clip(h.attrs), attrs...)
	if h.next != nil {
		w.next = slog.New(h.next.Handler().WithAttrs(attrs))
	}
	return &w
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	w := *h
	if h.next != nil {
		w.next = slog.New(h.next.Handler().WithGroup(name))
	}
	return &w
}
