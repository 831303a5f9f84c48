package client

import (
	"sync"

	"smtpkit.example/smtp/proto"
)

const (
	// smallOutput is how large a buffer for output may be that stays with an idle connection.
	smallOutput = 4 << 10
	// largeOutput is the size of the buffers for content. It has room for two blocks, with their commands, or for one
	// behind as many octets of commands as are appended before they are written.
	largeOutput = 2*blockSize + 16<<10
)

// outputs are buffers for content.
var outputs = sync.Pool{New: func() any { return new([largeOutput]byte) }}

// giveBack gives p back to the pool if it is a large buffer, and returns what stays with an idle connection.
func giveBack(p []byte) []byte {
	if cap(p) == largeOutput {
		outputs.Put((*[largeOutput]byte)(p[:largeOutput]))
	}
	if cap(p) > smallOutput {
		return nil
	}
	return p
}

// An output is the buffers of a connection for what is sent.
type output struct {
	out  []byte // appended, and not being written
	free []byte // being written if wire.writing is set, otherwise a buffer to swap with out
	text []byte // a buffer to encode chunks in; nil if there was no need for it
}

// reserve makes room for n octets in out, as far as a large buffer has it, before content is appended.
func (o *output) reserve(n int) {
	need := min(len(o.out)+n, largeOutput)
	if need <= cap(o.out) || need <= smallOutput {
		return
	}
	out := append(outputs.Get().(*[largeOutput]byte)[:0], o.out...)
	giveBack(o.out)
	o.out = out
}

// encode returns p with the line endings of text on the wire, in a buffer that is valid until the next call.
func (o *output) encode(enc *proto.Encoder, p []byte) []byte {
	if o.text == nil {
		o.text = outputs.Get().(*[largeOutput]byte)[:0]
	}
	o.text = enc.Append(o.text[:0], p)
	return o.text
}

// shrink lets go of large buffers, so that idle connections are small. Nothing must be being written.
func (o *output) shrink() {
	o.out, o.free, o.text = giveBack(o.out), giveBack(o.free), giveBack(o.text)
}
