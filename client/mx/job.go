package mx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/internal/ended"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A job is the delivery of a message to the recipients of one domain. One goroutine owns it.
type job struct {
	d      *Deliverer
	domain proto.Domain
	shared *client.Shared
	m      *client.Message // the original
	waives func() bool     // whether its header waives TLS

	places   []int           // of the recipients, in the original
	outcomes []proto.Outcome // of the recipients so far
	left     []int           // recipients who may be tried at another host, as indexes of outcomes
	reply    proto.Reply     // to the content
	octets   int64
	unknown  bool // whether a recipient has got the message

	route *Route
	sts   *mtasts.Found // nil: none was looked for
	round round
}

// A round is one walk along the hosts.
type round struct {
	sender    Sender    // what counts as asked for by the sender
	failures  []failure // of hosts with which there was no transaction
	addresses int       // how many may still be tried
	sessions  int       // likewise
}

// A failure is why a host was of no use.
type failure struct {
	host string
	err  error
}

// run delivers the message, and leaves the outcomes in j.
func (j *job) run(ctx context.Context) {
	if !j.locate(ctx) {
		return
	}
	sender := j.sender()
	j.walk(ctx, sender)
	if j.mayHaveChanged(ctx) {
		j.walk(ctx, sender)
	}
	if sender == SenderRequireTLS && j.m.From.IsNull() && j.lacksTLS() {
		// A notification is not discarded because a host lacks REQUIRETLS (RFC 8689 section 5).
		j.walk(ctx, SenderSilent)
	}
	j.close(ctx)
}

// locate finds the hosts, and what the domain demands of them. If there are none, all recipients get the error.
func (j *job) locate(ctx context.Context) bool {
	var wg sync.WaitGroup
	var unknown error // why it is not known what the domain demands
	if j.d.sts != nil && !j.domain.Addr().IsValid() && !j.domain.IsZero() {
		wg.Go(func() { j.sts, unknown = j.d.sts.Lookup(ctx, j.domain.Key()) })
	}
	route, err := j.d.Route(ctx, j.domain)
	wg.Wait()
	if f := j.d.opt.Trace.Routed; f != nil {
		f(ctx, j.domain.Key(), route, err)
	}
	switch {
	case err == nil && unknown != nil && j.d.gate.isShut():
		err = ErrClosed
	case err == nil && unknown != nil:
		err = &client.LostError{Doing: "looking up the policies of " + route.Domain, Err: unknown}
	}
	if err != nil {
		for i := range j.outcomes {
			j.outcomes[i].Err = err
		}
		j.left = nil
		return false
	}
	j.route = route
	slices.SortStableFunc(route.Hosts, func(a, b Host) int {
		if a.Preference != b.Preference {
			return int(a.Preference) - int(b.Preference)
		}
		return j.d.memory.rank(&a) - j.d.memory.rank(&b)
	})
	return true
}

// sender returns what the sender of the message asks for.
func (j *job) sender() Sender {
	if ehlo.ReadRequireTLS(j.m.Mail) {
		return SenderRequireTLS
	}
	return SenderSilent // or waives TLS, which is looked up where somebody else demands it
}

// walk tries the hosts until nobody is left.
func (j *job) walk(ctx context.Context, s Sender) {
	j.round = round{sender: s, addresses: j.d.opt.MaxAddresses, sessions: j.d.opt.MaxSessions}
	for i := range j.route.Hosts {
		if len(j.left) == 0 || j.round.sessions <= 0 || j.round.addresses <= 0 || ctx.Err() != nil {
			return
		}
		h := &j.route.Hosts[i]
		if h.Err != nil {
			j.failed(h, h.Err)
			continue
		}
		j.visit(ctx, h)
	}
}

// failed records that nothing was said to a host about the recipients.
func (j *job) failed(h *Host, err error) {
	j.round.failures = append(j.round.failures, failure{h.Name, err})
}

