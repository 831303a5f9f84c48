package proto

// A Kind tells what an [Event] is about.
type Kind uint8

// The kinds of events. A Receiver has all but Answer, a Sender only NeedInput, Answer and Fatal.
const (
	NeedInput Kind = iota // everything received has been dealt with
	NeedReply             // a command has not been answered yet
	Command               // a command line: Verb, Args; with Err set it is only to be answered
	Line                  // a line of an exchange: Data
	Body                  // octets of content: Data, after transparency removal
	EndOfBody             // the content, or a chunk, is complete
	Answer                // a reply: Verb, Reply, Due
	Fatal                 // the stream cannot be understood any further: Err, which a server may send as its last reply
	End                   // the session is closed, or the wire belongs to another protocol: nothing more will come
)

// An Event is what an engine found in its input. The slices in it are overwritten at the next call (law 5).
type Event struct {
	Kind Kind
	// Verb is the command's row (the variant that its arguments select), or the row of the command that a line or a
	// reply belongs to; nil if the line names no verb of the table.
	Verb *Verb
	Args []byte // of a command: what stands after the verb and one space, without trailing white space
	Data []byte
	// Payload is the number of octets that follow a command line, to come as Body events before the command is to
	// be answered; -1 if none follow.
	Payload int64
	// Err of a command is the refusal it has to be answered with, after its payload. Of a Fatal event it is the
	// reply that a server may send before it closes.
	Err   *Error
	Reply RawReply // of an Answer
	Due   int      // of an Answer: how many replies the same command will still get
}
