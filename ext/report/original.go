package report

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime/quotedprintable"
	"unicode/utf8"

	"smtpkit.example/smtp/ext"
)

// maxHeader is the maximum number of octets of a header that are returned. A longer one is cut off after a line.
const maxHeader = 64 << 10

// An original is what scan has found out about a message.
type original struct {
	size   int64
	header []byte // of maxHeader octets at most, with lines that end in CRLF, and without other CRs
	top    traits // of the header
	body   traits // of the rest
	cut    bool   // header is not complete
}

// traits decide how a part of a message can be sent.
type traits struct {
	eight   bool // it has octets above 127
	legacy  bool // it has octets above 127 that are not UTF-8
	unclean bool // it has NUL, CR without LF, or lines that are too long, so it is no text (RFC 2045 section 2.7)
}

// scan reads a message from r to its end. Taken reports whether a line begins with delimiter. The error is one of r.
func scan(r io.Reader, delimiter []byte) (o original, taken bool, err error) {
	br := bufio.NewReaderSize(r, 16<<10)
	place, column := atStart, 0
	for {
		line, err := br.ReadSlice('\n')
		goesOn := errors.Is(err, bufio.ErrBufferFull)
		if err != nil && err != io.EOF && !goesOn {
			return o, taken, err
		}
		if goesOn && line[len(line)-1] == '\r' { // perhaps the LF of a CRLF comes next
			_ = br.UnreadByte() // cannot fail after a read
			line = line[:len(line)-1]
		}
		o.size += int64(len(line))
		text, whole := bytes.CutSuffix(line, []byte("\n"))
		if whole {
			text = bytes.TrimSuffix(text, []byte("\r"))
		}
		if column == 0 {
			taken = taken || bytes.HasPrefix(text, delimiter)
			place = place.next(text)
		}
		column += len(text)
		o.note(place != inBody, text, column)
		if place == inField && len(line) > 0 {
			o.keep(text, goesOn)
		}
		if !goesOn {
			column = 0
		}
		if err == io.EOF {
			return o, taken, nil
		}
	}
}

// A place says in which part of a message a line is.
type place int

const (
	atStart place = iota // before the first field
	inField
	inBody
)

// next returns the place of the line that begins with text and follows a line at p. The header ends at an empty line,
// or at a line that is no field: the rest may be a body, which the sender may not want to be returned (RFC 8689 section
// 5). The From line that a mailbox file has before a message is not part of the header.
func (p place) next(text []byte) place {
	switch {
	case p == inBody || len(text) == 0:
	case isField(text), p == inField && (text[0] == ' ' || text[0] == '\t'):
		return inField
	case p == atStart && bytes.HasPrefix(text, []byte("From ")):
		return atStart
	}
	return inBody
}

// isField reports whether a field begins with text: a name of printable ASCII characters, perhaps white space, and a
// colon (RFC 5322 sections 3.6.8 and 4.5).
func isField(text []byte) bool {
	name, _, ok := bytes.Cut(text, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	return ok && len(name) > 0 && bytes.IndexFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
}

// note records the traits of a line, or of a part of a line that ends at column.
func (o *original) note(inHeader bool, text []byte, column int) {
	t := &o.body
	if inHeader {
		t = &o.top
	}
	t.unclean = t.unclean || column > maxLine || bytes.IndexByte(text, 0) >= 0 || bytes.IndexByte(text, '\r') >= 0
	if !ascii(text) {
		t.eight = true
		t.legacy = t.legacy || !utf8.Valid(text)
	}
}

// keep copies a line of the header, or a part of one if the line goes on. A CR that ends no line becomes a question
// mark, since some readers would take it for the end of a line.
func (o *original) keep(text []byte, goesOn bool) {
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("?"))
	if o.cut || len(o.header)+len(text)+len("\r\n") > maxHeader {
		o.header = o.header[:bytes.LastIndexByte(o.header, '\n')+1]
		o.cut = true
		return
	}
	o.header = append(o.header, text...)
	if !goesOn {
		o.header = append(o.header, "\r\n"...)
	}
}

