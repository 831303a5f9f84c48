package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Message is a message to be sent: an envelope and the content. See [NewMessage] for one made of strings.
type Message struct {
	// From is the reverse-path, to which bounces go. The zero value is the null reverse-path <>, for messages that must
	// not be answered by a bounce, such as bounces.
	From proto.Address
	// Mail are parameters for the MAIL command beyond those that the extensions add by themselves.
	Mail proto.Params
	// To are the recipients, at least one, with the parameters of each RCPT command.
	To []proto.Recipient
	// Body is the content: header, an empty line, and text. Nil is empty content. It is read by the goroutine that
	// sends, in blocks, once; a CR or LF that is not part of a CRLF becomes one unless the content is binary. If it is
	// an io.Seeker and more than a block long, it is read twice, the first time to learn its size and whether it
	// has octets above 127. An io.Seeker is put back to where it was in the end, so that the message can be sent again; any
	// other Body has been used up, and a message to be sent again needs a new one.
	Body io.Reader
	// Size is the number of octets of Body, a CRLF counting for each end of line, if the caller knows it; zero means
	// that he does not. It is used where Body does not tell.
	Size int64
	// Needs is what the content needs beyond what its octets tell: ext.UTF8 for a header in UTF-8 (RFC 6532), ext.Binary
	// for content that is not lines of text. Octets above 127 are found without it, but for a Body that is longer than
	// a block and not an io.Seeker: that is declared to have them if the server offers to take them, and if not,
	// sending it fails at the first one.
	Needs ext.Feature

	used io.Reader // the Body that has been read and cannot be read again
}

// NewMessage returns a message from addresses as strings, in the form alice@example.org or <alice@example.org>. An empty
// from is the null reverse-path. The error is a *MessageError: an address that is malformed, which the error names, or no
// recipients. Body is the content; see Message.Body. A *bytes.Buffer stays as it is: the message reads its octets, and can
// be sent again.
func NewMessage(from string, to []string, body io.Reader) (*Message, error) {
	if b, ok := body.(*bytes.Buffer); ok && b != nil {
		body = bytes.NewReader(b.Bytes())
	}
	m := &Message{To: make([]proto.Recipient, len(to)), Body: body}
	var err error
	if from != "" && from != "<>" {
		if m.From, err = parseAddress(from); err != nil {
			return nil, &MessageError{What: fmt.Sprintf("the sender %q", from), Err: err}
		}
	}
	for i, s := range to {
		if m.To[i].Address, err = parseAddress(s); err != nil {
			return nil, &MessageError{What: fmt.Sprintf("the recipient %q", s), Err: err}
		}
	}
	if len(to) == 0 {
		return nil, errNoRecipients
	}
	return m, nil
}

// parseAddress parses an address, which may be in angle brackets.
func parseAddress(s string) (proto.Address, error) {
	if inner, ok := strings.CutPrefix(s, "<"); ok {
		if inner, ok = strings.CutSuffix(inner, ">"); ok {
			return proto.ParseAddress(inner)
		}
	}
	a, err := proto.ParseAddress(s)
	if err != nil && strings.HasSuffix(s, ">") && strings.Contains(s, " <") {
		err = errors.New("write the address alone, without a name")
	}
	return a, err
}

// load reads the first block of the body into b. It returns an error if the body has been read before, and cannot be read
// again.
func (m *Message) load(b *body) error {
	if m.used != nil && sameReader(m.used, m.Body) {
		return errUsed
	}
	err := b.load(m.Body)
	if !b.rewindable {
		m.used = m.Body
	}
	if err != nil {
		return &MessageError{What: "reading the body", Err: err}
	}
	return nil
}

var errUsed = &MessageError{What: "the body", Err: errors.New("it was read when the message was sent before, and cannot be " +
	"read again: give the message a new Body, or one that is an io.Seeker")}

// sameReader reports whether a and b are the same reader, as far as that can be told.
func sameReader(a, b io.Reader) bool {
	return b != nil && reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// A Result is what became of a message.
type Result struct {
	// Recipients are the outcomes for the recipients, in the order of Message.To.
	Recipients []proto.Outcome
	// Reply is the reply to the content, zero if there was none. It often has the name that the server has given to
	// the message. In LMTP it is that for the last recipient.
	Reply proto.Reply
}

// Sent returns the number of recipients for whom the server has accepted the message.
func (r *Result) Sent() int {
	n := 0
	for i := range r.Recipients {
		if r.Recipients[i].Err == nil {
			n++
		}
	}
	return n
}
