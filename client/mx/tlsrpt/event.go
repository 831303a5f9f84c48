package tlsrpt

import (
	"net/netip"
	"time"
)

// An Event is one attempt to have TLS with a mail exchanger: one session, with the policy that was applied to it. If
// several policies were looked up, for instance since a domain has both DANE and MTA-STS, only the one applied counts.
type Event struct {
	// Time is when it happened. Zero stands for now.
	Time time.Time
	// Domain is the domain of the recipients, in A-labels or U-labels. Its owner is reported to, if he asks for it. Where
	// mail for all domains goes to a smarthost, it is that host's domain (RFC 8460 section 1.1).
	Domain string
	// Policy is the policy that was applied.
	Policy Policy
	// Result is the result type of a session that failed, such as [CertificateExpired]; see [ResultOf]. It is empty for a
	// session that has TLS as the policy demands. Another word than those of RFC 8460 is counted as [ValidationFailure],
	// with the word in front of Code.
	Result string

	// MXHost is the name of the mail exchanger, and MXHello the name by which it greeted or answered EHLO.
	MXHost, MXHello string
	// SendingIP and ReceivingIP are the addresses of the session. Either may be the zero value: unknown.
	SendingIP, ReceivingIP netip.Addr
	// Info is a URI at which the owner of the domain finds more about the failure, or "".
	Info string
	// Code is the reason of a failure as a short text, such as [CodeOf] returns. Failures are counted apart by it, so it
	// must not have times or numbers in it that differ from one session to the next.
	Code string
}

// The types of a policy.
const (
	TypeSTS  = "sts"             // MTA-STS (RFC 8461)
	TypeTLSA = "tlsa"            // DANE (RFC 7672)
	TypeNone = "no-policy-found" // neither was found
)

// A Policy is a policy on TLS that was applied to a session.
type Policy struct {
	// Type is [TypeSTS], [TypeTLSA] or [TypeNone]. Anything else is taken for TypeNone.
	Type string
	// Domain is the domain that has the policy. The default is the domain of the recipients; with TypeTLSA it is MXHost,
	// which is the TLSA base domain in most cases. A report always has it.
	Domain string
	// Strings is the policy as text: the lines of the policy of MTA-STS, or the TLSA records, each as in "3 1 1 8cb0fc…"
	// (RFC 8460 section 4.5).
	Strings []string
	// MXHosts are the patterns for mail exchangers in a policy of MTA-STS.
	MXHosts []string
}

// A detail is what failures are counted by.
type detail struct {
	result        string
	sending       netip.Addr
	host          string
	hello         string
	receiving     netip.Addr
	info, because string
}

// detail returns what the event of a failure is counted by.
func (e *Event) detail() detail {
	d := detail{
		result: e.Result, sending: plain(e.SendingIP), receiving: plain(e.ReceivingIP),
		host: hostname(e.MXHost), hello: clean(e.MXHello, maxHost),
		info: clean(e.Info, maxInfo), because: clean(e.Code, maxCode),
	}
	if !known(d.result) {
		d.because = clean(d.result+": "+d.because, maxCode)
		d.result = ValidationFailure
	}
	return d
}

// plain returns an address as reports have it: IPv4 as such, and without a zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// beyond is the code of failures that are counted without their details, since there are too many different ones.
const beyond = "more failures of this type, whose details were not kept"

// rest returns what a failure is counted by if there are too many different ones: by its type alone.
func (d *detail) rest() detail { return detail{result: d.result, because: beyond} }

// size returns about how many octets of memory d takes as the key of a map.
func (d *detail) size() int {
	return 256 + len(d.host) + len(d.hello) + len(d.info) + len(d.because)
}
