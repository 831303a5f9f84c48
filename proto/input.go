package proto

// An input is the buffer from which an engine reads. It grows to hold a line or a reply that is longer than the buffer.
// The parsers give up what exceeds the limits, so it does not grow without bound.
type input struct {
	buf  []byte
	r, w int // buf[r:w] has been received and not been used
}

// firstBuffer is the size of the buffer that an input makes for itself, unless it was lent one. It is enough for a
// group of commands.
const firstBuffer = 4 << 10

// pending returns what has been received and not been used.
func (in *input) pending() []byte { return in.buf[in.r:in.w] }

// space returns room for more input; it is never empty.
func (in *input) space() []byte {
	switch {
	case in.r == in.w:
		in.r, in.w = 0, 0
	case in.r > 0 && len(in.buf)-in.w < len(in.buf)/2:
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	switch {
	case len(in.buf) == 0:
		in.buf = make([]byte, firstBuffer)
	case in.w == len(in.buf):
		in.buf = append(in.buf, make([]byte, len(in.buf)+1)...)
	}
	return in.buf[in.w:]
}

// leftover returns a copy of what is pending, and forgets it.
func (in *input) leftover() []byte {
	p := append([]byte(nil), in.pending()...)
	in.r = in.w
	return p
}
