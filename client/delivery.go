package client

import (
	"errors"
	"fmt"
	"slices"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A fate is what is known of a recipient.
type fate uint8

const (
	pending  fate = iota
	accepted      // by the reply to RCPT
	settled       // by a refusal, by the reply to the content, or by the end of the connection
)

// A delivery is a message on its way.
type delivery struct {
	m   *Message
	res *Result

	mail  []byte // the arguments of MAIL
	rcpts []byte // and of each RCPT, one behind the other
	ends  []int  // where each of them ends
	body  source

	verb   *proto.Verb // that carries chunks; nil for DATA
	binary bool
	seven  bool // octets above 127 must not be sent

	fates  []fate
	good   []int32 // the recipients accepted, in order
	served int     // of those, how many the replies to the content have settled
	split  bool    // the server tells the outcome for each recipient, and then for all
	later  []int32 // the recipients for whom the server had no room in this transaction

	open    int   // replies outstanding
	sender  error // MAIL was refused
	go354   bool  // DATA was answered with 354
	stopped error // why nothing more of the message is sent, or could be sent
	ended   bool  // the end of the content is on its way, or has been
	unknown bool
}

func newDelivery(m *Message) *delivery {
	d := &delivery{m: m, res: &Result{Recipients: make([]proto.Outcome, len(m.To))}, fates: make([]fate, len(m.To))}
	for i := range m.To {
		d.res.Recipients[i].Recipient = m.To[i]
	}
	return d
}

// prepare makes a delivery of m, all commands included. With an error in stopped, nothing of it is to be sent.
func (c *Client) prepare(m *Message) *delivery {
	d := newDelivery(m)
	if err := c.load(d); err != nil {
		d.stop(err)
		d.body.close()
	}
	return d
}

func (c *Client) load(d *delivery) error {
	if len(d.m.To) == 0 {
		return &MessageError{What: "the message", Err: errors.New("it has no recipients: add one to Message.To")}
	}
	if err := d.body.open(d.m.Body); err != nil {
		return &MessageError{What: "reading the body", Err: err}
	}
	d.verb = c.set.Chunk(c.offer)
	env := c.newEnvelope(d.m)
	d.binary = d.m.Needs&ext.Binary != 0 || c.set.Binary(c.offer, d.m.Mail)
	if d.binary {
		env.Needs |= ext.Binary
	}
	if err := c.measure(d, &env); err != nil {
		return &MessageError{What: "reading the body", Err: err}
	}
	if err := c.set.Prepare(c.offer, c.caps, &env); err != nil {
		return unprepared(err)
	}
	if d.binary && d.verb == nil {
		return &ext.UnsupportedError{What: "binary content"}
	}
	return c.render(d, &env)
}

// unprepared is the error of an extension that would not have a message, as one that says that it is about the message.
func unprepared(err error) error {
	_, told := asType[interface {
		error
		Status() proto.Status
	}](err)
	if _, refused := asType[*proto.Error](err); told || refused {
		return err
	}
	return &MessageError{What: "the message", Err: err}
}

// newEnvelope returns the envelope of m for the extensions, which may change what they like of it.
func (c *Client) newEnvelope(m *Message) ext.Envelope {
	env := ext.Envelope{
		From: m.From, Mail: slices.Clone(m.Mail), To: slices.Clone(m.To), Size: -1, Needs: m.Needs, Verified: c.Verified(),
	}
	for i := range env.To {
		env.To[i].Params = slices.Clone(env.To[i].Params)
	}
	return env
}

// measure finds out what the body needs.
func (c *Client) measure(d *delivery, env *ext.Envelope) error {
	m, err := d.body.measure(d.binary, d.verb == nil)
	if err != nil {
		return err
	}
	env.Size = m.size
	if !m.known && d.m.Size > 0 {
		env.Size = d.m.Size
	}
	switch {
	case m.eight:
		env.Needs |= ext.EightBit
	case !m.known && c.meets(ext.EightBit):
		env.Needs |= ext.EightBit
	case !m.known && !d.binary:
		d.seven = true
	}
	return nil
}

// meets reports whether an extension on offer provides for n.
func (c *Client) meets(n ext.Feature) bool {
	for i, e := range c.set.Extensions() {
		if c.offer.Has(i) && e.Provides&n != 0 {
			return true
		}
	}
	return false
}

// commandLine is the length of a command line without extensions, with its CRLF (RFC 5321 section 4.5.3.1.4).
const commandLine = 512

// render makes the arguments of all commands, so that an address that cannot be sent is found before a byte is.
func (c *Client) render(d *delivery, env *ext.Envelope) error {
	utf8 := c.set.UTF8(c.offer, env.Mail)
	var err error
	if d.mail, err = proto.AppendMailArgs(nil, env.From, env.Mail, utf8); err != nil {
		return &MessageError{What: fmt.Sprintf("the sender %q", env.From.String()), Err: err}
	}
	if err := tooLong(c.mail, d.mail); err != nil {
		return &MessageError{What: fmt.Sprintf("the sender %q", env.From.String()), Err: err}
	}
	d.ends = make([]int, len(env.To))
	for i := range env.To {
		start := len(d.rcpts)
		d.rcpts, err = proto.AppendRcptArgs(d.rcpts, env.To[i].Address, env.To[i].Params, utf8)
		if err == nil {
			err = tooLong(c.rcpt, d.rcpts[start:])
		}
		if err != nil {
			return &MessageError{What: fmt.Sprintf("the recipient %q", env.To[i].Address.String()), Err: err}
		}
		d.ends[i] = len(d.rcpts)
	}
	return nil
}

func tooLong(v *proto.Verb, args []byte) error {
	if n := len(v.Name) + len(" ") + len(args) + len("\r\n"); n > commandLine+v.Grow {
		return fmt.Errorf("the command line of %s would have %d octets, and %d is what a server has to accept",
			v.Name, n, commandLine+v.Grow)
	}
	return nil
}

// rcptArgs returns the arguments of the RCPT command for the recipient i.
func (d *delivery) rcptArgs(i int) []byte {
	start := 0
	if i > 0 {
		start = d.ends[i-1]
	}
	return d.rcpts[start:d.ends[i]]
}

// hopeless reports whether nothing more of the message should be sent, as far as replies tell.
func (d *delivery) hopeless() bool { return d.sender != nil || d.stopped != nil || d.allRefused() }

func (d *delivery) allRefused() bool {
	if len(d.good) > 0 {
		return false
	}
	for _, f := range d.fates {
		if f == pending {
			return false
		}
	}
	return true
}

// answered takes note of a reply to e.
func (d *delivery) answered(e expectation, ev proto.Event) {
	r := ev.Reply.Reply()
	ok := r.Code/100 == 2
	switch e.role {
	case mail:
		if !ok {
			d.sender = refusal(r, e.name())
			d.settle(pending, r, d.sender)
		}
	case rcpt:
		d.answeredRcpt(int(e.i), r, e.name())
	case data:
		d.go354 = r.Code/100 == 3
		if !d.go354 {
			d.refuse(r, e.name())
		}
	case chunk:
		if !ok {
			d.refuse(r, e.name())
		}
	case content:
		d.answeredContent(r, e.name(), ev.Due)
	}
}

func (d *delivery) answeredRcpt(i int, r proto.Reply, verb string) {
	if d.fates[i] != pending {
		return // MAIL was refused, and so is whatever followed
	}
	res := &d.res.Recipients[i]
	res.Rcpt, res.Reply = r, r
	if r.Code/100 == 2 {
		d.fates[i] = accepted
		d.good = append(d.good, int32(i))
		return
	}
	d.fates[i] = settled
	err := refusal(r, verb)
	res.Err = err
	if len(d.good) == 0 {
		return
	}
	if r.Code == 552 {
		// It once was the code for too many recipients, and is to be taken for 452 (RFC 5321 section 4.5.3.1.10).
		res.Err = &proto.Error{Code: 452, Status: proto.Status{4, 5, 3}, Verb: verb, Err: err}
	}
	if r.Code == 552 || r.Code == 452 && (r.Status.IsZero() || r.Status[1] == 5 && r.Status[2] == 3) {
		d.later = append(d.later, int32(i))
	}
}

// answeredContent deals with a reply to the content: one for all recipients, or in LMTP one for each that was accepted,
// in their order (RFC 2033 section 4.2). In SMTP 353 announces one for each and one for all.
func (d *delivery) answeredContent(r proto.Reply, verb string, due int) {
	if r.Code/100 == 3 {
		d.split = true
		return
	}
	if d.split {
		d.answeredEach(r, verb, due)
		return
	}
	last := d.served + 1
	if due == 0 {
		last = len(d.good)
	}
	if d.served < len(d.good) {
		d.res.Reply = r
	}
	for ; d.served < min(last, len(d.good)); d.served++ {
		i := d.good[d.served]
		d.fates[i] = settled
		res := &d.res.Recipients[i]
		res.Reply = r
		if r.Code/100 != 2 && res.Err == nil {
			res.Err = refusal(r, verb)
		}
	}
}

// answeredEach deals with the reply for a recipient, and with that for all, which is the last. Only with that one does the
// server take responsibility for the message. What it has refused before stays refused.
func (d *delivery) answeredEach(r proto.Reply, verb string, due int) {
	if due > 0 {
		i := d.good[d.served]
		d.served++
		res := &d.res.Recipients[i]
		if res.Reply = r; r.Code/100 != 2 {
			d.fates[i], res.Err = settled, refusal(r, verb)
		}
		return
	}
	d.res.Reply = r
	for _, i := range d.good {
		switch res := &d.res.Recipients[i]; {
		case d.fates[i] == settled:
		case r.Code/100 != 2:
			d.fates[i], res.Reply, res.Err = settled, r, refusal(r, verb)
		default:
			d.fates[i] = settled
		}
	}
}

// refuse settles the recipients accepted so far: the server does not take the content.
func (d *delivery) refuse(r proto.Reply, verb string) {
	if d.stopped != nil {
		return
	}
	err := refusal(r, verb)
	if len(d.good) > 0 {
		d.res.Reply = r
	}
	d.stopped = err
	d.settle(accepted, r, err)
	d.settle(pending, r, err)
}

// stop settles all recipients that nothing is known of yet: err is why nothing more is sent.
func (d *delivery) stop(err error) {
	d.stopped = err
	d.settle(accepted, proto.Reply{}, err)
	d.settle(pending, proto.Reply{}, err)
}

// settle gives the recipients whose fate is f the end err.
func (d *delivery) settle(f fate, r proto.Reply, err error) {
	for i := range d.fates {
		if d.fates[i] == f {
			d.fates[i] = settled
			d.res.Recipients[i].Reply, d.res.Recipients[i].Err = r, err
		}
	}
}

// abandon tells that the connection is gone. What has been answered stands (RFC 2033 section 4.2).
func (d *delivery) abandon(err error) {
	unsettled := false
	for _, f := range d.fates {
		unsettled = unsettled || f != settled
	}
	if !unsettled {
		return
	}
	_, told := asType[*proto.Error](err)
	d.unknown = d.unknown || d.ended && !told
	d.stop(err)
}

// revoke takes back a success that the server reported before it had been sent all of the content. What it has made of the
// part that it got is unknown.
func (d *delivery) revoke() {
	d.unknown = true
	err := &ProtocolError{errEarly}
	for _, i := range d.good {
		if res := &d.res.Recipients[i]; res.Err == nil {
			res.Err, res.Reply = err, proto.Reply{}
		}
	}
}

// done reports whether all is known.
func (d *delivery) done() bool {
	for _, f := range d.fates {
		if f != settled {
			return false
		}
	}
	return d.open == 0
}

// refusedWhole reports whether the server has refused the message, and not just recipients, and returns what it said.
func (d *delivery) refusedWhole(p proto.Protocol) (proto.Outcome, bool) {
	all := d.res.Recipients
	switch {
	case d.sender != nil:
		return all[0], true
	case d.stopped != nil:
		for _, r := range all {
			if r.Err == d.stopped {
				return r, true
			}
		}
	case len(d.good) > 0 && p == proto.SMTP && !d.split:
		r := all[d.good[0]]
		return r, r.Err != nil
	}
	return proto.Outcome{}, false
}

// outcome returns the result, with a *SendError unless every recipient got the message. The body is put back to where it began,
// if it can be.
func (d *delivery) outcome() (*Result, error) {
	d.body.close()
	d.body.rewind()
	err := summary(d.res, d.unknown)
	if err == nil && d.stopped != nil { // for want of recipients
		err = &SendError{Result: d.res, Unknown: d.unknown, Err: d.stopped}
	}
	return d.res, err
}
