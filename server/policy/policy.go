package policy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A Part is one check, with its options as the fields of a struct, such as [Relay]. Chain makes middleware of parts.
//
// Anything with this method can be a part of a Chain.
type Part interface {
	// Middleware returns the check as middleware. The error says which option is wrong and what to do. State, such as
	// what is counted, belongs to the result: each call returns a check with its own. The options are copied.
	Middleware() (server.Middleware, error)
}

// Chain returns the parts as one middleware for [server.Use]. The first part is the outermost: it is asked first. The
// error has those of all parts that return one.
func Chain(parts ...Part) (server.Middleware, error) {
	var chain []server.Middleware
	var failed []error
	for i, p := range parts {
		if p == nil {
			failed = append(failed, fmt.Errorf("smtp: part %d of the policy.Chain is nil; leave it out", i+1))
			continue
		}
		m, err := p.Middleware()
		if err != nil {
			failed = append(failed, err)
		}
		chain = append(chain, m)
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	return func(next server.Backend) server.Backend { return server.Use(next, chain...) }, nil
}

// Trusted returns a function for the field Skip of a part. It reports true for clients that have authenticated, for
// those on the same machine, by a loopback address or a Unix socket, and for those in networks.
//
// Without networks it is the default of Skip. If a proxy or a tunnel on the same machine passes clients on, all of them
// seem to be there: have it send the PROXY protocol or XCLIENT.
func Trusted(networks ...netip.Prefix) func(ctx context.Context, c *server.Conn) bool {
	networks = slices.Clone(networks)
	return func(_ context.Context, c *server.Conn) bool {
		a := clientAddr(c)
		return c.Identity() != "" || a.IsLoopback() || isIn(a, networks) || isUnix(c.RemoteAddr())
	}
}

// Nobody is a function for the field Skip of a part: it leaves nobody out.
func Nobody(context.Context, *server.Conn) bool { return false }

// clientAddr returns the address of the client, which is invalid if it is not connected over IP. An IPv4 address is one
// in any form.
func clientAddr(c *server.Conn) netip.Addr { return addrOf(c.RemoteAddr()) }

func addrOf(a net.Addr) netip.Addr {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// isUnix reports whether it is the address of a Unix socket. One that is no IP address may also be that of a client
// that a proxy does not know.
func isUnix(a net.Addr) bool { return strings.HasPrefix(a.Network(), "unix") }

// isIn reports whether one of the networks has the address.
func isIn(a netip.Addr, networks []netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// checkNetworks returns an error if one of the networks is no network. A prefix of IPv4 addresses written as IPv6
// would never match.
func checkNetworks(part, field string, networks []netip.Prefix) error {
	for _, p := range networks {
		if !p.IsValid() || p.Addr().Is4In6() {
			return optionError(part, field, "%v is no network; write it as 192.0.2.0/24 or 2001:db8::/32", p)
		}
	}
	return nil
}

// optionError returns the error of Middleware about a field of a part.
func optionError(part, field, format string, args ...any) error {
	return fmt.Errorf("smtp: policy.%s.%s: %s", part, field, fmt.Sprintf(format, args...))
}

// isPostmaster reports whether a is the mailbox that has to take mail from anybody, at any domain or without one
// (RFC 5321 section 4.5.1).
func isPostmaster(a proto.Address) bool {
	// EqualFold alone would find "po\u017ftmaster" equal, which is a mailbox like any other.
	return len(a.Local) == len("postmaster") && strings.EqualFold(a.Local, "postmaster")
}
