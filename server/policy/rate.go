package policy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// Rate bounds how many messages and recipients come from one place, or go to one, in a window of time. What is too much
// has 450 4.7.1 for MAIL or RCPT, and the client tries again later.
//
//	policy.Rate{By: policy.ByUser, Messages: 100, Recipients: 500, Window: time.Hour}
//
// All of it can be used at once; then it comes back evenly, one message every 36 seconds in the example. Commands are
// counted that reach the part, also if what is inside refuses them. Those that the part refuses are not.
//
// Put several in a chain to count in several ways. A Rate in front of another counts what that refuses. Its verdicts
// have the method "rate", and "fail" as the result.
type Rate struct {
	// By is what is counted together. Default: what comes from one network.
	By RateKey
	// Messages is how many messages may begin in a Window. By recipient domain, it is how many may have recipients there.
	// Default: no limit. One of Messages and Recipients has to be set.
	Messages int
	// Recipients is how many recipients these may have. Default: no limit.
	Recipients int
	// Window is the time in which all come back, at most 31 days. Default: 1 minute.
	Window time.Duration
	// IPv4Prefix and IPv6Prefix are the lengths of the prefix that makes a network. Default: 32 and 64, which is one
	// address, and the network of one customer.
	IPv4Prefix, IPv6Prefix int
	// Keys is how many networks, users, senders or domains are counted each by itself. The others share ten times what
	// one may have. Default: 65,536, which take some 8 MB. At most 16 million.
	Keys int
	// Skip reports whom to leave out. Default: by network, those that Trusted() reports, and otherwise nobody.
	Skip func(ctx context.Context, c *server.Conn) bool
}

// A RateKey is what a [Rate] counts together.
type RateKey uint8

// What a Rate can count together.
const (
	ByNetwork         RateKey = iota // the network of the client; clients without an IP address are not counted
	ByUser                           // whom the client has authenticated as; others are not counted
	BySender                         // the reverse-path, without regard to case; the null reverse-path is not counted
	ByRecipientDomain                // the domain of a recipient
)

// Middleware returns the check as middleware. It returns an error if there is no limit, or if an option is out of
// range.
func (r Rate) Middleware() (server.Middleware, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	r.setDefaults()
	a := &rate{Rate: r}
	if r.Messages > 0 {
		a.messages = newBuckets(r.Messages, r.Window, r.Keys)
	}
	if r.Recipients > 0 {
		a.recipients = newBuckets(r.Recipients, r.Window, r.Keys)
	}
	st := &stages[struct{}, rated]{method: "rate", skip: r.Skip, mail: a.mail, rcpt: a.rcpt}
	return st.middleware(), nil
}

func (r *Rate) check() error {
	switch {
	case r.By > ByRecipientDomain:
		return optionError("Rate", "By", "%d is none of ByNetwork, ByUser, BySender and ByRecipientDomain", r.By)
	case r.Messages < 0 || r.Recipients < 0 || r.Messages == 0 && r.Recipients == 0:
		return optionError("Rate", "Messages", "%d messages and %d recipients are no limit; set one of the two",
			r.Messages, r.Recipients)
	case r.Window < 0 || r.Window > 31*24*time.Hour:
		return optionError("Rate", "Window", "%v is not between 0 and 31 days", r.Window)
	case r.IPv4Prefix < 0 || r.IPv4Prefix > 32:
		return optionError("Rate", "IPv4Prefix", "%d is not between 1 and 32", r.IPv4Prefix)
	case r.IPv6Prefix < 0 || r.IPv6Prefix > 128:
		return optionError("Rate", "IPv6Prefix", "%d is not between 1 and 128", r.IPv6Prefix)
	case r.Keys < 0 || r.Keys > 1<<24:
		return optionError("Rate", "Keys", "%d is not between 1 and %d", r.Keys, 1<<24)
	}
	return nil
}

func (r *Rate) setDefaults() {
	if r.Window == 0 {
		r.Window = time.Minute
	}
	if r.IPv4Prefix == 0 {
		r.IPv4Prefix = 32
	}
	if r.IPv6Prefix == 0 {
		r.IPv6Prefix = 64
	}
	if r.Keys == 0 {
		r.Keys = maxKeys
	}
	if r.Skip == nil && r.By == ByNetwork {
		r.Skip = Trusted()
	}
}

// A rate is a Rate at work.
type rate struct {
	Rate
	messages, recipients *buckets // nil if there is no limit
}

// maxRatedDomains is how many domains of a transaction are remembered. Of each further one every recipient counts as a
// message.
const maxRatedDomains = 1000

// A rated is what is counted of a transaction.
type rated struct {
	key     string   // as which it is counted; "" if it is not, or by its recipients
	domains []string // by recipient domain: those for which it is counted
}

func (a *rate) mail(_ context.Context, s *session[struct{}, rated], from proto.Address, _ proto.Params) error {
	key := ""
	switch a.By {
	case ByNetwork:
		if p := networkOf(clientAddr(s.conn), a.IPv4Prefix, a.IPv6Prefix); p.IsValid() {
			key = p.String()
		}
	case ByUser:
		key = s.conn.Identity()
	case BySender:
		key = strings.ToLower(from.Key())
	}
	s.transaction.known.key = key
	return a.take(s, a.messages, key, a.Messages, "messages")
}

func (a *rate) rcpt(_ context.Context, s *session[struct{}, rated], to proto.Address, _ proto.Params) error {
	known := &s.transaction.known
	key := known.key
	if a.By == ByRecipientDomain {
		key = to.Domain.Key()
		if !slices.Contains(known.domains, key) {
			if err := a.take(s, a.messages, key, a.Messages, "messages"); err != nil {
				return err
			}
			if len(known.domains) < maxRatedDomains {
				known.domains = append(known.domains, key)
			}
		}
	}
	return a.take(s, a.recipients, key, a.Recipients, "recipients")
}

// take takes a token of b, which has most tokens of what, for the key.
func (a *rate) take(s *session[struct{}, rated], b *buckets, key string, most int, what string) error {
	if b == nil || key == "" || b.take(key) {
		return nil
	}
	s.record("fail", fmt.Sprintf("more than %d %s in %v: %s", most, what, a.Window, key), nil)
	return proto.Refuse(450, proto.Status{4, 7, 1}, "Too many "+what+", try again later")
}

// networkOf returns the network that an address is in, which is invalid if the address is.
func networkOf(a netip.Addr, ipv4, ipv6 int) netip.Prefix {
	bits := ipv4
	if a.Is6() {
		bits = ipv6
	}
	p, _ := a.Prefix(bits)
	return p
}
