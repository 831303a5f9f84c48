package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// FromNet returns a Resolver that asks r: net.DefaultResolver if r is nil. It is for programs that have to look up
// names as the rest of the system does, /etc/hosts included.
//
// A net.Resolver tells less. Answers are never authentic, and TTL is zero. NoName is never set. Name is the name asked
// for, except for a CNAME. TLSA cannot be looked up, and is an error.
func FromNet(r *net.Resolver) Resolver {
	if r == nil {
		r = net.DefaultResolver
	}
	return system{r}
}

type system struct{ r *net.Resolver }

// Lookup is described at [Resolver].
func (s system) Lookup(ctx context.Context, name string, t Type) (*Answer, error) {
	normal, ok := Normal(name)
	if !ok {
		return nil, &Error{Name: name, Type: t, Err: ErrName}
	}
	a := &Answer{Name: normal}
	err := s.lookup(ctx, a, t)
	var e *net.DNSError
	switch {
	case err == nil || !a.Empty(): // with records, the error is about others that are malformed
		return a, nil
	case ctx.Err() != nil:
		err = ctx.Err() // package net has errors of its own for it
	case errors.As(err, &e) && e.IsNotFound:
		return a, nil
	}
	failure := &Error{Name: normal, Type: t, Err: err}
	if e != nil {
		failure.Server = e.Server
	}
	return nil, failure
}

func (s system) lookup(ctx context.Context, a *Answer, t Type) error {
	absolute := strings.TrimSuffix(a.Name, ".") + "." // so that no search list applies
	switch t {
	case A, AAAA:
		network := map[Type]string{A: "ip4", AAAA: "ip6"}[t]
		addrs, err := s.r.LookupNetIP(ctx, network, absolute)
		for _, addr := range addrs {
			a.Addrs = append(a.Addrs, addr.Unmap())
		}
		return err
	case MX:
		records, err := s.r.LookupMX(ctx, absolute)
		for _, mx := range records {
			if host, ok := Normal(mx.Host); ok {
				a.MX = append(a.MX, MailExchange{Preference: mx.Pref, Host: host})
			}
		}
		return err
	case TXT:
		texts, err := s.r.LookupTXT(ctx, absolute)
		a.TXT = texts
		return err
	case CNAME:
		target, err := s.r.LookupCNAME(ctx, absolute)
		if host, ok := Normal(target); ok && host != a.Name {
			a.Names = []string{host}
		}
		return err
	case PTR:
		addr, err := reverse(a.Name)
		if err != nil {
			return err
		}
		names, err := s.r.LookupAddr(ctx, addr.String())
		for _, name := range names {
			if host, ok := Normal(name); ok {
				a.Names = append(a.Names, host)
			}
		}
		return err
	}
	return fmt.Errorf("smtp: a net.Resolver cannot look up %v: use dns.New", t)
}

// reverse returns the address of a name below in-addr.arpa or ip6.arpa.
func reverse(name string) (netip.Addr, error) {
	var bytes []byte
	base, width := 10, 1
	labels, ok := strings.CutSuffix(name, ".in-addr.arpa")
	if !ok {
		labels, ok = strings.CutSuffix(name, ".ip6.arpa")
		base, width = 16, 2
	}
	parts := strings.Split(labels, ".")
	for i := len(parts) - width; ok && i >= 0; i -= width {
		digits := parts[i]
		if width == 2 {
			digits = parts[i+1] + parts[i]
			ok = len(digits) == 2
		}
		n, err := strconv.ParseUint(digits, base, 8)
		ok = ok && err == nil
		bytes = append(bytes, byte(n))
	}
	addr, valid := netip.AddrFromSlice(bytes)
	if !ok || !valid || addr.Is4() != (width == 1) || len(parts)%width != 0 {
		return netip.Addr{}, errors.New("smtp: a net.Resolver finds PTR records only of addresses: want a name below " +
			"in-addr.arpa or ip6.arpa")
	}
	return addr, nil
}
