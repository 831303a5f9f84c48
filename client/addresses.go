package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/proto"
)

// maxAddresses is how many addresses of a host are tried, of both families together. RFC 5321 section 5.1 permits a
// limit, and asks for two at least.
const maxAddresses = 8

// attemptDelay is how long a connection may take before the next address is tried too (RFC 8305 section 5).
const attemptDelay = 250 * time.Millisecond

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// A resolver is what net.Resolver.LookupNetIP does. The network is "ip", "ip4" or "ip6".
type resolver func(ctx context.Context, network, host string) ([]netip.Addr, error)

// A route is the way to a server.
type route struct {
	network, addr string
	dial          dialFunc
	lookup        resolver // nil: dial takes addr as it is
	local         netip.Addr
	ordered       bool          // lookup returns the addresses in the order in which they are tried
	timeout       time.Duration // that of connecting
	delay         time.Duration // how long an attempt may take before the next begins; negative: as long as it likes
}

// route returns the way to addr.
func (cfg *config) route(network, addr string) *route {
	r := &route{
		network: network, addr: addr, dial: cfg.dial, ordered: cfg.LookupNetIP != nil,
		timeout: cfg.Timeouts.Connect, delay: cmp.Or(cfg.AttemptDelay, attemptDelay),
	}
	if network != "unix" && (cfg.DialContext == nil || cfg.LookupNetIP != nil) {
		r.lookup, r.local = cfg.lookup, cfg.LocalAddr.Unmap()
	}
	if r.dial != nil {
		return r
	}
	var d net.Dialer
	if r.local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(r.local, 0))
	}
	r.dial = d.DialContext
	return r
}

// addresses returns those of the host, in the order in which they are tried.
func (r *route) addresses(ctx context.Context) ([]string, error) {
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		return nil, err
	}
	network := "ip"
	switch {
	case r.local.Is4():
		network = "ip4"
	case r.local.Is6():
		network = "ip6"
	}
	var found []netip.Addr
	if ip, err := netip.ParseAddr(host); err == nil {
		found = []netip.Addr{ip}
	} else if found, err = r.lookup(ctx, network, host); err != nil {
		return nil, err
	}
	var usable []netip.Addr
	for _, ip := range found {
		if ip = ip.Unmap(); (!r.local.IsValid() || ip.Is4() == r.local.Is4()) && !slices.Contains(usable, ip) {
			usable = append(usable, ip)
		}
	}
	switch {
	case len(usable) == 0 && r.local.IsValid():
		return nil, fmt.Errorf("the host has no address that can be reached from %v, which Options.LocalAddr is", r.local)
	case len(usable) == 0:
		return nil, errors.New("the host has no address")
	}
	if !r.ordered {
		usable = interleave(usable)
	}
	list := make([]string, min(len(usable), maxAddresses))
	for i := range list {
		list[i] = net.JoinHostPort(usable[i].String(), port)
	}
	return list, nil
}

// interleave lets the two families take turns. Otherwise the order stays, and the first address stays first (RFC 8305
// section 4).
func interleave(list []netip.Addr) []netip.Addr {
	var mine, other []netip.Addr
	for _, ip := range list {
		if ip.Is4() == list[0].Is4() {
			mine = append(mine, ip)
		} else {
			other = append(other, ip)
		}
	}
	var out []netip.Addr
	for i := range mine {
		out = append(out, mine[i])
		if i < len(other) {
			out = append(out, other[i])
		}
	}
	return append(out, other[min(len(mine), len(other)):]...)
}

// An approach tries the addresses of a server until there is a session at one of them.
type approach struct {
	*route
	begun   bool     // the addresses were looked up
	rest    []string // those that have not been tried
	current string   // the one that connect has chosen
	reached bool     // there was a connection to one of them
	failed  failures
}

// connect returns a connection to one of the addresses that are left.
func (a *approach) connect(ctx context.Context) (net.Conn, error) {
	limited, cancel := withTimeout(ctx, a.timeout)
	defer cancel()
	if a.lookup == nil {
		conn, err := a.dial(limited, a.network, a.addr)
		if err != nil {
			a.failed = append(a.failed, failure{addr: a.addr, err: err})
			return nil, a.undialled(err)
		}
		a.reached, a.current = true, a.addr
		return conn, nil
	}
	if !a.begun {
		var err error
		if a.rest, err = a.addresses(limited); err != nil {
			return nil, a.unconnected(err)
		}
		a.begun = true
	}
	if conn := a.race(limited); conn != nil {
		a.reached = true
		return conn, nil
	}
	switch err := ctx.Err(); {
	case len(a.failed) == 0:
		return nil, a.unconnected(limited.Err())
	case err != nil:
		return nil, a.unconnected(fmt.Errorf("%w: %v", err, a.failed))
	case a.reached:
		return nil, a.error(nil)
	}
	return nil, a.undialled(a.failed)
}

