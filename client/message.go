package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A Message is a message to be sent: an envelope and the content. [NewMessage] makes one from strings.
//
// A message may be sent several times, to one server or to several, if its Body can be read again; see Body. It must
// not be sent by two goroutines at once, since both would read the Body; [Share] makes copies for that.
type Message struct {
	// From is the reverse-path: the address to which bounces go. The zero value is the null reverse-path <>, for messages
	// that must not cause a bounce, such as bounces.
	From proto.Address
	// Mail are parameters for the MAIL command, beyond those that extensions add by themselves, such as SIZE.
	Mail proto.Params
	// To are the recipients, at least one, with the parameters of each RCPT command. Nobody else gets the message,
	// whatever its header says.
	To []proto.Recipient
	// Body is the content: header, an empty line, and text. Nil is empty content. If the message may be sent again, give
	// an io.Seeker (strings.Reader, bytes.Reader, os.File), or what WriterBody or OpenBody returns. Any other Body is used
	// up by the first attempt, even if that fails before much is sent. Another attempt with the same Body fails with a
	// MessageError.
	//
	// A CR or LF that is not part of a CRLF is sent as CRLF, unless the content is binary. Nothing else is changed, and no
	// header field is added or removed.
	//
	// The goroutine that sends reads the Body, in blocks of 64 KiB, from where it stands. An io.Seeker is put back when
	// the message has been sent. Up to 256 KiB of it are read twice, the first time to learn its size and whether it has
	// octets above 127. What is longer is read twice as a whole only if it has line endings other than CRLF, or if the
	// server does not take octets above 127. What WriterBody or OpenBody returns is read twice as a whole also if Size is
	// not set, since there is no other way to learn its size.
	Body io.Reader
	// Size is the number of octets of Body, with a CRLF at each end of line. Zero means unknown. It is used when the size
	// cannot be learned from Body.
	Size int64
	// Needs is what the content needs, beyond what its octets tell: ext.UTF8 for a header in UTF-8 (RFC 6532), ext.Binary
	// for content that is not lines of text.
	//
	// Octets above 127 need not be declared. What has not been looked at before the message is sent is taken to have them
	// if the server takes them: a Body that is longer than a block and cannot be read again, or one that is longer than
	// 256 KiB.
	// If the server does not take them, sending fails at the first one.
	Needs ext.Feature
	// AllOrNone says that nobody gets the message unless the server takes all of its recipients. The content waits for the
	// replies to all RCPT commands, which costs a round trip. If one is refused, the transaction ends with RSET. Nobody
	// has got the message then, and the whole of it may be sent again. The recipients that were not refused have an
	// [AllOrNoneError]. Without AllOrNone those whom the server takes get the message.
	//
	// Such a message goes in one transaction. With more recipients than the server takes in one, it is a [MessageError],
	// and nothing of it is sent. A server that has stated no number is offered 1000 at most.
	//
	// In LMTP, and with the parameter PRDR, a server answers the content for each recipient. Then AllOrNone says only that
	// the content is not sent unless all are taken: some may get the message that others refuse for its content. So the
	// client does not ask for PRDR with such a message.
	AllOrNone bool

	used     io.Reader // the Body that has been read and cannot be read again
	delivery *Delivery // whose Body may be taken back; nil if nobody can
}

// NewMessage returns a message from addresses as strings, in the form alice@example.org or <alice@example.org>; for a
// [mail.Address] see [Addresses]. An empty from is the null reverse-path. The error is a *MessageError: an address that
// is malformed, which the error names, or no recipients. Body is the content; see Message.Body. A *bytes.Buffer stays
// as it is: the message reads what the buffer has when the message is sent first, and can be sent again.
func NewMessage(from string, to []string, body io.Reader) (*Message, error) {
	if b, ok := body.(*bytes.Buffer); ok && b != nil {
		body = &bufferReader{buffer: b}
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

// A bufferReader reads what a buffer has at the first use, and leaves it in the buffer.
type bufferReader struct {
	buffer *bytes.Buffer
	bytes.Reader
	begun bool
}

func (b *bufferReader) begin() {
	if !b.begun {
		b.begun = true
		b.Reader.Reset(b.buffer.Bytes())
	}
}

func (b *bufferReader) Read(p []byte) (int, error) {
	b.begin()
	return b.Reader.Read(p)
}

func (b *bufferReader) Seek(offset int64, whence int) (int64, error) {
	b.begin()
	return b.Reader.Seek(offset, whence)
}

// load reads the first block of the body into b. It returns an error if the body has been read before, and cannot be
// read again.
func (m *Message) load(b *body) error {
	if m.spent() {
		return errUsed
	}
	b.declared = m.Size
	err := b.load(m.Body)
	if !b.origin.repeatable() {
		m.used = m.Body
	}
	if err != nil {
		return &MessageError{What: "reading the body", Err: err}
	}
	return nil
}

// spent reports whether the body has been read before, and cannot be read again.
func (m *Message) spent() bool { return m.used != nil && sameReader(m.used, m.Body) }

var errUsed = &MessageError{
	What: "the body",
	Err: errors.New("it was read when the message was sent before, and cannot be read again: give the message a new Body, " +
		"or one that can be read again: an io.Seeker, or that of WriterBody or OpenBody"),
}

// sameReader reports whether a and b are the same reader, as far as that can be told.
func sameReader(a, b io.Reader) bool {
	return b != nil && reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// A Result is the outcome of sending a message.
type Result struct {
	// Recipients are the outcomes for the recipients, in the order of Message.To. Err is nil if the server has accepted
	// the message for this recipient. Otherwise Err is the refusal, a *proto.Error, or says why there was no reply. If the
	// server refused the content, Verb of the *proto.Error is "content", or BDAT if the content went in chunks.
	Recipients []proto.Outcome
	// Reply is the reply to the content, or zero if there was none. Its text often has the server's identifier for the
	// message. In LMTP it is the reply for the last recipient. It is that of the last transaction, if there were several.
	Reply proto.Reply
	// Octets is the size of the content as it was transmitted, in all transactions together: as far as it was sent, or
	// about to be, when the sending ended.
	Octets int64
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
