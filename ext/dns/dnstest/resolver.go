package dnstest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpkit.example/smtp/ext/dns"
)

const (
	maxAliases   = 10      // CNAME records that one question follows
	maxQuestions = 1 << 16 // different questions that are counted
)

// Any stands for all types, in a fault ("ANY" in text) and in Asked.
const Any dns.Type = 255

// A Resolver is a [dns.Resolver] that answers from a text: see the package's documentation for its form. All methods
// may be called by several goroutines at once. The fields are set before the first question.
//
// It works in a bubble of testing/synctest, and it starts no goroutine.
type Resolver struct {
	// TTL is that of records whose line has none, and of answers without records. Default: 5 minutes. Negative: zero.
	TTL time.Duration
	// Latency is how long each answer takes. Default: none.
	Latency time.Duration
	// Timeout is when a question with the fault TIMEOUT fails, if its context has not ended before. Default: 10 seconds.
	// Negative: it waits for the context.
	Timeout time.Duration

	mu     sync.Mutex
	zone   zone
	secure map[string]bool // by the name at or below which it holds
	asked  map[question]int
	total  int
}

type question struct {
	name string
	t    dns.Type
}

// New returns a Resolver that answers from text. It panics if a line is malformed, as regexp.MustCompile does.
func New(text string) *Resolver {
	r := &Resolver{
		zone:   zone{names: map[string]map[dns.Type]*set{}, below: map[string]int{}},
		secure: map[string]bool{},
		asked:  map[question]int{},
	}
	r.Set(text)
	return r
}

// Set changes what r answers: for each name and type in text, what is there replaces all that r had for them. It panics
// as New does, and changes nothing then.
func (r *Resolver) Set(text string) {
	sets, err := parse(text)
	if err != nil {
		panic("smtp: dnstest: " + err.Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for q, s := range sets {
		r.zone.put(q, s)
	}
}

// Delete forgets records and faults: of the types given, or all that the name has. Any stands for a fault of all types.
func (r *Resolver) Delete(name string, types ...dns.Type) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.zone.remove(normal(name), types...)
}

// Secure marks names as signed with DNSSEC: each one given, and all below it. Answers about them are authentic from now
// on, if all aliases (CNAME) on the way are. "." is for all names.
func (r *Resolver) Secure(names ...string) { r.mark(true, names) }

// Insecure takes names out of what Secure has marked: each one given, and all below it, as an unsigned zone in a signed
// one. Of marks on the way to a name, the one nearest to it counts.
func (r *Resolver) Insecure(names ...string) { r.mark(false, names) }

func (r *Resolver) mark(secure bool, names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		r.secure[normal(name)] = secure
	}
}

// Asked returns how often records of type t were asked for at name, Any for those of all types. A question counts once,
// at the name that was asked for: not again for each alias that it follows.
func (r *Resolver) Asked(name string, t dns.Type) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	name = normal(name)
	if t != Any {
		return r.asked[question{name, t}]
	}
	n := 0
	for q, times := range r.asked {
		if q.name == name {
			n += times
		}
	}
	return n
}

// Total returns how many questions were asked.
func (r *Resolver) Total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}

// Lookup is described at [dns.Resolver].
func (r *Resolver) Lookup(ctx context.Context, name string, t dns.Type) (*dns.Answer, error) {
	found, ok := dns.Normal(name)
	if !ok {
		return nil, &dns.Error{Name: name, Type: t, Err: dns.ErrName}
	}
	chain, secure, fault := r.ask(found, t)
	wait := max(r.Latency, 0)
	if fault == timeout {
		if wait = r.Timeout; wait == 0 {
			wait = 10 * time.Second
		}
	}
	if err := sleep(ctx, wait); err != nil {
		return nil, &dns.Error{Name: name, Type: t, Err: err}
	}
	if fault != none && fault != noName {
		return nil, &dns.Error{Name: name, Type: t, Bogus: fault == bogus, Err: causes[fault]}
	}
	return r.answer(chain, secure, fault), nil
}

