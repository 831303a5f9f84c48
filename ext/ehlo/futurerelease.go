package ehlo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// FutureRelease returns the extension FUTURERELEASE (RFC 4865): the server that a message is submitted to keeps it until
// later. Its limits are limits; a client needs none.
//
// A server offers it if limits says how long messages can be kept and the session is a [FutureReleaseSession], but not on port 25, and
// without a [SubmissionPolicy] it cannot use it at all: it is for submission (section 4.2). A request beyond the limits, or for a time after the one by which the
// message is to be delivered, is refused with 501 5.5.4. The session reads the request with [ReadHold]. If that is more than
// the user may have kept, it refuses with 552 (section 6).
//
// On a client the caller adds the parameter with [Hold.AddTo]. The message is refused with a [ext.UnsupportedError] if the server does not
// offer the extension or not for so long, and with another error if it is from the null reverse-path: notifications
// are not to be held (sections 5.1.1 and 5.3.1). The extension is among those of [Submission] alone.
func FutureRelease(limits HoldLimits) ext.Extension {
	e := ext.Extension{
		Keyword: "FUTURERELEASE",
		Role:    ext.SubmissionOnly,
		Mail: []ext.Param{
			{Key: "HOLDFOR", MaxLength: len(" HOLDFOR=999999999"), Check: checkHold("HOLDFOR")},
			{Key: "HOLDUNTIL", MaxLength: len(" HOLDUNTIL=") + maxHoldUntil, Check: checkHold("HOLDUNTIL"), ConflictsWith: "HOLDFOR"},
		},
		Advertise: func(x ext.ServerConn) (string, bool) {
			h, ok := ext.As[FutureReleaseSession](x.Session())
			if !ok || limits.Interval == 0 || !h.HoldsMail() {
				return "", false
			}
			return formatSeconds(limits.Interval) + " " + formatDateTime(limits.until(time.Now())), true
		},
		CheckMail: func(_ context.Context, _ ext.ServerConn, _ proto.Address, p proto.Params) error {
			h, ok := ReadHold(p)
			if !ok {
				return nil
			}
			if err := h.checkLimits(p, limits, time.Now()); err != nil {
				return grammar.BadArgs(grammar.Cause(err))
			}
			return nil
		},
		Prepare: prepareHold,
	}
	if limits.Interval < 0 || limits.Interval > maxSeconds*time.Second || limits.Interval%time.Second != 0 {
		e.Invalid = fmt.Errorf("smtp: HoldLimits.Interval is %v: use whole seconds, %d at most (RFC 4865 section 3)",
			limits.Interval, maxSeconds)
	}
	return e
}

// HoldLimits are how long a server keeps messages before it releases them.
type HoldLimits struct {
	// Interval is the longest time, in whole seconds between 1 and 999999999. 0 is for clients: a server does not
	// offer the extension.
	Interval time.Duration
	// Until is the latest moment. The zero value is what Interval comes to, counted from the moment that a client
	// asks.
	Until time.Time
}

func (l HoldLimits) until(now time.Time) time.Time {
	if l.Until.IsZero() {
		return now.Add(l.Interval)
	}
	return l.Until
}

// A Holder is a session that can keep messages until later.
type FutureReleaseSession interface {
	// HoldsMail reports whether it does so for this client. A server must not do it but for those who submit messages,
	// and should limit how much one of them can have kept (RFC 4865 sections 4.2 and 6): see [ErrHoldQuota].
	HoldsMail() bool
}

// ErrHoldQuota is what the Mail method of a [FutureReleaseSession] returns when the user has as much mail waiting to be released as he
// may (RFC 4865 section 6). The status codes that the RFC has for it were given to something else since.
var ErrHoldQuota error = proto.Refuse(552, proto.Status{5, 2, 2}, "You have as much mail waiting to be released as you may")

// A Hold is a request to keep a message until later, the parameter HOLDFOR or HOLDUNTIL of a MAIL command: one of the two.
type Hold struct {
	For   time.Duration // in whole seconds between 1 and 999999999; 0 if it is Until that counts
	Until time.Time     // UTC
}

