package server

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"smtpkit.example/smtp/proto"
)

// A rateKind is something that a network may do at a limited rate.
type rateKind uint8

const (
	connRate    rateKind = iota // connect
	messageRate                 // send MAIL
	authRate                    // fail to authenticate
	rateKinds
)

const (
	// maxNetworks is how many networks are counted each by itself. They take about 10 MB.
	maxNetworks = 1 << 16
	// crowdShare is how many times the limit of one network holds for all those together that find no place among
	// maxNetworks.
	crowdShare = 10
	// swept is how many networks are looked at when another one comes, to find those that have spent nothing.
	swept = 8
)

// A rates has a token bucket for each network and each kind. The tokens of a bucket come back evenly, all of them in a
// window of time.
//
// The table of networks is bounded. A network leaves it only when all its buckets are full again, which is how they
// begin. So whoever has many networks and fills the table forgets nothing of what one of them has spent. While the
// table is full, networks that are new share buckets, which are crowdShare times as large.
type rates struct {
	clock func() time.Duration // the time since some instant
	most  int                  // how many networks have a place
	kinds [rateKinds]rate

	mu    sync.Mutex // guards what follows
	at    map[netip.Prefix]int
	list  []counted
	hand  int // the place in list that is looked at next
	crowd buckets
}

// A rate is a limit. Its zero value is none.
type rate struct {
	every  time.Duration // how long it takes for a token to come back
	window time.Duration // how long it takes for all of them
}

// A counted is a network and what it has spent.
type counted struct {
	network netip.Prefix
	buckets
}

// The buckets of a network. Each is the time at which it will be full again; it is full if that is over.
type buckets [rateKinds]time.Duration

func newRates(l *Limits) *rates {
	began := time.Now()
	return &rates{
		clock: func() time.Duration { return time.Since(began) },
		most:  maxNetworks,
		kinds: [rateKinds]rate{
			connRate:    rateOf(l.ConnsPerMinute, time.Minute),
			messageRate: rateOf(l.MessagesPerMinute, time.Minute),
			authRate:    rateOf(l.AuthFailuresPerHour, time.Hour),
		},
		at: make(map[netip.Prefix]int),
	}
}

// rateOf permits n in a window; 0 is no limit.
func rateOf(n int, window time.Duration) rate {
	if n <= 0 {
		return rate{}
	}
	return rate{max(window/time.Duration(n), 1), window}
}

// take takes a token of the network. It reports false if there is none. An invalid network has no limits.
func (r *rates) take(k rateKind, network netip.Prefix) bool { return r.spend(k, network, false) }

// charge takes a token of the network, and owes it if there is none. Then it reports false. It is for what shows only
// afterwards: a client that does many of these things at a time has to wait the longer for the next token.
func (r *rates) charge(k rateKind, network netip.Prefix) bool { return r.spend(k, network, true) }

func (r *rates) spend(k rateKind, network netip.Prefix, owes bool) bool {
	limit := r.kinds[k]
	if limit.every == 0 || !network.IsValid() {
		return true
	}
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.find(network)
	if b == &r.crowd {
		if b = r.enter(network, now); b == &r.crowd {
			limit.every = max(limit.every/crowdShare, 1)
		}
	}
	full := max(b[k], now) + limit.every
	ok := full-now <= limit.window
	if ok || owes {
		b[k] = full
	}
	return ok
}

// has reports whether the network has a token.
func (r *rates) has(k rateKind, network netip.Prefix) bool {
	limit := r.kinds[k]
	if limit.every == 0 || !network.IsValid() {
		return true
	}
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.find(network)
	if b == &r.crowd {
		if len(r.list) < r.most {
			return true // it would have buckets of its own
		}
		limit.every = max(limit.every/crowdShare, 1)
	}
	return max(b[k], now)+limit.every-now <= limit.window
}

// find returns the buckets of the network, those of the crowd if it has none of its own.
func (r *rates) find(network netip.Prefix) *buckets {
	if i, ok := r.at[network]; ok {
		return &r.list[i].buckets
	}
	return &r.crowd
}

// enter gives a network buckets of its own, unless the table is full.
func (r *rates) enter(network netip.Prefix, now time.Duration) *buckets {
	r.sweep(now)
	if len(r.list) >= r.most {
		return &r.crowd
	}
	r.at[network] = len(r.list)
	r.list = append(r.list, counted{network: network})
	return &r.list[len(r.list)-1].buckets
}

// sweep forgets networks whose buckets are full.
func (r *rates) sweep(now time.Duration) {
	for range min(swept, len(r.list)) {
		if r.hand >= len(r.list) {
			r.hand = 0
		}
		e := &r.list[r.hand]
		if slices.Max(e.buckets[:]) > now {
			r.hand++
			continue
		}
		delete(r.at, e.network)
		last := len(r.list) - 1
		if r.hand != last {
			*e = r.list[last]
			r.at[e.network] = r.hand
		}
		r.list = r.list[:last]
	}
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
