package client

import (
	"fmt"
	"io"

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
}

// NewMessage returns a message from addresses as strings. An empty from is the null reverse-path. The error is a
// *MessageError that names the address which is not one.
func NewMessage(from string, to []string, body io.Reader) (*Message, error) {
	m := &Message{To: make([]proto.Recipient, len(to)), Body: body}
	var err error
	if from != "" {
		if m.From, err = proto.ParseAddress(from); err != nil {
			return nil, &MessageError{What: fmt.Sprintf("the sender %q", from), Err: err}
		}
	}
	for i, s := range to {
		if m.To[i].Address, err = proto.ParseAddress(s); err != nil {
			return nil, &MessageError{What: fmt.Sprintf("the recipient %q", s), Err: err}
		}
	}
	return m, nil
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
