package client

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// An envelope is a message made ready for a session: its commands in the form in which they are sent. What is wrong
// with a message is found when its envelope is made, before a byte of it is sent. Envelopes come from a pool, and go
// back when the message has been sent.
type envelope struct {
	prepared ext.Envelope // the message, with what the extensions have added

	mail  []byte // the arguments of MAIL
	rcpts []byte // the arguments of all RCPT commands
	ends  []int  // where those of each end
	args  []byte // those of another command

	binary   bool // the content is binary
	sevenBit bool // octets above 127 must not be sent
}

var envelopes = sync.Pool{New: func() any { return new(envelope) }}

// maxKept is how large the buffers of an envelope may be that goes back to the pool, in octets of RCPT arguments.
const maxKept = 64 << 10

// release gives e back to the pool.
func (e *envelope) release() {
	if cap(e.rcpts) > maxKept {
		return
	}
	to := e.prepared.To
	clear(to)
	*e = envelope{mail: e.mail[:0], rcpts: e.rcpts[:0], ends: e.ends[:0], args: e.args[:0]}
	e.prepared.To = to[:0]
	envelopes.Put(e)
}

// newEnvelope returns an envelope of m for the extensions. They may change it without changing m.
func newEnvelope(c *conn, m *Message) *envelope {
	e := envelopes.Get().(*envelope)
	e.prepared = ext.Envelope{
		From: m.From, Mail: slices.Clone(m.Mail), To: append(e.prepared.To[:0], m.To...), Size: -1, Needs: m.Needs,
		Verified: c.verified, AllOrNone: m.AllOrNone,
	}
	for i := range e.prepared.To {
		r := &e.prepared.To[i]
		r.Params = slices.Clone(r.Params)
	}
	return e
}

// load makes the envelope of t.m for the session of t.c, and reads the first block of the body.
func (t *transaction) load() (err error) {
	m, c := t.m, t.c
	if len(m.To) == 0 {
		return errNoRecipients
	}
	if !m.hold() {
		return errAbandoned
	}
	defer m.release(&t.body, &err)
	if err := m.load(&t.body); err != nil {
		return err
	}
	set, s := c.cfg.set, &c.session
	t.chunk = set.Chunk(s.offer)
	t.envelope = newEnvelope(c, m)
	e := t.envelope
	e.binary = m.Needs&ext.Binary != 0 || set.Binary(s.offer, m.Mail)
	if e.binary {
		e.prepared.Needs |= ext.Binary
	}
	if err := t.measure(); err != nil {
		return &MessageError{What: "reading the body", Err: err}
	}
	if err := e.prepare(c); err != nil {
		return err
	}
	if e.binary && t.chunk == nil {
		return &ext.UnsupportedError{What: "binary content"}
	}
	return e.render(c)
}

// validate returns what is wrong with the addresses and parameters of m, or nil. It does not read the body.
func validate(c *conn, m *Message) error {
	e := newEnvelope(c, m)
	defer e.release()
	if err := e.prepare(c); err != nil {
		return err
	}
	return e.render(c)
}

// prepare has the extensions add to the message, and returns why it cannot be sent.
func (e *envelope) prepare(c *conn) error {
	if err := c.cfg.set.Prepare(c.session.offer, c.session.caps, &e.prepared); err != nil {
		return asMessageError(err)
	}
	return nil
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

// measure finds the size of the content, and whether it has octets above 127.
func (t *transaction) measure() error {
	e, takes8bit := t.envelope, provides(t.c, ext.EightBit)
	m, err := t.body.measure(e.binary, t.chunk == nil, takes8bit)
	if err != nil {
		return err
	}
	e.prepared.Size = m.size
	if m.size < 0 && t.m.Size > 0 {
		e.prepared.Size = t.m.Size
	}
	switch {
	case m.eight, !m.whole && takes8bit:
		e.prepared.Needs |= ext.EightBit
	case !takes8bit && !e.binary:
		e.sevenBit = true // even if there are none: the content can be another when it is read again
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
func (cfg *config) eightBitError() error {
	return cfg.set.Unsupported(ext.EightBit, "content with 8-bit octets")
}

// maxCommandLine is the length of a command line without extensions, with its CRLF (RFC 5321 section 4.5.3.1.4).
const maxCommandLine = 512

// render makes the arguments of all commands.
func (e *envelope) render(c *conn) error {
	env, mail, rcpt := &e.prepared, c.cfg.verbs.mail, c.cfg.verbs.rcpt
	utf8 := c.cfg.set.UTF8(c.session.offer, env.Mail)
	var err error
	if e.mail, err = proto.AppendMailArgs(e.mail[:0], env.From, env.Mail, utf8); err == nil {
		err = checkLength(mail, e.mail)
	}
	if err != nil {
		return &MessageError{What: fmt.Sprintf("the sender %q", env.From.String()), Err: err}
	}
	for i := range env.To {
		start := len(e.rcpts)
		e.rcpts, err = proto.AppendRcptArgs(e.rcpts, env.To[i].Address, env.To[i].Params, utf8)
		if err == nil {
			err = checkLength(rcpt, e.rcpts[start:])
		}
		if err != nil {
			return &MessageError{What: fmt.Sprintf("the recipient %q", env.To[i].Address.String()), Err: err}
		}
		e.ends = append(e.ends, len(e.rcpts))
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
