package proto

import (
	"bytes"
	"math"
	"unicode/utf8"
)

// A Receiver is the engine of a server: bytes go in, events come out, and replies are appended to a buffer of the
// caller's.
//
//	for {
//		switch ev := rx.Next(); ev.Kind {
//		case proto.NeedInput:
//			// write the replies appended so far, then read: n, err := conn.Read(rx.Space()); rx.Filled(n)
//		case proto.Command:
//			// carry it out, after its Body events if it has a payload, and AppendReply
//		…
//
// The first reply is the greeting. A Receiver is not safe for concurrent use.
type Receiver struct {
	machine *Machine
	lim     Limits

	in input

	line       lineReader
	cutPayload bool // the line being dropped began with a verb that has a payload
	content    decoder
	chunks     bareScanner

	payload     int64 // octets of a payload still to come
	lastPayload bool  // the payload is the last of its content
	endOfBody   bool  // the content is complete and EndOfBody has not been reported
	closed      bool  // nothing can be read any more
	status      bool
	utf8        bool
}

// NewReceiver returns a Receiver of a connection just made. The table may be shared.
func NewReceiver(t *Table, lim Limits) *Receiver {
	return &Receiver{machine: NewMachine(t), lim: lim, in: newInput()}
}

// State returns where the session stands.
func (rx *Receiver) State() State { return rx.machine.Now() }

// Rcpts returns the number of recipients accepted in the transaction.
func (rx *Receiver) Rcpts() int { return rx.machine.Rcpts() }

// Splits reports whether the content of the transaction may be answered by 353, one reply for each recipient accepted, and
// one for all; a single reply will do as well.
func (rx *Receiver) Splits() bool { return rx.machine.Splits() }

// Space returns room for input; it is never empty. Filled tells how much of it was used.
func (rx *Receiver) Space() []byte { return rx.in.space() }

// Filled tells that n octets were put into what Space returned.
func (rx *Receiver) Filled(n int) { rx.in.w += n }

// Buffered returns the number of octets that have been received and not dealt with.
func (rx *Receiver) Buffered() int { return rx.in.w - rx.in.r }

// Lend makes the receiver use buf for its input from here on, and returns the buffer it used before, so that a large
// one is tied up only while there is content to read. What has not been dealt with moves along; if it does not fit, buf
// is returned.
func (rx *Receiver) Lend(buf []byte) []byte {
	if len(buf) <= rx.in.w-rx.in.r {
		return buf
	}
	old := rx.in.buf
	rx.in.w = copy(buf, old[rx.in.r:rx.in.w])
	rx.in.r, rx.in.buf = 0, buf
	return old
}

// Next returns what comes next in the input. While a command waits to be answered it returns the payload that belongs to
// the command, if any, and after that NeedReply.
func (rx *Receiver) Next() Event {
	switch {
	case rx.machine.Now() == Closed && rx.machine.Outstanding() == 0:
		return Event{Kind: End} // whatever is left of content, nobody is going to answer it
	case rx.payload > 0:
		return rx.chunk()
	case rx.endOfBody:
		rx.endOfBody = false
		return Event{Kind: EndOfBody, Verb: rx.machine.Waiting()}
	case rx.machine.Outstanding() > 0:
		return Event{Kind: NeedReply, Verb: rx.machine.Waiting()}
	case rx.closed:
		return Event{Kind: End}
	}
	switch rx.machine.Now() {
	case Closed, Handover:
		return Event{Kind: End}
	case Content:
		return rx.body()
	}
	if rx.in.r == rx.in.w {
		return Event{Kind: NeedInput}
	}
	return rx.nextLine()
}

// chunk returns a piece of the payload.
func (rx *Receiver) chunk() Event {
	if rx.in.r == rx.in.w {
		return Event{Kind: NeedInput}
	}
	n := int(min(rx.payload, int64(rx.in.w-rx.in.r)))
	data := rx.in.buf[rx.in.r : rx.in.r+n]
	rx.in.r += n
	rx.payload -= int64(n)
	rx.chunks.scan(data)
	if rx.payload == 0 {
		rx.endPayload()
	}
	return Event{Kind: Body, Verb: rx.machine.Waiting(), Data: data}
}