func ascii[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// A part is a body part as it will be sent.
type part struct {
	kind     string // its type
	encoding string // "" stands for 7bit
	needs    ext.Feature
	content  []byte                             // encoded, or nil if stream is set
	stream   func(io.Reader) (encode io.Reader) // makes the content of the message as it is read
}

// full returns the whole of o as a part. Carries has the features of the servers on the way. It reports false if the
// message cannot be sent so. A message with octets above 127 must not be encoded (RFC 2046 section 5.2.1). Only for an
// internationalised message all encodings are allowed (RFC 6532 section 3.7).
func (o *original) full(carries ext.Feature) (part, bool) {
	unclean := o.top.unclean || o.body.unclean
	switch {
	case o.top.eight && o.top.legacy:
		return part{}, false
	case o.top.eight && !unclean && carries&ext.UTF8 != 0:
		return part{kind: "message/global", encoding: "8bit", needs: ext.UTF8 | ext.EightBit, stream: canonical}, true
	case o.top.eight:
		return part{kind: "message/global", encoding: "base64", stream: func(r io.Reader) io.Reader {
			return &base64Reader{r: canonical(r)}
		}}, true
	case unclean:
		return part{}, false
	case !o.body.eight:
		return part{kind: "message/rfc822", stream: canonical}, true
	case carries&ext.EightBit != 0:
		return part{kind: "message/rfc822", encoding: "8bit", needs: ext.EightBit, stream: canonical}, true
	}
	return part{}, false
}

// headers returns the header of o as a part.
func (o *original) headers(carries ext.Feature) part {
	p := part{kind: "text/rfc822-headers", content: o.header}
	if o.top.eight && !o.top.legacy {
		p.kind = "message/global-headers"
		if !o.top.unclean && carries&ext.UTF8 != 0 {
			p.encoding, p.needs = "8bit", ext.UTF8|ext.EightBit
			return p
		}
	}
	if o.top.eight || o.top.unclean {
		p.encoding, p.content = "quoted-printable", quoted(o.header)
	}
	return p
}

// quoted returns lines of text as quoted-printable.
func quoted(text []byte) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write(text) // into memory
	_ = w.Close()
	return b.Bytes()
}

// canonical returns r with its line endings made CRLF.
func canonical(r io.Reader) io.Reader { return &crlfReader{r: r} }

// A crlfReader reads from r, and makes CRLF of each LF without CR.
type crlfReader struct {
	r    io.Reader
	buf  [4 << 10]byte
	rest []byte // what of buf has not been read
	err  error  // of r
	cr   bool   // the last octet was CR
}

func (c *crlfReader) Read(p []byte) (int, error) {
	for len(c.rest) == 0 && c.err == nil {
		n, err := c.r.Read(c.buf[:])
		c.rest, c.err = c.buf[:n], err
	}
	n := 0
	for n < len(p) && len(c.rest) > 0 {
		b := c.rest[0]
		if b == '\n' && !c.cr {
			b = '\r'
		} else {
			c.rest = c.rest[1:]
		}
		c.cr = b == '\r'
		p[n] = b
		n++
	}
	if n == 0 && len(c.rest) == 0 {
		return 0, c.err
	}
	return n, nil
}

// A base64Reader reads from r, and makes lines of base64 (RFC 2045 section 6.8).
type base64Reader struct {
	r    io.Reader
	line [76 + len("\r\n")]byte
	rest []byte // what of line has not been read
	err  error  // of r
}

func (b *base64Reader) Read(p []byte) (int, error) {
	if len(b.rest) == 0 && b.err == nil {
		var octets [57]byte
		n, err := io.ReadFull(b.r, octets[:])
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		b.err = err
		if n > 0 {
			b.rest = append(base64.StdEncoding.AppendEncode(b.line[:0], octets[:n]), "\r\n"...)
		}
	}
	if len(b.rest) == 0 {
		return 0, b.err
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}
