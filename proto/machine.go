package proto

import "errors"

// The errors of a Machine.
var (
	// ErrSequence means that the command is not allowed in the state of the session, or in the state that follows if
	// everything outstanding succeeds. A server answers 503 (RFC 5321 section 4.1.4).
	ErrSequence = errors.New("smtp: command out of sequence")
	// ErrMustWait means that outstanding replies have to be awaited first: the last command must end its pipelined
	// group, or the server did not advertise PIPELINING (RFC 2920 section 3.1).
	ErrMustWait = errors.New("smtp: command must wait for the replies outstanding")
	// ErrOutOfStep means that a reply answers no command, or that the command cannot have such a reply. Further replies
	// cannot be matched with commands, so the connection must not be used again.
	ErrOutOfStep = errors.New("smtp: peer is out of step: reply without a command, or not one the command can have")
)

// A Machine is the state of a session, seen from either end (law 1). It holds two states: now, which replies have
// confirmed, and ahead, which the session reaches if everything outstanding succeeds. A command is checked against
// ahead. A server answers each command before it reads the next, so its two states are always equal. A client that
// pipelines commands has two different ones.
//
// Use [NewMachine]; the zero value is not ready for use. A Machine is not safe for concurrent use. Receiver and Sender
// each have one; use it alone to follow a session that something else conducts.
type Machine struct {
	table    *Table
	now      State
	ahead    State
	resume   State // where the exchange began, and where it resumes
	exchange *Verb // the command in an exchange, such as AUTH
	rcpts    int   // recipients accepted in the transaction
	due      int   // replies that the head of the queue still gets; 0: not counted yet
	split    bool  // the transaction asks for an outcome for each recipient

	queue []entry // what waits for a reply, as a ring buffer; its length is a power of two
	head  int
	count int
}

// An entry is a command, a line or content that waits for its reply.
type entry struct {
	verb  *Verb
	ahead State // where the session stands behind it if it and all before it succeed
	line  bool  // a line of an exchange, not the command that began it
	split bool  // the arguments of MAIL ask for an outcome for each recipient
}

// firstQueue is the length of a new queue: a server never needs more than one entry, and a client soon grows it.
const firstQueue = 2

// NewMachine returns a Machine for a new connection, with the greeting outstanding.
func NewMachine(t *Table) *Machine {
	m := &Machine{table: t, queue: make([]entry, firstQueue)}
	m.Reset(Greeting)
	return m
}

// Reset puts the machine into state s. Nothing is outstanding then, except the greeting in the state Greeting. It is
// for a session that begins again, such as in Hello after a TLS handshake (RFC 3207 section 4.2).
func (m *Machine) Reset(s State) {
	m.now, m.ahead, m.resume = s, s, s
	m.rcpts, m.due, m.head, m.count, m.split = 0, 0, 0, 0, false
	clear(m.queue)
	if s == Greeting {
		m.push(entry{verb: m.table.greeting}, Hello)
	}
}

// Now returns the state that replies have confirmed.
func (m *Machine) Now() State { return m.now }

// Ahead returns the state that follows if everything outstanding succeeds.
func (m *Machine) Ahead() State { return m.ahead }

// Rcpts returns the number of recipients accepted in the current transaction, or in the last one.
func (m *Machine) Rcpts() int { return m.rcpts }

// Outstanding returns the number of commands, lines and contents that wait for replies.
func (m *Machine) Outstanding() int { return m.count }

// Command records that v with args was sent or received and waits for its reply. It returns ErrSequence or ErrMustWait,
// and records nothing, if the command is not allowed.
func (m *Machine) Command(v *Verb, args []byte) error {
	if v.Variant != nil {
		if other := v.Variant(args); other != nil {
			v = other
		}
	}
	if m.waits() {
		return ErrMustWait
	}
	if m.ahead&v.In == 0 {
		return ErrSequence
	}
	m.push(entry{verb: v, split: v.Split != nil && v.Split(args)}, success(v, m.ahead))
	return nil
}

// Refused records a command that was received out of sequence, so that it can only be refused. The verb v is nil if the
// line names none.
func (m *Machine) Refused(v *Verb) {
	e := entry{verb: m.table.refused}
	if v != nil && v.noStatus {
		e.verb = m.table.refusedNoStatus
	}
	m.push(e, m.ahead)
}

// Line records a line of an exchange, such as a SASL response. It returns ErrSequence or ErrMustWait, and records
// nothing, if there is no exchange.
func (m *Machine) Line() error {
	if m.waits() {
		return ErrMustWait
	}
	if m.ahead != Exchange {
		return ErrSequence
	}
	m.push(entry{verb: m.exchange, line: true}, success(m.exchange, m.resume))
	return nil
}

