package policy

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// HELO looks at the name by which a client introduces itself in EHLO or HELO. Programs that send spam often use one
// that cannot be theirs. By default it notes what it finds, and refuses nothing.
//
//	policy.HELO{Resolver: resolver, Refuse: policy.HELOForged}
//
// A name that exists and has other addresses than the client's is no fault: RFC 5321 section 4.1.4 forbids to refuse
// mail because the name cannot be verified.
//
// Its verdicts have the method "helo", and one of these results: "pass" if the client's address is one of the name's;
// "neutral" if the name has others; "none" if the name was not looked up; "fail" for one of the [HELOFaults];
// "temperror" if the look-up failed. They are recorded for each MAIL.
type HELO struct {
	// Resolver looks the name up. A look-up takes 10 seconds at most. Default: names are not looked up.
	Resolver dns.Resolver
	// Names are names and address literals of this server that nobody else may use, as in [Relay]: those of the domains
	// that only this server has are good ones. The name and the address that the client is connected to always count.
	Names []string
	// Refuse has the faults for which mail is refused at RCPT: with 550 5.7.1, and for HELOUnresolvable, which may be a
	// mistake that somebody mends, with 450 4.7.1. Default: none.
	Refuse HELOFaults
	// Skip reports whom to leave out. Default: those that Trusted() reports. Programs of users give names of all kinds.
	Skip func(ctx context.Context, c *server.Conn) bool
}

// HELOFaults is a set of what can be wrong with the name in EHLO, joined by "|".
type HELOFaults uint8

// The faults. A name has one of them at most: the first that fits.
const (
	// HELOForged is a name or an address of this server, used by somebody else, also with a dot at its end or without its
	// brackets.
	HELOForged HELOFaults = 1 << iota
	// HELOUnqualified is neither a domain name with a dot in it nor an address literal (RFC 5321 section 4.1.1.1).
	HELOUnqualified
	// HELOForeignLiteral is an address literal that is not the client's address. Behind NAT that may be a mistake.
	HELOForeignLiteral
	// HELOUnresolvable is a name that has neither addresses nor a mail exchanger (RFC 5321 section 2.3.5).
	HELOUnresolvable
)

// helloTimeout bounds the look-up of a name.
const helloTimeout = 10 * time.Second

// Middleware returns the check as middleware. It returns an error if one of the names is malformed, or a fault unknown.
func (h HELO) Middleware() (server.Middleware, error) {
	ours, err := newDomainSet("HELO", "Names", h.Names)
	if err != nil {
		return nil, err
	}
	if h.Refuse >= HELOUnresolvable<<1 {
		return nil, optionError("HELO", "Refuse", "%#x has faults that are none; join HELOForged and the others by |",
			h.Refuse)
	}
	if h.Refuse&HELOUnresolvable != 0 && h.Resolver == nil {
		return nil, optionError("HELO", "Refuse", "HELOUnresolvable needs a Resolver; set it to what dns.New returns")
	}
	if h.Skip == nil {
		h.Skip = Trusted()
	}
	a := &helo{HELO: h, ours: ours, calls: &calls{}}
	st := &stages[helloFound, struct{}]{method: "helo", skip: h.Skip, hello: a.hello}
	return st.middleware(), nil
}

// A helo is a HELO at work.
type helo struct {
	HELO
	ours  domainSet
	calls *calls
}

// A helloFound is what was found out about a name.
type helloFound struct {
	name           string
	fault          HELOFaults
	result, reason string
}

func (a *helo) hello(ctx context.Context, s *session[helloFound, struct{}]) error {
	found := &s.client.known
	if name := s.conn.Hello(); found.result == "" || found.name != name {
		f, err := a.look(ctx, s.conn, name)
		if err != nil {
			return failure{err}
		}
		*found, found.name = f, name
	}
	s.record(found.result, found.reason, nil)
	switch fault := found.fault & a.Refuse; {
	case fault == HELOUnresolvable:
		return proto.Refuse(450, proto.Status{4, 7, 1}, "The name in your EHLO does not exist")
	case fault != 0:
		return proto.Refuse(550, proto.Status{5, 7, 1}, "The name in your EHLO is not yours: "+found.reason)
	}
	return nil
}

// look looks at a name.
func (a *helo) look(ctx context.Context, c *server.Conn, name string) (helloFound, error) {
	fault := func(f HELOFaults, reason string) (helloFound, error) {
		return helloFound{fault: f, result: "fail", reason: reason}, nil
	}
	client := clientAddr(c)
	d, bare, err := helloDomain(name)
	switch {
	case err == nil && a.isOurs(c, d) && client != addrOf(c.LocalAddr()):
		return fault(HELOForged, "it is a name of this server")
	case err != nil, bare, d.Name() != "" && !isQualified(d):
		return fault(HELOUnqualified, "it is no qualified domain name")
	case d.Name() == "" && d.Addr().Unmap() != client:
		return fault(HELOForeignLiteral, "it is another address")
	case d.Name() == "":
		return helloFound{result: "pass"}, nil
	case a.Resolver == nil:
		return helloFound{result: "none"}, nil
	}
	return within(ctx, a.calls, helloTimeout, func(ctx context.Context) (helloFound, error) {
		return a.resolve(ctx, d, client)
	})
}

// resolve looks a name up in the DNS.
func (a *helo) resolve(ctx context.Context, d proto.Domain, client netip.Addr) (helloFound, error) {
	addrs, err := dns.LookupAddrs(ctx, a.Resolver, d.ASCII())
	if err != nil {
		return helloFound{}, err
	}
	switch {
	case slices.Contains(addrs.IPv4, client) || slices.Contains(addrs.IPv6, client):
		return helloFound{result: "pass"}, nil
	case !addrs.Empty() && addrs.Err != nil:
		return helloFound{}, addrs.Err
	case !addrs.Empty():
		return helloFound{result: "neutral", reason: "it has other addresses"}, nil
	}
	answer, err := a.Resolver.Lookup(ctx, d.ASCII(), dns.MX)
	if err != nil {
		return helloFound{}, err
	}
	if slices.ContainsFunc(answer.MX, func(mx dns.MailExchange) bool { return mx.Host != "." }) {
		return helloFound{result: "neutral", reason: "it has a mail exchanger and no address"}, nil
	}
	return helloFound{fault: HELOUnresolvable, result: "fail", reason: "it does not exist"}, nil
}

// isOurs reports whether the name is one of this server.
func (a *helo) isOurs(c *server.Conn, d proto.Domain) bool {
	if a := d.Addr(); a.IsValid() {
		d = proto.AddrLiteral(a) // in one form
	}
	own, err := proto.ParseDomain(c.Hostname())
	return err == nil && d.Equal(own) || a.ours.has(d) || d.Name() == "" && d.Addr() == addrOf(c.LocalAddr())
}

// helloDomain returns what stands in EHLO, without the dot at its end that makes no other name of it. Bare says that it
// is an address without brackets, which some clients take for a literal.
func helloDomain(name string) (d proto.Domain, bare bool, err error) {
	name = strings.TrimSuffix(name, ".")
	if addr, err := netip.ParseAddr(name); err == nil {
		return proto.AddrLiteral(addr), true, nil
	}
	d, err = proto.ParseDomain(name)
	return d, false, err
}

// isQualified reports whether the name has more than one label.
func isQualified(d proto.Domain) bool { return slices.Contains([]byte(d.Name()), '.') }
