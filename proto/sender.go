package proto

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrPayload means that the octets which the last command announced have not all been appended, or that there would be
// too many.
var ErrPayload = errors.New("smtp: the payload appended is not of the length that was announced")

// A Sender is the engine of a client. Commands are appended to a buffer of the caller's, bytes go in, and replies come
// out as events. The first Answer is the greeting. A Sender is not safe for concurrent use.
type Sender struct {
	machine *Machine
	lim     Limits

	in input

	replies    replyParser
	known      *Verb // the last verb that was found in the table
	body       Encoder
	owed       int64 // octets of a payload still to be appended
	pipelining bool
	status     bool
	failed     *Error
}

// NewSender returns a Sender for a new connection. The table may be shared by all connections.
func NewSender(t *Table, lim Limits) *Sender {
	return &Sender{machine: NewMachine(t), lim: lim}
}

// State returns where the session stands by the replies so far.
func (tx *Sender) State() State { return tx.machine.Now() }

// Ahead returns where the session will stand if everything outstanding succeeds.
func (tx *Sender) Ahead() State { return tx.machine.Ahead() }

// Outstanding returns the number of commands, lines and contents that wait for replies.
func (tx *Sender) Outstanding() int { return tx.machine.Outstanding() }

// Rcpts returns the number of recipients accepted in the current transaction, or in the last one.
func (tx *Sender) Rcpts() int { return tx.machine.Rcpts() }

// SetGroups sets whether commands may be pipelined, which a server permits with PIPELINING (RFC 2920). It is off at
// first and after Restart: a command then gets ErrMustWait while another is outstanding.
func (tx *Sender) SetGroups(on bool) { tx.pipelining = on }

// SetStatus sets whether enhanced status codes are parsed from replies. Set it if the server advertises
// ENHANCEDSTATUSCODES (RFC 2034). It is off at first and after Restart, since a reply may begin with digits that mean
// something else.
func (tx *Sender) SetStatus(on bool) { tx.status = on }

// Space returns room for input, which is never empty. Read into it, and tell Filled how many octets there are. Space
// may move what it returned before.
func (tx *Sender) Space() []byte { return tx.in.space() }

// Filled records that n octets were put at the beginning of what Space returned.
func (tx *Sender) Filled(n int) { tx.in.w += n }

// Buffered returns the number of octets that have been received and not been used.
func (tx *Sender) Buffered() int { return tx.in.w - tx.in.r }

// Next returns what comes next in the input: NeedInput, an Answer, or End when the session is closed or the connection
// was handed over. After Fatal the connection must not be used again; Err wraps [ErrOutOfStep] or [ErrReply].
//
// A 421 may come at any time. It answers the command that waits, if there is one, and closes the session. A refusal may
// come while nothing waits for a reply: in the middle of content, or between commands, such as a 451 after a time in
// which nothing was sent. The server has given up then, and the session counts as closed. Verb is nil, or that of the
// content.
//
// All lines of a reply have the same code (RFC 5321 section 4.2.1), with one exception. A greeting that begins with 2yz
// may end with 4yz or 5yz: postscreen of Postfix, for one, sends the first line early, to see whether the client waits.
// The refusal then is the reply, and the lines before it are dropped. Nothing has been sent that a wrong reading could
// concern. In other replies a change of the code is an error, since the lines belong to two replies.
func (tx *Sender) Next() Event {
	var ev Event
	tx.next(&ev)
	return ev
}

// next sets ev, which is zero, to what comes next.
func (tx *Sender) next(ev *Event) {
	switch now := tx.machine.Now(); {
	case tx.failed != nil:
		ev.Kind, ev.Payload, ev.Err = Fatal, -1, tx.failed
		return
	case now == Closed, now == Handover:
		ev.Kind = End
		return
	case tx.in.r == tx.in.w:
		return // NeedInput, the zero Kind
	}
	lim := tx.lim
	if v := tx.machine.Waiting(); v != nil && v.More == Exchange {
		lim = lim.inExchange()
	}
	tx.replies.greeting = tx.machine.Now() == Greeting
	reply, n, err := tx.replies.parse(tx.in.pending(), tx.status, lim)
	if err != nil {
		tx.fatal(ev, err, "")
	} else if n > 0 {
		tx.in.r += n
		tx.answer(ev, &reply)
	}
}

// answer records a reply.
func (tx *Sender) answer(ev *Event, reply *RawReply) {
	m := tx.machine
	var verb *Verb
	if m.Outstanding() == 0 && reply.Code >= 400 {
		if m.Now() == Content {
			verb = m.table.end
		}
		m.Reset(Closed)
	} else {
		if tx.owed > 0 && m.Outstanding() == 1 && reply.Code < 400 {
			tx.fatal(ev, ErrOutOfStep, "success before all octets were sent")
			return
		}
		var err error
		if verb, err = m.Reply(reply.Code); err != nil {
			tx.fatal(ev, err, fmt.Sprintf("reply %d", reply.Code))
			return
		}
		ev.Due = m.due
	}
	ev.Kind, ev.Verb, ev.Payload, ev.Reply = Answer, verb, -1, *reply
}

