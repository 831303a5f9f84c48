package dane

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"smtpkit.example/smtp/ext/dns"
)

// A Target is a server that mail may be sent to.
type Target struct {
	// Domain is the next-hop domain, mostly that of the recipients. A certificate may be for it in place of the host.
	Domain string
	// Expanded is the domain at the end of Domain's aliases, which is [dns.Answer].Name of the MX answer. A certificate
	// may be for it too. It may be empty, or equal to Domain.
	Expanded string
	// Authentic says that DNSSEC proves the MX records of Domain. Without it DANE does not apply to the hosts in them,
	// since somebody may have put other hosts there. A domain that has no MX records is its own host: the answer about the
	// addresses counts then.
	//
	// A program may elect to use DANE with the hosts of MX records that are not proved (RFC 7672 section 2.2.1), or with
	// hosts that its operator names. Then it sets Authentic and leaves Domain empty: a certificate has to be for the host.
	Authentic bool
	// Host is the host of an MX record, or Domain if there are none.
	Host string
	// Addr has the addresses of Host. Lookup asks for them if it is nil.
	Addr *dns.Addrs
	// Port is the TCP port. Zero is 25.
	Port uint16
	// Required says that mail must not be sent unless a certificate matches a TLSA record (RFC 7672 section 6). Then it is
	// an error if DANE does not apply, and if none of the records is usable.
	Required bool
}

// Lookup asks r for the TLSA records of a host. It returns nil without an error if DANE does not apply to the host. An
// error means that the host must not be used now (RFC 7672 section 2.1.2): try the next one, or try again later. It is
// an [*Error], which wraps that of r.
//
// No TLSA records are asked for unless DNSSEC proves the addresses of the host, or at least its alias: servers of zones
// without DNSSEC often fail at such questions (RFC 7672 section 2.2.2). Lookup asks at most four questions, one after
// the other, besides those for the addresses. The time is bounded by ctx and by r.
func Lookup(ctx context.Context, r dns.Resolver, t Target) (*Policy, error) {
	p, err := lookup(ctx, r, &t)
	switch {
	case err != nil || !t.Required:
		return p, err
	case p == nil:
		return nil, &Error{Host: t.Host, Err: errRequired, result: daneRequired}
	case !p.Usable():
		err := p.Problem().(*Error)
		err.result = daneRequired
		return nil, err
	}
	return p, nil
}

func lookup(ctx context.Context, r dns.Resolver, t *Target) (*Policy, error) {
	if isLiteral(t.Domain) || isLiteral(t.Host) {
		return nil, nil // RFC 7672 section 2.2
	}
	host, ok := dns.Normal(t.Host)
	if !ok {
		return nil, &Error{Host: t.Host, Err: &dns.Error{Name: t.Host, Type: dns.TLSA, Err: dns.ErrName}, result: general}
	}
	domain, _ := dns.Normal(t.Domain)
	if !t.Authentic && host != domain {
		return nil, nil
	}
	bases, err := candidates(ctx, r, host, t.Addr)
	if err != nil {
		return nil, err
	}
	prefix := "_" + strconv.Itoa(int(t.Port)) + "._tcp."
	if t.Port == 0 {
		prefix = "_25._tcp."
	}
	for _, base := range bases {
		if _, ok := dns.Normal(prefix + base); !ok {
			continue // a name too long to have records
		}
		answer, err := r.Lookup(ctx, prefix+base, dns.TLSA)
		if err != nil {
			return nil, lookupError(base, err)
		}
		if answer.Authentic && len(answer.TLSA) > 0 {
			return &Policy{Base: base, Names: t.names(base, host, domain), Records: ordered(answer.TLSA)}, nil
		}
	}
	return nil, nil
}

// candidates returns the candidate TLSA base domains of host in their order (RFC 7672 sections 2.2.2, 2.2.3).
func candidates(ctx context.Context, r dns.Resolver, host string, addr *dns.Addrs) ([]string, error) {
	if addr == nil {
		var err error
		if addr, err = dns.LookupAddrs(ctx, r, host); err != nil {
			return nil, lookupError(host, err)
		}
	}
	alias := addr.Name != host
	switch {
	case proved(addr) && alias:
		return []string{addr.Name, host}, nil
	case proved(addr):
		return []string{host}, nil
	case !alias:
		return nil, nil
	}
	// The end of the chain is not proved. The alias that it begins with may be.
	answer, err := r.Lookup(ctx, host, dns.CNAME)
	switch {
	case err != nil:
		return nil, lookupError(host, err)
	case answer.Authentic && len(answer.Names) > 0:
		return []string{host}, nil
	}
	return nil, nil
}

// proved reports whether DNSSEC proves addresses. Those of one family are enough: there are zones where the absence of
// the other one cannot be proved, and a resolver with DNS64 makes up answers that nobody has signed.
func proved(a *dns.Addrs) bool {
	return a.Authentic || len(a.IPv4) > 0 && a.AuthenticIPv4 || len(a.IPv6) > 0 && a.AuthenticIPv6
}

// names returns the reference identifiers for a certificate that is not named by its record (RFC 7672 section 3.2.2).
// The domain at the end of the aliases counts only where DNSSEC has led there by way of MX records.
func (t *Target) names(base, host, domain string) []string {
	names := []string{base}
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	add(domain)
	if expanded, ok := dns.Normal(t.Expanded); ok && host != domain && domain != "" {
		add(expanded)
	}
	return names
}

// ordered returns records in an order that does not depend on that of the answer, which changes from one to the next.
func ordered(records []dns.Association) []dns.Association {
	return slices.SortedFunc(slices.Values(records), func(a, b dns.Association) int {
		return cmp.Or(cmp.Compare(a.Usage, b.Usage), cmp.Compare(a.Selector, b.Selector),
			cmp.Compare(a.Matching, b.Matching), bytes.Compare(a.Data, b.Data))
	})
}

// isLiteral reports whether s is an IP address or an address literal, to which DANE does not apply.
func isLiteral(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || strings.HasPrefix(s, "[")
}

// lookupError is the error for a question that has no answer. A server that says nothing for now is no failure of
// DNSSEC; one that says SERVFAIL often hides one.
func lookupError(host string, err error) *Error {
	e := &Error{Host: host, Err: err, lookup: true, result: dnssecInvalid}
	if t, ok := asType[interface {
		error
		Timeout() bool
	}](err); ok && t.Timeout() || errors.Is(err, context.Canceled) {
		e.result = general
	}
	return e
}
