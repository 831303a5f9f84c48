package ehlo

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// Limits returns the extension LIMITS (RFC 9422), by which a server states how many messages, recipients and domains it
// accepts. Clients can keep to these limits, and are not refused.
//
// A server states Limits.Rcpts of its options as RCPTMAX and Limits.Mails as MAILMAX, and enforces them with or without
// the extension. If the session implements [LimitsSession], the extension states and enforces further limits. It
// answers MAIL beyond MAILMAX with 421 4.7.0, which ends the connection, and RCPT beyond RCPTDOMAINMAX with 452 4.5.3.
//
// A client keeps to the stated limits by itself: it divides a message into several transactions, or makes more
// connections. It ignores limits received in plaintext if the server offers STARTTLS, because an attacker in between
// may have written them. [ReadLimits] returns what a server states.
//
// The extension is in [Default].
func Limits() ext.Extension {
	return ext.Extension{
		Keyword:    "LIMITS",
		Interfaces: []reflect.Type{reflect.TypeFor[LimitsSession]()},
		Advertise:  advertiseLimits,
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
		return proto.Refuse(421, proto.Status{4, 7, 0},
			fmt.Sprintf("Only %d messages can be sent over a connection", q.MailMax))
	}
	return nil
}

func checkRcptLimits(_ context.Context, x ext.ServerConn, to proto.Address, _ proto.Params) error {
	q := findQuota(x)
	if q == nil || q.RcptDomainMax <= 0 || q.admit(to.Domain) {
		return nil
	}
	return proto.Refuse(452, proto.Status{4, 5, 3},
		fmt.Sprintf("Only recipients of %d domains are accepted over a connection", q.RcptDomainMax))
}

// A LimitsSession is a session with limits of its own. The server makes a session for each connection and another one
// after STARTTLS, where counting begins again.
type LimitsSession interface {
	// Quota returns the limits and what the client has used of them, the same pointer each time. Nil means no limits.
	Quota() *Quota
}

// A Quota is what a client may do over one connection. It belongs to one session. Do not copy it after first use.
type Quota struct {
	// MailMax is the limit of MAIL commands, including refused ones. 0 means no limit.
	MailMax int
	// RcptDomainMax is the limit of different domains among all recipients, including refused ones. 0 means no limit.
	RcptDomainMax int

	mailCount int
	domains   map[string]bool
}

// admit reports whether a recipient of the domain is within the quota, and counts the domain.
func (q *Quota) admit(d proto.Domain) bool {
	key := d.Key()
	if q.domains[key] {
		return true
	}
	if len(q.domains) >= q.RcptDomainMax {
		return false
	}
	if q.domains == nil {
		q.domains = make(map[string]bool)
	}
	q.domains[key] = true
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
	mails := x.MaxMails()
	q := findQuota(x)
	if q != nil && q.MailMax > 0 && (mails == 0 || q.MailMax < mails) {
		mails = q.MailMax
	}
	state("MAILMAX", mails)
	if q != nil {
		state("RCPTDOMAINMAX", q.RcptDomainMax)
	}
	return strings.Join(stated, " "), len(stated) > 0
}

// ReadLimits returns the limits in a server's last reply to EHLO. It reports false if the server does not offer LIMITS,
// or if its arguments are not a list of limits. It ignores unknown limits, and limits with a malformed value (RFC 9422
// sections 3 and 4).
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
