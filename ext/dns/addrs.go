package dns

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Addrs has the addresses of a host, of both families. The slices must not be changed: see [Answer].
type Addrs struct {
	// Name is the host itself, or the name at the end of the chain of aliases (CNAME), as Normal returns it. If the two
	// answers differ, it is that of a family with addresses that DNSSEC proves, otherwise of one with addresses.
	Name   string
	IPv4   []netip.Addr // in the order of the answer
	IPv6   []netip.Addr
	NoName bool // Name does not exist (NXDOMAIN)
	// Authentic says that DNSSEC proves all that was answered: the addresses, and that a family has none.
	Authentic bool
	// AuthenticIPv4 and AuthenticIPv6 say it of one family each: there are servers that prove the addresses of one, and
	// cannot prove that the other has none.
	AuthenticIPv4, AuthenticIPv6 bool

	TTL time.Duration // the shorter one of the two answers
	// Err is why one family could not be looked up, where the other has addresses. Authentic and TTL are of the other.
	Err error
}

// Empty reports whether there are no addresses.
func (a *Addrs) Empty() bool { return len(a.IPv4)+len(a.IPv6) == 0 }

// LookupAddrs asks r for the A and the AAAA records of host, both at once. A host without addresses is an answer
// without addresses. The error is that of r. It is returned only if there are no addresses: with those of one family in
// hand, the failure of the other is in Addrs.Err.
func LookupAddrs(ctx context.Context, r Resolver, host string) (*Addrs, error) {
	var (
		v4, v6     *Answer
		err4, err6 error
		both       sync.WaitGroup
	)
	both.Go(func() { v6, err6 = r.Lookup(ctx, host, AAAA) })
	v4, err4 = r.Lookup(ctx, host, A)
	both.Wait()
	switch {
	case err4 != nil && (err6 != nil || len(v6.Addrs) == 0):
		return nil, err4
	case err6 != nil && len(v4.Addrs) == 0:
		return nil, err6
	case err4 != nil:
		return &Addrs{
			Name: v6.Name, IPv6: v6.Addrs, Authentic: v6.Authentic, AuthenticIPv6: v6.Authentic, TTL: v6.TTL, Err: err4,
		}, nil
	case err6 != nil:
		return &Addrs{
			Name: v4.Name, IPv4: v4.Addrs, Authentic: v4.Authentic, AuthenticIPv4: v4.Authentic, TTL: v4.TTL, Err: err6,
		}, nil
	}
	return &Addrs{
		Name: better(v4, v6).Name, IPv4: v4.Addrs, IPv6: v6.Addrs, TTL: min(v4.TTL, v6.TTL),
		// Some servers deny the name when it is only the type that it lacks (RFC 4074 section 4.2).
		NoName:    v4.NoName && v6.NoName,
		Authentic: v4.Authentic && v6.Authentic, AuthenticIPv4: v4.Authentic, AuthenticIPv6: v6.Authentic,
	}, nil
}

// better returns the answer that tells more about the name of a host. Nothing is said of the name that has the
// addresses by an answer that has none, or that somebody else may have written.
func better(a, b *Answer) *Answer {
	worth := func(a *Answer) int {
		switch {
		case len(a.Addrs) == 0:
			return 0
		case !a.Authentic:
			return 1
		}
		return 2
	}
	if worth(b) > worth(a) {
		return b
	}
	return a
}
