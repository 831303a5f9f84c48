package policy

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// Relay says for which domains the server takes mail, and from whom it takes mail for any. Every server that strangers
// can reach needs it: the zero value takes mail for no domain, except from clients that have authenticated.
//
//	policy.Relay{Domains: []string{"example.org", ".example.org"}}
//
// A recipient elsewhere is refused with 550 5.7.1. Domains are compared without regard to case, and in U-labels or
// A-labels alike. Mail for postmaster without a domain is taken from anybody (RFC 5321 section 4.5.1).
//
// A source route, as in <@example.org:joe@example.net>, makes no difference: the recipient is joe@example.net (RFC 5321
// appendix C). Its verdicts have the method "relay", and "fail" or "temperror" as the result.
type Relay struct {
	// Domains are those that the server takes mail for. ".example.org" is all domains below example.org, and not itself.
	// "[192.0.2.1]" is an address literal. Default: none.
	Domains []string
	// Ours is asked about domains that are not among Domains, such as those in a database. A domain about which it returns
	// an error has 451 4.3.0, for this recipient, and so has one about which it returns nothing in 30 seconds, when its
	// context ends. It is called concurrently. Default: none is ours.
	Ours func(ctx context.Context, domain proto.Domain) (bool, error)
	// Networks are those whose clients may send to any domain. Default: none, and not even loopback addresses: clients
	// seem to be there if a proxy or a tunnel on the same machine passes them on.
	Networks []netip.Prefix
	// Skip reports who may send to any domain besides those in Networks. Default: all clients that have authenticated,
	// which includes guests if the sessions let any in (auth.AnonymousSession).
	Skip func(ctx context.Context, c *server.Conn) bool
	// AllowRouting takes local parts with "%", "!" or "@" in them, as in joe%example.net@example.org, which old mail
	// systems pass on to joe@example.net. Set it if nothing behind the server does that, and there are such mailboxes.
	// Default: they are refused with 550 5.7.1, since whoever passes them on is an open relay.
	AllowRouting bool
}

// Middleware returns relay control as middleware. It returns an error if one of the domains or networks is malformed.
func (r Relay) Middleware() (server.Middleware, error) {
	domains, err := newDomainSet("Relay", "Domains", r.Domains)
	if err != nil {
		return nil, err
	}
	if err := checkNetworks("Relay", "Networks", r.Networks); err != nil {
		return nil, err
	}
	for _, p := range r.Networks {
		if p.Bits() == 0 {
			return nil, optionError("Relay", "Networks", "%v is everybody, which makes an open relay; name your own networks", p)
		}
	}
	networks, may := slices.Clone(r.Networks), r.Skip
	if may == nil {
		may = func(_ context.Context, c *server.Conn) bool { return c.Identity() != "" }
	}
	st, ours := &stages[struct{}, struct{}]{method: "relay", closed: true}, &calls{}
	st.skip = func(ctx context.Context, c *server.Conn) bool {
		return isIn(clientAddr(c), networks) || may(ctx, c)
	}
	st.rcpt = func(ctx context.Context, s *session[struct{}, struct{}], to proto.Address, _ proto.Params) error {
		if to.Domain.IsZero() {
			return nil // <Postmaster>
		}
		if !domains.has(to.Domain) {
			is := false
			if r.Ours != nil {
				var err error
				is, err = within(ctx, ours, lookupTimeout, func(ctx context.Context) (bool, error) {
					return r.Ours(ctx, to.Domain)
				})
				if err != nil {
					return failure{err}
				}
			}
			if !is {
				s.record("fail", to.Domain.Key()+" is not ours", nil)
				return errRelay
			}
		}
		if !r.AllowRouting && strings.ContainsAny(to.Local, "%!@") {
			s.record("fail", "the local part "+to.Local+" has a route in it", nil)
			return errRouting
		}
		return nil
	}
	return st.middleware(), nil
}

var (
	errRelay   = proto.Refuse(550, proto.Status{5, 7, 1}, "Relaying denied")
	errRouting = proto.Refuse(550, proto.Status{5, 7, 1}, "Relaying denied: no routes in local parts")
)

// A domainSet is a list of domains, each by itself or with all below it.
type domainSet map[string]bool

// newDomainSet returns the domains of a field of a part.
func newDomainSet(part, field string, names []string) (domainSet, error) {
	set := make(domainSet)
	for _, name := range names {
		rest, below := strings.CutPrefix(name, ".")
		d, err := proto.ParseDomain(rest)
		if err != nil || below && d.Name() == "" {
			return nil, optionError(part, field, "%q is no domain; write it as example.org, .example.org or [192.0.2.1]", name)
		}
		key := d.Key()
		if below {
			key = "." + key
		}
		set[key] = true
	}
	return set, nil
}

// has reports whether the domain is in the set, by itself or below another.
func (set domainSet) has(d proto.Domain) bool {
	key := d.Key()
	if set[key] {
		return true
	}
	if d.Name() == "" {
		return false
	}
	for {
		i := strings.IndexByte(key, '.')
		if i < 0 {
			return false
		}
		if set[key[i:]] {
			return true
		}
		key = key[i+1:]
	}
}