func (a *approach) unconnected(err error) error {
	return &LostError{Doing: "connecting to " + a.addr, Err: err, unconnected: true}
}

// undialled returns the error of dialling, with the code that DialContext gave to it.
func (a *approach) undialled(err error) error {
	return &LostError{Doing: "connecting to " + a.addr, Err: err, unconnected: true, status: dialStatus(err)}
}

// dialStatus returns the status code of an error of DialContext, or zero. Of several failures one that may pass
// decides.
func dialStatus(err error) proto.Status {
	list, several := err.(failures)
	for i := range list {
		if s := dialStatus(list[i].err); s.Class() != 5 || i == len(list)-1 {
			return s
		}
	}
	e, ok := asType[interface {
		error
		Status() proto.Status
	}](err)
	if several || !ok || e.Status().Class() != 4 && e.Status().Class() != 5 {
		return proto.Status{}
	}
	return e.Status()
}

// race tries the addresses that are left. An attempt begins when the one before has failed, or has taken a while. The
// first connection wins. An address whose attempt was given up for another has not failed, and is left. Race returns
// nil if none is left.
func (a *approach) race(ctx context.Context) net.Conn {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type attempt struct {
		addr string
		conn net.Conn
		err  error
	}
	ended := make(chan attempt, len(a.rest))
	var running []string
	delay := time.NewTimer(max(a.delay, 0))
	defer delay.Stop()
	if a.delay < 0 {
		delay.Stop()
	}
	for {
		if len(a.rest) > 0 && ctx.Err() == nil {
			addr := a.rest[0]
			a.rest, running = a.rest[1:], append(running, addr)
			go func() {
				conn, err := a.dial(ctx, a.network, addr)
				ended <- attempt{addr, conn, err}
			}()
			if a.delay > 0 {
				delay.Reset(a.delay)
			}
		}
		if len(running) == 0 {
			return nil
		}
		select {
		case <-delay.C:
			continue
		case e := <-ended:
			running = slices.DeleteFunc(running, func(addr string) bool { return addr == e.addr })
			if e.err != nil {
				a.failed = append(a.failed, failure{addr: e.addr, err: e.err})
				continue
			}
			late := len(running)
			a.current, a.rest = e.addr, append(running, a.rest...)
			go func() {
				for range late {
					if e := <-ended; e.conn != nil {
						e.conn.Close()
					}
				}
			}()
			return e.conn
		}
	}
}

// after is called when the server has not greeted, because of err. It reports whether the client goes on to another
// address, and returns the error if not.
//
// It goes on after a refusal for good too: it is one by this machine (RFC 5321 section 3.1), and another address can be
// another machine. It does not go on after a failed handshake, unless the connection broke: the user should hear of it.
func (a *approach) after(ctx context.Context, err error) (again bool, _ error) {
	a.failed = append(a.failed, failure{addr: a.current, err: err, connected: true})
	_, refused := asType[*proto.Error](err)
	switch {
	case ctx.Err() != nil || !refused && !temporary(err):
		return false, a.error(err)
	case len(a.rest) > 0:
		return true, nil
	}
	return false, a.error(nil)
}

// error returns the error if no address was of use. If decisive is nil, it is the one that tells what to do: an error
// that may pass, since another attempt may then succeed, and the word of a server before silence.
func (a *approach) error(decisive error) error {
	if len(a.failed) == 1 {
		return a.failed[0].err
	}
	weight := 0
	for _, f := range a.failed {
		err, w := f.err, 1
		if !f.connected {
			err = &LostError{Doing: "connecting to " + f.addr, Err: err, unconnected: true, status: dialStatus(err)}
		}
		if temporary(err) {
			w = 2
			if _, refused := asType[*proto.Error](err); refused {
				w = 3
			}
		}
		if w > weight && (weight > 0 || decisive == nil) {
			weight, decisive = w, err
		}
	}
	return &addressesError{addr: a.addr, failures: a.failed, decisive: decisive}
}

// A failure is why an address was of no use.
type failure struct {
	addr      string
	err       error
	connected bool // there was a connection
}

type failures []failure

func (f failures) Error() string {
	var text []string
	for i := range f {
		err := f[i].err
		if op, ok := err.(*net.OpError); ok && op.Op == "dial" {
			err = op.Err // whose address is told anyway
		}
		text = append(text, f[i].addr+": "+cause(err))
	}
	return strings.Join(text, "; ")
}

// Unwrap returns the errors.
func (f failures) Unwrap() []error {
	var list []error
	for i := range f {
		list = append(list, f[i].err)
	}
	return list
}

// An addressesError tells why each address of a host was of no use.
type addressesError struct {
	addr     string
	failures failures
	decisive error // tells what to do
}

func (e *addressesError) Error() string {
	return "smtp: no address of " + e.addr + " was of use: " + e.failures.Error()
}

func (e *addressesError) Unwrap() error { return e.decisive }
