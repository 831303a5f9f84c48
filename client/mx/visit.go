package mx

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx/dane"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A visit is an attempt at one host.
type visit struct {
	host    *Host
	facts   Facts
	records *dane.Policy // the TLSA records, or nil
	denied  error        // why they could not be looked up
	channel Channel      // the weakest that will do
	link    link         // over which the message was sent last
	again   bool         // in clear, since a handshake has failed that no policy demands
	began   time.Time
}

// visit tries to deliver the message at h.
func (j *job) visit(ctx context.Context, h *Host) {
	v := &visit{host: h, began: time.Now()}
	j.gather(ctx, v)
	channel, decision, ok := v.facts.weakest()
	// The parameter REQUIRETLS has the field ignored, also where the message goes without it (RFC 8689 section 4.1).
	if (!ok || channel != Clear) && j.sender() == SenderSilent && j.waives() {
		v.facts.Sender = SenderWaivesTLS
		channel, decision, ok = v.facts.weakest()
	}
	if !ok {
		j.deny(ctx, v, decision)
		return
	}
	v.channel = channel
	j.round.addresses -= min(len(h.Addrs), max(2, j.d.opt.MaxAddresses/2))
	res, err := j.over(ctx, v)
	if isOptional(err) && channel == Clear {
		j.ended(ctx, v, res, err)
		v.again = true
		res, err = j.over(ctx, v)
		j.remember(v, res)
	} else if j.remember(v, res) {
		// The refusal is about the address of this host: the other family may be welcome.
		j.ended(ctx, v, res, err)
		res, err = j.over(ctx, v)
		j.remember(v, res)
	}
	j.ended(ctx, v, res, err)
	j.merge(v, res, err)
}

// gather finds out what decides about the host.
func (j *job) gather(ctx context.Context, v *visit) {
	v.facts = Facts{Sender: j.round.sender, STS: stsOf(j.sts, v.host.Name)}
	if j.d.opt.RequireTLS {
		v.facts.Local = LocalRequired
	}
	if j.route.Authentic {
		v.facts.MX = MXSecure
	}
	if j.d.opt.DisableDANE || v.host.Lookup == nil {
		return
	}
	v.records, v.denied = dane.Lookup(ctx, j.d.router.Resolver, dane.Target{
		Domain: j.route.Domain, Expanded: j.route.Expanded, Authentic: j.route.Authentic,
		Host: v.host.Name, Addr: v.host.Lookup, Port: j.d.opt.Port,
	})
	switch {
	case v.denied != nil:
		v.facts.DANE = DANEFailed
	case v.records == nil:
	case v.records.Usable():
		v.facts.DANE = DANEUsable
	default:
		v.facts.DANE = DANEUnusable
	}
}

// stsOf returns what the policy of a domain says of a host.
func stsOf(found *mtasts.Found, host string) STS {
	if found == nil || found.Policy == nil {
		return STSNone
	}
	matches := found.Policy.Matches(host)
	switch mode := found.Policy.Mode; {
	case mode == mtasts.Enforce && matches:
		return STSEnforce
	case mode == mtasts.Enforce:
		return STSEnforceOther
	case mode == mtasts.Testing && matches:
		return STSTesting
	case mode == mtasts.Testing:
		return STSTestingOther
	}
	return STSNone
}

// deny records that the policies permit no connection to the host.
func (j *job) deny(ctx context.Context, v *visit, d Decision) {
	err := &PolicyError{Host: v.host.Name, Policy: d.Policy, Code: d.Code, Err: v.denied}
	var unknown statusError
	switch {
	case errors.As(v.denied, &unknown):
		err.Code = unknown.Status()
	case d.Policy == PolicySTS:
		err.Err = errNotNamed
	default:
		err.Err = errors.New("the name of the host is not proved, neither by DNSSEC nor by an MTA-STS policy")
	}
	res, failed := j.unsent(err)
	j.ended(ctx, v, res, failed)
	j.failed(v.host, err)
}

var errNotNamed = errors.New("the policy does not name this host as a mail exchanger")

// unsent returns the outcome err for those who are left.
func (j *job) unsent(err error) (*client.Result, error) {
	res := &client.Result{}
	for _, i := range j.left {
		res.Recipients = append(res.Recipients, proto.Outcome{Recipient: j.outcomes[i].Recipient, Err: err})
	}
	return res, &client.SendError{Result: res, Err: err}
}

// over sends the message to those who are left, over a connection that fulfils what is demanded.
func (j *job) over(ctx context.Context, v *visit) (*client.Result, error) {
	v.link = link{}
	w, err := j.d.way(v.host, v.channel, v.records, v.again)
	if err != nil {
		return j.unsent(err)
	}
	to := make([]proto.Recipient, len(j.left))
	for i, at := range j.left {
		to[i] = j.outcomes[at].Recipient
	}
	m := j.shared.Message(to)
	if j.round.sender != SenderRequireTLS && ehlo.ReadRequireTLS(m.Mail) {
		is := func(p proto.Param) bool { return ehlo.ReadRequireTLS(proto.Params{p}) }
		m.Mail = slices.DeleteFunc(slices.Clone(m.Mail), is)
	}
	if prepare := j.d.opt.Prepare; prepare != nil {
		if m, err = prepare(ctx, m); err != nil {
			return j.unsent(asOutcome(err))
		}
		same := func(a, b proto.Recipient) bool { return a.Address == b.Address }
		if m == nil || !slices.EqualFunc(m.To, to, same) {
			return j.unsent(&client.MessageError{What: "the message", Err: errors.New("Options.Prepare of mx has changed the " +
				"recipients: it must leave them as they are")})
		}
	}
	f := &flight{check: v.isTested()}
	defer func() { v.link = f.link() }()
	return w.pool.Send(context.WithValue(ctx, flightKey{}, f), m)
}

