package mx

import (
	"container/list"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpkit.example/smtp/proto"
)

const (
	// maxSites bounds the memory: about 300 octets each.
	maxSites = 10000
	// deadFor is for how long an address that could not be reached is tried after the others.
	deadFor = 10 * time.Minute
	// refusedFor is for how long the addresses of a family are tried after the others, since the host has refused what
	// came from this host's address of that family.
	refusedFor = 24 * time.Hour
	// greylistedFor is for how long an address that has said 4yz is tried before the others. Greylisting asks for another
	// attempt after some minutes, and within a day or so (RFC 6647 section 5).
	greylistedFor = 24 * time.Hour
	// greylisting is how long an address may go on to say 4yz. Greylisting is over by then: there is a fault, and the
	// address comes after the others for greylistedFor.
	greylisting = 4 * time.Hour
	// maxDead bounds the addresses of a host that are remembered as dead.
	maxDead = 16
)

// A memory is what is known of hosts from earlier attempts. It forgets the host that was not asked for the longest
// time.
type memory struct {
	mu    sync.Mutex
	sites map[string]*list.Element // of *site, by the name of the host
	used  list.List                // the one used last is in front
}

// A site is what is known of a host.
type site struct {
	name string
	// dead are addresses that could not be reached, and until when that counts.
	dead map[netip.Addr]time.Time
	// greylisted is the address that has said 4yz, since when it has said nothing else, and until when that counts.
	greylisted   netip.Addr
	since, until time.Time
	// last is the address to which a connection was made last.
	last netip.Addr
	// refused says until when the addresses of a family come last: of IPv4, and of IPv6.
	refused [2]time.Time
}

// family returns the index of the family of a.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// site calls f with what is known of a host, under the lock.
func (m *memory) site(name string, f func(*site)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sites == nil {
		m.sites = make(map[string]*list.Element)
	}
	e := m.sites[name]
	if e == nil {
		e = m.used.PushFront(&site{name: name})
		m.sites[name] = e
		if m.used.Len() > maxSites {
			oldest := m.used.Back()
			m.used.Remove(oldest)
			delete(m.sites, oldest.Value.(*site).name)
		}
	}
	m.used.MoveToFront(e)
	f(e.Value.(*site))
}

// order returns the addresses of a host in the order in which they are tried now, at most n. Nothing is left out for
// what is remembered: it may not hold any longer.
func (m *memory) order(name string, addrs []netip.Addr, n int) []netip.Addr {
	out := slices.Clone(addrs)
	m.site(name, func(s *site) {
		now := time.Now()
		slices.SortStableFunc(out, func(a, b netip.Addr) int { return s.rank(a, now) - s.rank(b, now) })
	})
	return out[:min(len(out), n)]
}

// isRefused reports whether the host has lately refused what comes from this host's address of a family.
func (s *site) isRefused(family int) bool { return time.Now().Before(s.refused[family]) }

// rank is low for addresses that are tried first.
func (s *site) rank(a netip.Addr, now time.Time) int {
	rank := 0
	if a == s.greylisted && now.Before(s.until) {
		rank -= 4
	}
	if now.Before(s.refused[family(a)]) {
		rank += 2
	}
	if now.Before(s.dead[a]) {
		rank++
	}
	return rank
}

// rank is low for hosts that are tried first among those of the same preference.
func (m *memory) rank(h *Host) int {
	if h.Err != nil {
		return 2
	}
	rank := 0
	m.site(h.Name, func(s *site) {
		now := time.Now()
		alive := func(a netip.Addr) bool { return !now.Before(s.dead[a]) }
		switch {
		case now.Before(s.until) && slices.Contains(h.Addrs, s.greylisted):
			rank = -1
		case !slices.ContainsFunc(h.Addrs, alive):
			rank = 1
		}
	})
	return rank
}

// dialled records whether a connection to an address was made.
func (m *memory) dialled(name string, a netip.Addr, ok bool) {
	m.site(name, func(s *site) {
		now := time.Now()
		if ok {
			delete(s.dead, a)
			s.last = a
			return
		}
		s.demote(a, now, deadFor)
	})
}

// connected returns the address of a host to which a connection was made last.
func (m *memory) connected(name string) (a netip.Addr) {
	m.site(name, func(s *site) { a = s.last })
	return a
}

// demote has a come after the other addresses for a while.
func (s *site) demote(a netip.Addr, now time.Time, while time.Duration) {
	for old, until := range s.dead {
		if !now.Before(until) {
			delete(s.dead, old)
		}
	}
	if s.dead == nil {
		s.dead = make(map[netip.Addr]time.Time)
	}
	if len(s.dead) < maxDead {
		s.dead[a] = now.Add(while)
	}
}

// answered records what a host has said to a message at an address: the error for a recipient, or nil.
func (m *memory) answered(name string, a netip.Addr, err error) {
	var refused *proto.Error
	if !a.IsValid() || err != nil && !errors.As(err, &refused) {
		return
	}
	m.site(name, func(s *site) {
		now := time.Now()
		switch {
		case refused == nil:
			if s.greylisted == a {
				s.greylisted = netip.Addr{}
			}
			s.refused[family(a)] = time.Time{}
		case isAboutAddress(refused):
			s.refused[family(a)] = now.Add(refusedFor)
		case refused.Temporary() && refused.Code != 421:
			if s.greylisted != a || !now.Before(s.until) {
				s.since = now
			}
			s.greylisted, s.until = a, now.Add(greylistedFor)
			if now.Sub(s.since) > greylisting {
				s.greylisted = netip.Addr{}
				s.demote(a, now, greylistedFor)
			}
		}
	})
}

// isAboutAddress reports whether a host refuses mail because the address it comes from has no name in the DNS, or
// another one than it says (RFC 7372 section 3.3). Some receivers say so with a status code of many uses, and some give
// status codes that they have not offered.
func isAboutAddress(e *proto.Error) bool {
	status := e.Status
	if status.IsZero() {
		first, _, _ := strings.Cut(e.Text, " ")
		status, _ = proto.ParseStatus(first)
	}
	if status[1] == 7 && status[2] == 25 {
		return true
	}
	text := strings.ToUpper(e.Text)
	return status[1] == 7 && status[2] == 1 && (strings.Contains(text, "PTR") || strings.Contains(text, "REVERSE DNS"))
}
