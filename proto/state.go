package proto

import "strings"

// A State is where a session stands. Each state is one bit, so that a State is also a set of states. See the diagram in
// the package documentation.
type State uint16

// The states of a session. Commands may be sent in the states of [Session]. In the other states the connection carries
// something else.
const (
	Greeting State = 1 << iota // connected; the server has sent no greeting yet, or one that refuses the session
	Hello                      // greeted; no EHLO, HELO or LHLO has been accepted
	Ready                      // introduced; no mail transaction is open
	Mail                       // MAIL was accepted, and no recipient yet
	Rcpt                       // at least one recipient was accepted
	Chunks                     // content has begun in BDAT chunks (RFC 3030 section 2)
	Broken                     // a chunk was refused; RSET or EHLO leads out (RFC 3030 section 2)
	Content                    // after 354: content follows, up to CRLF.CRLF
	Exchange                   // after 334: each line belongs to the command in progress, such as AUTH
	Handover                   // the connection belongs to another protocol, such as TLS
	Closed                     // QUIT was answered, or 421 was sent

	// Never stands in a field of a Verb for a reply that the command cannot have.
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
