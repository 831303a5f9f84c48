package dns

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Options configures a [Stub]. All fields may be left at their zero values. A negative value is an error, where the
// comment does not give it a meaning.
type Options struct {
	// Servers are the name servers to ask, each an IP address with or without a port (default 53). They are recursive
	// ones. The first that answers is enough; one that leaves several domains without an answer, and answers nothing in
	// between, is asked last for the next 30 seconds. At most 8. It is an error if some are trusted and others are not.
	// Default: those in /etc/resolv.conf, which New reads once, with its options timeout, attempts and trust-ad. If some
	// of those are trusted the others are never asked, so that nobody can switch DNSSEC off by making the first ones fail.
	Servers []string

	// TrustAD says that Servers validate, and that nobody can change their answers on the way, so that what they call
	// authentic is (RFC 4035 section 4.9.3). Servers on loopback addresses are trusted without it.
	TrustAD bool

	// Timeout is how long one server has to answer, over UDP and once more over TCP. Default: 5 seconds.
	Timeout time.Duration

	// Attempts is how often each server is asked before a question fails. One that has answered, with a failure, is not
	// asked again. Default: 2. At most 5.
	Attempts int

	// CacheSize is about how many octets of memory the cache may take. Negative: it keeps only failures, in 64 KiB.
	// Default: 16 MiB, which is some 30,000 answers.
	CacheSize int

	// MaxTTL is the longest time for which an answer may be used, whatever its TTL. Answers without records may be used
	// for an hour at most. Negative: no limit. Default: 1 hour.
	MaxTTL time.Duration

	// DialContext makes the connections. The network is "udp" or "tcp". Default: that of a zero net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	maxAttempts = 5
	maxFlights  = 2048 // questions under way at the same time, each with a socket and some 10 KiB
)

// A Stub is a [Resolver] that asks recursive name servers, and keeps what they say in a cache. Its methods may be
// called by several goroutines at once. It needs no closing.
//
// Several that ask the same at the same time share one query. It goes on if one of them gives up. Failures are kept
// too, for 5 seconds to 1 minute, so that one dead zone does not make each caller wait.
//
// At most 2048 questions are under way. Another one takes the place of the one that has waited for its answer longest,
// and for a second at least, which fails. So zones without an answer, however many, do not hold up the others for long.
type Stub struct {
	opt    Options // with the defaults filled in
	places *places // one for each flight

	mu      sync.Mutex
	servers []*server
	flights map[question]*flight
	cache   cache
}

// A flight is a question under way.
type flight struct {
	done    chan struct{} // closed when the rest is set
	answer  *Answer
	failure *Error
}

// New returns a Stub. The error says which option is wrong, or that the file with the system's servers cannot be read.
func New(opt *Options) (*Stub, error) {
	s := &Stub{places: newPlaces(maxFlights), flights: map[question]*flight{}}
	if opt != nil {
		s.opt = *opt
	}
	if err := s.configure(); err != nil {
		return nil, err
	}
	s.cache = cache{size: s.opt.CacheSize, entries: map[question]*list.Element{}}
	return s, nil
}

func (s *Stub) configure() error {
	o := &s.opt
	switch {
	case o.Timeout < 0:
		return fmt.Errorf("smtp: Options.Timeout of dns is %v: leave it out for the default, or give a positive one", o.Timeout)
	case o.Attempts < 0 || o.Attempts > maxAttempts:
		return fmt.Errorf("smtp: Options.Attempts of dns is %d: give 1 to %d, or leave it out", o.Attempts, maxAttempts)
	case len(o.Servers) > maxServers:
		return fmt.Errorf("smtp: Options.Servers of dns has %d servers: give %d at most", len(o.Servers), maxServers)
	}
	names := o.Servers
	if len(names) == 0 {
		c, err := readConf(systemConf)
		if err != nil {
			return err
		}
		names = c.servers
		o.TrustAD = o.TrustAD || c.trustAD
		o.Timeout = or(o.Timeout, c.timeout)
		o.Attempts = or(o.Attempts, c.attempts)
	}
	for _, name := range names {
		addr, err := parseServer(name)
		if err != nil {
			return err
		}
		trusted := o.TrustAD || addr.Addr().IsLoopback()
		s.servers = append(s.servers, &server{addr: addr, trusted: trusted})
	}
	if err := s.separate(len(o.Servers) > 0); err != nil {
		return err
	}
	o.Servers = nil
	o.Timeout = or(o.Timeout, 5*time.Second)
	o.Attempts = or(o.Attempts, 2)
	o.CacheSize = or(o.CacheSize, 16<<20)
	o.MaxTTL = or(o.MaxTTL, time.Hour)
	if o.DialContext == nil {
		o.DialContext = new(net.Dialer).DialContext
	}
	return nil
}

