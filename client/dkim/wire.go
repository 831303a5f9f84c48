package dkim

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"smtpkit.example/smtp/client"
)

const blockSize = 32 << 10

// A wire reads content as the client transmits it: in text, each CR, LF and CRLF is CRLF.
type wire struct {
	r      io.Reader
	binary bool   // the octets are transmitted as they are
	in     []byte // a block of r
	out    []byte // what is there to be read
	buf    []byte // for out
	cr     bool   // the last octet of the last block was a CR
	err    error
	size   int64 // of what was read
}

func newWire(r io.Reader, binary bool) *wire {
	return &wire{r: r, binary: binary, in: make([]byte, blockSize), buf: make([]byte, 0, 2*blockSize)}
}

func (w *wire) Read(p []byte) (int, error) {
	for idle := 0; len(w.out) == 0; idle++ {
		if w.err != nil {
			return 0, w.err
		}
		if idle == 100 {
			return 0, &client.MessageError{What: "reading the body", Err: io.ErrNoProgress}
		}
		w.fill()
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	w.size += int64(n)
	return n, nil
}

// fill reads a block.
func (w *wire) fill() {
	n, err := w.r.Read(w.in)
	w.out = w.buf[:0]
	lone := w.convert(w.in[:n])
	if w.err = err; w.binary && (lone || err == io.EOF && w.cr) {
		w.err = errBinary
	}
}

// convert adds p to out. It reports whether there is a CR or LF that is not part of a CRLF.
func (w *wire) convert(p []byte) (lone bool) {
	for len(p) > 0 {
		if w.cr {
			w.cr = false
			if p[0] == '\n' {
				if w.binary {
					w.out = append(w.out, '\n')
				}
				p = p[1:]
				continue
			}
			lone = true
		}
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			w.out = append(w.out, p...)
			break
		}
		w.out = append(w.out, p[:i]...)
		w.cr = p[i] == '\r'
		lone = lone || !w.cr
		switch {
		case w.binary:
			w.out = append(w.out, p[i])
		default:
			w.out = append(w.out, '\r', '\n')
		}
		p = p[i+1:]
	}
	return lone
}

// errBinary: RFC 6376 section 5.3 wants the CRLF of text, and verifiers differ in what they make of anything else.
var errBinary = &client.MessageError{
	What: "the content",
	Err: errors.New("it is binary and has a CR or LF that is not part of a CRLF, so that DKIM cannot sign it: encode it " +
		"in base64, and leave ext.Binary out of Needs"),
}

// maxEmpty is how many empty lines may come in a row. The signer keeps them until it knows whether text follows.
const maxEmpty = 256 << 10

// A relaxed brings text into the canonical form of a body (RFC 6376 section 3.4.4), but for the end of the last line.
// The signer would do that as well, and keep any number of empty lines.
type relaxed struct {
	w     io.Writer
	space bool // white space came last
	lines int  // how many ends of lines came last
	buf   []byte
}

// Write takes text whose lines end with CRLF.
func (r *relaxed) Write(p []byte) (int, error) {
	r.buf = r.buf[:0]
	for i := 0; i < len(p); {
		switch p[i] {
		case ' ', '\t':
			r.space = true
			i++
		case '\r': // its LF follows
			i++
		case '\n':
			r.space = false
			r.lines++
			i++
		default:
			if err := r.pending(); err != nil {
				return 0, err
			}
			start := i
			for i < len(p) && p[i] != ' ' && p[i] != '\t' && p[i] != '\r' && p[i] != '\n' {
				i++
			}
			r.buf = append(r.buf, p[start:i]...)
		}
	}
	if _, err := r.w.Write(r.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

// pending adds what has come in front of text.
func (r *relaxed) pending() error {
	if r.lines > maxEmpty {
		return &client.MessageError{What: "the content", Err: fmt.Errorf("it has more than %d empty lines in a row, which "+
			"cannot be signed: leave them out", maxEmpty)}
	}
	for ; r.lines > 0; r.lines-- {
		r.buf = append(r.buf, '\r', '\n')
	}
	if r.space {
		r.buf = append(r.buf, ' ')
		r.space = false
	}
	return nil
}
