package tracefield

import (
	"io"
	"strings"

	"smtpkit.example/smtp/proto"
)

// ReturnPath returns a Return-Path field with the reverse-path of a message, with CRLF at its end. The server that
// makes the final delivery puts it on top of the message (RFC 5321 section 4.4). The zero Address is the null
// reverse-path, "<>".
//
// The field is in ASCII if the address can be written so, and in UTF-8 if it came with SMTPUTF8 and cannot. ReturnPath
// returns "" for an address that no MAIL command can have, such as one with a control character in it.
func ReturnPath(from proto.Address) string {
	path := "<>"
	if !from.IsNull() {
		path = pathOf(from)
	}
	if path == "" {
		return ""
	}
	return "Return-Path: " + path + "\r\n"
}

// DeliveredTo returns a Delivered-To field with the mailbox to which a message is delivered, with CRLF at its end
// (RFC 9228). [CheckLoop] finds it when the message comes back. Like [ReturnPath], it returns "" for an address that
// cannot be written, and also for the null path.
func DeliveredTo(to proto.Address) string {
	path := pathOf(to)
	if path == "" {
		return ""
	}
	return "Delivered-To: " + path[1:len(path)-1] + "\r\n"
}

// pathOf returns a in angle brackets, in ASCII if possible, or "".
func pathOf(a proto.Address) string {
	path, err := a.AppendPath(nil, false)
	if err != nil {
		path, err = a.AppendPath(nil, true)
	}
	if err != nil || a.IsNull() {
		return ""
	}
	return string(path)
}

// Prepend returns a reader of the message in r with fields on top of it, such as those of this package, or one of your
// own: "X-Scanned: yes". A CRLF is added to a field that has none at its end. The message behind them is the same,
// octet for octet, with one exception: if it begins with a space or a tab, it has no header, and an empty line comes
// first. Otherwise its first line would become a part of the last field, and a stranger could write it.
//
// The reader passes the errors of r on. It has a method WriteTo, which uses that of r.
func Prepend(r io.Reader, fields ...string) io.Reader {
	var text strings.Builder
	for _, field := range fields {
		text.WriteString(field)
		if field != "" && !strings.HasSuffix(field, "\r\n") {
			text.WriteString("\r\n")
		}
	}
	if text.Len() == 0 {
		return r
	}
	return io.MultiReader(strings.NewReader(text.String()), &start{r: r})
}

// A start is a reader of a message that stands behind a field.
type start struct {
	r     io.Reader
	buf   [len("\r\n ")]byte
	out   []byte // to be returned next; it is in buf
	begun bool
}

// begin reads the first octet.
func (s *start) begin() error {
	for !s.begun {
		n, err := s.r.Read(s.buf[2:])
		if n > 0 {
			s.begun = true
			s.out = s.buf[2:]
			if b := s.out[0]; b == ' ' || b == '\t' {
				s.buf[0], s.buf[1] = '\r', '\n'
				s.out = s.buf[:]
			}
			s.r = after(s.r, err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *start) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.begin(); err != nil {
		return 0, err
	}
	if len(s.out) == 0 {
		return s.r.Read(p)
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// WriteTo writes all of the message to w.
func (s *start) WriteTo(w io.Writer) (int64, error) {
	switch err := s.begin(); err {
	case nil:
	case io.EOF:
		return 0, nil
	default:
		return 0, err
	}
	n, err := w.Write(s.out)
	s.out = s.out[n:]
	if err != nil {
		return int64(n), err
	}
	more, err := io.Copy(w, s.r)
	return int64(n) + more, err
}

// after returns r, or, if r has returned err with its last octets, a reader that returns err.
func after(r io.Reader, err error) io.Reader {
	if err == nil {
		return r
	}
	return failed{err}
}

// failed is a reader that has come to its end.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }
