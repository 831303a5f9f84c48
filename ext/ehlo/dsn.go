package ehlo

import (
	"crypto/rand"
	"errors"
	"reflect"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// How many octets of a value RFC 3461 section 5.4 makes a server accept, as RFC 3885 section 2 reads it.
const (
	maxEnvID = 100
	maxORCPT = 500
)

// maxOwnEnvID is the limit for programs that submit messages (RFC 3461 section 5.4), in octets of xtext.
const maxOwnEnvID = 38

// DSN returns the extension DSN (RFC 3461), by which a sender asks for delivery status notifications: for which
// recipients, and of success, failure or delay. A notification names the message and the recipient as the sender did.
// Addresses may be of the type utf-8 (RFC 6533 section 3).
//
// A server offers it if the session implements [DSNSession] and its NotifiesSenders is true. The session reads the
// parameters with [ReadDSNMail] and [ReadDSNRcpt]. The server refuses malformed parameters with 501; well-formed ones
// never change a reply (RFC 3461 section 5.1).
//
// On a client, add the parameters with [DSNMail.AddTo] and [DSNRcpt.AddTo]. If the server does not offer the extension,
// the client refuses the message with an [ext.UnsupportedError]. A relay passes on the parameters that it received,
// unchanged, and adds none. [SplitDSN] separates them from others, for a next server that does not offer DSN.
//
// Package [smtpkit.example/smtp/ext/report] makes notifications and reads them. The extension is in [Default].
func DSN() ext.Extension {
	return ext.Extension{
		Keyword:    "DSN",
		Interfaces: []reflect.Type{reflect.TypeFor[DSNSession]()},
		Mail: []ext.Param{
			{Key: "RET", MaxLength: len(" RET=FULL"), Values: []string{"FULL", "HDRS"}},
			{Key: "ENVID", MaxLength: len(" ENVID=") + maxEnvID, Check: checkEnvID},
		},
		Rcpt: []ext.Param{
			{Key: "NOTIFY", MaxLength: len(" NOTIFY=SUCCESS,FAILURE,DELAY"), Check: checkNotify},
			{Key: "ORCPT", MaxLength: len(" ORCPT=") + maxORCPT, Check: checkORCPT},
		},
		Advertise: advertiseIf(DSNSession.NotifiesSenders),
	}
}

// A DSNSession is a session that sends delivery status notifications, or makes the next server send them.
type DSNSession interface {
	// NotifiesSenders reports whether the session honours requests for notifications, as RFC 3461 section 5.2 demands.
	// [Notify.Wants] tells which notifications a sender wants.
	NotifiesSenders() bool
}

// DSNMail is the parameters RET and ENVID of a MAIL command. The zero value adds neither.
type DSNMail struct {
	Return Return
	// EnvID names the message in notifications to the sender. It is printable ASCII of at most 100 octets in xtext. A
	// program that submits messages should use no more than 38 (RFC 3461 section 5.4). See [NewEnvID] and
	// [DSNMail.LongEnvID].
	EnvID string
}

// NewEnvID returns a unique EnvID that nobody can guess: 26 letters and digits. A sender who keeps it can tell genuine
// notifications from forged ones, as long as no eavesdropper saw the message.
func NewEnvID() string { return rand.Text() }

// LongEnvID reports whether EnvID exceeds the 38 octets of xtext that RFC 3461 section 5.4 allows a program that
// submits messages. Every server has to accept 100, but the next system may be a gateway that cannot. Use LongEnvID to
// warn: a relay sends on the EnvID that it was given.
func (d DSNMail) LongEnvID() bool { return len(proto.AppendXtext(nil, d.EnvID)) > maxOwnEnvID }

// Return says how much of an undeliverable message is to be returned (RFC 3461 section 4.3).
type Return uint8

// The values of Return.
const (
	ReturnAny     Return = iota // the server decides
	ReturnHeaders               // RET=HDRS
	ReturnFull                  // RET=FULL
)

// ReadDSNMail returns RET and ENVID of a MAIL command. It reports false if neither is there, or if one is malformed,
// which a server never passes to a session. For a message with REQUIRETLS it returns ReturnHeaders, whether or not RET
// is there: only the header of such a message may be returned (RFC 8689 section 5).
func ReadDSNMail(p proto.Params) (d DSNMail, ok bool) {
	ret, hasRet := p.Get("RET")
	switch {
	case ReadRequireTLS(p) || hasRet && grammar.EqualFold(ret, "HDRS"):
		d.Return = ReturnHeaders
	case hasRet && grammar.EqualFold(ret, "FULL"):
		d.Return = ReturnFull
	case hasRet:
		return DSNMail{}, false
	}
	value, hasEnvID := p.Get("ENVID")
	if hasEnvID {
		if d.EnvID, ok = parseEnvID(value); !ok {
			return DSNMail{}, false
		}
	}
	return d, hasEnvID || d.Return != ReturnAny
}

// AddTo returns p with the parameters RET and ENVID of d.
func (d DSNMail) AddTo(p proto.Params) proto.Params {
	switch d.Return {
	case ReturnHeaders:
		p = p.Set("RET", "HDRS")
	case ReturnFull:
		p = p.Set("RET", "FULL")
	}
	if d.EnvID != "" {
		p = p.Set("ENVID", string(proto.AppendXtext(nil, d.EnvID)))
	}
	return p
}

func parseEnvID(value string) (string, bool) {
	text, err := proto.DecodeXtext(value)
	return text, err == nil && value != "" && len(value) <= maxEnvID && grammar.Printable(text)
}

func checkEnvID(value string) error {
	if _, ok := parseEnvID(value); !ok {
		return errors.New("ENVID has to be xtext of printable ASCII, 100 octets at most")
	}
	return nil
}

// DSNRcpt is the parameters NOTIFY and ORCPT of a RCPT command. The zero value adds neither.
type DSNRcpt struct {
	Notify   Notify
	Original OriginalRecipient
}

// Notify says of what the sender wants to be notified (RFC 3461 section 4.1). Combine the values other than NotifyNever
// with |. The zero value is a command without NOTIFY: the sender expects to be told of failures.
type Notify uint8

// The values of Notify.
const (
	NotifyNever   Notify = 1 << iota // of nothing; do not combine it
	NotifySuccess                    // of delivery, or of leaving the systems that notify
	NotifyFailure
	NotifyDelay
)

// An Action is what happened to a message for a recipient, in the words of RFC 3464 section 2.3.3.
type Action string

// The actions.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed"  // to a server that does not offer DSN and has accepted the recipient
	Expanded  Action = "expanded" // to several addresses, which are not notified of success
)

