package proto

import (
	"bytes"
	"math"
	"unicode/utf8"
)

// A Receiver is the engine of a server. Bytes go in, events come out, and replies are appended to a buffer of the
// caller's:
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

// NewReceiver returns a Receiver for a new connection. The table may be shared by all connections.
func NewReceiver(t *Table, lim Limits) *Receiver {
	return &Receiver{machine: NewMachine(t), lim: lim}
}

// State returns where the session stands.
func (rx *Receiver) State() State { return rx.machine.Now() }

// Rcpts returns the number of recipients accepted in the current transaction, or in the last one.
func (rx *Receiver) Rcpts() int { return rx.machine.Rcpts() }

// Splits reports whether the client has asked for an outcome for each recipient (PRDR). The content may then be
// answered by 353, one reply for each accepted recipient, and one for all. A single reply is allowed as well.
func (rx *Receiver) Splits() bool { return rx.machine.Splits() }

// Space returns room for input, which is never empty. Read into it, and tell Filled how many octets there are. Space
// may move what it returned before.
func (rx *Receiver) Space() []byte { return rx.in.space() }

// Filled records that n octets were put at the beginning of what Space returned.
func (rx *Receiver) Filled(n int) { rx.in.w += n }

// Buffered returns the number of octets that have been received and not been used.
func (rx *Receiver) Buffered() int { return rx.in.w - rx.in.r }

// Lend makes the receiver use buf for its input, and returns the buffer that it used before, nil if it had none. A
// server can so lend a large buffer only while content arrives, and a tiny one while nothing does. Input that has not
// been used is copied to buf; if it does not fit, nothing changes and Lend returns buf.
func (rx *Receiver) Lend(buf []byte) []byte {
	if len(buf) <= rx.in.w-rx.in.r {
		return buf
	}
	old := rx.in.buf
	rx.in.w = copy(buf, old[rx.in.r:rx.in.w])
	rx.in.r, rx.in.buf = 0, buf
	return old
}

// Next returns what comes next in the input. While a command waits for its reply, Next returns the payload of the
// command, if there is one, and then NeedReply.
func (rx *Receiver) Next() Event {
	var ev Event
	rx.next(&ev)
	return ev
}

// next sets ev, which is zero, to what comes next.
func (rx *Receiver) next(ev *Event) {
	switch {
	case rx.machine.Now() == Closed && rx.machine.Outstanding() == 0:
		ev.Kind = End // content that is left over can no longer be answered
		return
	case rx.payload > 0:
		rx.chunk(ev)
		return
	case rx.endOfBody:
		rx.endOfBody = false
		ev.Kind, ev.Verb = EndOfBody, rx.machine.Waiting()
		return
	case rx.machine.Outstanding() > 0:
		ev.Kind, ev.Verb = NeedReply, rx.machine.Waiting()
		return
	case rx.closed:
		ev.Kind = End
		return
	}
	switch rx.machine.Now() {
	case Closed, Handover:
		ev.Kind = End
	case Content:
		rx.body(ev)
	default:
		if rx.in.r < rx.in.w { // otherwise NeedInput, the zero Kind
			rx.nextLine(ev)
		}
	}
}

// chunk sets ev to a piece of the payload.
func (rx *Receiver) chunk(ev *Event) {
	if rx.in.r == rx.in.w {
		return
	}
	n := int(min(rx.payload, int64(rx.in.w-rx.in.r)))
	data := rx.in.buf[rx.in.r : rx.in.r+n]
	rx.in.r += n
	rx.payload -= int64(n)
	rx.chunks.scan(data)
	if rx.payload == 0 {
		rx.endPayload()
	}
	ev.Kind, ev.Verb, ev.Data = Body, rx.machine.Waiting(), data
}

// endPayload notes that the payload is complete.
func (rx *Receiver) endPayload() {
	rx.endOfBody = true
	if rx.lastPayload {
		rx.chunks.finish()
	}
}

// body sets ev to a piece of the content that follows 354.
func (rx *Receiver) body(ev *Event) {
	p := rx.in.pending()
	out, used, end := rx.content.decode(p)
	rx.in.r += used
	if end {
		_ = rx.machine.End() // allowed in Content with nothing outstanding, which is where we are
		rx.endOfBody = true
	}
	if out > 0 {
		ev.Kind, ev.Data = Body, p[:out]
	} else if end {
		rx.next(ev)
	}
}

// tlsHandshake is the first octet of a TLS record that carries a handshake. No command begins with it.
const tlsHandshake = 0x16

// sshBanner is how a client of SSH begins (RFC 4253 section 4.2). Its line may end with LF alone, so that nobody should
// wait for the end. No command begins with it.
const sshBanner = "SSH-"

// nextLine sets ev to the next command, or the next line of an exchange, if all of it has arrived.
func (rx *Receiver) nextLine(ev *Event) {
	exchange := rx.machine.Now() == Exchange
	limit := rx.machine.table.maxLine
	if exchange {
		limit = rx.lim.exchangeLine()
	} else if err := rx.foreign(); err != nil {
		rx.fatal(ev, err)
		return
	}
	fresh := rx.line.dropped == 0
	line, used, length, found := rx.line.next(rx.in.pending(), limit)
	tooLong := length > limit
	if tooLong && fresh && !exchange {
		// The beginning of the line is about to be dropped, so whether octets follow it has to be found out now.
		rx.cutPayload = rx.hasPayload(rx.in.pending())
	}
	rx.in.r += used
	if length > limit+rx.lim.droppedLine() {
		rx.fatal(ev, errNoLineEnd)
		return
	}
	if !found {
		return
	}
	rx.line.done()
	switch {
	case exchange:
		rx.exchange(ev, line, tooLong)
	case tooLong && rx.cutPayload:
		rx.fatal(ev, errPayloadSize)
	case tooLong:
		rx.machine.Refused(nil)
		ev.Kind, ev.Payload, ev.Err = Command, -1, errLineTooLong
	default:
		rx.command(ev, line, length)
	}
}

