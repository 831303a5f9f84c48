package ehlo

import (
	"crypto/rand"
	"errors"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// What RFC 3461 section 5.4 demands room for, in octets of the value. RFC 3885 section 2 reads it so.
const (
	maxEnvID = 100
	maxORCPT = 500
)

// longestOwnEnvID is what a program that submits messages should keep to (RFC 3461 section 5.4).
const maxOwnEnvID = 38

// DSN returns the extension DSN (RFC 3461): a client says for which recipients it wants to be notified of what, and a
// notification tells it the message and the recipient by the names that it gave them. Addresses may be of the type
// utf-8 (RFC 6533 section 3).
//
// A server offers it if the session is a [DSNSession] that does what is asked. The session reads the parameters with
// [ReadDSNMail] and [ReadDSNRcpt]. Well-formed ones never make a difference to the reply (RFC 3461 section 5.1).
//
// On a client the caller adds them with [DSNMail.AddTo] and [DSNRcpt.AddTo]; the message is refused with a [ext.UnsupportedError] if
// the server does not offer DSN. A relay passes on what it has received and nothing else, unchanged: [SplitDSN]
// takes the parameters out of others, for a server that offers DSN and one that does not. Package report makes the
// notifications, and reads them.
func DSN() ext.Extension {
	return ext.Extension{
		Keyword: "DSN",
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

// A DSNSession is a session that can honour requests for delivery status notifications.
type DSNSession interface {
	// NotifiesSenders reports whether the notifications that a client asks for in this session are sent, or asked for
	// further on, as RFC 3461 section 5.2 has it; [Notify.Wants] tells which those are.
	NotifiesSenders() bool
}

// DSNMail is what the parameters RET and ENVID of a MAIL command say. The zero value is a command without them.
type DSNMail struct {
	Return Return
	// EnvID is the name of the message that notifications give back to the sender, printable ASCII. In xtext it has
	// 100 octets at most, and should have no more than 38 in a message that is submitted (RFC 3461 section 5.4); see
	// [NewEnvID] and [DSNMail.LongEnvID].
	EnvID string
}

// NewEnvID returns an EnvID that nobody else has and nobody can guess: 26 letters and digits. A sender who keeps it can tell
// the notifications about his message from forged ones, if its way was safe from eavesdroppers.
func NewEnvID() string { return rand.Text() }

// LongEnvID reports whether EnvID takes more than the 38 octets in xtext that RFC 3461 section 5.4 allows a program which
// submits messages. Every server has to take 100, but the next system may be a gateway that cannot. It is for a warning: a
// relay sends on what it was given.
func (d DSNMail) LongEnvID() bool { return len(proto.AppendXtext(nil, d.EnvID)) > maxOwnEnvID }

// Return says how much of a message that could not be delivered is to be returned (RFC 3461 section 4.3).
type Return uint8

// What is returned.
const (
	ReturnAny     Return = iota // the server decides
	ReturnHeaders               // RET=HDRS
	ReturnFull                  // RET=FULL
)

// ReadDSNMail returns what the parameters of a MAIL command say; ok is false if neither RET nor ENVID is there, or if one is
// malformed, which a session is never given. Of a message with REQUIRETLS only the header is returned, whatever else it
// asks for, and if it asks for nothing (RFC 8689 section 5).
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

// AddTo returns p with the parameters RET and ENVID as d has them.
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

// DSNRcpt is what the parameters NOTIFY and ORCPT of a RCPT command say. The zero value is a command without them.
type DSNRcpt struct {
	Notify   Notify
	Original OriginalRecipient
}

// Notify says of what the sender wants to be notified (RFC 3461 section 4.1). The values other than NotifyNever can be
// combined. The zero value is a command without the parameter; the sender then expects to be told of failures.
type Notify uint8

// What the sender can be notified of.
const (
	NotifyNever   Notify = 1 << iota // nothing; it cannot be combined
	NotifySuccess                    // delivery to a mailbox, or the last that is heard of the message
	NotifyFailure
	NotifyDelay
)

// An Action is what became of a message for a recipient, in the words of RFC 3464 section 2.3.3.
type Action string

// The actions.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed"  // to a server that does not offer DSN and has accepted the recipient
	Expanded  Action = "expanded" // to several addresses, which are not notified of success
)

// Wants reports whether the sender is to be notified of a (RFC 3461 sections 5.2.2 to 5.2.7). Notifications of failure and
// success are then a duty; of delay they are permitted. A message from the null reverse-path has nobody to be notified
// (section 5.2).
func (n Notify) Wants(a Action) bool {
	switch a {
	case Failed:
		return n == 0 || n&NotifyFailure != 0
	case Delayed:
		return n == 0 || n&NotifyDelay != 0
	}
	return n&NotifySuccess != 0
}

// String returns n as it is sent, and "" for the zero value.
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

// ReadDSNRcpt returns what the parameters of a RCPT command say; ok is false if neither NOTIFY nor ORCPT is there, or if one
// is malformed, which a session is never given.
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

// AddTo returns p with the parameters NOTIFY and ORCPT as d has them.
func (d DSNRcpt) AddTo(p proto.Params) proto.Params {
	if d.Notify != 0 {
		p = p.Set("NOTIFY", d.Notify.String())
	}
	if d.Original.Type != "" {
		p = p.Set("ORCPT", d.Original.encode())
	}
	return p
}

// parseNotify reads "NEVER" / 1#notify-list-element. Between the commas of such a list there may be nothing (RFC 822
// section 2.7).
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

// SplitDSN returns the parameters RET, ENVID, NOTIFY and ORCPT of p, and the others. A relay sends both to a server that
// offers DSN, so that the former arrive as they were received, to the letter, and only the latter to one that does
// not (RFC 3461 sections 5.2.1 and 5.2.2).
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