// Wants reports whether the sender wants to be notified of a (RFC 3461 sections 5.2.2 to 5.2.7). A server must then
// send notifications of failure and success, and may send those of delay. It must not notify the null reverse-path (RFC
// 3461 section 5.2).
func (n Notify) Wants(a Action) bool {
	switch a {
	case Failed:
		return n == 0 || n&NotifyFailure != 0
	case Delayed:
		return n == 0 || n&NotifyDelay != 0
	}
	return n&NotifySuccess != 0
}

// String returns the value of NOTIFY for n, and "" for the zero value.
func (n Notify) String() string {
	if n&NotifyNever != 0 {
		return "NEVER"
	}
	var words []string
	for _, w := range notifyWords {
		if n&w.notify != 0 {
			words = append(words, w.name)
		}
	}
	return strings.Join(words, ",")
}

var notifyWords = []struct {
	name   string
	notify Notify
}{{"SUCCESS", NotifySuccess}, {"FAILURE", NotifyFailure}, {"DELAY", NotifyDelay}}

// ReadDSNRcpt returns NOTIFY and ORCPT of a RCPT command. It reports false if neither is there, or if one is malformed,
// which a server never passes to a session.
func ReadDSNRcpt(p proto.Params) (d DSNRcpt, ok bool) {
	notify, hasNotify := p.Get("NOTIFY")
	orcpt, hasORCPT := p.Get("ORCPT")
	if hasNotify {
		if d.Notify, ok = parseNotify(notify); !ok {
			return DSNRcpt{}, false
		}
	}
	if hasORCPT {
		if d.Original, ok = parseORCPT(orcpt); !ok {
			return DSNRcpt{}, false
		}
	}
	return d, hasNotify || hasORCPT
}

// AddTo returns p with the parameters NOTIFY and ORCPT of d.
func (d DSNRcpt) AddTo(p proto.Params) proto.Params {
	if d.Notify != 0 {
		p = p.Set("NOTIFY", d.Notify.String())
	}
	if d.Original.Type != "" {
		p = p.Set("ORCPT", d.Original.encode())
	}
	return p
}

// parseNotify reads "NEVER" / 1#notify-list-element. It tolerates empty elements between commas (RFC 822 section 2.7).
func parseNotify(value string) (Notify, bool) {
	if grammar.EqualFold(value, "NEVER") {
		return NotifyNever, true
	}
	var n Notify
next:
	for word := range strings.SplitSeq(value, ",") {
		if word == "" {
			continue
		}
		for _, w := range notifyWords {
			if grammar.EqualFold(w.name, word) {
				n |= w.notify
				continue next
			}
		}
		return 0, false
	}
	return n, n != 0
}

func checkNotify(value string) error {
	if _, ok := parseNotify(value); !ok {
		return errors.New("NOTIFY has to be NEVER, or a list of SUCCESS, FAILURE and DELAY with commas")
	}
	return nil
}

func checkORCPT(value string) error {
	if _, ok := parseORCPT(value); !ok {
		return errors.New("ORCPT has to be a type of address, a semicolon and the address in xtext, 500 octets at most")
	}
	return nil
}

// SplitDSN divides p into the parameters RET, ENVID, NOTIFY and ORCPT, and all others. A relay sends both to a server
// that offers DSN, so that the former arrive exactly as received. To a server that does not offer DSN it sends only the
// latter (RFC 3461 sections 5.2.1 and 5.2.2).
func SplitDSN(p proto.Params) (dsn, others proto.Params) {
	for _, param := range p {
		switch strings.ToUpper(param.Key) {
		case "RET", "ENVID", "NOTIFY", "ORCPT":
			dsn = append(dsn, param)
		default:
			others = append(others, param)
		}
	}
	return dsn, others
}