// separate leaves the servers that are trusted, if there are any. Where the operator has listed them for this program,
// it is an error to have others. Whoever can make a trusted server fail would otherwise choose who answers.
func (s *Stub) separate(listed bool) error {
	var trusted []*server
	var other *server
	for _, srv := range s.servers {
		if srv.trusted {
			trusted = append(trusted, srv)
		} else {
			other = srv
		}
	}
	switch {
	case len(trusted) == 0 || other == nil:
		return nil
	case listed:
		return fmt.Errorf("smtp: dns.Options.Servers: %v is not trusted and %v is, so that a failure of the one would "+
			"switch DNSSEC off: leave one of them out, or set TrustAD if all of them validate and the way to them is safe",
			other.addr, trusted[0].addr)
	}
	s.servers = trusted
	return nil
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

var errType = errors.New("smtp: package dns does not look up this type")

// Lookup is described at [Resolver]. It waits until ctx ends, or for Attempts × Timeout for each server, twice if the
// server wants TCP. What is in the cache is there at once, and its TTL is what is left of it.
func (s *Stub) Lookup(ctx context.Context, name string, t Type) (*Answer, error) {
	normal, ok := Normal(name)
	if !ok {
		return nil, &Error{Name: name, Type: t, Err: ErrName}
	}
	switch t {
	case A, AAAA, CNAME, MX, PTR, TLSA, TXT:
	default:
		return nil, &Error{Name: name, Type: t, Err: errType}
	}
	q := question{normal, t}
	f, answer, failure := s.join(ctx, q)
	if f != nil {
		select {
		case <-f.done:
			answer, failure = f.answer, f.failure
		case <-ctx.Done():
			failure = &Error{Name: normal, Type: t, Err: ctx.Err()}
		}
	}
	if failure != nil {
		return nil, failure
	}
	own := *answer
	return &own, nil
}

// join returns what is known of q, or the flight that finds it out, which it starts if there is none.
func (s *Stub) join(ctx context.Context, q question) (*flight, *Answer, *Error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, &Error{Name: q.name, Type: q.t, Err: err}
	}
	for first := true; ; first = false {
		f, answer, failure, wait := s.tryJoin(q)
		if wait == 0 {
			return f, answer, failure
		}
		if first {
			defer s.places.pass()
		}
		if err := s.places.await(ctx, wait); err != nil {
			return nil, nil, &Error{Name: q.name, Type: q.t, Err: err}
		}
	}
}

// tryJoin is join for once. It returns for how long to wait if there is no place.
func (s *Stub) tryJoin(q question) (*flight, *Answer, *Error, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, failure := s.cache.get(q, time.Now())
	f := s.flights[q]
	if answer != nil || failure != nil || f != nil {
		return f, answer, failure, 0
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	own, wait := s.places.take(func() { cancel(errCrowded) })
	if own == nil {
		cancel(nil)
		return nil, nil, nil, wait
	}
	f = &flight{done: make(chan struct{})}
	s.flights[q] = f
	go func() {
		defer cancel(nil)
		s.fly(ctx, q, f)
		s.places.give(own)
		close(f.done)
	}()
	return f, nil, nil, 0
}

// errCrowded is the cause of a failure that others have brought about.
var errCrowded error = slow(fmt.Sprintf("smtp: no answer within %v, and the place was needed, since %d questions were "+
	"under way: send less at once, or look for name servers that do not answer", patience, maxFlights))

// fly finds out about q, whoever still waits for it.
func (s *Stub) fly(ctx context.Context, q question, f *flight) {
	most := 2 * time.Duration(s.opt.Attempts*len(s.servers)) * s.opt.Timeout
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	f.answer, f.failure = s.resolve(ctx, q)
	if f.failure != nil && context.Cause(ctx) == errCrowded {
		f.failure.Err = errCrowded
	}
	s.mu.Lock()
	s.cache.put(q, time.Now(), f.answer, f.failure)
	delete(s.flights, q)
	s.mu.Unlock()
}

// resolve asks for q, and again where a server leaves an alias open.
func (s *Stub) resolve(ctx context.Context, q question) (*Answer, *Error) {
	authentic, aliases := true, 0
	next := q
	ttl := s.opt.MaxTTL
	for {
		r, err := s.ask(ctx, next)
		if err != nil {
			return nil, err
		}
		authentic = authentic && r.authentic
		aliases += r.aliases
		if ttl < 0 || r.answer.TTL < ttl {
			ttl = r.answer.TTL
		}
		if r.next == "" {
			a := r.answer
			a.Authentic, a.TTL = authentic, ttl
			return &a, nil
		}
		if aliases >= maxAliases {
			return nil, &Error{Name: q.name, Type: q.t, Err: errors.New(
				"smtp: the chain of aliases (CNAME) is too long or has no end")}
		}
		next.name = r.next
	}
}
