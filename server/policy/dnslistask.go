package policy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A listsAsked asks the lists about one transaction.
type listsAsked struct {
	resolver dns.Resolver
	lists    []*dnsList
	results  []*listResult
}

// A listResult is what a list says about a subject.
type listResult struct {
	list    *dnsList
	subject string // as people write it
	query   string // the name that is asked for

	done    bool
	answer  string // the address that means something, "" if it is not listed
	weight  int
	err     error
	resting bool // the list was not asked
}

// ask asks all lists at once, and returns when all have answered or ctx ends.
func (a *listsAsked) ask(ctx context.Context, c *server.Conn, from proto.Address) *listsAsked {
	for _, l := range a.lists {
		for _, s := range listSubjects(l.Subject, clientAddr(c), c.Hello(), from.Domain) {
			if query := listQuery(s.query, l.Zone); query != "" {
				a.results = append(a.results, &listResult{list: l, subject: s.text, query: query})
			}
		}
	}
	answers := make(chan listResult, len(a.results))
	for _, r := range a.results {
		go func(r listResult) {
			r.look(ctx, a.resolver)
			answers <- r
		}(*r)
	}
	waiting := len(a.results)
	for waiting > 0 {
		select {
		case got := <-answers:
			waiting--
			for _, r := range a.results {
				if r.list == got.list && r.query == got.query {
					*r = got
				}
			}
		case <-ctx.Done():
			waiting = 0
		}
	}
	for _, r := range a.results {
		if !r.done { // the resolver does not end with its context
			r.err = &listError{r.list, context.Cause(ctx)}
		}
	}
	return a
}

// look asks the list, unless that is resting.
func (r *listResult) look(ctx context.Context, resolver dns.Resolver) {
	r.done = true
	if !r.list.breaker.begin(time.Now()) {
		r.resting = true
		return
	}
	err := protect(func() error {
		var err error
		r.answer, r.weight, err = r.list.lookUp(ctx, resolver, r.query)
		if err != nil || r.answer == "" {
			return err
		}
		control, _, err := r.list.lookUp(ctx, resolver, listQuery(r.list.never(), r.list.Zone))
		if control != "" && err == nil {
			err = errListsAll
		}
		return err
	})
	if err != nil {
		r.answer, r.weight, r.err = "", 0, &listError{r.list, err}
	}
	// That the client has hung up says nothing about the list.
	r.list.breaker.end(time.Now(), err != nil, errors.Is(ctx.Err(), context.Canceled))
}

var errListsAll = errors.New("it has what no list may have, so it has everybody (RFC 5782 section 5)")

// lookUp returns the heaviest answer of the list that counts, "" if there is none. An answer that is a failure of the
// list is an error.
func (l *dnsList) lookUp(ctx context.Context, resolver dns.Resolver, query string) (string, int, error) {
	answer, weight := "", 0
	found, err := resolver.Lookup(ctx, query, dns.A)
	if err != nil {
		return "", 0, err
	}
	for _, addr := range found.Addrs {
		octets := addr.Unmap().AsSlice()
		if len(octets) != 4 || octets[0] != 127 {
			return "", 0, fmt.Errorf("it answers %v, which is not in 127.0.0.0/8: it may be gone", addr)
		}
		if octets[1] == 255 && octets[2] == 255 || addr.Unmap() == never {
			return "", 0, fmt.Errorf("it answers %v: it does not want to be asked from here, or in this way", addr)
		}
		for _, a := range l.answers {
			if a.matches([4]byte(octets)) && a.weight > weight {
				answer, weight = addr.Unmap().String(), a.weight
			}
		}
	}
	return answer, weight, nil
}

