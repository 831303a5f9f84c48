package mx

import (
	"fmt"
	"strconv"
	"strings"

	"smtpkit.example/smtp/proto"
)

// Facts are what decides whether a message may be given to a host. Each field is one value, and the zero value of each
// is the one that demands least.
type Facts struct {
	Sender  Sender  // what the sender of the message has asked for
	Local   Local   // what this program demands
	MX      MX      // how the host was found
	DANE    DANE    // what the DNS says of its certificate
	STS     STS     // what the domain says of it by MTA-STS
	Channel Channel // what the connection is
}

// A Sender says what the sender of a message has asked for (RFC 8689).
type Sender uint8

// The values of Sender.
const (
	SenderSilent     Sender = iota // nothing
	SenderRequireTLS               // the parameter REQUIRETLS
	SenderWaivesTLS                // the header field "TLS-Required: No", without the parameter
)

// A Local says what this program demands of all hosts.
type Local uint8

// The values of Local.
const (
	LocalOpportunistic Local = iota // nothing
	LocalRequired                   // TLS, and a certificate that verifies: Options.RequireTLS
)

// An MX says how the name of a host was found.
type MX uint8

// The values of MX.
const (
	MXInsecure MX = iota // by an answer that may be forged
	MXSecure             // by one that DNSSEC has proved
)

// A DANE says what the TLSA records of a host demand (RFC 7672 section 2.2).
type DANE uint8

// The values of DANE.
const (
	DANENone     DANE = iota // there are none, or none that DNSSEC has proved
	DANEUnusable             // there are, but none can be compared with a certificate
	DANEUsable               // the certificate has to match one of them
	DANEFailed               // they could not be looked up
)

// An STS says what the MTA-STS policy of the domain says of a host (RFC 8461 section 5).
type STS uint8

// The values of STS.
const (
	STSNone         STS = iota // there is no policy, or its mode is "none"
	STSTesting                 // mode "testing", and the host is in the policy
	STSTestingOther            // mode "testing", and the host is not in the policy
	STSEnforce                 // mode "enforce", and the host is in the policy
	STSEnforceOther            // mode "enforce", and the host is not in the policy
)

// A Channel says what a connection to a host is.
type Channel uint8

// The values of Channel.
const (
	Clear     Channel = iota // without TLS: it was not offered, was refused, or the handshake failed
	Encrypted                // TLS, whatever the certificate
	Verified                 // TLS, and the certificate is by a trusted authority for the name of the host
	Matched                  // TLS, and the certificate matches a TLSA record
)

// A Verdict says what becomes of a message at a host.
type Verdict uint8

// The verdicts.
const (
	Deliver Verdict = iota // the host gets the message
	Defer                  // it does not; the next host may, or this one later
	Refuse                 // it does not; if no host does, the message goes back to its sender
)

// A Decision is what [Decide] returns.
type Decision struct {
	Verdict Verdict
	Code    proto.Status // that of a refusal; zero for Deliver
	Policy  Policy       // the one that has decided
}

// A Policy is where a demand comes from.
type Policy uint8

// The policies.
const (
	PolicyNone   Policy = iota // none: what the host offers is good enough
	PolicyDANE                 // TLSA records of the host
	PolicySTS                  // MTA-STS of the domain
	PolicySender               // REQUIRETLS, or TLS-Required: No
	PolicyLocal                // Options.RequireTLS
)

// String returns the name of p: "none", "DANE", "STS", "REQUIRETLS" or "local".
func (p Policy) String() string {
	return words{"none", "DANE", "STS", "REQUIRETLS", "local"}.of(uint8(p))
}

// demand names p in an error.
func (p Policy) demand() string {
	switch p {
	case PolicyDANE:
		return "its TLSA records (DANE)"
	case PolicySTS:
		return "the MTA-STS policy of the domain"
	case PolicySender:
		return "REQUIRETLS"
	}
	return "Options.RequireTLS of mx"
}

// A rule is a row of the table of decisions: which facts it is about, and the decision. In each column a set of values
// has one bit for each; the empty set stands for all.
type rule struct {
	sender, local, mx, dane, sts, channel set

	decision Decision
}

// A set has one bit for each value of a column.
type set uint8

func of[T ~uint8](values ...T) set {
	var s set
	for _, v := range values {
		s |= 1 << v
	}
	return s
}

func has[T ~uint8](s set, v T) bool { return s == 0 || s&(1<<v) != 0 }

var (
	toDeliver  = func(p Policy) Decision { return Decision{Policy: p} }
	toDefer    = func(p Policy) Decision { return Decision{Defer, proto.Status{4, 7, 5}, p} }
	toRefuse10 = Decision{Refuse, proto.Status{5, 7, 10}, PolicySender}
	toRefuse30 = Decision{Refuse, proto.Status{5, 7, 30}, PolicySender}
)

