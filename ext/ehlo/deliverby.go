package ehlo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// DeliverBy returns the extension DELIVERBY (RFC 2852): a message is to be delivered within a time, or else returned, or
// the sender told of the delay.
//
// A server offers it if the session is an [DeliverBySession]. The session reads the parameter with [ReadBy]. A request
// to return a message before the session's shortest time is refused with 555; what else it cannot do the session
// refuses itself, with 455 or 555 (section 4).
//
// On a client the caller adds the parameter with [By.AddTo]. The message is refused with a [ext.UnsupportedError] if the server does not
// offer the extension, or takes longer than a message that is to be returned has time. A relay sends what is left
// of the time, see [By.After], and may send messages that are not to be returned without the parameter to a server that does
// not offer it (section 4.1.4).
func DeliverBy() ext.Extension {
	return ext.Extension{
		Keyword:   "DELIVERBY",
		Mail:      []ext.Param{{Key: "BY", MaxLength: len(" BY=-999999999;RT"), Check: checkBy}},
		Advertise: advertiseDeliverBy,
		CheckMail: checkMailBy,
		Prepare:   prepareBy,
	}
}

func advertiseDeliverBy(x ext.ServerConn) (string, bool) {
	s, ok := ext.As[DeliverBySession](x.Session())
	if !ok {
		return "", false
	}
	if least := minByTime(s); least > 0 {
		return formatSeconds(least), true
	}
	return "", true
}

func checkMailBy(_ context.Context, x ext.ServerConn, _ proto.Address, p proto.Params) error {
	b, ok := ReadBy(p)
	if !ok || !b.Return {
		return nil
	}
	s, ok := ext.As[DeliverBySession](x.Session())
	if !ok {
		return nil
	}
	if least := minByTime(s); b.In < least {
		return proto.Refuse(555, proto.Status{5, 5, 4}, fmt.Sprintf("The time of BY has to be %d seconds at least", seconds(least)))
	}
	return nil
}

// An DeliverBySession is a session that can honour DELIVERBY.
type DeliverBySession interface {
	// MinDeliverBy returns the shortest time within which a message can be asked to be delivered or else returned, in
	// whole seconds. 0 means that there is none.
	MinDeliverBy() time.Duration
}

// minByTime returns the shortest time of s, as far as the digits allow it to be told.
func minByTime(s DeliverBySession) time.Duration {
	return min(max(s.MinDeliverBy(), 0), maxSeconds*time.Second).Truncate(time.Second)
}

// By is the parameter BY of a MAIL command.
type By struct {
	// In is the time from the command on within which the message is to be delivered, in whole seconds between
	// -999999999 and 999999999. It is negative if the time has passed, and cannot be 0 or less with Return.
	In time.Duration
	// Return says that a message which is late is to be returned (by-mode R). Otherwise the sender is told of the
	// delay (by-mode N).
	Return bool
	// Trace asks for a notification each time that the message is relayed.
	Trace bool
}

// ReadBy returns the parameter BY of a MAIL command, if there is one.
func ReadBy(p proto.Params) (b By, ok bool) {
	return readParam(p, "BY", parseBy)
}

// AddTo returns p with the parameter BY. Parts of a second are cut off.
func (b By) AddTo(p proto.Params) proto.Params {
	value := formatSeconds(b.In) + ";N"
	if b.Return {
		value = formatSeconds(b.In) + ";R"
	}
	if b.Trace {
		value += "T"
	}
	return p.Set("BY", value)
}

// After returns what is left of b when a relay has kept the message for elapsed (RFC 2852 section 4.1.4). It reports false
// if the message is too late and to be returned, with the status 5.4.7, rather than sent on.
func (b By) After(elapsed time.Duration) (left By, ok bool) {
	b.In = max((b.In - elapsed).Truncate(time.Second), -maxSeconds*time.Second)
	return b, !b.Return || b.In > 0
}

// parseBy reads by-time ";" by-mode [by-trace].
func parseBy(value string) (By, bool) {
	digits, mode, ok := strings.Cut(value, ";")
	if !ok {
		return By{}, false
	}
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	var b By
	if b.In, ok = parseSeconds(digits); !ok {
		return By{}, false
	}
	if negative {
		b.In = -b.In
	}
	switch strings.ToUpper(mode) {
	case "N":
	case "NT":
		b.Trace = true
	case "R":
		b.Return = true
	case "RT":
		b.Return, b.Trace = true, true
	default:
		return By{}, false
	}
	return b, !b.Return || b.In > 0
}

func checkBy(value string) error {
	if _, ok := parseBy(value); !ok {
		return errors.New("BY has to be seconds, of 9 digits at most, and ;N or ;R or one of these with T; for R they have to be 1 at least")
	}
	return nil
}

func prepareBy(c proto.Caps, e *ext.Envelope) error {
	b, ok := ReadBy(e.Mail)
	if !ok || !b.Return {
		return nil
	}
	args, _ := c.Args("DELIVERBY")
	digits, _, _ := strings.Cut(args, ",") // more arguments are reserved for the future (section 2)
	if least, ok := parseSeconds(digits); ok && b.In < least {
		return &ext.UnsupportedError{Keyword: "DELIVERBY", What: "a message to be delivered or returned within " + b.In.String(),
			Err: fmt.Errorf("the server needs %v at least", least)}
	}
	return nil
}
