package proto

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrPayload means that the octets announced by the last command have not all been appended, or more than those.
var ErrPayload = errors.New("smtp: the payload appended is not of the length that was announced")

// A Sender is the engine of a client: commands are appended to a buffer of the caller's, bytes go in, and replies come
// out as events. The first Answer is the greeting. A Sender is not safe for concurrent use.
type Sender struct {
	machine *Machine
	lim     Limits

	in input

	replies    replyParser
	body       Encoder
	owed       int64 // octets of a payload still to be appended
	pipelining bool
	status     bool
	failed     *Error
}

// NewSender returns a Sender of a connection just made. The table may be shared.
func NewSender(t *Table, lim Limits) *Sender {
	return &Sender{machine: NewMachine(t), lim: lim, in: newInput()}
}

// State returns where the session stands by the replies so far.
func (tx *Sender) State() State { return tx.machine.Now() }

// Ahead returns where the session will stand if everything outstanding succeeds.
func (tx *Sender) Ahead() State { return tx.machine.Ahead() }

// Outstanding returns the number of commands and contents that wait for replies.
func (tx *Sender) Outstanding() int { return tx.machine.Outstanding() }

// Rcpts returns the number of recipients accepted in the transaction.
func (tx *Sender) Rcpts() int { return tx.machine.Rcpts() }

// SetGroups sets whether the server takes groups of commands (RFC 2920). While it is off, which it is at first and
// after Restart, a command gets ErrMustWait as long as another is outstanding.
func (tx *Sender) SetGroups(on bool) { tx.pipelining = on }

// SetStatus sets whether replies are searched for enhanced status codes (RFC 2034). It is off at first and after
// Restart, since a reply may begin with digits that mean something else.
func (tx *Sender) SetStatus(on bool) { tx.status = on }

// Space returns room for input; it is never empty. Filled tells how much of it was used.
func (tx *Sender) Space() []byte { return tx.in.space() }

// Filled tells that n octets were put into what Space returned.
func (tx *Sender) Filled(n int) { tx.in.w += n }

// Buffered returns the number of octets that have been received and not dealt with.
func (tx *Sender) Buffered() int { return tx.in.w - tx.in.r }

// Next returns what comes next in the input: NeedInput, an Answer, or End when the session is closed or the wire was
// handed over. After Fatal the connection is of no further use; its Err wraps [ErrOutOfStep] or [ErrReply].
//
// A 421 may come at any time: it answers the command that waits, if any, and the session is closed. So may a refusal in
// the middle of content; the server that sends one has given up, and the session counts as closed.
func (tx *Sender) Next() Event {
	if tx.failed != nil {
		return Event{Kind: Fatal, Payload: -1, Err: tx.failed}
	}
	switch tx.machine.Now() {
	case Closed, Handover:
		return Event{Kind: End}
	}
	if tx.in.r == tx.in.w {
		return Event{Kind: NeedInput}
	}
	lim := tx.lim
	if v := tx.machine.Waiting(); v != nil && v.More == Exchange {
		lim = lim.inExchange()
	}
	reply, n, err := tx.replies.parse(tx.in.pending(), tx.status, lim)
	if err != nil {
		return tx.fatal(err, "")
	}
	if n == 0 {
		return Event{Kind: NeedInput}
	}
	tx.in.r += n
	return tx.answer(reply)
}

func (tx *Sender) answer(reply RawReply) Event {
	m := tx.machine
	if m.Outstanding() == 0 && m.Now() == Content && reply.Code >= 400 {
		m.Reset(Closed)
		return Event{Kind: Answer, Verb: m.table.end, Payload: -1, Reply: reply}
	}
	if tx.owed > 0 && m.Outstanding() == 1 && reply.Code < 400 {
		return tx.fatal(ErrOutOfStep, "success before all octets were sent")
	}
	verb, err := m.Reply(reply.Code)
	if err != nil {
		return tx.fatal(err, fmt.Sprintf("reply %d", reply.Code))
	}
	return Event{Kind: Answer, Verb: verb, Payload: -1, Reply: reply, Due: m.due}
}

