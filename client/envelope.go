package client

import (
	"errors"
	"fmt"
	"slices"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// An envelope is a message made ready for a session: its commands in the form in which they are sent, and its body.
// What is wrong with a message is found when its envelope is made, before a byte of it is sent.
type envelope struct {
	m *Message

	mail  []byte // the arguments of MAIL
	rcpts []byte // the arguments of all RCPT commands
	ends  []int  // where those of each end

	body     body
	chunk    *proto.Verb // carries chunks; nil for DATA
	binary   bool        // the content is binary
	sevenBit bool        // octets above 127 must not be sent
}

// load makes the envelope of e.m for the session of c, and reads the first block of the body.
func (e *envelope) load(c *conn) error {
	if len(e.m.To) == 0 {
		return errNoRecipients
	}
	if err := e.m.load(&e.body); err != nil {
		return err
	}
	set, s := c.cfg.set, &c.session
	e.chunk = set.Chunk(s.offer)
	env := newEnvelope(c, e.m)
	e.binary = e.m.Needs&ext.Binary != 0 || set.Binary(s.offer, e.m.Mail)
	if e.binary {
		env.Needs |= ext.Binary
	}
	if err := e.measure(c, &env); err != nil {
		return &MessageError{What: "reading the body", Err: err}
	}
	if err := set.Prepare(s.offer, s.caps, &env); err != nil {
		return asMessageError(err)
	}
	if e.binary && e.chunk == nil {
		return &ext.UnsupportedError{What: "binary content"}
	}
	return e.render(c, &env)
}

// validate returns what is wrong with the addresses and parameters of m, or nil. It does not read the body.
func validate(c *conn, m *Message) error {
	env := newEnvelope(c, m)
	if err := c.cfg.set.Prepare(c.session.offer, c.session.caps, &env); err != nil {
		return asMessageError(err)
	}
	return (&envelope{m: m}).render(c, &env)
}

// asMessageError returns an extension's refusal of a message as a MessageError, unless it carries a status already.
func asMessageError(err error) error {
	_, told := asType[interface {
		error
		Status() proto.Status
	}](err)
	if _, refused := asType[*proto.Error](err); told || refused {
		return err
	}
	return &MessageError{What: "the message", Err: err}
}

// newEnvelope returns the envelope of m for the extensions. They may change it without changing m.
func newEnvelope(c *conn, m *Message) ext.Envelope {
	env := ext.Envelope{
		From: m.From, Mail: slices.Clone(m.Mail), To: slices.Clone(m.To), Size: -1, Needs: m.Needs, Verified: c.verified,
	}
	for i := range env.To {
		env.To[i].Params = slices.Clone(env.To[i].Params)
	}
	return env
}

// measure finds the size of the content, and whether it has octets above 127.
func (e *envelope) measure(c *conn, env *ext.Envelope) error {
	m, err := e.body.measure(e.binary, e.chunk == nil)
	if err != nil {
		return err
	}
	env.Size = m.size
	if !m.known && e.m.Size > 0 {
		env.Size = e.m.Size
	}
	switch {
	case m.eight:
		env.Needs |= ext.EightBit
	case !m.known && provides(c, ext.EightBit):
		env.Needs |= ext.EightBit
	case !m.known && !e.binary:
		e.sevenBit = true
	}
	return nil
}

// provides reports whether an extension on offer provides for n.
func provides(c *conn, n ext.Feature) bool {
	for i, x := range c.cfg.set.Extensions() {
		if c.session.offer.Has(i) && x.Provides&n != 0 {
			return true
		}
	}
	return false
}

// eightBitError returns the error for octets above 127 that cannot be sent.
func (e *envelope) eightBitError(c *conn) error {
	return c.cfg.set.Unsupported(ext.EightBit, "content with 8-bit octets")
}

// maxCommandLine is the length of a command line without extensions, with its CRLF (RFC 5321 section 4.5.3.1.4).
const maxCommandLine = 512

// render makes the arguments of all commands.
func (e *envelope) render(c *conn, env *ext.Envelope) error {
	utf8 := c.cfg.set.UTF8(c.session.offer, env.Mail)
	var err error
	if e.mail, err = proto.AppendMailArgs(nil, env.From, env.Mail, utf8); err == nil {
		err = checkLength(c.cfg.verbs.mail, e.mail)
	}
	if err != nil {
		return &MessageError{What: fmt.Sprintf("the sender %q", env.From.String()), Err: err}
	}
	e.ends = make([]int, len(env.To))
	for i := range env.To {
		start := len(e.rcpts)
		e.rcpts, err = proto.AppendRcptArgs(e.rcpts, env.To[i].Address, env.To[i].Params, utf8)
		if err == nil {
			err = checkLength(c.cfg.verbs.rcpt, e.rcpts[start:])
		}
		if err != nil {
			return &MessageError{What: fmt.Sprintf("the recipient %q", env.To[i].Address.String()), Err: err}
		}
		e.ends[i] = len(e.rcpts)
	}
	return nil
}

func checkLength(v *proto.Verb, args []byte) error {
	if n := len(v.Name) + len(" ") + len(args) + len("\r\n"); n > maxCommandLine+v.Grow {
		return fmt.Errorf("the command line of %s would have %d octets, and %d is what a server has to accept",
			v.Name, n, maxCommandLine+v.Grow)
	}
	return nil
}

// rcptArgs returns the arguments of the RCPT command for the recipient i.
func (e *envelope) rcptArgs(i int) []byte {
	start := 0
	if i > 0 {
		start = e.ends[i-1]
	}
	return e.rcpts[start:e.ends[i]]
}

var errNoRecipients = &MessageError{What: "the message", Err: errors.New("it has no recipients: add one to Message.To")}
