package mx

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
)

// maxHosts is how many mail exchangers of a domain are considered. A domain may list as many as fit into an answer, and
// each costs look-ups.
const maxHosts = 20

// maxPeers is how many hosts are looked up to see whether one is this host: those that are considered, and others with
// the same preference as the last of these.
const maxPeers = 100

// maxAddrs is how many addresses of a host are considered.
const maxAddrs = 32

// A Route is the way to the mailboxes of a domain: the hosts that take its mail. [Router.Route] finds it.
type Route struct {
	// Domain is the domain in A-labels and lower case, or an address literal with its brackets.
	Domain string
	// Expanded is the domain at the end of the aliases of Domain, or Domain itself.
	Expanded string
	// Hosts are in the order in which they are tried. There is at least one. Those of the same preference are in an order
	// that differs from one call to the next.
	Hosts []Host
	// Implicit says that the domain has no MX record, so that its own addresses take its mail (RFC 5321 section 5.1).
	Implicit bool
	// Authentic says that DNSSEC has proved the names of the hosts. It is false for an address literal.
	Authentic bool
	// TTL is for how long the list of hosts may be used. Zero means unknown.
	TTL time.Duration
}

// A Host is a mail exchanger.
type Host struct {
	// Name is the name in the MX record, in A-labels and lower case, or an address literal with its brackets.
	Name string
	// Preference is that of the MX record. Lower numbers are tried first.
	Preference uint16
	// Lookup is what the DNS says about the addresses. It is nil for an address literal, and if Err is set.
	Lookup *dns.Addrs
	// Addrs are the addresses in the order in which they are tried, the families in turns.
	Addrs []netip.Addr
	// Err is why the host has no address: a failure of the DNS, or that there is none.
	Err error
}

// A Router finds the hosts that take the mail of a domain. A [Deliverer] uses one; it is for programs that need the
// route alone, such as one that checks addresses. Its method may be called by several goroutines at once. It must not
// be changed after that.
type Router struct {
	// Resolver answers the questions about the DNS. Nil stands for that of the system, by package net, which never tells
	// that DNSSEC has proved an answer: use [dns.New] for DANE.
	Resolver dns.Resolver
	// Names are the names by which this host is known as a mail exchanger. A domain whose list has one of them has this
	// host for its mail: so only hosts that are preferred to this one are tried, to avoid a loop (RFC 5321 section 5.1).
	// Default: none.
	Names []string
	// Addrs are the addresses of this host, and count as Names do. Default: none. Those of all interfaces are a good
	// choice for a program that receives mail on the port to which it sends.
	Addrs []netip.Addr
	// Family says which addresses of a host are used, and which are tried first.
	Family Family
}

// A Family says which addresses are used.
type Family uint8

// The choices. Many receivers refuse mail from an IPv6 address without a name in the DNS (PTR record), after they have
// accepted the connection. A host without such a name should use IPv4.
const (
	PreferIPv6 Family = iota // both, IPv6 first; the default
	PreferIPv4               // both, IPv4 first
	OnlyIPv6
	OnlyIPv4
)

// Route returns the hosts for domain. It asks for MX records, follows aliases, and looks up the addresses of all hosts
// at the same time. Without MX records the host is the domain itself. An address literal needs no look-up.
//
// The error is a [*RouteError]. It is temporary if the DNS gave no answer. It is for good if the domain does not exist
// (5.1.2), or takes no mail (RFC 7505, 5.1.10). So it is if the domain has no host with an address (5.4.4), or has this
// host as its most preferred one (5.4.6).
func (r *Router) Route(ctx context.Context, domain proto.Domain) (*Route, error) {
	if domain.Addr().IsValid() {
		return r.literal(domain)
	}
	route, err := r.listed(ctx, domain)
	if err != nil {
		return nil, err
	}
	if route.Hosts, err = r.usable(ctx, route.Hosts); err != nil {
		return nil, routeError(route.Domain, err)
	}
	return route, nil
}

