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

// reserve makes room for n octets in c.out, as far as a large buffer has it, before content is appended.
func (c *conn) reserve(n int) {
	need := min(len(c.out)+n, largeOutput)
	if need <= cap(c.out) || need <= smallOutput {
		return
	}
	out := append(outputs.Get().(*[largeOutput]byte)[:0], c.out...)
	giveBack(c.out)
	c.out = out
}

// encode returns p with the line endings of text on the wire, in a buffer that is valid until the next call.
func (c *conn) encode(enc *proto.Encoder, p []byte) []byte {
	if c.text == nil {
		c.text = outputs.Get().(*[largeOutput]byte)[:0]
	}
	c.text = enc.Append(c.text[:0], p)
	return c.text
}
