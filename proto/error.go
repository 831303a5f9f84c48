package proto

// An Error is a reply as a Go error. On a server it is what a session returns to choose the reply, a positive one
// included; on a client it is what the server answered.
type Error struct {
	Code   int    // the reply code
	Status Status // the enhanced status code; the zero value is replaced by a fitting one when it is sent
	Text   string // sent to the peer, or received; lines are separated by "\n"
	Verb   string // on a client: the command that was answered; may be empty
	Err    error  // the cause, for errors.Is and logs; never sent
}

func (e *Error) Error() string { return e.Text }
