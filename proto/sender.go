package proto

// A Sender is the engine of a client: commands are appended to a buffer of the caller's, bytes go in, replies come
// out. It is not safe for concurrent use.
type Sender struct{}

func NewSender(t *Table, lim Limits) *Sender { panic("todo") }

// State returns where the replies say that the session stands; Ahead where it will be if everything outstanding succeeds.
func (tx *Sender) State() State { panic("todo") }
func (tx *Sender) Ahead() State { panic("todo") }

// Outstanding returns the number of commands and contents that wait for replies.
func (tx *Sender) Outstanding() int { panic("todo") }

// Rcpts returns the number of recipients accepted in the transaction.
func (tx *Sender) Rcpts() int { panic("todo") }

// SetGroups sets whether the server takes groups of commands (RFC 2920). If not, ErrMustWait is returned for a command
// while another is outstanding. It is off at first and after Restart.
func (tx *Sender) SetGroups(on bool) { panic("todo") }

// SetStatus sets whether replies are searched for enhanced status codes (RFC 2034). Off at first and after Restart.
func (tx *Sender) SetStatus(on bool) { panic("todo") }

func (tx *Sender) Space() []byte { panic("todo") }
func (tx *Sender) Filled(n int)  { panic("todo") }

// Next returns NeedInput, Answer, or Fatal: Err then wraps the reason (ErrOutOfStep, malformed, too large), and the
// connection is of no further use. A 421 to nothing is an Answer with a nil Verb.
func (tx *Sender) Next() Event { panic("todo") }

// AppendCommand appends a command line. Errors: ErrSequence, ErrMustWait, an *Error 501-like for args with control
// characters, invalid UTF-8 or too long a line; dst is then returned as it was and nothing is recorded.
func (tx *Sender) AppendCommand(dst []byte, v *Verb, args []byte) ([]byte, error) { panic("todo") }

// AppendLine appends a line of an exchange (after 334).
func (tx *Sender) AppendLine(dst []byte, line []byte) ([]byte, error) { panic("todo") }

// AppendBody appends content after 354 with dots doubled and every line ending made CRLF; AppendEnd ends it, adding the
// CRLF that is missing and the dot.
func (tx *Sender) AppendBody(dst, p []byte) ([]byte, error) { panic("todo") }
func (tx *Sender) AppendEnd(dst []byte) ([]byte, error)     { panic("todo") }

// AppendPayload appends octets that belong to the payload announced by the command appended last, unchanged. Until
// the payload is complete no command can be appended.
func (tx *Sender) AppendPayload(dst, p []byte) ([]byte, error) { panic("todo") }

// Leftover returns, and forgets, what was received after the reply that led to Handover.
func (tx *Sender) Leftover() []byte { panic("todo") }

// Restart makes the session begin anew in state s.
func (tx *Sender) Restart(s State) { panic("todo") }