func (tx *Sender) fatal(err error, text string) Event {
	if text != "" {
		err = fmt.Errorf("%w (%s)", err, text)
	}
	tx.failed = &Error{Code: 451, Status: Status{4, 5, 0}, Text: "Peer does not follow the protocol", Err: err}
	return Event{Kind: Fatal, Payload: -1, Err: tx.failed}
}

// AppendCommand appends a command line and records it. It returns dst as it was, with ErrSequence or ErrMustWait if the
// command is not allowed here, ErrPayload if the last one's octets are missing, or another error if args cannot be
// sent: a control character, text that is not UTF-8, or more than the command line holds.
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
	tx.owed = payload
	dst = append(dst, v.Name...)
	if len(args) > 0 {
		dst = append(dst, ' ')
		dst = append(dst, args...)
	}
	return append(dst, '\r', '\n'), nil
}

func (tx *Sender) check(v *Verb, args []byte) error {
	switch {
	case tx.failed != nil:
		return tx.failed
	case tx.owed > 0:
		return ErrPayload
	case tx.machine.table.index[v.Name] != v:
		return fmt.Errorf("smtp: the verb %s is not in the table of this session", v.Name)
	case !tx.pipelining && tx.machine.Outstanding() > 0:
		return ErrMustWait
	case badOctet(args) != 0 || !utf8.Valid(args):
		return fmt.Errorf("smtp: %s cannot be sent: its arguments must be UTF-8 without control characters", v.Name)
	case len(v.Name)+len(args)+len(" \r\n") > baseCommandLine+v.Grow:
		return fmt.Errorf("smtp: %s cannot be sent: its line would exceed %d octets", v.Name, baseCommandLine+v.Grow)
	}
	return nil
}

// AppendLine appends a line of an exchange, after a 334. It returns an error, and dst as it was, if there is no exchange
// or if line cannot be sent.
func (tx *Sender) AppendLine(dst, line []byte) ([]byte, error) {
	if badOctet(line) != 0 || len(line)+2 > tx.lim.exchangeLine() {
		return dst, fmt.Errorf("smtp: a line of %d octets cannot be sent: it must have no control characters and at most %d octets",
			len(line), tx.lim.exchangeLine()-len("\r\n"))
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

// AppendBody appends content that follows a 354, with its line endings made CRLF and the dots at the beginning of lines
// doubled. How it is cut into calls makes no difference.
func (tx *Sender) AppendBody(dst, p []byte) ([]byte, error) {
	if err := tx.inContent(); err != nil {
		return dst, err
	}
	return tx.body.Append(dst, p), nil
}

// AppendEnd appends the end of the content: the CRLF of its last line if that is missing, and the lone dot.
func (tx *Sender) AppendEnd(dst []byte) ([]byte, error) {
	if err := tx.inContent(); err != nil {
		return dst, err
	}
	if err := tx.machine.End(); err != nil {
		return dst, err
	}
	return tx.body.Close(dst), nil
}

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

// AppendPayload appends octets that the command appended last has announced, unchanged. It returns ErrPayload, and dst as
// it was, if they are more than are still owed.
func (tx *Sender) AppendPayload(dst, p []byte) ([]byte, error) {
	if int64(len(p)) > tx.owed {
		return dst, ErrPayload
	}
	tx.owed -= int64(len(p))
	return append(dst, p...), nil
}

// Leftover returns, and forgets, what was received after the reply that led to Handover. A reply slipped in behind that
// to STARTTLS in clear becomes a broken TLS handshake (law 4).
func (tx *Sender) Leftover() []byte {
	return tx.in.leftover()
}

// Restart makes the session begin anew in the state s: Hello after TLS was started, Greeting if a greeting is to come.
// Groups and status codes are off until set again.
func (tx *Sender) Restart(s State) {
	tx.machine.Reset(s)
	*tx = Sender{machine: tx.machine, lim: tx.lim, in: tx.in, failed: tx.failed}
}
