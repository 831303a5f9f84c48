package ehlo

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// DeliverBy returns the extension DELIVERBY (RFC 2852), by which a sender sets a time for the delivery of a message.
// When the time has passed, the server returns the message or tells the sender of the delay, as the sender chose.
//
// A server offers it if the session implements [DeliverBySession], which reads the parameter with [ReadBy]. The server
// refuses with 555 a message that is to be returned sooner than the shortest time of the session. The session itself
// refuses other times that it cannot meet, with 455 or 555 (RFC 2852 section 4).
//
// On a client, add the parameter with [By.AddTo]. The client refuses the message with an [ext.UnsupportedError] if the
// server does not offer the extension. It does so as well if the message is to be returned and its time is below the
// minimum that the server states. A relay sends the time that is left, see [By.After]. It may drop the parameter if the
// next server does not offer the extension and the message is not to be returned (RFC 2852 section 4.1.4).
//
// The extension is in [Default], and not in [LMTP].
func DeliverBy() ext.Extension {
	return ext.Extension{
		Keyword:    "DELIVERBY",
		Interfaces: []reflect.Type{reflect.TypeFor[DeliverBySession]()},
		Mail:       []ext.Param{{Key: "BY", MaxLength: len(" BY=-999999999;RT"), Check: checkBy}},
		Advertise:  advertiseDeliverBy,
		CheckMail:  checkMailBy,
		Prepare:    prepareBy,
	}
}

func advertiseDeliverBy(x ext.ServerConn) (string, bool) {
	s, ok := ext.As[DeliverBySession](x.Session())
	if !ok {
		return "", false
	}
	if minTime := minByTime(s); minTime > 0 {
		return formatSeconds(minTime), true
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
	if minTime := minByTime(s); b.In < minTime {
		return proto.Refuse(555, proto.Status{5, 5, 4},
			fmt.Sprintf("The time of BY has to be %d seconds at least", seconds(minTime)))
	}
	return nil
}

// A DeliverBySession is a session that delivers messages within the time their sender sets, or tells the sender.
type DeliverBySession interface {
	// MinDeliverBy returns the shortest time for which the session accepts a message that is to be returned when late, in
	// whole seconds. 0 means no limit. The server states it to clients.
	MinDeliverBy() time.Duration
}

// minByTime returns the shortest time of s, within the range that nine digits can state.
func minByTime(s DeliverBySession) time.Duration {
	return min(max(s.MinDeliverBy(), 0), maxSeconds*time.Second).Truncate(time.Second)
}

// By is the parameter BY of a MAIL command.
type By struct {
	// In is the time for delivery, counted from the command, in whole seconds between -999999999 and 999999999. It is
	// negative if the time has passed. With Return it has to be above 0.
	In time.Duration
	// Return says that a late message is to be returned (by-mode R). Otherwise the sender is told of the delay (by-mode
	// N).
	Return bool
	// Trace asks for a notification from each server that relays the message.
	Trace bool
}

// ReadBy returns the parameter BY of a MAIL command. It reports false if there is none.
func ReadBy(p proto.Params) (b By, ok bool) {
	return readParam(p, "BY", parseBy)
}

// AddTo returns p with the parameter BY. It drops fractions of a second.
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

// After returns what is left of b after a relay has kept the message for elapsed (RFC 2852 section 4.1.4). It reports
// false if the message is late and has to be returned, with the status code 5.4.7, in place of being relayed.
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
		return errors.New("BY has to be seconds, of 9 digits at most, and ;N or ;R or one of these with T; " +
			"for R they have to be 1 at least")
	}
	return nil
}

func prepareBy(c proto.Caps, e *ext.Envelope) error {
	b, ok := ReadBy(e.Mail)
	if !ok || !b.Return {
		return nil
	}
	args, _ := c.Args("DELIVERBY")
	digits, _, _ := strings.Cut(args, ",") // RFC 2852 section 2 reserves further arguments
	if minTime, ok := parseSeconds(digits); ok && b.In < minTime {
		return &ext.UnsupportedError{Keyword: "DELIVERBY",
			What: "a message to be delivered or returned within " + b.In.String(),
			Err:  fmt.Errorf("the server needs %v at least", minTime)}
	}
	return nil
}
