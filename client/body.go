package client

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"

	"smtpkit.example/smtp/proto"
)

// blockSize is how much content is read, encoded and written at once, and the size of the largest chunk. It is enough
// to make system calls cheap, and little enough that an early refusal saves something.
const blockSize = 64 << 10

// blocks are buffers of a block and one octet.
var blocks = sync.Pool{New: func() any { return new([blockSize + 1]byte) }}

// A body reads the Body of a message in blocks. It reads one octet ahead, to know which block is the last one.
type body struct {
	r   io.Reader
	buf *[blockSize + 1]byte // the current block, and an octet of the next one
	n   int                  // how much of buf is in use
	eof bool                 // r has no more

	rewindable bool // the body can be read again, from start
	start      int64
}

// load reads the first block of r.
func (b *body) load(r io.Reader) error {
	if r == nil {
		r = bytes.NewReader(nil)
	}
	b.r = r
	if s, ok := r.(io.Seeker); ok {
		pos, err := s.Seek(0, io.SeekCurrent) // an *os.File can be a pipe, which fails here
		b.start, b.rewindable = pos, err == nil
	}
	b.buf = blocks.Get().(*[blockSize + 1]byte)
	return b.fill()
}

// block returns the octets of the current block.
func (b *body) block() []byte { return b.buf[:min(b.n, blockSize)] }

// last reports whether the current block is the last one.
func (b *body) last() bool { return b.eof && b.n <= blockSize }

// next goes on to the next block.
func (b *body) next() error {
	b.n = copy(b.buf[:], b.buf[min(b.n, blockSize):b.n])
	return b.fill()
}

func (b *body) fill() error {
	idle := 0
	for !b.eof && b.n < len(b.buf) {
		n, err := b.r.Read(b.buf[b.n:])
		b.n += n
		switch {
		case err == io.EOF:
			b.eof = true
		case err != nil:
			return err
		case n > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}

// close gives the buffer back.
func (b *body) close() {
	if b.buf != nil {
		blocks.Put(b.buf)
		b.buf = nil
	}
}

// rewind returns to the beginning of the body. It reports false if that has failed, or is not possible.
func (b *body) rewind() bool {
	if b.r == nil {
		return true // nothing was read
	}
	if b.rewindable {
		_, err := b.r.(io.Seeker).Seek(b.start, io.SeekStart)
		b.rewindable = err == nil
	}
	return b.rewindable
}

// A measure is what is known of content before it is sent.
type measure struct {
	size  int64 // as it will be transmitted, without dot-stuffing
	eight bool  // it has octets above 127
	known bool  // size and eight are those of the whole content
}

// measure counts the content without using it up: binary content as it is, and text with CRLF for each end of line. If
// lines is set, text ends with a CRLF.
func (b *body) measure(binary, lines bool) (measure, error) {
	m := measure{known: b.eof || b.rewindable}
	if !m.known {
		return measure{size: -1, eight: has8bit(b.buf[:b.n])}, nil
	}
	c := counter{binary: binary}
	c.add(b.buf[:b.n])
	if !b.eof {
		if err := b.scan(&c); err != nil {
			return m, err
		}
	}
	c.release()
	m.size, m.eight = c.size, c.eight
	if lines && c.size > 0 && !c.newline {
		m.size += int64(len("\r\n"))
	}
	return m, nil
}

// scan counts what has not been read yet, and puts the reader back to where it was.
func (b *body) scan(c *counter) error {
	s := b.r.(io.Seeker)
	pos, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	rest := body{r: b.r, buf: blocks.Get().(*[blockSize + 1]byte)}
	defer rest.close()
	for !rest.eof {
		rest.n = 0
		if err := rest.fill(); err != nil {
			return err
		}
		c.add(rest.buf[:rest.n])
	}
	_, err = s.Seek(pos, io.SeekStart)
	return err
}

// A counter counts the octets of content as an encoder writes them.
type counter struct {
	binary  bool
	enc     proto.Encoder
	scratch *[blockSize + 1]byte

	size    int64
	newline bool
	eight   bool
}

func (c *counter) add(p []byte) {
	c.eight = c.eight || has8bit(p)
	if c.binary {
		c.size += int64(len(p))
		return
	}
	if c.scratch == nil {
		c.scratch = blocks.Get().(*[blockSize + 1]byte)
	}
	const piece = blockSize / 2 // encoding at most doubles it
	for len(p) > 0 {
		n := min(len(p), piece)
		out := c.enc.Append(c.scratch[:0], p[:n])
		if len(out) > 0 {
			c.newline = out[len(out)-1] == '\n'
		}
		c.size += int64(len(out))
		p = p[n:]
	}
}

// release gives the scratch buffer back.
func (c *counter) release() {
	if c.scratch != nil {
		blocks.Put(c.scratch)
		c.scratch = nil
	}
}

// has8bit reports whether p has an octet above 127.
func has8bit(p []byte) bool {
	for ; len(p) >= 8; p = p[8:] {
		if binary.LittleEndian.Uint64(p)&0x8080808080808080 != 0 {
			return true
		}
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