// listed returns the route to a domain that is a name, with its hosts as the MX records have them, whose addresses are
// not looked up yet.
func (r *Router) listed(ctx context.Context, domain proto.Domain) (*Route, error) {
	name, ok := dns.Normal(domain.ASCII())
	if !ok || domain.IsZero() {
		return nil, &RouteError{Domain: domain.String(), Code: proto.Status{5, 1, 2}, Err: dns.ErrName}
	}
	route := &Route{Domain: name}
	answer, err := r.resolver().Lookup(ctx, name, dns.MX)
	if err != nil {
		return nil, routeError(name, err)
	}
	route.Expanded, route.Authentic, route.TTL = cmp.Or(answer.Name, name), answer.Authentic, answer.TTL
	switch {
	case answer.NoName:
		return nil, &RouteError{Domain: name, Code: proto.Status{5, 1, 2}, Err: errNoDomain}
	case len(answer.MX) == 0:
		route.Implicit = true
		route.Hosts = []Host{{Name: name}}
	case len(answer.MX) == 1 && answer.MX[0].Host == ".":
		return nil, &RouteError{Domain: name, Code: proto.Status{5, 1, 10}, Err: errNullMX}
	default:
		route.Hosts = exchangers(answer.MX)
	}
	return route, nil
}

var (
	errNoDomain = errors.New("smtp: the domain does not exist: check its spelling")
	errNullMX   = errors.New("smtp: the domain takes no mail (RFC 7505): ask for another address")
	errLoop     = errors.New("smtp: mail for the domain would loop: this host is its best mail exchanger; deliver it by a " +
		"route of its own, as of package deliver, or correct Options.Names and Addrs of mx")
	errNoAddress = errors.New("smtp: the host has no address in the DNS")
	errFamily    = errors.New("smtp: the host has no address of the family that is used")
	errBadHost   = errors.New("smtp: the domain has MX records, but none with the name of a host")
)

func (r *Router) resolver() dns.Resolver {
	if r.Resolver != nil {
		return r.Resolver
	}
	return systemResolver
}

var systemResolver = dns.FromNet(nil)

func (r *Router) literal(domain proto.Domain) (*Route, error) {
	addr := domain.Addr().Unmap()
	host := Host{Name: domain.Key(), Addrs: r.Family.arrange([]netip.Addr{addr})}
	route := &Route{Domain: domain.Key(), Expanded: domain.Key(), Hosts: []Host{host}}
	switch {
	case slices.Contains(r.Addrs, addr):
		return nil, &RouteError{Domain: route.Domain, Code: proto.Status{5, 4, 6}, Err: errLoop}
	case len(host.Addrs) == 0:
		return nil, &RouteError{Domain: route.Domain, Code: proto.Status{5, 4, 4}, Err: errFamily}
	}
	return route, nil
}

// exchangers returns the hosts in list, sorted by preference, those of the same preference in random order.
func exchangers(list []dns.MailExchange) []Host {
	var hosts []Host
	for _, m := range list {
		same := func(h Host) bool { return h.Name == m.Host }
		if i := slices.IndexFunc(hosts, same); i >= 0 {
			hosts[i].Preference = min(hosts[i].Preference, m.Preference)
		} else if isHost(m.Host) {
			hosts = append(hosts, Host{Name: m.Host, Preference: m.Preference})
		}
	}
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	slices.SortStableFunc(hosts, func(a, b Host) int { return cmp.Compare(a.Preference, b.Preference) })
	return hosts
}

// isHost reports whether name can be that of a host: the root is none, nor is a name with octets that no host has. An
// address in place of a name is no name either (RFC 5321 section 5.1).
func isHost(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == '[' || c == ']' || c == ':' || c == '%' || c == '/' {
			return false
		}
	}
	_, err := netip.ParseAddr(name)
	return name != "." && name != "" && err != nil
}

// others returns the hosts that are preferred to this one, if one of them has a name of this host, and otherwise all.
func (r *Router) others(hosts []Host) ([]Host, error) {
	if len(hosts) == 0 {
		return nil, &RouteError{Code: proto.Status{5, 4, 4}, Err: errBadHost}
	}
	own := slices.IndexFunc(hosts, func(h Host) bool { return r.isNamed(h.Name) })
	if own >= 0 {
		hosts = better(hosts, own)
	}
	if len(hosts) == 0 {
		return nil, &RouteError{Code: proto.Status{5, 4, 6}, Err: errLoop}
	}
	return hosts, nil
}

