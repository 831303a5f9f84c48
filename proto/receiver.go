package proto

// A Receiver is the engine of a server: bytes go in, events come out, replies are appended to a buffer of the
// caller's. Typical use:
//
//	for {
//		switch ev := rx.Next(); ev.Kind {
//		case NeedInput: // flush replies, then: n := conn.Read(rx.Space()); rx.Filled(n)
//		case Command:   // carry it out (after its Body events, if it has a payload), then rx.AppendReply
//		…
//
// It is not safe for concurrent use.
type Receiver struct{}

func NewReceiver(t *Table, lim Limits) *Receiver { panic("todo") }

// State returns where the session stands.
func (rx *Receiver) State() State { panic("todo") }

// Rcpts returns the number of recipients accepted in the transaction.
func (rx *Receiver) Rcpts() int { panic("todo") }

// Space returns room for input; it is never empty. Tell with Filled how much of it was used.
func (rx *Receiver) Space() []byte { panic("todo") }

// Filled tells that n bytes were put into what Space returned.
func (rx *Receiver) Filled(n int) { panic("todo") }

// Lend makes the receiver use buf for its input from here on, and returns the buffer it used before. What has not been
// dealt with yet is moved along, and if it does not fit, buf is returned. (A server lends a large buffer for content.)
func (rx *Receiver) Lend(buf []byte) []byte { panic("todo") }

// Next returns what comes next in the input. While a command waits for its replies it returns the payload that belongs
// to the command, if any, and then NeedReply.
func (rx *Receiver) Next() Event { panic("todo") }

// Due returns the number of replies that the command being answered still has to get; 0 if none is being answered.
func (rx *Receiver) Due() int { panic("todo") }

// AppendReply appends r in its wire form and takes note of it. It returns ErrOutOfStep, and dst as it was, if no
// command waits for a reply or this cannot be the reply to it. The greeting is the first reply.
func (rx *Receiver) AppendReply(dst []byte, r Reply) ([]byte, error) { panic("todo") }

// SetStatus sets whether replies carry enhanced status codes. Those to EHLO, HELO, LHLO and the greeting never do.
func (rx *Receiver) SetStatus(on bool) { panic("todo") }

// SetUTF8 sets whether replies may carry UTF-8 (RFC 6531 section 3.7.4).
func (rx *Receiver) SetUTF8(on bool) { panic("todo") }

// BareNewline reports whether the content delivered so far had a CR without LF or an LF without CR. It is reset when content
// begins (after 354 and with the first chunk).
func (rx *Receiver) BareNewline() bool { panic("todo") }

// Leftover returns, and forgets, what was received after the command that led to Handover. It belongs to whatever
// the wire was handed to: a command slipped in behind STARTTLS (CVE-2011-0411) becomes a broken TLS handshake.
// Refusing the command instead would depend on how the bytes were cut up on the way.
func (rx *Receiver) Leftover() []byte { panic("todo") }

// Restart makes the session begin anew in the state s, Hello after TLS was started.
func (rx *Receiver) Restart(s State) { panic("todo") }