// End records the end of the content that followed 354. It returns ErrSequence or ErrMustWait, and records nothing, if
// no content is due.
func (m *Machine) End() error {
	if m.waits() {
		return ErrMustWait
	}
	if m.ahead != Content {
		return ErrSequence
	}
	m.push(entry{verb: m.table.end}, success(m.table.end, Content))
	return nil
}

// Due returns how many replies the first of what is outstanding still gets. It returns 0 if nothing is outstanding.
func (m *Machine) Due() int {
	if m.count == 0 {
		return 0
	}
	if m.due == 0 {
		return m.replies(m.queue[m.head])
	}
	return m.due
}

// Waiting returns the verb of the first of what is outstanding, or nil if nothing is.
func (m *Machine) Waiting() *Verb {
	if m.count == 0 {
		return nil
	}
	return m.queue[m.head].verb
}

// replies returns how many replies e gets if it is answered in the state now.
func (m *Machine) replies(e entry) int {
	switch {
	case m.now&e.verb.In == 0 || e.line:
		return 1
	case e.verb.Replies != nil:
		return max(1, e.verb.Replies(m.rcpts))
	case e.verb.PerRcpt && m.table.protocol == LMTP:
		return max(1, m.rcpts)
	}
	return 1
}

// Splits reports whether the transaction asks for an outcome for each recipient (see Verb.Split). Its content may then
// be answered by 353.
func (m *Machine) Splits() bool { return m.split }

// splitCode is the reply that announces an outcome for each recipient.
const splitCode = 353

// maySplit reports whether e, the head of the queue, may be answered by 353.
func (m *Machine) maySplit(e entry) bool {
	ends := e.verb == m.table.end || e.verb.Ends()
	return m.split && m.due == 0 && ends && m.now&e.verb.In != 0 && m.table.protocol == SMTP
}

// Reply records a reply that was received or sent, and returns the verb that it answers. A 421 answers everything at
// once, and may come when nothing is outstanding; the verb is nil then. With ErrOutOfStep the machine stays as it was.
func (m *Machine) Reply(code int) (*Verb, error) {
	if m.count == 0 {
		if code == 421 && m.now != Closed && m.now != Handover {
			m.Reset(Closed)
			return nil, nil
		}
		return nil, ErrOutOfStep
	}
	e := m.queue[m.head]
	if code == 421 {
		m.Reset(Closed)
		return e.verb, nil
	}
	if code == splitCode && m.maySplit(e) {
		m.due = m.rcpts + 1
		return e.verb, nil
	}
	from := m.now
	if e.line {
		from = m.resume
	}
	next, ok := e.verb.After(from, code)
	if !ok {
		return e.verb, ErrOutOfStep
	}
	if m.due == 0 {
		m.due = m.replies(e)
	}
	if m.due--; m.due > 0 {
		return e.verb, nil
	}
	m.head = m.at(1)
	m.count--
	if next == Exchange && m.now != Exchange {
		m.resume, m.exchange = m.now, e.verb
	}
	if e.verb.OK == Rcpt && code/100 == 2 && m.now&e.verb.In != 0 {
		m.rcpts++
	}
	if next == Mail && m.now != Mail {
		m.rcpts, m.split = 0, e.split
	}
	m.now = next
	if next != e.ahead {
		m.replay()
	}
	return e.verb, nil
}

// replay finds ahead again after a reply that was no success: it starts from now and assumes that everything
// outstanding succeeds. A command that is out of sequence because an earlier one failed will be refused, and changes
// nothing. Where the session stands as it would have without the failure, the rest stays as it is: so the cost of a
// refusal is that of the commands which are refused with it.
func (m *Machine) replay() {
	s := m.now
	for i := range m.count {
		e := &m.queue[m.at(i)]
		if e.line {
			s = success(e.verb, m.resume)
		} else if s&e.verb.In != 0 {
			s = success(e.verb, s)
		}
		if s == e.ahead {
			return
		}
		e.ahead = s
	}
	m.ahead = s
}

// success returns the state that follows s if v succeeds.
func success(v *Verb, s State) State {
	if v.OK == Never {
		return v.More
	}
	next, _ := v.After(s, 200)
	return next
}

// waits reports whether nothing may be sent until replies have come, because the last command must end its group.
func (m *Machine) waits() bool {
	return m.count > 0 && m.queue[m.at(m.count-1)].verb.Last
}

// at returns the place of the i-th entry in the queue.
func (m *Machine) at(i int) int { return (m.head + i) & (len(m.queue) - 1) }

// push adds e, which leads to the state ahead if it succeeds.
func (m *Machine) push(e entry, ahead State) {
	e.ahead, m.ahead = ahead, ahead
	if m.count == len(m.queue) {
		bigger := make([]entry, 2*m.count)
		n := copy(bigger, m.queue[m.head:])
		copy(bigger[n:], m.queue[:m.head])
		m.queue, m.head = bigger, 0
	}
	m.queue[m.at(m.count)] = e
	m.count++
}