// usable looks up the addresses of hosts, and returns those that mail may go to. The error says why there is none.
func (r *Router) usable(ctx context.Context, hosts []Host) ([]Host, error) {
	hosts, err := r.others(hosts)
	if err != nil {
		return nil, err
	}
	hosts = hosts[:r.looked(hosts)]
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() { r.locate(ctx, &hosts[i]) })
	}
	wg.Wait()
	here := slices.IndexFunc(hosts, func(h Host) bool { return r.isHere(h.Lookup) })
	if here >= 0 {
		hosts = better(hosts, here)
	}
	hosts = hosts[:min(len(hosts), maxHosts)]
	if len(hosts) == 0 {
		return nil, &RouteError{Code: proto.Status{5, 4, 6}, Err: errLoop}
	}
	var failed error
	for i := range hosts {
		switch h := &hosts[i]; {
		case h.Err == nil:
			return hosts, nil
		case failed == nil || client.Temporary(h.Err) && !client.Temporary(failed):
			failed = h.Err
		}
	}
	return nil, failed
}

// looked returns how many of hosts are looked up. This host may be known by its address alone, behind others with the
// same preference.
func (r *Router) looked(hosts []Host) int {
	n := min(len(hosts), maxHosts)
	for len(r.Addrs) > 0 && n < min(len(hosts), maxPeers) && hosts[n].Preference == hosts[n-1].Preference {
		n++
	}
	return n
}

// better returns the hosts that are preferred to the i-th.
func better(hosts []Host, i int) []Host {
	return slices.DeleteFunc(slices.Clone(hosts), func(h Host) bool { return h.Preference >= hosts[i].Preference })
}

// locate looks up the addresses of h.
func (r *Router) locate(ctx context.Context, h *Host) {
	found, err := dns.LookupAddrs(ctx, r.resolver(), h.Name)
	if err != nil {
		h.Err = err
		return
	}
	h.Lookup = found
	h.Addrs = r.Family.arrange(slices.Concat(found.IPv6, found.IPv4))
	if h.Addrs = h.Addrs[:min(len(h.Addrs), maxAddrs)]; len(h.Addrs) > 0 {
		return
	}
	reason := errNoAddress
	if len(found.IPv4)+len(found.IPv6) > 0 {
		reason = errFamily
	}
	h.Err = &RouteError{Domain: h.Name, Code: proto.Status{5, 4, 4}, Err: reason}
}

// isNamed reports whether name is one of this host's.
func (r *Router) isNamed(name string) bool {
	return slices.ContainsFunc(r.Names, func(own string) bool {
		own, ok := dns.Normal(own)
		return ok && own == name
	})
}

// isHere reports whether one of the addresses is this host's.
func (r *Router) isHere(found *dns.Addrs) bool {
	if found == nil || len(r.Addrs) == 0 {
		return false
	}
	is := func(a netip.Addr) bool { return slices.Contains(r.Addrs, a.Unmap()) }
	return slices.ContainsFunc(found.IPv4, is) || slices.ContainsFunc(found.IPv6, is)
}

// arrange returns the addresses of list that are used: the families in turns, and the order within each as it was.
func (f Family) arrange(list []netip.Addr) []netip.Addr {
	var four, six []netip.Addr
	for _, a := range list {
		switch a = a.Unmap(); {
		case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), slices.Contains(four, a), slices.Contains(six, a):
		case a.Is4():
			four = append(four, a)
		default:
			six = append(six, a)
		}
	}
	switch f {
	case OnlyIPv4:
		return four
	case OnlyIPv6:
		return six
	case PreferIPv4:
		return turns(four, six)
	}
	return turns(six, four)
}

// turns returns the elements of both lists in turns.
func turns(a, b []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(a)+len(b))
	for i := range max(len(a), len(b)) {
		if i < len(a) {
			out = append(out, a[i])
		}
		if i < len(b) {
			out = append(out, b[i])
		}
	}
	return out
}
