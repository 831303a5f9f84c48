package ehlo

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// FutureRelease returns the extension FUTURERELEASE (RFC 4865), by which a user submits a message now and has it
// released later. Limits are for the server, and zero on a client.
//
// A server offers it if limits.Interval is set, and the session implements [FutureReleaseSession] and its HoldsMail is
// true. It does not offer it on port 25, and can use it only with a [SubmissionPolicy]: the extension is for submission
// (RFC 4865 section 4.2). It refuses with 501 5.5.4 a request beyond the limits, or for a time after the one set with
// BY. The session reads the request with [ReadHold], and returns [ErrHoldQuota] if the user has too many messages
// waiting.
//
// On a client, add the parameter with [Hold.AddTo]. The client refuses the message with an [ext.UnsupportedError] if
// the server does not offer the extension, or not for so long. It refuses to hold a message from the null reverse-path
// with another error: notifications must not be held (RFC 4865 sections 5.1.1 and 5.3.1).
//
// The extension is not in [Default], but in the list of [Submission].
func FutureRelease(limits HoldLimits) ext.Extension {
	e := ext.Extension{
		Keyword:    "FUTURERELEASE",
		Interfaces: []reflect.Type{reflect.TypeFor[FutureReleaseSession]()},
		Role:       ext.SubmissionOnly,
		Mail: []ext.Param{
			{Key: "HOLDFOR", MaxLength: len(" HOLDFOR=999999999"), Check: checkHold("HOLDFOR")},
			{
				Key: "HOLDUNTIL", MaxLength: len(" HOLDUNTIL=") + maxHoldUntil, Check: checkHold("HOLDUNTIL"),
				ConflictsWith: "HOLDFOR",
			},
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

// HoldLimits are how long a server holds messages before it releases them.
type HoldLimits struct {
	// Interval is the longest time, in whole seconds from 1 to 999999999. With 0 a server does not offer the extension.
	Interval time.Duration
	// Until is the latest time of release. Zero means Interval from now.
	Until time.Time
}

func (l HoldLimits) until(now time.Time) time.Time {
	if l.Until.IsZero() {
		return now.Add(l.Interval)
	}
	return l.Until
}

// A FutureReleaseSession is a session that holds messages until later.
type FutureReleaseSession interface {
	// HoldsMail reports whether the session holds messages of this client. It must be false for clients that do not submit
	// messages (RFC 4865 section 4.2).
	HoldsMail() bool
}

// ErrHoldQuota is what Mail of a [FutureReleaseSession] returns if the user has as many messages waiting for release as
// are allowed. A server should have such a limit (RFC 4865 section 6). The reply is 552 5.2.2, because the status codes
// of that section have been assigned to other conditions since.
var ErrHoldQuota error = proto.Refuse(552, proto.Status{5, 2, 2},
	"You have as much mail waiting to be released as you may")

// A Hold is a request to hold a message, the parameter HOLDFOR or HOLDUNTIL of a MAIL command. Set one of the two.
type Hold struct {
	For   time.Duration // HOLDFOR, in whole seconds from 1 to 999999999; 0 if Until is set
	Until time.Time     // HOLDUNTIL; AddTo converts it to UTC
}

// ReadHold returns the request in the parameters of a MAIL command. It reports false if there is none.
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

// Release returns when to release a message that arrives now. The time may have passed.
func (h Hold) Release(now time.Time) time.Time {
	if h.For != 0 {
		return now.Add(h.For)
	}
	return h.Until
}

// checkLimits returns an error if h is beyond the limits, or beyond the time that BY sets in p.
func (h Hold) checkLimits(p proto.Params, limits HoldLimits, now time.Time) error {
	switch latest := limits.until(now); {
	case h.For > limits.Interval:
		return fmt.Errorf("smtp: messages are not held for more than %d seconds", seconds(limits.Interval))
	case h.For == 0 && h.Until.After(latest):
		return errors.New("smtp: messages are not held beyond " + formatDateTime(latest))
	}
	if b, ok := ReadBy(p); ok && h.Release(now).After(now.Add(b.In)) {
		return errors.New("smtp: the message would be held until after the time of BY") // RFC 4865 sections 5.2.1 and 5.2.2
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

// maxHoldUntil is the longest value of HOLDUNTIL: 34 octets for the parameter (RFC 4865 section 3). That is room for a
// date-time of UTC with two digits of a fraction.
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