// sleep waits for d, which has no end if it is negative, or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d == 0 {
		return err
	}
	var over <-chan time.Time
	if d > 0 {
		over = time.After(d)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-over:
		return nil
	}
}

// ask counts a question, and returns what the zone has for it, and whether all of that is marked by Secure.
func (r *Resolver) ask(name string, t dns.Type) (chain []link, secure bool, f fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	if q := (question{name, t}); r.asked[q] > 0 || len(r.asked) < maxQuestions {
		r.asked[q]++
	}
	chain, f = r.zone.chain(name, t)
	secure = true
	for _, link := range chain {
		secure = secure && r.isSecure(link.name)
	}
	return chain, secure, f
}

// answer makes an answer of a chain.
func (r *Resolver) answer(chain []link, secure bool, f fault) *dns.Answer {
	last := chain[len(chain)-1]
	a := &dns.Answer{Name: last.name, NoName: f == noName, Authentic: secure}
	var ttls []time.Duration
	for _, link := range chain {
		for _, rec := range link.records {
			ttls = append(ttls, r.ttl(rec.ttl))
		}
	}
	if len(last.records) == 0 {
		ttls = append(ttls, r.ttl(unset))
	}
	a.TTL = slices.Min(ttls)
	for _, rec := range last.records {
		rec.addTo(a)
	}
	return a
}

// unset is the TTL of a line that has none.
const unset = -1

func (r *Resolver) ttl(ofLine time.Duration) time.Duration {
	switch {
	case ofLine != unset:
		return ofLine
	case r.TTL == 0:
		return 5 * time.Minute
	}
	return max(r.TTL, 0)
}

// isSecure says whether the nearest mark at or above name is that of Secure.
func (r *Resolver) isSecure(name string) bool {
	for {
		if secure, ok := r.secure[name]; ok {
			return secure
		}
		_, above, ok := strings.Cut(name, ".")
		if !ok {
			return r.secure["."]
		}
		name = above
	}
}

// normal returns a name of the caller's in normal form, or panics.
func normal(name string) string {
	n, ok := dns.Normal(name)
	if !ok {
		panic("smtp: dnstest: " + name + " is not a domain name")
	}
	return n
}

// A fault is what a name answers with in place of records.
type fault int

const (
	none fault = iota
	servFail
	refused
	bogus
	timeout
	noName
	noData
	tooLong
)

// faults has the words for them in a text.
var faults = map[string]fault{
	"SERVFAIL": servFail, "REFUSED": refused, "BOGUS": bogus, "TIMEOUT": timeout, "NXDOMAIN": noName, "NODATA": noData,
}

// causes has the errors that they lead to.
var causes = map[fault]error{
	servFail: errors.New("smtp: the server cannot answer now (SERVFAIL)"),
	refused:  errors.New("smtp: the server does not want to answer (REFUSED)"),
	bogus:    errors.New("smtp: DNSSEC proves the answer wrong (bogus)"),
	timeout:  timeoutError{},
	tooLong:  errors.New("smtp: the chain of aliases (CNAME) is too long or has no end"),
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "smtp: the servers took too long" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// A record is one line's.
type record struct {
	ttl  time.Duration // or unset
	addr netip.Addr
	mx   dns.MailExchange
	txt  []string // its strings, each of at most 255 octets
	tlsa dns.Association
	name string
	t    dns.Type
}

// addTo adds rec to the field of a for its type.
func (rec *record) addTo(a *dns.Answer) {
	switch rec.t {
	case dns.A, dns.AAAA:
		a.Addrs = append(a.Addrs, rec.addr)
	case dns.MX:
		a.MX = append(a.MX, rec.mx)
	case dns.TXT:
		a.TXT = append(a.TXT, strings.Join(rec.txt, ""))
	case dns.TLSA:
		a.TLSA = append(a.TLSA, rec.tlsa)
	default:
		a.Names = append(a.Names, rec.name)
	}
}
