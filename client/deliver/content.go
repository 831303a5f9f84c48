package deliver

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/internal/ended"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/proto"
)

const (
	blockSize = 64 << 10
	// fieldPeek is how much of a line is looked at, to see whether it is a header field and which.
	fieldPeek = 128
)

// A format is how content is written.
type format struct {
	newline string // what ends a line
	quote   bool   // "From " at the beginning of a line is quoted as in mboxrd
	top     bool   // Return-Path and Delivered-To come first, in place of a Return-Path that is there
}

// write writes m to w, and returns how many octets it has written. An error of the Body is a *client.MessageError; any
// other is that of w, or that of ctx if it ended.
//
// Every CR and LF that is not part of a CRLF ends a line, as it does when a client sends the message, and the last line
// is ended. Binary content stays as it is.
func (f format) write(ctx context.Context, w io.Writer, m *client.Message) (int64, error) {
	body := m.Body
	if body == nil {
		body = bytes.NewReader(nil)
	}
	if c, ok := body.(io.Closer); ok {
		defer c.Close()
	}
	out := &sink{ctx: ctx, w: w}
	c := copier{
		format: f, binary: m.Needs&ext.Binary != 0,
		in: bufio.NewReaderSize(&sticky{r: body}, blockSize), out: bufio.NewWriterSize(out, blockSize),
	}
	if f.top {
		c.writeTop(m)
	}
	if err := c.copy(); err != nil {
		return out.n, err
	}
	return out.n, c.out.Flush()
}

// A sticky reader goes on returning the error that it has returned. A bufio.Reader returns it to one call of Peek only.
type sticky struct {
	r   io.Reader
	err error
}

func (s *sticky) Read(p []byte) (n int, err error) {
	if s.err == nil {
		n, s.err = s.r.Read(p)
	}
	return n, s.err
}

// A sink counts what is written to w, and takes nothing more when the context has ended.
type sink struct {
	ctx context.Context
	w   io.Writer
	n   int64
}

func (s *sink) Write(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, ended.Reason(s.ctx)
	}
	n, err := s.w.Write(p)
	s.n += int64(n)
	return n, err
}

// A copier copies a message line by line. A line may be of any length: it is never held as a whole.
type copier struct {
	format
	binary bool
	in     *bufio.Reader
	out    *bufio.Writer

	body     bool // the header has ended
	dropping bool // a Return-Path is being left out
	midline  bool // in is not at the beginning of a line
}

// writeTop writes the fields of final delivery (RFC 5321 section 4.4). A failure shows at the next write.
func (c *copier) writeTop(m *client.Message) {
	fields := tracefield.ReturnPath(m.From)
	if len(m.To) == 1 {
		fields += tracefield.DeliveredTo(m.To[0].Address)
	}
	c.out.WriteString(strings.ReplaceAll(fields, "\r\n", c.newline))
	if first, _ := c.in.Peek(1); len(first) > 0 && (first[0] == ' ' || first[0] == '\t') {
		c.out.WriteString(c.newline) // a message without a header, whose first line must not become a part of a field
		c.body = true
	}
}

func (c *copier) copy() error {
	for {
		if !c.midline {
			if err := c.begin(); err != nil {
				return err
			}
		}
		text, end, err := c.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return &client.MessageError{What: "reading the body", Err: err}
		}
		c.midline = end == ""
		if c.dropping {
			continue
		}
		if end != "" && !c.binary {
			end = c.newline
		}
		c.out.Write(text)
		if _, err := c.out.WriteString(end); err != nil {
			return err
		}
	}
	if c.midline && !c.dropping && !c.binary {
		c.out.WriteString(c.newline)
	}
	return nil
}

// next returns text up to the end of the line, and that end. The end is empty if the line goes on.
func (c *copier) next() (text []byte, end string, err error) {
	if _, err := c.in.Peek(1); err != nil {
		return nil, "", err
	}
	text, _ = c.in.Peek(c.in.Buffered())
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		text, end = text[:i], "\n"
	}
	used := len(text) + len(end)
	if i := bytes.IndexByte(text, '\r'); i >= 0 {
		switch {
		case i+1 < used && i+1 == len(text):
			end = "\r\n"
		case i+1 < used:
			end, used = "\r", i+1
		case i > 0:
			end, used = "", i // what follows the CR has not been read yet
		default:
			end = "\r"
			if two, err := c.in.Peek(2); len(two) == 2 && two[1] == '\n' {
				end = "\r\n"
			} else if len(two) < 2 && err != io.EOF {
				return nil, "", err
			}
			used = len(end)
		}
		text = text[:i]
	}
	_, err = c.in.Discard(used)
	return text, end, err
}

// begin looks at the beginning of a line: is it one to be left out, or to be quoted?
func (c *copier) begin() error {
	if c.top && !c.body {
		line, err := c.in.Peek(fieldPeek)
		if len(line) == 0 || err != nil && err != io.EOF && len(line) < fieldPeek {
			return nil // next finds the same
		}
		switch name, ok := fieldName(line); {
		case line[0] == ' ' || line[0] == '\t': // the last field goes on
		case !ok:
			c.body, c.dropping = true, false
		default:
			c.dropping = bytes.EqualFold(name, []byte("Return-Path"))
		}
	}
	if c.quote && !c.dropping {
		return c.quoteFrom()
	}
	return nil
}

// fieldName returns the name of the header field that line begins with. It reports false if that is no field, as far as
// can be seen.
func fieldName(line []byte) (name []byte, ok bool) {
	i := bytes.IndexFunc(line, func(r rune) bool { return r <= ' ' || r == ':' || r > '~' })
	switch {
	case i < 0:
		return line, len(line) == fieldPeek
	case i == 0:
		return nil, false
	}
	rest := bytes.TrimLeft(line[i:], " \t") // RFC 5322 section 4.5: there once was space before the colon
	return line[:i], len(rest) > 0 && rest[0] == ':'
}

// quoteFrom puts one more ">" before a line of any number of ">" and "From ".
func (c *copier) quoteFrom() error {
	marks := 0
	for {
		next, err := c.in.Peek(1)
		if err != nil || next[0] != '>' {
			break
		}
		c.in.Discard(1)
		marks++
	}
	if word, _ := c.in.Peek(len("From ")); string(word) == "From " {
		marks++
	}
	c.midline = marks > 0
	for ; marks > 0; marks-- {
		if err := c.out.WriteByte('>'); err != nil {
			return err
		}
	}
	return nil
}

// sender returns the envelope sender for the "From " line of a mailbox file: one word.
func sender(a proto.Address) string {
	if a.IsNull() {
		return "MAILER-DAEMON"
	}
	return string(bytes.Map(func(r rune) rune {
		if r <= ' ' {
			return '_'
		}
		return r
	}, []byte(a.String())))
}
