package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"smtpkit.example/smtp/proto"
)

// A common is what the services of a server have in common: their connections, what bounds these all together, and the
// end.
type common struct {
	bounds // those of the options that New was given
	stats  stats
	stress stressing
	active atomic.Int64 // how many of conns count for Limits.Conns; changes with mu locked

	// The shutdown.
	closing     atomic.Bool
	done        chan struct{} // closed when closing is set
	lastCommand time.Time     // until when a client may go on with a transaction; set before closing is

	mu        sync.Mutex                 // guards what follows, and Conn.counted and Conn.host
	listeners map[*net.Listener]struct{} // that are being served
	conns     map[*Conn]struct{}         // that are being served, or turned away
	hosts     map[netip.Prefix]int       // how many of these come from each host
	drained   chan struct{}              // closed when conns is empty; nil if nobody waits for that
}

func newCommon() *common {
	return &common{
		done:      make(chan struct{}),
		listeners: make(map[*net.Listener]struct{}),
		conns:     make(map[*Conn]struct{}),
		hosts:     make(map[netip.Prefix]int),
	}
}

// shutdown is Server.Shutdown.
func (s *common) shutdown(ctx context.Context) error {
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

// stop closes the listeners, so that no more connections are accepted.
func (s *common) stop() error {
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

func (s *common) forceAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.forceClose(ErrServerClosed)
	}
}

// pause waits for d and reports false if the server was closed meanwhile.
func (s *common) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.done:
		return false
	}
}

func (s *common) track(l *net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *common) untrack(l *net.Listener) {
	s.mu.Lock()
	_, open := s.listeners[l]
	delete(s.listeners, l)
	s.mu.Unlock()
	if open {
		(*l).Close()
	}
}

// admit adds c to the connections, and returns the refusal if there are too many. Call forget when c has ended.
func (s *common) admit(c *Conn) *proto.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	addr := c.link.nc.RemoteAddr()
	claims{c}.spare()
	host := s.networkOf(addr)
	switch {
	case s.closing.Load():
		return errShutdown
	case s.limits.Conns > 0 && int(s.active.Load()) >= s.limits.Conns:
		return errTooMany
	case host.IsValid() && s.limits.ConnsPerHost > 0 && s.hosts[host] >= s.limits.ConnsPerHost:
		return errTooManyOfOne
	case !c.held.conn.take(&s.memory, connMemory):
		s.stats.memoryRefused.Add(1)
		return errNoMemory
	case !s.rates.take(connRate, s.ratedNetworkOf(addr)):
		s.stats.connsOverRate.Add(1)
		c.held.conn.end(&s.memory)
		return errConnRate
	}
	c.counted = true
	s.active.Add(1)
	if host.IsValid() {
		c.host = host
		s.hosts[host]++
	}
	return nil
}

func (s *common) forget(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.held.end(&s.memory)
	if c.counted {
		s.active.Add(-1)
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

func portOf(a net.Addr) uint16 { return addrPort(a).Port() }

// addrPort returns the address and port of TCP, and the zero value for another network.
func addrPort(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