// fatal ends the session because of err. The text says what the server did.
func (tx *Sender) fatal(ev *Event, err error, text string) {
	if text != "" {
		err = fmt.Errorf("%w (%s)", err, text)
	}
	tx.failed = &Error{Code: 451, Status: Status{4, 5, 0}, Text: "Peer does not follow the protocol", Err: err}
	ev.Kind, ev.Payload, ev.Err = Fatal, -1, tx.failed
}

// AppendCommand appends a command line and records it. On an error it returns dst as it was, and records nothing:
//
//   - ErrSequence or ErrMustWait if the command is not allowed here;
//   - ErrPayload if octets of the last command are missing;
//   - another error if args cannot be sent: a control character, text that is not UTF-8, or too long a line.
func (tx *Sender) AppendCommand(dst []byte, v *Verb, args []byte) ([]byte, error) {
	if err := tx.check(v, args); err != nil {
		return dst, err
	}
	var payload int64
	if v.Payload != nil {
		n, err := v.Payload(args)
		if err != nil {
			return dst, fmt.Errorf("smtp: %s cannot be sent with these arguments: %w", v.Name, err)
		}
		payload = n
	}
	if err := tx.machine.Command(v, args); err != nil {
		return dst, err
	}
	tx.owed, tx.known = payload, v
	dst = append(dst, v.Name...)
	if len(args) > 0 {
		dst = append(dst, ' ')
		dst = append(dst, args...)
	}
	return append(dst, '\r', '\n'), nil
}

// check returns why the command line cannot be sent.
func (tx *Sender) check(v *Verb, args []byte) error {
	switch {
	case tx.failed != nil:
		return tx.failed
	case tx.owed > 0:
		return ErrPayload
	case tx.known != v && tx.machine.table.index[v.Name] != v:
		return fmt.Errorf("smtp: the verb %s is not in the table of this session", v.Name)
	case !tx.pipelining && tx.machine.Outstanding() > 0:
		return ErrMustWait
	case !printableASCII(args) && (badOctet(args) != 0 || !utf8.Valid(args)):
		return fmt.Errorf("smtp: %s cannot be sent: its arguments must be UTF-8 without control characters", v.Name)
	case len(v.Name)+len(args)+len(" \r\n") > baseCommandLine+v.Grow:
		return fmt.Errorf("smtp: %s cannot be sent: its line would exceed %d octets", v.Name, baseCommandLine+v.Grow)
	}
	return nil
}

// AppendLine appends a line of an exchange, after a 334. It returns an error, and dst as it was, if there is no
// exchange or if the line cannot be sent.
func (tx *Sender) AppendLine(dst, line []byte) ([]byte, error) {
	if badOctet(line) != 0 || len(line)+2 > tx.lim.exchangeLine() {
		const format = "smtp: a line of %d octets cannot be sent: it must have no control characters and at most %d octets"
		return dst, fmt.Errorf(format, len(line), tx.lim.exchangeLine()-len("\r\n"))
	}
	if tx.failed != nil {
		return dst, tx.failed
	}
	if err := tx.machine.Line(); err != nil {
		return dst, err
	}
	dst = append(dst, line...)
	return append(dst, '\r', '\n'), nil
}

// AppendBody appends content that follows 354. It makes line endings CRLF, and doubles the dots at the beginning of
// lines. How the content is cut into calls makes no difference. It returns ErrSequence, and dst as it was, if no
// content is due.
func (tx *Sender) AppendBody(dst, p []byte) ([]byte, error) {
	if err := tx.inContent(); err != nil {
		return dst, err
	}
	return tx.body.Append(dst, p), nil
}

// AppendEnd appends the end of the content: CRLF if the last line lacks it, and the line with a single dot. It returns
// ErrSequence, and dst as it was, if no content is due.
func (tx *Sender) AppendEnd(dst []byte) ([]byte, error) {
	if err := tx.inContent(); err != nil {
		return dst, err
	}
	if err := tx.machine.End(); err != nil {
		return dst, err
	}
	return tx.body.Close(dst), nil
}

// inContent returns an error if no content is due.
func (tx *Sender) inContent() error {
	switch {
	case tx.failed != nil:
		return tx.failed
	case tx.machine.Now() != Content || tx.machine.Outstanding() > 0:
		return ErrSequence
	}
	tx.body.Dots = true
	return nil
}

// AppendPayload appends octets that the last command has announced, unchanged. It returns ErrPayload, and dst as it
// was, if they are more than are missing.
func (tx *Sender) AppendPayload(dst, p []byte) ([]byte, error) {
	if int64(len(p)) > tx.owed {
		return dst, ErrPayload
	}
	tx.owed -= int64(len(p))
	return append(dst, p...), nil
}

// Leftover returns, and forgets, what was received after the reply that led to Handover. Give it to the new owner of
// the connection: a reply slipped in behind the reply to STARTTLS then breaks the TLS handshake (law 4).
func (tx *Sender) Leftover() []byte {
	return tx.in.leftover()
}

// Restart begins the session again in the state s: Hello after a TLS handshake, Greeting if a greeting is to come.
// Pipelining and status codes are off until they are set again.
func (tx *Sender) Restart(s State) {
	tx.machine.Reset(s)
	replies := replyParser{crlf: tx.replies.crlf}
	*tx = Sender{machine: tx.machine, lim: tx.lim, in: tx.in, failed: tx.failed, replies: replies}
}