// judge records what the lists say, and returns the refusal if their sum is the threshold or more.
func (a *listsAsked) judge(ctx context.Context, c *server.Conn, threshold int) error {
	sum := int64(0)
	var heaviest *listResult
	silent := map[string]bool{} // methods without a verdict so far
	for _, r := range a.results {
		silent[r.method()] = true
	}
	for _, r := range a.results {
		v := server.Verdict{Method: r.method()}
		switch {
		case r.resting:
			v.Result, v.Reason = "temperror", r.list.Name+" has failed, and is not asked for a while"
		case r.err != nil:
			v.Result, v.Reason, v.Err = "temperror", r.list.Name, r.err
		case r.answer == "":
			continue
		case r.list.Allow:
			sum -= int64(r.weight)
			v.Result, v.Reason = "pass", r.reason()
		default:
			sum += int64(r.weight)
			v.Result, v.Reason = "listed", r.reason()
			if heaviest == nil || r.weight > heaviest.weight {
				heaviest = r
			}
		}
		silent[v.Method] = false
		c.Record(v)
	}
	for _, method := range []string{"dnsbl", "dnswl"} {
		if silent[method] {
			c.Record(server.Verdict{Method: method, Result: "none"})
		}
	}
	if heaviest == nil || sum < int64(threshold) {
		return nil
	}
	text := heaviest.list.text(heaviest.subject, heaviest.answer, heaviest.explain(ctx, a.resolver))
	return proto.Refuse(554, proto.Status{5, 7, 1}, text)
}

// method returns the method of verdicts.
func (r *listResult) method() string {
	if r.list.Allow {
		return "dnswl"
	}
	return "dnsbl"
}

// reason returns the reason of a verdict.
func (r *listResult) reason() string {
	return fmt.Sprintf("%s is listed by %s with %s", r.subject, r.list.Name, r.answer)
}

// explain returns the text that the list has for the subject, "" if there is none, or none in time.
func (r *listResult) explain(ctx context.Context, resolver dns.Resolver) string {
	if !strings.Contains(r.list.Text, "{reason}") {
		return ""
	}
	answer, err := within(ctx, &r.list.texts, time.Minute, func(ctx context.Context) (*dns.Answer, error) {
		return resolver.Lookup(ctx, r.query, dns.TXT)
	})
	if err != nil || answer == nil || len(answer.TXT) == 0 {
		return ""
	}
	return printable(strings.TrimSpace(answer.TXT[0]), maxListReason)
}

// A listSubject is something to ask about.
type listSubject struct{ text, query string }

// listSubjects returns what a list is asked about.
func listSubjects(s ListSubject, addr netip.Addr, hello string, sender proto.Domain) []listSubject {
	var all []listSubject
	if s&ListAddr != 0 && addr.IsGlobalUnicast() && !addr.IsPrivate() {
		all = append(all, listSubject{addr.String(), reversed(addr)})
	}
	add := func(d proto.Domain) {
		if name, ok := dns.Normal(d.ASCII()); ok && d.Name() != "" && strings.Contains(name, ".") && !endsInDigit(name) {
			for _, other := range all {
				if other.text == name {
					return
				}
			}
			all = append(all, listSubject{name, name})
		}
	}
	if d, _, err := helloDomain(hello); s&ListHello != 0 && err == nil {
		add(d)
	}
	if s&ListSender != 0 {
		add(sender)
	}
	return all
}

// endsInDigit reports whether the last label of a name is a number. No domain has one (RFC 3696 section 2), and a list
// would be asked about an address that the client makes up.
func endsInDigit(name string) bool {
	return strings.Trim(name[strings.LastIndexByte(name, '.')+1:], "0123456789") == ""
}

// listQuery returns the name to ask a list for, "" if it would be too long.
func listQuery(name, zone string) string {
	query, ok := dns.Normal(name + "." + zone)
	if !ok {
		return ""
	}
	return query
}

// reversed returns an address as it stands in names: 192.0.2.7 is "7.2.0.192", and that of IPv6 has its 32 digits (RFC
// 5782 sections 2.1, 2.4).
func reversed(a netip.Addr) string {
	const digits = "0123456789abcdef"
	var labels []string
	octets := a.AsSlice()
	for i := len(octets) - 1; i >= 0; i-- {
		if a.Is4() {
			labels = append(labels, strconv.Itoa(int(octets[i])))
		} else {
			labels = append(labels, digits[octets[i]&15:][:1], digits[octets[i]>>4:][:1])
		}
	}
	return strings.Join(labels, ".")
}

