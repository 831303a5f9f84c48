package server

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server/internal/bucket"
)

// A rateKind is something that a network may do at a limited rate.
type rateKind uint8

const (
	connRate    rateKind = iota // connect
	messageRate                 // send MAIL
	authRate                    // fail to authenticate
	rateKinds
)

// maxNetworks is how many networks are counted each by itself. They take about 10 MB.
const maxNetworks = 1 << 16

// A rates counts what networks do. An invalid network has no limits.
type rates struct{ table *bucket.Table[netip.Prefix] }

func newRates(l *Limits) *rates {
	var limits [rateKinds]bucket.Limit
	limits[connRate] = bucket.Limit{Tokens: l.ConnsPerMinute, Window: time.Minute}
	limits[messageRate] = bucket.Limit{Tokens: l.MessagesPerMinute, Window: time.Minute}
	limits[authRate] = bucket.Limit{Tokens: l.AuthFailuresPerHour, Window: time.Hour}
	return &rates{bucket.New[netip.Prefix](maxNetworks, limits[:]...)}
}

// take takes a token of the network. It reports false if there is none.
func (r *rates) take(k rateKind, network netip.Prefix) bool {
	return !network.IsValid() || r.table.Take(network, int(k))
}

// charge takes a token of the network, and owes it if there is none. Then it reports false.
func (r *rates) charge(k rateKind, network netip.Prefix) bool {
	return !network.IsValid() || r.table.Charge(network, int(k))
}

// has reports whether the network has a token.
func (r *rates) has(k rateKind, network netip.Prefix) bool {
	return !network.IsValid() || r.table.Has(network, int(k))
}

// A bounds is what bounds all connections of a server together.
type bounds struct {
	limits     Limits
	exempt     []netip.Prefix
	rates      *rates
	handshakes chan struct{} // holds one for each handshake under way; nil if they have no limit
	memory     memory
}

// setBounds sets the bounds to those of the options that New was given.
func (b *bounds) setBounds(o *Options) {
	b.limits, b.exempt, b.rates = o.Limits, slices.Clone(o.Exempt), newRates(&o.Limits)
	if n := o.Limits.Handshakes; n > 0 {
		b.handshakes = make(chan struct{}, n)
	}
	b.memory.most = o.Limits.Memory
}

// networkOf returns the network of a client, whose members are counted together. It is invalid for a client that is not
// connected over IP, or is exempt.
func (b *bounds) networkOf(a net.Addr) netip.Prefix {
	addr := addrPort(a).Addr().Unmap().WithZone("")
	if slices.ContainsFunc(b.exempt, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return netip.Prefix{}
	}
	bits := b.limits.IPv4Prefix
	if addr.Is6() {
		bits = b.limits.IPv6Prefix
	}
	p, _ := addr.Prefix(bits) // which is invalid if addr is
	return p
}

// ratedNetworkOf is networkOf for rates, of which clients on the same machine have none.
func (b *bounds) ratedNetworkOf(a net.Addr) netip.Prefix {
	if addrPort(a).Addr().Unmap().IsLoopback() {
		return netip.Prefix{}
	}
	return b.networkOf(a)
}

// authenticates reports whether v is a command by which a client says who it is.
func (s *Service) authenticates(v *proto.Verb) bool {
	if v.More != proto.Exchange {
		return false
	}
	e, _ := s.set.Owner(v)
	return e != nil && e.Authenticates != nil
}