func (rx *Receiver) endPayload() {
	rx.endOfBody = true
	if rx.lastPayload {
		rx.chunks.finish()
	}
}

// body returns a piece of the content that follows a 354.
func (rx *Receiver) body() Event {
	p := rx.in.pending()
	out, used, end := rx.content.decode(p)
	rx.in.r += used
	if end {
		_ = rx.machine.End() // allowed in Content with nothing outstanding, which is where we are
		rx.endOfBody = true
	}
	if out > 0 {
		return Event{Kind: Body, Data: p[:out]}
	}
	if end {
		return rx.Next()
	}
	return Event{Kind: NeedInput}
}

// tlsHandshake is the first octet of a TLS record that carries a handshake, and never that of a command.
const tlsHandshake = 0x16

func (rx *Receiver) nextLine() Event {
	exchange := rx.machine.Now() == Exchange
	limit := rx.machine.table.maxLine
	if exchange {
		limit = rx.lim.exchangeLine()
	} else if rx.in.buf[rx.in.r] == tlsHandshake && rx.line.dropped == 0 {
		return rx.fatal(errTLS)
	}
	fresh := rx.line.dropped == 0
	line, used, length, found := rx.line.next(rx.in.pending(), limit)
	tooLong := length > limit
	if tooLong && fresh && !exchange {
		// The beginning of the line is about to be given up, so now is the time to see whether octets follow it.
		rx.cutPayload = rx.hasPayload(rx.in.pending())
	}
	rx.in.r += used
	if length > limit+rx.lim.droppedLine() {
		return rx.fatal(errNoLineEnd)
	}
	if !found {
		return Event{Kind: NeedInput}
	}
	rx.line.done()
	switch {
	case exchange:
		return rx.exchange(line, tooLong)
	case tooLong && rx.cutPayload:
		return rx.fatal(errPayloadSize)
	case tooLong:
		rx.machine.Refused(nil)
		return Event{Kind: Command, Payload: -1, Err: errLineTooLong}
	}
	return rx.command(line, length)
}

// hasPayload reports whether line begins with a verb that octets may follow.
func (rx *Receiver) hasPayload(line []byte) bool {
	word, _, _ := bytes.Cut(line[:min(len(line), maxVerb+1)], space)
	v := rx.machine.table.lookup(word)
	return v != nil && v.Payload != nil
}

func (rx *Receiver) exchange(line []byte, tooLong bool) Event {
	verb := rx.machine.exchange
	_ = rx.machine.Line() // allowed in Exchange with nothing outstanding, which is where we are
	ev := Event{Kind: Line, Verb: verb, Payload: -1, Data: line}
	if tooLong {
		ev.Data, ev.Err = nil, errExchangeTooLong
	}
	return ev
}

var space = []byte{' '}

// command takes a command line apart. Framing comes before all else (law 4): what follows the line is known before
// it is asked whether the command is in order.
func (rx *Receiver) command(line []byte, length int) Event {
	line = trimRight(line)
	word, args, _ := bytes.Cut(line, space)
	v := rx.machine.table.lookup(word)
	ev := Event{Kind: Command, Verb: v, Args: args, Payload: -1}
	if v == nil {
		ev.Err = errUnknown
	} else {
		if v.Variant != nil {
			if other := v.Variant(args); other != nil {
				ev.Verb = other
			}
		}
		if v.Payload != nil {
			ev.Payload, ev.Err = v.Payload(args)
			if ev.Payload < 0 {
				if ev.Err == nil {
					ev.Err = errPayloadSize
				}
				return rx.fatal(ev.Err)
			}
		}
		if ev.Err == nil && length > baseCommandLine+v.Grow {
			ev.Err = errLineTooLong
		}
	}
	if c := badOctet(line); c != 0 && (ev.Err == nil || v == nil) {
		ev.Err = errControl
		if c == '\n' {
			ev.Err = errBareLF
		}
	} else if ev.Err == nil && !utf8.Valid(args) {
		ev.Err = errNotUTF8
	}
	rx.record(&ev)
	return ev
}