// mayHaveChanged reports whether the policy of the domain has become another one since it made a host unusable. Then
// the hosts are tried once more (RFC 8461 section 5.1).
func (j *job) mayHaveChanged(ctx context.Context) bool {
	var refused *PolicyError
	bySTS := func(f failure) bool { return errors.As(f.err, &refused) && refused.Policy == PolicySTS }
	if j.sts == nil || len(j.left) == 0 || ctx.Err() != nil || !slices.ContainsFunc(j.round.failures, bySTS) {
		return false
	}
	found, err := j.d.sts.Refresh(ctx, j.domain.Key())
	if err != nil || found.Policy == j.sts.Policy || found.ID == j.sts.ID {
		return false
	}
	j.sts = found
	return true
}

// lacksTLS reports whether all who are left were not given the message because of REQUIRETLS, and will not be later.
// A host that has answered for a recipient has fulfilled REQUIRETLS: it may take the message the next time.
func (j *job) lacksTLS() bool {
	if len(j.left) == 0 || len(j.left) < len(j.outcomes) && j.m.AllOrNone {
		return false
	}
	lacking := func(f failure) bool {
		var policy *PolicyError
		return errors.As(f.err, &policy) && policy.Policy == PolicySender
	}
	mayPass := func(f failure) bool { return client.Temporary(f.err) }
	answered := func(i int) bool { return j.outcomes[i].Err != errUntried }
	failures := j.round.failures
	return slices.ContainsFunc(failures, lacking) && !slices.ContainsFunc(failures, mayPass) &&
		!slices.ContainsFunc(j.left, answered)
}

// close gives those who are left the reason: what a host has said of them, or why no host was of use.
func (j *job) close(ctx context.Context) {
	err := j.round.err(j.route.Domain)
	if err == nil {
		err = &client.LostError{Doing: "delivering to " + j.route.Domain, Err: ended.Reason(ctx)}
	}
	for _, i := range j.left {
		if o := &j.outcomes[i]; o.Err == errUntried {
			o.Err = err
		}
	}
	j.left = nil
}

// errUntried is the error of recipients of whom no host has said anything so far.
var errUntried error = &client.LimitError{Err: errors.New("no mail exchanger was tried")}

// err returns the error for recipients of whom no host has said anything. It tells of all hosts. An error that may pass
// decides what to do, since another attempt may then succeed.
func (r *round) err(domain string) error {
	if len(r.failures) == 0 {
		return nil
	}
	e := &hostsError{domain: domain, failures: r.failures, decisive: r.failures[0].err}
	for _, f := range r.failures {
		if client.Temporary(f.err) && !client.Temporary(e.decisive) {
			e.decisive = f.err
		}
	}
	if len(r.failures) == 1 {
		var policy *PolicyError
		if errors.As(e.decisive, &policy) {
			return e.decisive
		}
	}
	return e
}

// A hostsError tells why each host of a domain was of no use.
type hostsError struct {
	domain   string
	failures []failure
	decisive error
}

func (e *hostsError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "smtp: no mail exchanger of %s could be used: ", e.domain)
	for i, f := range e.failures {
		if i > 0 {
			b.WriteString("; ")
		}
		text := cause(f.err)
		if !strings.Contains(text, f.host) {
			text = f.host + ": " + text
		}
		b.WriteString(text)
	}
	return b.String()
}

func (e *hostsError) Unwrap() error { return e.decisive }

// isSession reports whether err is about the session with a host, or the connection, and not about the message or the
// recipients: so that another host may do.
func isSession(err error) bool {
	var refused *proto.Error
	var lost *client.LostError
	var broken *client.ProtocolError
	var limit *client.LimitError
	var lacking *ext.UnsupportedError
	var policy *PolicyError
	switch {
	case errors.As(err, &policy), isTLS(err), errors.As(err, &lost), errors.As(err, &broken), errors.As(err, &limit),
		errors.As(err, &lacking):
		return true
	case !errors.As(err, &refused):
		return false
	}
	switch refused.Verb {
	case "", "greeting", "EHLO", "HELO", "RSET":
		return true
	}
	return refused.Code == 421
}

// isElsewhere reports whether another host may take the message for a recipient who has got err.
func isElsewhere(err error) bool {
	if err == nil || !client.SafeToRetry(err) || errors.Is(err, client.ErrClosed) {
		return false
	}
	return isSession(err) || client.Temporary(err)
}
