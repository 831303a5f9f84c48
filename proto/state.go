package proto

import "strings"

// A State is where a session stands. Each state is one bit, so a State is also a set of states.
type State uint16

// The states of a session. Commands may come in the states of [Session]; in the others the wire carries something else.
const (
	Greeting State = 1 << iota // connected; the server has not greeted, or has refused the session with its greeting
	Hello                      // greeted; neither EHLO nor HELO has been accepted
	Ready                      // introduced, no mail transaction open
	Mail                       // MAIL accepted, no recipient yet
	Rcpt                       // at least one recipient accepted
	Chunks                     // content has begun to arrive in counted chunks (RFC 3030 section 2)
	Broken                     // a chunk was refused: only RSET or a new EHLO leads out (RFC 3030 section 2)
	Content                    // after 354: content follows, up to CRLF.CRLF
	Exchange                   // after 334: each line belongs to the command that is being answered, until it is
	Handover                   // the wire belongs to another protocol, or to the same one from its beginning
	Closed                     // QUIT or 421 was answered: nothing follows

	// Never marks an outcome that a command cannot have, in the fields of a Verb.
	Never State = 1 << 15

	// Session is the set of states in which a command may arrive.
	Session = Hello | Ready | Mail | Rcpt | Chunks | Broken

	// Transaction is the set of states in which a mail transaction is open.
	Transaction = Mail | Rcpt | Chunks | Broken | Content
)

var stateNames = [...]string{
	"Greeting", "Hello", "Ready", "Mail", "Rcpt", "Chunks", "Broken", "Content", "Exchange", "Handover", "Closed",
}

// String returns the name of s, or the names of the set joined by "|".
func (s State) String() string {
	var names []string
	for i, name := range stateNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if s&Never != 0 {
		names = append(names, "Never")
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "|")
}