// record takes note of the command, and of the payload that follows it.
func (rx *Receiver) record(ev *Event) {
	now := rx.machine.Now()
	switch {
	case ev.Verb == nil:
		rx.machine.Refused(nil)
	case rx.machine.Command(ev.Verb, ev.Args) != nil:
		rx.machine.Refused(ev.Verb)
		if ev.Err == nil {
			ev.Err = outOfSequence(now, ev.Verb)
		}
	}
	if now != Chunks {
		rx.chunks, rx.content = bareScanner{}, decoder{}
	}
	if ev.Payload < 0 {
		return
	}
	rx.payload, rx.lastPayload = ev.Payload, ev.Verb.Ends()
	if rx.payload == 0 {
		rx.endPayload()
	}
}

// fatal reports that the stream cannot be understood any further. One reply can still be sent.
func (rx *Receiver) fatal(err *Error) Event {
	rx.closed = true
	rx.in.r = rx.in.w
	rx.machine.Refused(nil)
	return Event{Kind: Fatal, Payload: -1, Err: err}
}

// Due returns the number of replies that the command being answered still has to get; 0 if none is being answered.
func (rx *Receiver) Due() int { return rx.machine.Due() }

// AppendReply appends r in its wire form and takes note of it. A reply that carries on an exchange is not folded: its text is
// data, and may be longer than that of others (RFC 4954 section 4). It returns ErrOutOfStep, and dst as it was, if no
// command waits for a reply, or if r cannot be the reply to the one that does. A 421 answers everything, may be sent at
// any time, and closes the session.
func (rx *Receiver) AppendReply(dst []byte, r Reply) ([]byte, error) {
	noStatus := false
	if v := rx.machine.Waiting(); v != nil {
		noStatus = v.noStatus
	}
	if _, err := rx.machine.Reply(r.Code); err != nil {
		return dst, err
	}
	maxLine := maxReplyLine
	switch rx.machine.Now() {
	case Exchange:
		maxLine = math.MaxInt
	case Content:
		rx.chunks, rx.content = bareScanner{}, decoder{}
	case Closed:
		rx.closed = true
	}
	return appendReply(dst, r, rx.status && !noStatus, rx.utf8, maxLine), nil
}

// SetStatus sets whether replies carry enhanced status codes. The greeting and those to EHLO, HELO and LHLO never do
// (RFC 2034 section 4). They do not to begin with.
func (rx *Receiver) SetStatus(on bool) { rx.status = on }

// SetUTF8 sets whether replies may carry UTF-8 (RFC 6531 section 3.7.4). They may not to begin with.
func (rx *Receiver) SetUTF8(on bool) { rx.utf8 = on }

// BareNewline reports whether the content so far has a CR without LF or an LF without CR. Such content must not be
// accepted as text: what a peer behind us takes for the end of it is anybody's guess.
func (rx *Receiver) BareNewline() bool { return rx.content.bare || rx.chunks.bare }

// Include tells of octets of content that did not come in chunks but belong between them (RFC 4468), for BareNewline. With
// last they are the end of it.
func (rx *Receiver) Include(p []byte, last bool) {
	rx.chunks.scan(p)
	if last {
		rx.chunks.finish()
	}
}

// Leftover returns, and forgets, what was received after the command that led to Handover. It belongs to whatever
// the wire was handed to: a command slipped in behind STARTTLS (CVE-2011-0411) becomes a broken TLS handshake.
// Refusing the command instead would depend on how the bytes were cut up on the way.
func (rx *Receiver) Leftover() []byte {
	return rx.in.leftover()
}

// Restart makes the session begin anew in the state s, Hello after TLS was started. Replies carry neither status codes
// nor UTF-8 until set again.
func (rx *Receiver) Restart(s State) {
	rx.machine.Reset(s)
	*rx = Receiver{machine: rx.machine, lim: rx.lim, in: rx.in}
}
