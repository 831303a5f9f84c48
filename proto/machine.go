package proto

import "errors"

// The errors of a Machine.
var (
	// ErrSequence means that the command is not allowed in the state that the session is in, or will be in once
	// everything outstanding has succeeded. A server answers 503 (RFC 5321 section 4.1.4).
	ErrSequence = errors.New("smtp: command out of sequence")
	// ErrMustWait means that the replies outstanding have to be awaited first: a command that ends a group has
	// been sent, or the peer did not offer to take groups (RFC 2920 section 3.1).
	ErrMustWait = errors.New("smtp: command must wait for the replies outstanding")
	// ErrOutOfStep means that a reply answers no command, or cannot be the answer to the one it stands for. What
	// the peer means by its next reply is anybody's guess, so the connection is of no further use.
	ErrOutOfStep = errors.New("smtp: peer is out of step: reply without a command, or not one the command can have")
)

// A Machine is the state of a session, seen from either end of it (law 1). It holds two states: now, which replies
// have confirmed, and ahead, where the session will be if everything outstanding succeeds. A command is checked
// against ahead. On a server, which answers before it reads on, the two never part; on a client that sends groups
// they do, and that is all there is to pipelining.
//
// The zero value is not ready for use; see [NewMachine]. A Machine is not safe for concurrent use.
type Machine struct {
	table    *Table
	now      State
	ahead    State
	resume   State // where an exchange began, and to which it returns
	exchange *Verb // the command that the exchange belongs to
	rcpts    int   // recipients accepted in the transaction
	due      int   // replies still due to the head of the queue; zero: not yet counted
	split    bool  // the transaction asks for an outcome for each recipient

	queue []entry // what waits for a reply, a ring
	head  int
	count int
}

// An entry is something that waits for its reply.
type entry struct {
	verb *Verb
	line bool // a line of an exchange rather than the command that began it
	// split is what the arguments say of the transaction that the command opens.
	split bool
}

// NewMachine returns a Machine of a connection just made, with the greeting outstanding.
func NewMachine(t *Table) *Machine {
	m := &Machine{table: t, queue: make([]entry, 16)}
	m.Reset(Greeting)
	return m
}

// Reset puts the machine into state s, with nothing outstanding except, in the state Greeting, the greeting. It is for
// a connection that begins anew, as in Hello after a TLS handshake (RFC 3207 section 4.2).
func (m *Machine) Reset(s State) {
	m.now, m.ahead, m.resume = s, s, s
	m.rcpts, m.due, m.head, m.count, m.split = 0, 0, 0, 0, false
	clear(m.queue)
	if s == Greeting {
		m.push(entry{verb: m.table.greeting})
		m.ahead = Hello
	}
}

// Now returns the state that replies have confirmed.
func (m *Machine) Now() State { return m.now }

// Ahead returns the state that follows if everything outstanding succeeds.
func (m *Machine) Ahead() State { return m.ahead }

// Rcpts returns the number of recipients accepted in the transaction, or in the last one.
func (m *Machine) Rcpts() int { return m.rcpts }

// Outstanding returns the number of commands, and of contents, that wait for replies.
func (m *Machine) Outstanding() int { return m.count }

// Command records that v with args was sent or received, to be answered by Reply. With ErrSequence or ErrMustWait
// nothing is recorded.
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
	m.push(entry{verb: v, split: v.Split != nil && v.Split(args)})
	m.ahead = success(v, m.ahead)
	return nil
}

// Refused records a command that was received and that only a refusal can answer, because it is out of sequence. The verb
// is nil if the line names none.
func (m *Machine) Refused(v *Verb) {
	e := entry{verb: m.table.refused}
	if v != nil && v.noStatus {
		e.verb = m.table.refusedNoStatus
	}
	m.push(e)
}

// Line records a line of an exchange, such as a SASL response.
func (m *Machine) Line() error {
	if m.waits() {
		return ErrMustWait
	}
	if m.ahead != Exchange {
		return ErrSequence
	}
	m.push(entry{verb: m.exchange, line: true})
	m.ahead = success(m.exchange, m.resume)
	return nil
}

// End records the end of the content that followed a 354.
func (m *Machine) End() error {
	if m.waits() {
		return ErrMustWait
	}
	if m.ahead != Content {
		return ErrSequence
	}
	m.push(entry{verb: m.table.end})
	m.ahead = success(m.table.end, Content)
	return nil
}

// Due returns the number of replies that what is next to be answered still has to get.
func (m *Machine) Due() int {
	if m.count == 0 {
		return 0
	}
	if m.due == 0 {
		return m.replies(m.queue[m.head])
	}
	return m.due
}

// Waiting returns the verb that is next to be answered, or nil.
func (m *Machine) Waiting() *Verb {
	if m.count == 0 {
		return nil
	}
	return m.queue[m.head].verb
}

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

// Splits reports whether the transaction asks for an outcome for each recipient; see [Verb]. What is next to be answered
// may be given them if it is content and has had no reply yet.
func (m *Machine) Splits() bool { return m.split }

// splitCode is the reply that announces an outcome for each recipient.
const splitCode = 353

// maySplit reports whether e, the head of the queue, may be answered by 353.
func (m *Machine) maySplit(e entry) bool {
	ends := e.verb == m.table.end || e.verb.Ends()
	return m.split && m.due == 0 && ends && m.now&e.verb.In != 0 && m.table.protocol == SMTP
}

// Reply records a reply that was received or sent, and returns the verb it answers. A 421 answers everything at once
// and may come when nothing is outstanding; the verb is nil then. ErrOutOfStep leaves the machine as it was.
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
	m.head = (m.head + 1) % len(m.queue)
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
	m.replay()
	return e.verb, nil
}

// replay finds ahead again from now and what is outstanding. A command that has become out of sequence because an
// earlier one failed will be refused and change nothing.
func (m *Machine) replay() {
	s := m.now
	for i := range m.count {
		e := m.queue[(m.head+i)%len(m.queue)]
		if e.line {
			s = success(e.verb, m.resume)
		} else if s&e.verb.In != 0 {
			s = success(e.verb, s)
		}
	}
	m.ahead = s
}

// success returns the state in which v leaves s if all goes well.
func success(v *Verb, s State) State {
	if v.OK == Never {
		return v.More
	}
	next, _ := v.After(s, 200)
	return next
}

// waits reports whether something outstanding has to be answered before anything else may be sent.
func (m *Machine) waits() bool {
	return m.count > 0 && m.queue[(m.head+m.count-1)%len(m.queue)].verb.Last
}

func (m *Machine) push(e entry) {
	if m.count == len(m.queue) {
		bigger := make([]entry, 2*m.count)
		n := copy(bigger, m.queue[m.head:])
		copy(bigger[n:], m.queue[:m.head])
		m.queue, m.head = bigger, 0
	}
	m.queue[(m.head+m.count)%len(m.queue)] = e
	m.count++
}
