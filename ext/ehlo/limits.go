package ehlo

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// Limits returns the extension LIMITS (RFC 9422): a server says in advance what it would refuse, so that a client need not
// find out by being refused.
//
// A server states as RCPTMAX how many recipients it accepts in a transaction, which it enforces whether or not the
// extension is in use. A session that is [LimitsSession] has further limits, which the extension enforces: MAIL beyond
// MAILMAX is answered with 421 4.7.0, which ends the connection, and RCPT beyond RCPTDOMAINMAX with 452 4.5.3.
//
// A client keeps to what the server states: it sends to more recipients in further transactions, and makes a new
// connection for what one does not take. It does not believe what is stated in clear by a server that has TLS to offer,
// for somebody in between may have written it. What the server states is told by [ReadLimits].
func Limits() ext.Extension {
	return ext.Extension{
		Keyword:   "LIMITS",
		Advertise: advertiseLimits,
		Limits: func(c ext.ClientConn) ext.ServerLimits {
			if c.TLS() == nil && c.Caps().Has("STARTTLS") {
				return ext.ServerLimits{}
			}
			l, _ := ReadLimits(c.Caps())
			return l
		},
		CheckMail: checkMailLimits,
		CheckRcpt: checkRcptLimits,
	}
}

func checkMailLimits(_ context.Context, x ext.ServerConn, _ proto.Address, _ proto.Params) error {
	q := findQuota(x)
	if q == nil || q.MailMax <= 0 {
		return nil
	}
	if q.mailCount++; q.mailCount > q.MailMax {
		return proto.Refuse(421, proto.Status{4, 7, 0}, fmt.Sprintf("Only %d messages can be sent over a connection", q.MailMax))
	}
	return nil
}

func checkRcptLimits(_ context.Context, x ext.ServerConn, to proto.Address, _ proto.Params) error {
	q := findQuota(x)
	if q == nil || q.RcptDomainMax <= 0 || q.admit(to.Domain) {
		return nil
	}
	return proto.Refuse(452, proto.Status{4, 5, 3}, fmt.Sprintf("Only recipients of %d domains are accepted over a connection", q.RcptDomainMax))
}

// Limited is a session with limits of its own. A session is made for each connection, and anew when TLS is started, so that
// counting begins anew there.
type LimitsSession interface {
	// Quota returns the limits and what has been used up, the same value each time. Nil is no limits.
	Quota() *Quota
}

// A Quota is what one client may do over one connection. It belongs to one session, and must not be copied once it is in
// use.
type Quota struct {
	// MailMax is how many MAIL commands there may be, those that are refused included. 0 is no limit.
	MailMax int
	// RcptDomainMax is how many domains the recipients may have altogether, those that are refused included. 0 is no
	// limit.
	RcptDomainMax int

	mailCount int
	domains   map[string]bool
}

// admit reports whether a recipient of the domain is within the quota.
func (q *Quota) admit(d proto.Domain) bool {
	name := strings.ToLower(d.ASCII())
	if q.domains[name] {
		return true
	}
	if len(q.domains) >= q.RcptDomainMax {
		return false
	}
	if q.domains == nil {
		q.domains = make(map[string]bool)
	}
	q.domains[name] = true
	return true
}

func findQuota(x ext.ServerConn) *Quota {
	if s, ok := ext.As[LimitsSession](x.Session()); ok {
		return s.Quota()
	}
	return nil
}

// maxLimit is the largest number that can be stated (RFC 9422 section 4).
const maxLimit = 999_999

func advertiseLimits(x ext.ServerConn) (string, bool) {
	var stated []string
	state := func(name string, n int) {
		if n > 0 {
			stated = append(stated, name+"="+strconv.Itoa(min(n, maxLimit)))
		}
	}
	state("RCPTMAX", x.MaxRcpts())
	if q := findQuota(x); q != nil {
		state("MAILMAX", q.MailMax)
		state("RCPTDOMAINMAX", q.RcptDomainMax)
	}
	return strings.Join(stated, " "), len(stated) > 0
}

// ReadLimits returns the limits in a server's reply to EHLO; ok is false if it does not offer LIMITS, or if what it states
// has not the form of a list of limits. Limits that are not known here are passed over, and so are those with a
// value that cannot be one (RFC 9422 sections 3 and 4). The reply to the last EHLO counts.
func ReadLimits(c proto.Caps) (l ext.ServerLimits, ok bool) {
	args, ok := c.Args("LIMITS")
	if !ok || args == "" {
		return ext.ServerLimits{}, false
	}
	for item := range strings.SplitSeq(args, " ") {
		name, value, has := strings.Cut(item, "=")
		if !isLimitName(name) || has && (value == "" || strings.Contains(value, ";")) {
			return ext.ServerLimits{}, false
		}
		n, ok := parseLimit(value)
		if !ok {
			continue
		}
		switch strings.ToUpper(name) {
		case "MAILMAX":
			l.MailMax = n
		case "RCPTMAX":
			l.RcptMax = n
		case "RCPTDOMAINMAX":
			l.RcptDomainMax = n
		}
	}
	return l, true
}

// isLimitName reports whether s is a limit-name, 1*(ALPHA / DIGIT / "-" / "_").
func isLimitName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !grammar.IsAlnum(c) && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// parseLimit reads %x31-39 0*5DIGIT.
func parseLimit(s string) (int, bool) {
	if s == "" || len(s) > len("999999") || s[0] < '1' {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}
