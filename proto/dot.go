package proto

// An Encoder makes the line endings of text canonical: a bare LF or a bare CR becomes CRLF. With Dots it also doubles
// each dot at the beginning of a line (RFC 5321 section 4.5.2). The zero value is ready for use.
type Encoder struct {
	Dots bool
}

// Append appends the encoding of p.
func (e *Encoder) Append(dst, p []byte) []byte { panic("todo") }

// Close appends what completes the text: with Dots the CRLF that is missing and the dot line, else the LF of a final CR. It resets e.
func (e *Encoder) Close(dst []byte) []byte { panic("todo") }