// rules is the table of decisions. The first row that fits decides. Who reads it from the top sees the order of the
// policies: a failed look-up is no answer, DANE comes before MTA-STS (RFC 8461 section 2), and none of the two falls
// back to the other, or to a connection in clear.
var rules = []rule{
	// A sender who waives TLS wants the message delivered whatever the domain says (RFC 8689 section 4.2.2).
	{sender: of(SenderWaivesTLS), local: of(LocalOpportunistic), decision: toDeliver(PolicySender)},
	// What could not be looked up may be a demand.
	{dane: of(DANEFailed), decision: toDefer(PolicyDANE)},
	// TLSA records that can be compared: the certificate matches, and nothing else counts.
	{dane: of(DANEUsable), channel: of(Matched), decision: toDeliver(PolicyDANE)},
	{dane: of(DANEUsable), sender: of(SenderRequireTLS), decision: toRefuse10},
	{dane: of(DANEUsable), decision: toDefer(PolicyDANE)},
	// A policy that does not name the host.
	{sts: of(STSEnforceOther), decision: toDefer(PolicySTS)},
	// REQUIRETLS: the name of the host is proved, and so is the host (RFC 8689 section 4.2.1).
	{sender: of(SenderRequireTLS), mx: of(MXInsecure), sts: of(STSNone, STSTestingOther), decision: toRefuse30},
	{sender: of(SenderRequireTLS), channel: of(Verified), decision: toDeliver(PolicySender)},
	{sender: of(SenderRequireTLS), decision: toRefuse10},
	// MTA-STS: the certificate is for the name of the host.
	{sts: of(STSEnforce), channel: of(Verified), decision: toDeliver(PolicySTS)},
	{sts: of(STSEnforce), decision: toDefer(PolicySTS)},
	// This program demands the same of everybody.
	{local: of(LocalRequired), channel: of(Verified), decision: toDeliver(PolicyLocal)},
	{local: of(LocalRequired), decision: toDefer(PolicyLocal)},
	// TLSA records that cannot be compared say that the host has TLS (RFC 7672 section 2.2).
	{dane: of(DANEUnusable), channel: of(Clear), decision: toDefer(PolicyDANE)},
	{dane: of(DANEUnusable), decision: toDeliver(PolicyDANE)},
	// Nobody demands anything.
	{decision: toDeliver(PolicyNone)},
}

// Decide says what becomes of a message. It is the table of decisions in the documentation of this package, and all
// that decides: the connection is made so that the best verdict of the table can be reached.
func Decide(f Facts) Decision { return rules[decisive(f)].decision }

// decisive returns which rule decides.
func decisive(f Facts) int {
	for i := range rules {
		r := &rules[i]
		if has(r.sender, f.Sender) && has(r.local, f.Local) && has(r.mx, f.MX) && has(r.dane, f.DANE) &&
			has(r.sts, f.STS) && has(r.channel, f.Channel) {
			return i
		}
	}
	panic("smtp: the table of decisions has no last row")
}

// over returns the decision for f over a channel.
func (f Facts) over(c Channel) Decision {
	f.Channel = c
	return Decide(f)
}

// weakest returns the weakest channel over which the table has the message delivered. It returns false if there is
// none, with the decision for the best that a host could offer.
func (f Facts) weakest() (Channel, Decision, bool) {
	order := []Channel{Clear, Encrypted, Verified}
	if f.DANE == DANEUsable {
		order = []Channel{Clear, Encrypted, Matched}
	}
	var d Decision
	for _, c := range order {
		if d = f.over(c); d.Verdict == Deliver {
			return c, d, true
		}
	}
	return 0, d, false
}

// Table returns the table of decisions as text, for documentation.
func Table() string {
	var b strings.Builder
	line := func(cells ...string) {
		fmt.Fprintf(&b, "%s\n", strings.TrimRight(fmt.Sprintf("%-11s %-9s %-9s %-9s %-28s %-10s %s",
			cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]), " "))
	}
	line("sender", "program", "MX", "TLSA", "MTA-STS", "channel", "decision")
	for _, r := range rules {
		decision := r.decision.Verdict.String()
		if !r.decision.Code.IsZero() {
			decision += " " + r.decision.Code.String()
		}
		line(
			senderWords.in(r.sender), localWords.in(r.local), mxWords.in(r.mx), daneWords.in(r.dane),
			stsWords.in(r.sts), channelWords.in(r.channel), decision)
	}
	return b.String()
}

// The words for the values of each column, in the table and in [fmt.Stringer].
var (
	senderWords  = words{"-", "REQUIRETLS", "waives"}
	localWords   = words{"-", "requires"}
	mxWords      = words{"insecure", "secure"}
	daneWords    = words{"-", "unusable", "usable", "failed"}
	stsWords     = words{"-", "testing", "testing, another host", "enforce", "enforce, another host"}
	channelWords = words{"clear", "encrypted", "verified", "matched"}
	verdictWords = words{"deliver", "defer", "refuse"}
)

// String returns the word for s in the table of decisions.
func (s Sender) String() string { return senderWords.of(uint8(s)) }

// String returns the word for l in the table of decisions.
func (l Local) String() string { return localWords.of(uint8(l)) }

// String returns the word for m in the table of decisions.
func (m MX) String() string { return mxWords.of(uint8(m)) }

// String returns the word for d in the table of decisions.
func (d DANE) String() string { return daneWords.of(uint8(d)) }

// String returns the word for s in the table of decisions.
func (s STS) String() string { return stsWords.of(uint8(s)) }

// String returns the word for c in the table of decisions.
func (c Channel) String() string { return channelWords.of(uint8(c)) }

// String returns the word for v in the table of decisions.
func (v Verdict) String() string { return verdictWords.of(uint8(v)) }

// words are the words for the values of a column.
type words []string

// of returns the word for a value, or the number of one that there is not.
func (w words) of(value uint8) string {
	if int(value) < len(w) {
		return w[value]
	}
	return strconv.Itoa(int(value))
}

// in returns the words for the values in s, or "" for all.
func (w words) in(s set) string {
	var in []string
	for i, word := range w {
		if s != 0 && s&(1<<i) != 0 {
			in = append(in, word)
		}
	}
	return strings.Join(in, " or ")
}
