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

	origin   origin
	declared int64 // Message.Size
}

// An origin is what a body can be read from again: a place in a seeker, or a source. The zero value is none.
type origin struct {
	seeker io.Seeker
	start  int64
	source *source
}

// originOf returns the origin of r. The type does not tell: a pipe can be an *os.File.
func originOf(r io.Reader) origin {
	if s, ok := r.(*source); ok {
		return origin{source: s}
	}
	if s, ok := r.(io.Seeker); ok {
		if pos, err := s.Seek(0, io.SeekCurrent); err == nil {
			return origin{seeker: s, start: pos}
		}
	}
	return origin{}
}

// repeatable reports whether there is an origin.
func (o *origin) repeatable() bool { return o.seeker != nil || o.source != nil }

// nothing is what is read where Message.Body is nil.
type nothing struct{}

func (nothing) Read([]byte) (int, error)       { return 0, io.EOF }
func (nothing) Seek(int64, int) (int64, error) { return 0, nil }

// load reads the first block of r. Nil is empty content.
func (b *body) load(r io.Reader) error {
	b.buf = blocks.Get().(*[blockSize + 1]byte)
	if r == nil {
		r = nothing{}
	}
	if b.origin = originOf(r); b.origin.source != nil {
		return b.begin()
	}
	b.r = r
	return b.fill()
}

// begin begins to read the source anew, whose reading before it ends.
func (b *body) begin() error {
	b.end()
	r, err := b.origin.source.begin()
	if err != nil {
		return err
	}
	b.r, b.n, b.eof = r, 0, false
	return b.fill()
}

// end ends the reading of a source that is under way.
func (b *body) end() {
	if r, ok := b.r.(*reading); ok {
		r.Close()
	}
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

// rewind ends the reading, and puts a seeker back to the beginning, once. It reports whether the body can be read
// again.
func (b *body) rewind() bool {
	if b.r == nil {
		return true // nothing was read, or it was done before
	}
	b.end()
	b.r = nil
	if s := b.origin.seeker; s != nil {
		if _, err := s.Seek(b.origin.start, io.SeekStart); err != nil {
			b.origin = origin{}
		}
	}
	return b.origin.repeatable()
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
	m := measure{size: -1, whole: true}
	if !b.eof {
		if !b.origin.repeatable() {
			return measure{size: -1, eight: c.eight}, nil
		}
		var err error
		if m.size, m.whole, err = b.scan(&c, takes8bit); err != nil {
			return measure{}, err
		}
	}
	m.eight = c.eight
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

// scan counts what has not been read yet, and goes back to where the body was. If maySkip is set and the size is known,
// it counts no more than lookahead octets of content that needs no other line endings, and returns the size of a
// seeker. Whole is set if everything has been counted.
//
// A source begins anew, twice: its readings need not be the same to the octet, and must not be under way at once.
func (b *body) scan(c *counter, maySkip bool) (size int64, whole bool, err error) {
	s := b.origin.seeker
	if s == nil {
		*c = counter{eight: c.eight}
		if err := b.begin(); err != nil {
			return -1, false, err
		}
		c.add(b.buf[:b.n])
		if whole, err = b.count(c, maySkip && b.declared > 0); err != nil {
			return -1, false, err
		}
		return -1, whole, b.begin()
	}
	pos, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return -1, false, err
	}
	rest := body{r: b.r, buf: blocks.Get().(*[blockSize + 1]byte)}
	defer blocks.Put(rest.buf)
	if whole, err = rest.count(c, maySkip); err != nil {
		return -1, false, err
	}
	size = -1
	if !whole {
		end, err := s.Seek(0, io.SeekEnd)
		if err != nil {
			return -1, false, err
		}
		size = end - b.origin.start
	}
	_, err = s.Seek(pos, io.SeekStart)
	return size, whole, err
}

// count counts what is left of b, or enough of it if maySkip is set; see scan. It reports whether that was all.
func (b *body) count(c *counter, maySkip bool) (whole bool, err error) {
	for !b.eof {
		if maySkip && c.octets > lookahead && c.crs == c.lfs {
			return false, nil
		}
		b.n = 0
		if err := b.fill(); err != nil {
			return false, err
		}
		c.add(b.buf[:b.n])
	}
	return true, nil
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
