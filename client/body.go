package client

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"
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

// load reads the first block of r. Nil is empty content.
func (b *body) load(r io.Reader) error {
	b.buf = blocks.Get().(*[blockSize + 1]byte)
	if r == nil {
		b.eof = true
		return nil
	}
	b.r = r
	if s, ok := r.(io.Seeker); ok {
		pos, err := s.Seek(0, io.SeekCurrent) // an *os.File can be a pipe, which fails here
		b.start, b.rewindable = pos, err == nil
	}
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

// rewind returns to the beginning of the body, once. It reports false if that has failed, or is not possible.
func (b *body) rewind() bool {
	if b.r == nil {
		return true // nothing was read, or it was done before
	}
	if b.rewindable {
		_, err := b.r.(io.Seeker).Seek(b.start, io.SeekStart)
		b.rewindable = err == nil
	}
	b.r = nil
	return b.rewindable
}

// lookahead is how much of a body is looked at before any of it is sent, besides the first block, if it can be read
// again.
const lookahead = 256 << 10

// A measure is what is known of content before it is sent.
type measure struct {
	size  int64 // as it will be transmitted, without dot-stuffing; -1 if it is not known
	eight bool  // it has octets above 127
	whole bool  // eight tells of the whole content
}

// measure looks at the content without using it up: at binary content as it is, and at text with CRLF for each end of
// line. If lines is set, text ends with a CRLF.
//
// A long body is not read twice just to be measured, if the server takes octets above 127: if all is CRLF as far as
// measure looks ahead, it takes the rest to be so too. The size may be an estimate then, which RFC 1870 section 6
// permits and wants to be rather too large.
func (b *body) measure(binary, lines, takes8bit bool) (measure, error) {
	var c counter
	c.add(b.buf[:b.n])
	size := int64(-1) // unless all has been counted
	if !b.eof {
		if !b.rewindable {
			return measure{size: -1, eight: c.eight}, nil
		}
		var err error
		if size, err = b.scan(&c, takes8bit); err != nil {
			return measure{}, err
		}
	}
	m := measure{size: size, eight: c.eight, whole: size < 0}
	if m.whole {
		m.size = c.octets
	}
	if binary {
		return m, nil
	}
	pairs := min(c.crs, c.lfs)
	if b.eof && pairs > 0 {
		pairs = countCRLF(b.buf[:b.n])
	}
	if m.whole {
		m.size += int64(c.crs + c.lfs - 2*pairs)
	}
	if lines && m.size > 0 && !(m.whole && c.newline) {
		m.size += int64(len("\r\n"))
	}
	return m, nil
}

// scan counts what has not been read yet, and puts the reader back to where it was. If maySkip is set, it counts no
// more than lookahead octets of content that needs no other line endings, and returns the size of the whole body. It
// returns -1 if everything has been counted.
func (b *body) scan(c *counter, maySkip bool) (size int64, err error) {
	s := b.r.(io.Seeker)
	pos, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return -1, err
	}
	rest := body{r: b.r, buf: blocks.Get().(*[blockSize + 1]byte)}
	defer rest.close()
	for size = -1; !rest.eof; {
		if maySkip && c.octets > lookahead && c.crs == c.lfs {
			end, err := s.Seek(0, io.SeekEnd)
			if err != nil {
				return -1, err
			}
			size = end - b.start
			break
		}
		rest.n = 0
		if err := rest.fill(); err != nil {
			return -1, err
		}
		c.add(rest.buf[:rest.n])
	}
	_, err = s.Seek(pos, io.SeekStart)
	return size, err
}

// A counter counts the octets of content.
type counter struct {
	octets   int64
	crs, lfs int
	newline  bool // the last octet is a CR or LF
	eight    bool // there are octets above 127
}

func (c *counter) add(p []byte) {
	if len(p) == 0 {
		return
	}
	c.octets += int64(len(p))
	c.crs += bytes.Count(p, []byte{'\r'})
	c.lfs += bytes.Count(p, []byte{'\n'})
	last := p[len(p)-1]
	c.newline = last == '\r' || last == '\n'
	c.eight = c.eight || has8bit(p)
}

// countCRLF returns how many LFs in p follow a CR.
func countCRLF(p []byte) int {
	pairs := 0
	for i := 0; ; {
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			return pairs
		}
		if i += n + 1; i > 1 && p[i-2] == '\r' {
			pairs++
		}
	}
}

// has8bit reports whether p has an octet above 127.
func has8bit(p []byte) bool {
	const high = 0x8080808080808080
	for ; len(p) >= 32; p = p[32:] {
		a, b := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		c, d := binary.LittleEndian.Uint64(p[16:]), binary.LittleEndian.Uint64(p[24:])
		if (a|b|c|d)&high != 0 {
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
