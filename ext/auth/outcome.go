package auth

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"
)

// A claim is who a client says it is, as the client has written it.
type claim struct {
	user string
	as   string // for whom the client wants to act; "" or user for itself
}

// settle tells the outcome of the attempt, unless it has been told: err is nil for success. It returns what
// ext.Command.AuthOutcome returns.
func (x *serverExchange) settle(ctx context.Context, err error, denied bool) (failures int, last bool) {
	if x.settled {
		return 0, false
	}
	x.settled = true
	claimed := x.attempt.claimed
	if m, ok := x.mechanism.(interface{ User() string }); ok {
		claimed.user = m.User()
	}
	if claimed.as == claimed.user {
		claimed.as = ""
	}
	o := ext.AuthOutcome{User: printable(claimed.user), As: printable(claimed.as), Denied: denied, Err: err}
	if isMechanism(x.name) {
		o.Mechanism = x.name
	}
	if err == nil {
		o.Identity = x.identity
	}
	failures, last = x.cmd.AuthOutcome(o)
	if s, ok := ext.As[OutcomeSession](x.cmd.Session()); ok {
		s.AuthOutcome(ctx, o)
	}
	return failures, last
}

// maxClaim is the maximum length in octets of a name that only the client vouches for. Mailboxes are shorter.
const maxClaim = 255

// printable returns name as one line that is safe to print, of maxClaim octets at most.
func printable(name string) string {
	name = name[:min(len(name), maxClaim+utf8.UTFMax)] // enough to see where the last character ends
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, name)
	if len(name) <= maxClaim {
		return name
	}
	end := maxClaim
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}
