package proto

// A Kind tells what an [Event] is about.
type Kind uint8

// The kinds of events. A Receiver returns all of them except Answer. A Sender returns NeedInput, Answer, Fatal and End.
const (
	// NeedInput: all input has been used. Read more into Space and call Filled.
	NeedInput Kind = iota
	// NeedReply: the command in hand has not been answered. Call AppendReply until Due returns 0.
	NeedReply
	// Command: a command has arrived. Verb and Args say which; if Err is set, answer with it and do nothing else.
	Command
	// Line: a line of an exchange such as AUTH's has arrived, in Data.
	Line
	// Body: octets of content have arrived, in Data, with the dots of transparency removed.
	Body
	// EndOfBody: the content, or a chunk, is complete.
	EndOfBody
	// Answer: a reply has arrived. Verb says which command it answers.
	Answer
	// Fatal: the rest of the input cannot be understood. A server may send Err as its last reply; then close the
	// connection.
	Fatal
	// End: the session is closed, or the connection belongs to another protocol. Nothing more will come.
	End
)

// An Event is what an engine found in its input. The slices in it are overwritten at the next call (law 5).
type Event struct {
	Kind Kind
	// Verb is the row of the command that the event belongs to: for a Command its own row, or the variant that its
	// arguments select. It is nil if a command line names no verb of the table.
	Verb *Verb
	// Args is what follows the verb and one space in a command line, without white space at the end.
	Args []byte
	// Data is content, of a Body, or a line without its CRLF, of a Line.
	Data []byte
	// Payload is the number of octets that follow a command line. They arrive as Body events before the command
	// is to be answered. It is -1 if none follow.
	Payload int64
	// Err of a Command or Line is the refusal to answer with, after the payload. Err of a Fatal event is the last reply
	// that a server may send; on a client it wraps the cause.
	Err *Error
	// Reply is the reply of an Answer.
	Reply RawReply
	// Due is how many further replies the same command will get, of an Answer.
	Due int
}