// isTested reports whether the certificate is looked at for reports alone.
func (v *visit) isTested() bool { return v.facts.STS == STSTesting || v.facts.STS == STSTestingOther }

// asOutcome returns an error of Options.Prepare as the outcome for a recipient, so that it tells whether it may pass.
func asOutcome(err error) error {
	var status statusError
	switch {
	case errors.As(err, &status):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &client.LostError{Doing: "preparing the message", Err: err}
	}
	return &client.MessageError{What: "preparing the message", Err: err}
}

// isOptional reports whether err says that a handshake failed which no policy demands.
func isOptional(err error) bool {
	var failed *ext.TLSError
	return errors.As(err, &failed) && failed.Optional
}

// remember has the memory know what the host has said. It reports whether all who are left were refused because of the
// address that this host has used, and the host can be reached from another one.
func (j *job) remember(v *visit, res *client.Result) bool {
	before := j.d.family(v.host)
	about := true
	told := res.Recipients[0].Err
	for i := range res.Recipients {
		err := res.Recipients[i].Err
		var refused *proto.Error
		is := errors.As(err, &refused)
		about = about && is && isAboutAddress(refused)
		if is && refused.Temporary() || err == nil && !client.Temporary(told) {
			told = err // one recipient who is to be tried again decides where, and otherwise one who was accepted
		}
	}
	j.d.memory.answered(v.host.Name, v.link.addr.Addr(), told)
	return about && before == PreferIPv6 && j.d.family(v.host) != before
}

// merge takes the outcomes of an attempt over into j.
func (j *job) merge(v *visit, res *client.Result, err error) {
	var failed *client.SendError
	if errors.As(err, &failed) && failed.Unknown {
		j.unknown = true
	}
	var policy *PolicyError
	// The next host is tried then (RFC 8461 section 5, RFC 8689 section 4.2.1).
	byPolicy := errors.As(v.explain(err), &policy)
	if !byPolicy && (v.link.addr.IsValid() || !isUnconnected(err)) {
		j.round.sessions--
	}
	j.octets += res.Octets
	if res.Reply.Code != 0 {
		j.reply = res.Reply
	}
	var left []int
	told := false
	for k, i := range j.left {
		o := res.Recipients[k]
		o.Recipient = j.outcomes[i].Recipient
		session := isSession(o.Err)
		if o.Err = v.explain(o.Err); !isElsewhere(o.Err) {
			j.outcomes[i] = o
			continue
		}
		left = append(left, i)
		if !session {
			j.outcomes[i] = o
		} else if !told {
			j.failed(v.host, o.Err)
			told = true
		}
	}
	if j.m.AllOrNone && len(left) < len(j.left) {
		for k, i := range j.left {
			j.outcomes[i].Err = v.explain(res.Recipients[k].Err)
		}
		left = nil
	}
	j.left = left
}

// isUnconnected reports whether err says that there was no connection.
func isUnconnected(err error) bool {
	var lost *client.LostError
	return errors.As(err, &lost) && lost.Status() != proto.Status{4, 4, 2} // it may have the code that DialContext gave
}

// explain returns err, or if it says that TLS failed, whose demand that was.
func (v *visit) explain(err error) error {
	var failed *ext.TLSError
	var lacking *ext.UnsupportedError
	switch {
	case errors.Is(err, pool.ErrClosed):
		return ErrClosed
	case errors.As(err, &failed):
		d := v.facts.over(Clear)
		if d.Verdict == Deliver {
			return err
		}
		code := d.Code
		var mismatch *dane.Error // of the certificate, which stays what it is
		if d.Verdict == Refuse && client.Temporary(err) && !errors.As(err, &mismatch) {
			code[0] = 4 // the next time there may be TLS
		}
		return &PolicyError{Host: v.host.Name, Policy: d.Policy, Code: code, Err: err}
	case v.facts.Sender == SenderRequireTLS && errors.As(err, &lacking) && lacking.Keyword == ehlo.RequireTLS().Keyword:
		return &PolicyError{Host: v.host.Name, Policy: PolicySender, Code: lacking.Status(), Err: err}
	}
	return err
}

// ended tells who asked for it what came of an attempt.
func (j *job) ended(ctx context.Context, v *visit, res *client.Result, err error) {
	v.facts.Channel = v.link.channel(v.channel, v.isTested())
	addr := v.link.addr
	if !addr.IsValid() && isTLS(err) {
		addr = netip.AddrPortFrom(j.d.memory.connected(v.host.Name), j.d.opt.Port)
	}
	a := &Attempt{
		Domain: j.route.Domain, Host: v.host.Name, Addr: addr, TLS: v.link.tls, Facts: v.facts,
		Policy: Decide(v.facts).Policy, Result: res, Err: err, Began: v.began,
	}
	if j.sts != nil {
		a.STSProblem = j.sts.Problem
	}
	j.report(ctx, v, a)
	if f := j.d.opt.Trace.Attempted; f != nil {
		f(ctx, a)
	}
}
