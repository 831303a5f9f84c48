package mtasts

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

const (
	maxAddrs = 8                      // addresses of a host that are tried
	stagger  = 250 * time.Millisecond // until the next one is tried beside those before (RFC 8305 section 5)
)

// A dialer connects to hosts whose addresses a dns.Resolver knows.
type dialer struct {
	resolver dns.Resolver
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
}

type dialed struct {
	conn net.Conn
	err  error
}

// DialContext connects to the first address that answers.
func (d *dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	addrs, err := d.addrs(ctx, host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := make(chan dialed, len(addrs))
	running := 0
	next := time.NewTimer(0)
	defer next.Stop()
	var first error
	for running > 0 || len(addrs) > 0 {
		select {
		case <-ctx.Done():
			go closeRest(all, running)
			return nil, ctx.Err()
		case <-next.C:
			if len(addrs) == 0 {
				continue
			}
			to := net.JoinHostPort(addrs[0].String(), port)
			addrs = addrs[1:]
			running++
			go func() {
				conn, err := d.dial(ctx, network, to)
				all <- dialed{conn, err}
			}()
			next.Reset(stagger)
		case one := <-all:
			running--
			if one.err == nil {
				go closeRest(all, running)
				return one.conn, nil
			}
			if first == nil {
				first = one.err
			}
			next.Reset(0)
		}
	}
	return nil, first
}

// closeRest closes the connections that were too late.
func closeRest(all <-chan dialed, running int) {
	for range running {
		if one := <-all; one.err == nil {
			one.conn.Close()
		}
	}
}

// addrs returns the addresses of a host, IPv6 and IPv4 by turns (RFC 8305 section 4).
func (d *dialer) addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	all, err := dns.LookupAddrs(ctx, d.resolver, host)
	if err != nil {
		return nil, err
	}
	if all.Empty() {
		return nil, fmt.Errorf("the host %s has no address", host)
	}
	var addrs []netip.Addr
	for i := range maxAddrs {
		if i < len(all.IPv6) {
			addrs = append(addrs, all.IPv6[i])
		}
		if i < len(all.IPv4) {
			addrs = append(addrs, all.IPv4[i])
		}
	}
	return addrs[:min(len(addrs), maxAddrs)], nil
}
