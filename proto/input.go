package proto

// An input is the buffer that an engine reads from. It grows to hold a line or a reply that is longer than it is; those
// who look for their ends give up what is longer than the limits allow.
type input struct {
	buf  []byte
	r, w int // buf[r:w] has not been dealt with
}

// firstBuffer is the size that an input begins with: enough for a group of commands, and little to hold for a connection
// that idles.
const firstBuffer = 4 << 10

func newInput() input { return input{buf: make([]byte, firstBuffer)} }

func (in *input) pending() []byte { return in.buf[in.r:in.w] }

func (in *input) space() []byte {
	switch {
	case in.r == in.w:
		in.r, in.w = 0, 0
	case in.r > 0 && len(in.buf)-in.w < len(in.buf)/2:
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if in.w == len(in.buf) {
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