// never is the address that no list may have, and always the one that each must have (RFC 5782 section 5).
var (
	never  = netip.MustParseAddr("127.0.0.1")
	always = netip.MustParseAddr("127.0.0.2")
)

func (l *dnsList) never() string {
	if l.Subject&ListAddr != 0 {
		return reversed(never)
	}
	return "invalid"
}

func (l *dnsList) always() string {
	if l.Subject&ListAddr != 0 {
		return reversed(always)
	}
	return "test"
}

// checkLists asks all lists for their test entries, at once.
func checkLists(ctx context.Context, resolver dns.Resolver, lists []*dnsList) error {
	failed := make([]error, len(lists))
	var wg sync.WaitGroup
	for i, l := range lists {
		wg.Go(func() {
			if err := protect(func() error { return l.check(ctx, resolver) }); err != nil {
				failed[i] = &listError{l, err}
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// check asks for the test entries. Any answer that is no failure will do: the entries need not mean anything.
func (l *dnsList) check(ctx context.Context, resolver dns.Resolver) error {
	anything := listAnswer{octets: [4][2]byte{{0, 255}, {0, 255}, {0, 255}, {0, 255}}, weight: 1}
	all := &dnsList{List: l.List, answers: []listAnswer{anything}}
	answer, _, err := all.lookUp(ctx, resolver, listQuery(l.always(), l.Zone))
	if err != nil {
		return err
	}
	if answer == "" {
		return errors.New("it has no test entry (RFC 5782 section 5): " +
			"look whether its zone is spelt so, and whether it exists")
	}
	if answer, _, err = all.lookUp(ctx, resolver, listQuery(l.never(), l.Zone)); err == nil && answer != "" {
		err = errListsAll
	}
	return err
}

// A listError is the failure of a list. Its text has the name of the list in place of its zone, which may have a secret
// in it.
type listError struct {
	list *dnsList
	err  error
}

func (e *listError) Error() string {
	return "smtp: the list " + e.list.Name + " fails: " + strings.ReplaceAll(e.err.Error(), e.list.Zone, e.list.Name)
}

func (e *listError) Unwrap() error { return e.err }

// A listAnswer is a ListAnswer: the lowest and the highest number of each octet.
type listAnswer struct {
	octets [4][2]byte
	weight int
}

func (a listAnswer) matches(octets [4]byte) bool {
	for i, o := range octets {
		if o < a.octets[i][0] || o > a.octets[i][1] {
			return false
		}
	}
	return true
}

// parseListAnswer parses ListAnswer.Addrs.
func parseListAnswer(text string) (listAnswer, error) {
	var a listAnswer
	parts := strings.Split(text, ".")
	ok := len(parts) == 4 && parts[0] == "127"
	for i := 0; ok && i < 4; i++ {
		low, high, isRange := strings.Cut(parts[i], "-")
		if !isRange {
			high = low
		}
		l, err1 := strconv.ParseUint(low, 10, 8)
		h, err2 := strconv.ParseUint(high, 10, 8)
		a.octets[i] = [2]byte{byte(l), byte(h)}
		ok = err1 == nil && err2 == nil && l <= h && strconv.Itoa(int(l)) == low && strconv.Itoa(int(h)) == high
	}
	if !ok {
		return listAnswer{}, fmt.Errorf("%q is no range in 127.0.0.0/8; write it as 127.0.0.2 or 127.0.0.4-7", text)
	}
	return a, nil
}

// A breaker leaves out what fails again and again. Its methods may be called by several goroutines at once.
type breaker struct {
	mu     sync.Mutex
	failed int       // in a row
	until  time.Time // when it may be tried again
}

const (
	breakerFailures = 5
	breakerRest     = time.Minute
)

// begin reports whether to try. When the rest is over it lets one try, and the others have another rest meanwhile.
func (b *breaker) begin(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < breakerFailures {
		return true
	}
	if now.Before(b.until) {
		return false
	}
	b.until = now.Add(breakerRest)
	return true
}

// end is told how a try has ended; one that was given up says nothing.
func (b *breaker) end(now time.Time, failed, givenUp bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !failed:
		b.failed = 0
	case !givenUp:
		b.failed++
		b.until = now.Add(breakerRest)
	}
}