// ReadHold returns the request in the parameters of a MAIL command, if there is one.
func ReadHold(p proto.Params) (h Hold, ok bool) {
	interval, hasFor := p.Get("HOLDFOR")
	until, hasUntil := p.Get("HOLDUNTIL")
	switch {
	case hasFor == hasUntil:
		return Hold{}, false
	case hasFor:
		h.For, ok = parseHoldFor(interval)
	default:
		h.Until, ok = parseHoldUntil(until)
	}
	return h, ok
}

// AddTo returns p with the parameter HOLDFOR, or HOLDUNTIL if For is 0.
func (h Hold) AddTo(p proto.Params) proto.Params {
	if h.For != 0 {
		return p.Set("HOLDFOR", formatSeconds(h.For))
	}
	return p.Set("HOLDUNTIL", formatDateTime(h.Until))
}

// Release returns when a message that arrives now is to be released. That may have been before.
func (h Hold) Release(now time.Time) time.Time {
	if h.For != 0 {
		return now.Add(h.For)
	}
	return h.Until
}

// within returns an error if h is beyond the limits, or beyond the time by which p wants the message delivered.
func (h Hold) checkLimits(p proto.Params, limits HoldLimits, now time.Time) error {
	switch latest := limits.until(now); {
	case h.For > limits.Interval:
		return fmt.Errorf("smtp: messages are not held for more than %d seconds", seconds(limits.Interval))
	case h.For == 0 && h.Until.After(latest):
		return errors.New("smtp: messages are not held beyond " + formatDateTime(latest))
	}
	if b, ok := ReadBy(p); ok && h.Release(now).After(now.Add(b.In)) {
		return errors.New("smtp: the message would be held until after the time of BY") // sections 5.2.1 and 5.2.2
	}
	return nil
}

func prepareHold(c proto.Caps, e *ext.Envelope) error {
	h, ok := ReadHold(e.Mail)
	if !ok {
		return nil
	}
	if e.From.IsNull() {
		return errors.New("smtp: HOLDFOR and HOLDUNTIL are not for notifications, which have no sender (RFC 4865 section 5)")
	}
	args, _ := c.Args("FUTURERELEASE")
	interval, until, _ := strings.Cut(args, " ")
	var limits HoldLimits
	var ok1, ok2 bool
	limits.Interval, ok1 = parseHoldFor(interval)
	limits.Until, ok2 = parseDateTime(until, true)
	err := errors.New("it does not say for how long")
	if ok1 && ok2 {
		err = h.checkLimits(e.Mail, limits, time.Now())
	}
	if err != nil {
		return &ext.UnsupportedError{Keyword: "FUTURERELEASE", What: "a message to be held", Err: err}
	}
	return nil
}

// longestHoldUntil is what the 34 octets of RFC 4865 section 3 leave to the value of HOLDUNTIL. It suffices for a date-time
// of UTC with two digits behind the second.
const maxHoldUntil = 34 - len(" HOLDUNTIL=")

// parseHoldFor reads future-release-integer, %x31-39 *8DIGIT.
func parseHoldFor(s string) (time.Duration, bool) {
	d, ok := parseSeconds(s)
	return d, ok && s[0] != '0'
}

// parseHoldUntil reads a date-time normalized to UTC.
func parseHoldUntil(s string) (time.Time, bool) {
	if len(s) > maxHoldUntil || s == "" || grammar.Upper(s[len(s)-1]) != 'Z' {
		return time.Time{}, false
	}
	return parseDateTime(s, true)
}

func checkHold(key string) func(string) error {
	return func(value string) error {
		if key == "HOLDFOR" {
			if _, ok := parseHoldFor(value); !ok {
				return errors.New("HOLDFOR has to be a number of seconds from 1 to 999999999")
			}
		} else if _, ok := parseHoldUntil(value); !ok {
			return errors.New("HOLDUNTIL has to be a time of UTC such as 2030-01-01T00:00:00Z")
		}
		return nil
	}
}
