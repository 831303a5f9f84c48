package tlsrpt

import (
	"cmp"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext/dns"
)

// A day is what has happened in a day in UTC.
type day struct {
	domains map[string]*tally
	memory  int // about how many octets all of it takes
	dropped int64
}

// A tally is what has happened in a day with a domain.
type tally struct {
	id       uint64 // of the report
	policies []*applied
	details  int // of all policies
}

// An applied is what has happened under a policy.
type applied struct {
	hash       uint64 // of the policy
	policy     Policy
	successful int64
	failures   map[detail]int64
}

// maxPolicies is how many different policies of a domain are counted apart in a day, beside one for each type that
// counts the rest. A domain with DANE has one for each mail exchanger.
const maxPolicies = 32

// limits are how much is kept for each day.
type limits struct {
	domains int // number of domains
	details int // number of different failures of a domain
	memory  int // about how many octets
}

var seed = maphash.MakeSeed()

// hash returns a hash of the policy as it is. Nobody can make another one with the same hash, since the seed is random.
func (p *Policy) hash() uint64 {
	const odd = 0x9e3779b97f4a7c15
	h := maphash.String(seed, p.Type)*odd + maphash.String(seed, p.Domain)
	for _, list := range [2][]string{p.Strings, p.MXHosts} {
		h = h*odd + uint64(len(list))
		for _, s := range list {
			h = h*odd + maphash.String(seed, s)
		}
	}
	return h
}

// add counts n sessions like e, in the domain. It reports whether it has counted them.
func (d *day) add(domain string, e *Event, n int64, lim *limits) bool {
	t := d.domains[domain]
	if t == nil {
		if len(d.domains) >= lim.domains || d.memory >= lim.memory {
			d.dropped += n
			return false
		}
		domain = strings.Clone(domain)
		t = &tally{id: rand.Uint64()}
		d.domains[domain] = t
		d.memory += 256 + len(domain)
	}
	a := t.under(d, domain, e, lim)
	if e.Result == "" {
		a.successful += n
	} else {
		t.fail(d, a, e.detail(), n, lim)
	}
	return true
}

// under returns the entry for the policy of e.
func (t *tally) under(d *day, domain string, e *Event, lim *limits) *applied {
	p := e.Policy
	if p.Type != TypeSTS && p.Type != TypeTLSA {
		p.Type = TypeNone
	}
	if p.Domain == "" {
		p.Domain = domain
		if p.Type == TypeTLSA && e.MXHost != "" {
			p.Domain = e.MXHost
		}
	}
	if a := t.find(p.hash()); a != nil {
		return a // the policy was in the form that reports have
	}
	p = p.kept(domain)
	h := p.hash()
	if a := t.find(h); a != nil {
		return a
	}
	if len(t.policies) >= maxPolicies || d.memory >= lim.memory && len(t.policies) > 0 {
		p = Policy{Type: p.Type, Domain: domain}
		h = p.hash()
		if a := t.find(h); a != nil {
			return a
		}
	}
	a := &applied{hash: h, policy: p}
	t.policies = append(t.policies, a)
	d.memory += a.policy.size()
	return a
}

func (t *tally) find(hash uint64) *applied {
	for _, a := range t.policies {
		if a.hash == hash {
			return a
		}
	}
	return nil
}

// fail counts n failures under a policy. If there are too many different ones, it counts them by their type.
func (t *tally) fail(d *day, a *applied, f detail, n int64, lim *limits) {
	if _, ok := a.failures[f]; !ok {
		if t.details >= lim.details || d.memory >= lim.memory {
			f = f.rest()
		}
		if _, ok := a.failures[f]; !ok {
			if a.failures == nil {
				a.failures = make(map[detail]int64)
			}
			f = f.kept()
			t.details++
			d.memory += f.size()
		}
	}
	a.failures[f] += n
}

// kept returns a copy of d that shares no memory with a larger text.
func (d detail) kept() detail {
	for _, s := range []*string{&d.result, &d.host, &d.hello, &d.info, &d.because} {
		*s = strings.Clone(*s)
	}
	return d
}

// kept returns a copy of p in the form that reports have.
func (p *Policy) kept(domain string) Policy {
	k := Policy{Type: p.Type, Domain: strings.Clone(domain)}
	if n, ok := dns.Normal(p.Domain); ok && isDomain(n) {
		k.Domain = strings.Clone(n)
	}
	left := maxPolicyText
	each := func(list []string, form func(string) string) (to []string) {
		for _, s := range list {
			s = form(s)
			if left -= len(s) + 32; left < 0 {
				break
			}
			to = append(to, strings.Clone(s))
		}
		return to
	}
	k.Strings = each(p.Strings, func(s string) string { return clean(s, maxPolicyText) })
	k.MXHosts = each(p.MXHosts, hostname)
	return k
}

// size returns about how many octets of memory p takes.
func (p *Policy) size() int {
	n := 256 + len(p.Domain)
	for _, list := range [2][]string{p.Strings, p.MXHosts} {
		for _, s := range list {
			n += 16 + len(s)
		}
	}
	return n
}

// report returns a report of what t has counted.
func (t *tally) report(domain string) *Report {
	r := &Report{Domain: domain}
	for _, a := range t.policies {
		p := PolicyReport{
			Policy: ReportedPolicy{
				Type: a.policy.Type, Strings: a.policy.Strings, Domain: a.policy.Domain, MXHosts: a.policy.MXHosts,
			},
			Summary: Summary{Successful: a.successful},
		}
		for d, n := range a.failures {
			p.Summary.Failed += n
			p.Failures = append(p.Failures, d.failure(n))
		}
		slices.SortFunc(p.Failures, func(x, y Failure) int {
			return cmp.Or(-cmp.Compare(x.Sessions, y.Sessions), cmp.Compare(x.Result, y.Result),
				cmp.Compare(x.MXHost, y.MXHost), cmp.Compare(x.ReceivingIP, y.ReceivingIP), cmp.Compare(x.Code, y.Code),
				cmp.Compare(x.SendingIP, y.SendingIP), cmp.Compare(x.MXHello, y.MXHello), cmp.Compare(x.Info, y.Info))
		})
		r.Policies = append(r.Policies, p)
	}
	return r
}

// failure returns an entry of a report.
func (d *detail) failure(n int64) Failure {
	f := Failure{
		Result: d.result, MXHost: d.host, MXHello: d.hello, Sessions: n, Info: d.info, Code: d.because,
	}
	if d.sending.IsValid() {
		f.SendingIP = d.sending.String()
	}
	if d.receiving.IsValid() {
		f.ReceivingIP = d.receiving.String()
	}
	return f
}

// copy returns a copy of t that does not change.
func (t *tally) copy() *tally {
	c := &tally{id: t.id, details: t.details, policies: make([]*applied, len(t.policies))}
	for i, a := range t.policies {
		fixed := *a
		fixed.failures = maps.Clone(a.failures)
		c.policies[i] = &fixed
	}
	return c
}
