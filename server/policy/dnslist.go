package policy

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/dns"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// DNSList asks lists in the DNS about clients (RFC 5782): block lists, by which mail is refused, and allow lists, which
// vouch for a client.
//
//	policy.DNSList{
//		Resolver: resolver,
//		Lists: []policy.List{
//			{Zone: "zen.spamhaus.org", Answers: []policy.ListAnswer{{Addrs: "127.0.0.2-11"}}},
//			{Zone: "list.dnswl.org", Allow: true, Answers: []policy.ListAnswer{{Addrs: "127.0.0-255.1-3"}}},
//		},
//	}
//
// All lists are asked at once when MAIL comes. What they say is added up; RCPT is refused with 554 5.7.1 from a sum of
// Threshold on. Mail for postmaster passes, so that somebody who is listed by mistake can say so.
//
// Whoever runs a list decides whose mail you refuse. Read what its answers mean, and on which terms it may be used.
// Call Check when the program starts.
//
// # What is no listing
//
// These are failures, whatever Answers says: an answer outside of 127.0.0.0/8; 127.0.0.1; 127.255.255.0/24, by which
// Spamhaus and others say that they do not answer your resolver. So is an answer of a list that has everybody: before a
// listing counts, the list is asked about what no list may have (RFC 5782 section 5), which is in the resolver's cache
// as a rule.
//
// A list that fails 5 times in a row is not asked for a minute. After that it is asked once, and left out for another
// minute if it fails again. So a dead list delays no mail.
//
// # What it tells
//
// A list that has the client is a verdict: with the method "dnsbl" and the result "listed", or "dnswl" and "pass" for
// an allow list (RFC 8904). One that fails has "temperror". Without any of these it is "none". [Vouched] reports
// whether there is a "pass": [Greylist] leaves such clients alone.
type DNSList struct {
	// Resolver asks the DNS; it has to have a cache. A [dns.Stub] is one. It is required. Large lists do not answer public
	// resolvers.
	Resolver dns.Resolver
	// Lists are those that are asked, 1 to 32.
	Lists []List
	// Threshold is the sum of weights from which on mail is refused. Default: 1, so that one list is enough.
	Threshold int
	// NoteOnly records what the lists say, and refuses nothing.
	NoteOnly bool
	// Timeout is how long all lists together have to answer. Those that have not answered by then have failed. Default:
	// 5 seconds. At most 1 minute.
	Timeout time.Duration
	// Skip leaves clients out. Default: those of [Trusted] without networks. Addresses that are not public are never asked
	// about.
	Skip func(ctx context.Context, c *server.Conn) bool
}

// A List is a list of a [DNSList].
type List struct {
	// Zone is the domain of the list, such as "zen.spamhaus.org". It is required.
	Zone string
	// Name is what the list is called in replies, verdicts and errors. Default: Zone. Set it if Zone has a secret in it,
	// such as the key of a customer.
	Name string
	// Subject is what the list has. Default: addresses of clients.
	Subject ListSubject
	// Allow says that it is an allow list: what it has is good. Its Subject is ListAddr: anybody can say the name of
	// somebody else.
	Allow bool
	// Answers are the answers that count. Default: all but failures.
	Answers []ListAnswer
	// Weight is what an answer counts that has no weight of its own. Block lists add it, and allow lists subtract it.
	// Default: 1 for a block list. An allow list without a weight outweighs all block lists.
	Weight int
	// Text is the reply to a client that this list has. These are replaced: "{subject}", which is an address or a domain;
	// "{list}", its Name; "{answer}", such as 127.0.0.2; and "{reason}", the text that the list has in a TXT record, of
	// 200 octets at most. Default: "{subject} is listed by {list}: {reason}".
	Text string
}

// A ListSubject is what a list has. Several can be added up.
type ListSubject uint8

const (
	ListAddr   ListSubject = 1 << iota // the address of the client, IPv4 or IPv6
	ListHello                          // its name in EHLO
	ListSender                         // the domain of the sender
)

// A ListAnswer is what an answer of a list means.
type ListAnswer struct {
	// Addrs are the addresses, with a number or a range for each octet: "127.0.0.2", "127.0.0.4-7", "127.0.0-255.1-3".
	Addrs string
	// Weight is what the answer counts. Default: that of the list. Of several answers the heaviest counts.
	Weight int
}

const (
	maxLists        = 32
	maxListWeight   = 1_000_000
	maxListReason   = 200 // octets of a text that the DNS has
	maxListText     = 400 // octets of a reply
	defaultListText = "{subject} is listed by {list}: {reason}"
)

// Middleware returns the lists as middleware. It returns an error if the Resolver is missing, or an option is
// malformed.
func (d DNSList) Middleware() (server.Middleware, error) {
	lists, err := d.lists()
	if err != nil {
		return nil, err
	}
	if d.Threshold == 0 {
		d.Threshold = 1
	}
	if d.Skip == nil {
		d.Skip = Trusted()
	}
	type visit = session[struct{}, error]
	st := &stages[struct{}, error]{method: "dnsbl", skip: d.Skip}
	st.mail = func(ctx context.Context, s *visit, from proto.Address, _ proto.Params) error {
		lists := &listsAsked{resolver: d.Resolver, lists: lists}
		ctx, cancel := context.WithTimeout(ctx, d.Timeout)
		defer cancel()
		refusal := lists.ask(ctx, s.conn, from).judge(ctx, s.conn, d.Threshold)
		if !d.NoteOnly && refusal != nil {
			s.transaction.known = refusal
		}
		return nil
	}
	st.rcpt = func(_ context.Context, s *visit, to proto.Address, _ proto.Params) error {
		if isPostmaster(to) {
			return nil
		}
		return s.transaction.known
	}
	return st.middleware(), nil
}

