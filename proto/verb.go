package proto

import (
	"errors"
	"fmt"
	"strings"
)

// A Verb is a row of the command table: all that the engine has to know about a command. The rows of an extension's
// verbs are of the same kind as those of RFC 5321, and are treated alike.
//
// The rows of a Table must not be changed.
type Verb struct {
	Name string // in upper case
	In   State  // the states in which it may be sent; in others a server refuses it with 503 and changes nothing

	// Last says that the command must end a pipelined group: nothing may be sent until it has been answered
	// (RFC 2920 section 3.1).
	Last bool
	// BeforeAuth says that the command may be sent before the authentication or encryption on which a server insists
	// (RFC 4954 section 6, RFC 3207 section 4).
	BeforeAuth bool
	// Secret says that logs must not show the arguments; see [Verb.Redact].
	Secret bool

	// OK, More and Fail are the states after a reply of 2yz, of 3yz, and of 4yz or 5yz. In OK and Fail, zero means that
	// the state does not change. In More, zero means that the command has no intermediate reply. Never means that the
	// command has no such reply.
	OK, More, Fail State
	// Stays is a set of states that a 2yz reply leaves as they are, whatever OK says.
	Stays State

	// Grow is the number of octets by which the command line may exceed 512 octets (RFC 5321 section 4.5.3.1.4): the sum
	// of what the extensions in use declare.
	Grow int

	// Variant returns another row to be used for these arguments, such as the row of the last chunk. Nil means this row.
	Variant func(args []byte) *Verb
	// Payload returns the number of octets that follow the command line. An error says that the arguments are malformed;
	// it becomes the reply to the command. With an error and a negative n the beginning of the next command is unknown,
	// and the connection must end. A nil Payload means that nothing follows the line.
	Payload func(args []byte) (n int64, err *Error)
	// PerRcpt says that the command, if it is in sequence, gets one reply in LMTP for each recipient accepted in the
	// transaction (RFC 2033 section 4.2).
	PerRcpt bool
	// Replies returns how many replies the command gets when it is in sequence, given the number of recipients accepted in
	// the transaction. Nil means one, or what PerRcpt says.
	Replies func(rcpts int) int

	// Split reports, for a command that opens a transaction, whether its arguments ask for an outcome for each recipient
	// (PRDR). If they do, the reply to the content may be 353, followed by one reply for each accepted recipient and one
	// for all. Nil means that they never ask.
	Split func(args []byte) bool

	anyOctets bool // its arguments may have octets that are not UTF-8
	noStatus  bool // its replies never carry an enhanced status code (RFC 2034 section 4)
}

// Redact returns the arguments of the command as a log may show them: "***" in place of what can be a secret. That is
// all of them if the verb is Secret. If the command begins an exchange, as AUTH does, the name of a SASL mechanism in
// front stays: "PLAIN ***" stands for a mechanism with an initial response (RFC 4954 section 4). A first word that is
// not in the form of such a name, in upper case (RFC 4422 section 3.1), is not shown.
func (v *Verb) Redact(args []byte) string {
	const redacted = "***"
	switch {
	case len(args) == 0:
		return ""
	case v.Secret:
		return redacted
	case v.More != Exchange:
		return string(args)
	}
	n := 0
	for n < len(args) && isMechanismChar(args[n]) {
		n++
	}
	switch {
	case n == 0 || n > maxMechanism:
	case n == len(args):
		return string(args)
	case args[n] == ' ':
		return string(args[:n+1]) + redacted
	}
	return redacted
}

// maxMechanism is how many characters the name of a SASL mechanism may have (RFC 4422 section 3.1).
const maxMechanism = 20