// foreign returns the refusal of a client that speaks another protocol, if the next line begins as one of that does.
func (rx *Receiver) foreign() *Error {
	p := rx.in.pending()
	switch {
	case rx.line.dropped > 0:
		return nil
	case p[0] == tlsHandshake:
		return errTLS
	case len(p) >= len(sshBanner) && string(p[:len(sshBanner)]) == sshBanner:
		return errSSH
	}
	return nil
}

// hasPayload reports whether line begins with a verb that octets may follow.
func (rx *Receiver) hasPayload(line []byte) bool {
	word, _, _ := bytes.Cut(line[:min(len(line), maxVerb+1)], space)
	v := rx.machine.table.lookup(word)
	return v != nil && v.Payload != nil
}

// exchange sets ev to a line of an exchange.
func (rx *Receiver) exchange(ev *Event, line []byte, tooLong bool) {
	ev.Kind, ev.Verb, ev.Payload, ev.Data = Line, rx.machine.exchange, -1, line
	_ = rx.machine.Line() // allowed in Exchange with nothing outstanding, which is where we are
	if tooLong {
		ev.Data, ev.Err = nil, errExchangeTooLong
	}
}

var space = []byte{' '}

// command sets ev to the command in line. Framing comes first (law 4): it finds out what follows the line before it
// asks whether the command is in sequence.
func (rx *Receiver) command(ev *Event, line []byte, length int) {
	line = trimRight(line)
	word, args, _ := bytes.Cut(line, space)
	v := rx.machine.table.lookup(word)
	ev.Kind, ev.Verb, ev.Args, ev.Payload = Command, v, args, -1
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
				rx.fatal(ev, ev.Err)
				return
			}
		}
		if ev.Err == nil && length > baseCommandLine+v.Grow {
			ev.Err = errLineTooLong
		}
	}
	if !printableASCII(line) {
		checkOctets(ev, line)
	}
	rx.record(ev)
}

// checkOctets refuses a command whose line has control characters, or whose arguments are not UTF-8. Those of EHLO and
// HELO need not be: many machines send their names in a code page, and a server may put up with that.
func checkOctets(ev *Event, line []byte) {
	if c := badOctet(line); c != 0 && (ev.Err == nil || ev.Verb == nil) {
		ev.Err = errControl
		if c == '\n' {
			ev.Err = errBareLF
		}
	} else if ev.Err == nil && !ev.Verb.anyOctets && !utf8.Valid(ev.Args) {
		ev.Err = errNotUTF8
	}
}

// record records the command and the payload that follows it.
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

// fatal sets ev to say that the rest of the input cannot be understood. One reply can still be sent.
func (rx *Receiver) fatal(ev *Event, err *Error) {
	rx.closed = true
	rx.in.r = rx.in.w
	rx.machine.Refused(nil)
	*ev = Event{Kind: Fatal, Payload: -1, Err: err}
}

// Due returns how many replies the command in hand still gets; 0 if no command is in hand.
func (rx *Receiver) Due() int { return rx.machine.Due() }

// AppendReply appends r in its wire form and records it. It returns ErrOutOfStep, and dst as it was, if no command
// waits for a reply or if the command cannot have r. A 421 answers everything, may be sent at any time, and closes the
// session.
//
// A reply that continues an exchange is not folded: its text is data, and its line may be longer than 512 octets
// (RFC 4954 section 4).
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

// SetStatus sets whether replies carry enhanced status codes. It is off at first. The greeting and the replies to EHLO,
// HELO and LHLO never carry one (RFC 2034 section 4).
func (rx *Receiver) SetStatus(on bool) { rx.status = on }

// SetUTF8 sets whether replies may carry UTF-8 (RFC 6531 section 3.7.4). It is off at first.
func (rx *Receiver) SetUTF8(on bool) { rx.utf8 = on }

// BareNewline reports whether the content so far has a CR without LF or an LF without CR. Do not accept such content as
// text: another server may take a bare newline for the end of a line, and so find an end of content that this one does
// not see.
func (rx *Receiver) BareNewline() bool { return rx.content.bare || rx.chunks.bare }

// Include scans octets for BareNewline that belong to the content and did not come in chunks, as with BURL (RFC 4468).
// Call it in the order of the content. The argument last says that they end the content.
func (rx *Receiver) Include(p []byte, last bool) {
	rx.chunks.scan(p)
	if last {
		rx.chunks.finish()
	}
}

// Leftover returns, and forgets, what was received after the command that led to Handover. Give it to the new owner of
// the connection: a command slipped in behind STARTTLS (CVE-2011-0411) then breaks the TLS handshake. To refuse the
// command instead would make the answer depend on how the bytes were cut.
func (rx *Receiver) Leftover() []byte {
	return rx.in.leftover()
}

// Restart begins the session again in the state s, which is Hello after a TLS handshake. Replies carry neither status
// codes nor UTF-8 until they are set again.
func (rx *Receiver) Restart(s State) {
	rx.machine.Reset(s)
	*rx = Receiver{machine: rx.machine, lim: rx.lim, in: rx.in}
}