// Check asks each list for its test entries (RFC 5782 section 5). It returns an error that names the lists which do not
// have what each list must have, or have what none may have: it is gone, or its Zone is misspelt, or it does not answer
// your resolver. Call it when the program starts, and log what it says; it is no reason not to start.
//
// It returns an error about the options as Middleware does.
func (d DNSList) Check(ctx context.Context) error {
	lists, err := d.lists()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	return checkLists(ctx, d.Resolver, lists)
}

// lists returns the lists, and completes the options that Check needs as well.
func (d *DNSList) lists() ([]*dnsList, error) {
	if d.Resolver == nil {
		return nil, optionError("DNSList", "Resolver", "it is missing; use one that dns.New returns")
	}
	if len(d.Lists) == 0 || len(d.Lists) > maxLists {
		return nil, optionError("DNSList", "Lists", "there are %d; name 1 to %d", len(d.Lists), maxLists)
	}
	if d.Threshold < 0 {
		return nil, optionError("DNSList", "Threshold", "%d is negative; leave it 0 for 1, or set NoteOnly", d.Threshold)
	}
	if d.Timeout < 0 || d.Timeout > time.Minute {
		return nil, optionError("DNSList", "Timeout", "%v is not between 0 and 1 minute", d.Timeout)
	}
	if d.Timeout == 0 {
		d.Timeout = 5 * time.Second
	}
	var lists []*dnsList
	for i, l := range d.Lists {
		made, err := newList(l, func(field, format string, args ...any) error {
			return optionError("DNSList", fmt.Sprintf("Lists[%d].%s", i, field), format, args...)
		})
		if err != nil {
			return nil, err
		}
		lists = append(lists, made)
	}
	return lists, nil
}

// A dnsList is a List that is complete, and what is known of it.
type dnsList struct {
	List
	answers []listAnswer
	breaker breaker
	texts   calls
}

// newList returns a list with its defaults. Wrong makes the error for a field.
func newList(l List, wrong func(field, format string, args ...any) error) (*dnsList, error) {
	zone, ok := dns.Normal(l.Zone)
	if !ok || zone == "." || len(zone) > 180 {
		return nil, wrong("Zone", "%q is no domain of a list; write it as zen.spamhaus.org", l.Zone)
	}
	l.Zone = zone
	if l.Name == "" {
		l.Name = zone
	}
	if l.Name != printable(l.Name, maxListReason) {
		return nil, wrong("Name", "%q is not of ASCII, or too long", l.Name)
	}
	if l.Text == "" {
		l.Text = defaultListText
	}
	if l.Text != printable(l.Text, maxListReason) {
		return nil, wrong("Text", "%q is not one line of ASCII, or too long", l.Text)
	}
	if l.Subject == 0 {
		l.Subject = ListAddr
	}
	if l.Subject > ListAddr|ListHello|ListSender {
		return nil, wrong("Subject", "%d is none; use ListAddr, ListHello, ListSender or a sum of them", l.Subject)
	}
	if l.Allow && l.Subject != ListAddr {
		return nil, wrong("Subject", "an allow list vouches for addresses alone, since anybody can say the name of "+
			"somebody else; leave it out")
	}
	made := &dnsList{List: l}
	answers := l.Answers
	if len(answers) == 0 {
		answers = []ListAnswer{{Addrs: "127.0-255.0-255.0-255"}}
	}
	for _, a := range answers {
		parsed, err := parseListAnswer(a.Addrs)
		if err != nil {
			return nil, wrong("Answers", "%v", err)
		}
		switch parsed.weight = cmp.Or(a.Weight, l.Weight); {
		case parsed.weight == 0 && l.Allow:
			parsed.weight = outweighs
		case parsed.weight == 0:
			parsed.weight = 1
		}
		if a.Weight < 0 || l.Weight < 0 || a.Weight > maxListWeight || l.Weight > maxListWeight {
			return nil, wrong("Weight", "a weight is not between 0 and %d; set Allow for a list that is in favour",
				maxListWeight)
		}
		made.answers = append(made.answers, parsed)
	}
	return made, nil
}

// outweighs is more than all other lists together.
const outweighs = (maxLists*3 + 1) * maxListWeight

// text returns the text of a reply.
func (l *dnsList) text(subject, answer, reason string) string {
	text := l.Text
	if reason == "" {
		text = strings.TrimRight(strings.TrimSuffix(text, "{reason}"), " :")
	}
	return printable(strings.NewReplacer("{subject}", subject, "{list}", l.Name, "{answer}", answer, "{reason}", reason).
		Replace(text), maxListText)
}

// printable returns text with "?" in place of what is not printable ASCII, cut to a number of octets.
func printable(text string, octets int) string {
	b := []byte(text[:min(octets, len(text))])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