func isMechanismChar(c byte) bool {
	return 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// Ends reports whether the success of v ends the mail transaction, as that of the last chunk does.
func (v *Verb) Ends() bool { return v.In&(Rcpt|Chunks) != 0 && v.OK == Ready && v.In&Hello == 0 }

// After returns the state that follows the state now when v has been answered with code. It reports false if v cannot
// have that reply there, such as an intermediate reply to NOOP or success for DATA.
//
// States change here and nowhere else, for both ends (law 1).
func (v *Verb) After(now State, code int) (State, bool) {
	if code == 421 {
		return Closed, true // RFC 5321 section 3.8
	}
	in := now&v.In != 0
	next := now
	switch code / 100 {
	case 2:
		if v.OK == Never {
			return now, false
		}
		if in && v.OK != 0 && now&v.Stays == 0 {
			next = v.OK
		}
	case 3:
		// Even out of sequence: the peer does as it says. One that answers 354 although every recipient was
		// refused reads content from here on (RFC 2920 section 3.1).
		if v.More == 0 || now&Session == 0 && now&v.In == 0 {
			return now, false
		}
		next = v.More
	case 4, 5:
		if v.Fail == Never {
			return now, false
		}
		if in && v.Fail != 0 {
			next = v.Fail
		}
	default:
		return now, false
	}
	return next, true
}

// A Protocol selects the dialect of a table. It decides which command introduces the client, and how content is
// answered.
type Protocol uint8

// The dialects.
const (
	SMTP Protocol = iota // RFC 5321
	LMTP                 // RFC 2033: LHLO, and one reply for each recipient after the content
)

// String returns "SMTP" or "LMTP".
func (p Protocol) String() string {
	if p == LMTP {
		return "LMTP"
	}
	return "SMTP"
}

// The names of rows that are no commands and that every table has. They stand in the queue of what waits for a reply.
const (
	greetingName = "(greeting)"
	endName      = "(end of content)"
)

// A Table is the set of verbs that a session knows. It is immutable and safe for concurrent use: one Table serves all
// connections.
type Table struct {
	protocol        Protocol
	verbs           []*Verb // in the order they were given
	greeting        *Verb
	end             *Verb
	refused         *Verb // stands for a command that can only be refused
	refusedNoStatus *Verb // the same for a command whose replies have no status code
	index           map[string]*Verb
	initials        [initialMask + 1][]*Verb // the verbs by their first letter, whose case the mask ignores
	maxLine         int                      // the length of the longest command line, with its CRLF
}

// base returns the commands that every table has: those that RFC 5321 section 4.5.1 requires, without VRFY, and in LMTP
// with LHLO in place of EHLO and HELO. VRFY, EXPN and HELP have EHLO keywords, so they are extensions in the sense of
// section 2.2.2.
func base(p Protocol) []Verb {
	hello := Verb{In: Session, Last: true, BeforeAuth: true, OK: Ready, noStatus: true, anyOctets: true}
	names := []string{"EHLO", "HELO"}
	if p == LMTP {
		names = []string{"LHLO"}
	}
	var rows []Verb
	for _, name := range names {
		hello.Name = name
		rows = append(rows, hello)
	}
	return append(rows,
		Verb{Name: "MAIL", In: Ready, OK: Mail},
		Verb{Name: "RCPT", In: Mail | Rcpt, OK: Rcpt},
		Verb{Name: "DATA", In: Rcpt, Last: true, OK: Never, More: Content},
		Verb{Name: "RSET", In: Session, BeforeAuth: true, OK: Ready, Stays: Hello | Ready},
		Verb{Name: "NOOP", In: Session, Last: true, BeforeAuth: true},
		Verb{Name: "QUIT", In: Session | Greeting, Last: true, BeforeAuth: true, OK: Closed},
	)
}

// NewTable returns a table of the built-in commands of p and of the rows in more. Built in are EHLO, HELO, MAIL, RCPT,
// DATA, RSET, NOOP and QUIT for SMTP, and LHLO in place of EHLO and HELO for LMTP. All other commands are extensions
// and have to be given in more, including VRFY, EXPN and HELP.
//
// A row with only Name, Grow and Split adds to a row of the same name: its command lines may be longer by Grow octets,
// and Split is used for it.
//
// NewTable returns an error that names the verb if two rows have the same name or if a row cannot work.
func NewTable(p Protocol, more ...Verb) (*Table, error) {
	t := &Table{
		protocol:        p,
		index:           make(map[string]*Verb),
		greeting:        &Verb{Name: greetingName, In: Greeting, Last: true, OK: Hello, noStatus: true},
		end:             &Verb{Name: endName, In: Content, OK: Ready, Fail: Ready, PerRcpt: true},
		refused:         &Verb{Name: "(refused)", Last: true, OK: Never},
		refusedNoStatus: &Verb{Name: "(refused)", Last: true, OK: Never, noStatus: true},
	}
	for _, row := range append(base(p), more...) {
		if v := t.index[row.Name]; v != nil && row.In == 0 && row.Grow >= 0 {
			v.Grow += row.Grow
			if row.Split != nil {
				v.Split = row.Split
			}
			continue
		}
		if err := row.check(); err != nil {
			return nil, err
		}
		if t.index[row.Name] != nil {
			return nil, fmt.Errorf("smtp: the verb %s is defined twice", row.Name)
		}
		v := &row
		t.verbs = append(t.verbs, v)
		t.index[row.Name] = v
		t.initials[v.Name[0]&initialMask] = append(t.initials[v.Name[0]&initialMask], v)
	}
	for _, v := range t.verbs {
		t.maxLine = max(t.maxLine, baseCommandLine+v.Grow)
	}
	return t, nil
}

func (v *Verb) check() error {
	if v.Name == "" || strings.Trim(v.Name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		return fmt.Errorf("smtp: %q is not the name of a verb: use upper-case letters, digits and hyphens", v.Name)
	}
	if v.In&^(Session|Greeting) != 0 || v.In == 0 {
		return fmt.Errorf("smtp: the verb %s is to be sent in %v: choose among %v", v.Name, v.In, Session)
	}
	if v.Grow < 0 {
		return errors.New("smtp: the verb " + v.Name + " has a negative Grow")
	}
	return nil
}

// Protocol returns the dialect of the table.
func (t *Table) Protocol() Protocol { return t.protocol }

// Lookup returns the row of the verb with this name, in any case, or nil if there is none.
func (t *Table) Lookup(name string) *Verb { return t.lookup([]byte(name)) }

// Verbs returns the rows of the commands: first the built-in ones, then the others in the order in which they were
// given.
func (t *Table) Verbs() []*Verb { return append([]*Verb(nil), t.verbs...) }

// maxVerb bounds the names that lookup compares. A longer word names no verb.
const maxVerb = 32

const initialMask = 'a' - 'A' - 1

// lookup is Lookup without allocation.
func (t *Table) lookup(word []byte) *Verb {
	if len(word) == 0 || len(word) > maxVerb {
		return nil
	}
	for _, v := range t.initials[word[0]&initialMask] {
		if len(v.Name) == len(word) && isUpperOf(v.Name, word) {
			return v
		}
	}
	return nil
}

// isUpperOf reports whether name is word, which has the same length, in upper case.
func isUpperOf(name string, word []byte) bool {
	for i, c := range word {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// String returns the table as text, with a line for each verb and each state in which it may be sent. The line has the
// state that follows each class of reply.
func (t *Table) String() string {
	var b strings.Builder
	rows := append([]*Verb{t.greeting}, t.verbs...)
	for _, v := range append(rows, t.end) {
		for s := Greeting; s <= Closed; s <<= 1 {
			if v.In&s == 0 {
				continue
			}
			fmt.Fprintf(&b, "%-16s %-8v", v.Name, s)
			for _, code := range []int{200, 300, 400} {
				text := "-"
				if next, ok := v.After(s, code); ok {
					text = next.String()
				}
				fmt.Fprintf(&b, "  %dyz %-8s", code/100, text)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
