package policy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// IPRev looks whether the address of a client has a name in the DNS that leads back to it, the method "iprev" of RFC
// 8601 section 3.
//
//	policy.IPRev{Resolver: resolver}
//
// It looks when the first MAIL of a session comes, and records a verdict with the method "iprev" for each transaction:
//
//   - "pass": a name of the client has its address. Reason is that name.
//   - "fail": no name of the client has its address.
//   - "permerror": the address has no name.
//   - "temperror": it could not be found out.
//
// It refuses nothing unless Refuse is set. Mail servers without a name exist, and a name proves nothing about who a
// client is. It is best used as one sign among others.
type IPRev struct {
	// Resolver asks the DNS. It is required.
	Resolver dns.Resolver
	// Refuse refuses RCPT after "fail" and "permerror": with 550 5.7.25 (RFC 7372 section 3.3). Mail for postmaster
	// passes.
	Refuse bool
	// MaxNames is how many names of a client are looked up. Its owner can give an address any number of them. Default: 10.
	// At most 100.
	MaxNames int
	// Timeout is how long all look-ups together may take. Default: 5 seconds. At most 1 minute.
	Timeout time.Duration
	// Skip leaves clients out. Default: those of [Trusted] without networks.
	Skip func(ctx context.Context, c *server.Conn) bool
}

// Middleware returns the check as middleware. It returns an error if the Resolver is missing, or an option is out of
// range.
func (r IPRev) Middleware() (server.Middleware, error) {
	if r.Resolver == nil {
		return nil, optionError("IPRev", "Resolver", "it is missing; use one that dns.New returns")
	}
	if r.MaxNames < 0 || r.MaxNames > 100 {
		return nil, optionError("IPRev", "MaxNames", "%d is not between 0 and 100", r.MaxNames)
	}
	if r.Timeout < 0 || r.Timeout > time.Minute {
		return nil, optionError("IPRev", "Timeout", "%v is not between 0 and 1 minute", r.Timeout)
	}
	if r.MaxNames == 0 {
		r.MaxNames = 10
	}
	if r.Timeout == 0 {
		r.Timeout = 5 * time.Second
	}
	if r.Skip == nil {
		r.Skip = Trusted()
	}
	st, lookups := &stages[server.Verdict, struct{}]{method: "iprev", skip: r.Skip}, &calls{}
	st.hello = func(ctx context.Context, s *session[server.Verdict, struct{}]) error {
		addr := clientAddr(s.conn)
		if !addr.IsValid() {
			return nil
		}
		v := &s.client.known
		if v.Result == "" || v.Result == "temperror" {
			ctx, cancel := context.WithTimeout(ctx, r.Timeout)
			defer cancel()
			*v = r.look(ctx, lookups, addr)
		}
		s.conn.Record(*v)
		if r.Refuse && (v.Result == "fail" || v.Result == "permerror") {
			return proto.Refuse(550, proto.Status{5, 7, 25}, fmt.Sprintf("The address %v has no name that leads back to it",
				addr))
		}
		return nil
	}
	return st.middleware(), nil
}

// look returns the verdict about an address.
func (r *IPRev) look(ctx context.Context, lookups *calls, addr netip.Addr) server.Verdict {
	verdict := func(result, reason string, err error) server.Verdict {
		return server.Verdict{Method: "iprev", Result: result, Reason: reason, Err: err}
	}
	zone := ".ip6.arpa"
	if addr.Is4() {
		zone = ".in-addr.arpa"
	}
	answer, err := within(ctx, lookups, r.Timeout, func(ctx context.Context) (*dns.Answer, error) {
		return r.Resolver.Lookup(ctx, reversed(addr)+zone, dns.PTR)
	})
	if err != nil {
		return verdict("temperror", "", err)
	}
	if len(answer.Names) == 0 {
		return verdict("permerror", "the address has no name", nil)
	}
	names := answer.Names[:min(len(answer.Names), r.MaxNames)]
	name, failed := r.forward(ctx, addr, names)
	switch {
	case name != "":
		return verdict("pass", name, nil)
	case failed != nil:
		return verdict("temperror", "", failed)
	}
	return verdict("fail", "no name has the address: "+strings.Join(names[:min(len(names), 3)], ", "), nil)
}

// forward returns the first name that has the address. Without one it returns an error if a look-up failed. All are
// asked at once.
func (r *IPRev) forward(ctx context.Context, addr netip.Addr, names []string) (string, error) {
	family := dns.AAAA
	if addr.Is4() {
		family = dns.A
	}
	type result struct {
		i     int
		found bool
		err   error
	}
	results := make(chan result, len(names))
	for i, name := range names {
		go func() {
			got := result{i: i}
			got.err = protect(func() error {
				answer, err := r.Resolver.Lookup(ctx, name, family)
				if err == nil {
					got.found = slices.ContainsFunc(answer.Addrs, func(a netip.Addr) bool { return a.Unmap() == addr })
				}
				return err
			})
			results <- got
		}()
	}
	first, failed := len(names), error(nil)
	for range names {
		select {
		case got := <-results:
			if got.found {
				first = min(first, got.i)
			} else if got.err != nil {
				failed = got.err
			}
		case <-ctx.Done():
			failed = context.Cause(ctx)
		}
	}
	if first < len(names) {
		return names[first], nil
	}
	return "", failed
}
