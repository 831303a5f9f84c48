package proto

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrReply is wrapped by the error for a reply that does not have the form of RFC 5321 section 4.2 or that exceeds one of
// the [Limits]. Nobody knows where the next one begins, so the connection is of no further use.
var ErrReply = errors.New("smtp: bad reply")

// ParseReply reads the reply at the beginning of buf and returns how many octets it has. If n is 0 and err is nil, the
// reply is not complete yet. With status, enhanced status codes are told from the text; only a server that has
// announced them is known to mean them (RFC 2034 section 4). The error wraps [ErrReply], and comes
// as soon as the offending octet is in buf, without waiting for the line to end.
func ParseReply(buf []byte, status bool, lim Limits) (r RawReply, n int, err error) {
	var s replyScanner
	return s.scan(buf, status, lim)
}

// A replyScanner is ParseReply for a reply that arrives in pieces: it does not look twice at what it has seen. It
// begins with a new reply after one that was complete; after an error it is of no further use.
type replyScanner struct {
	line  int // where the line being read begins
	seen  int // no CR or LF before this
	count int // complete lines
	code  int // of the first line
	found Status
}

// scan takes all that has been received of the reply so far, and returns what ParseReply does.
func (s *replyScanner) scan(buf []byte, status bool, lim Limits) (RawReply, int, error) {
	for {
		end, last, err := s.scanLine(buf, lim)
		if end == 0 || err != nil {
			return RawReply{}, 0, err
		}
		s.count++
		if status && s.found.IsZero() {
			s.note(buf[s.line:end])
		}
		s.line, s.seen = end, end
		if !last {
			continue
		}
		r := RawReply{Code: s.code, Status: s.found, raw: buf[:end:end], strip: !s.found.IsZero()}
		*s = replyScanner{}
		return r, end, nil
	}
}

// scanLine looks at one line and returns where it ends, 0 if that is not in buf, and whether the reply ends with it.
// Octets are judged in their order, so that the outcome does not depend on how many there are in buf.
func (s *replyScanner) scanLine(buf []byte, lim Limits) (end int, last bool, err error) {
	if s.count == lim.replyLines() {
		return 0, false, fmt.Errorf("%w: more than %d lines", ErrReply, s.count)
	}
	room := min(lim.replyLine(), lim.reply()-s.line)
	window := buf[s.line:min(len(buf), s.line+room)]
	if err := s.checkCode(window); err != nil {
		return 0, false, err
	}
	i := lineEnd(window[s.seen-s.line:])
	if i < 0 || s.seen+i+1 == s.line+len(window) && buf[s.seen+i] == '\r' {
		if len(window) == room {
			return 0, false, s.tooLarge(lim)
		}
		s.seen = s.line + len(window)
		if i >= 0 {
			s.seen--
		}
		return 0, false, nil
	}
	i += s.seen
	if buf[i] == '\n' {
		return 0, false, fmt.Errorf("%w: line %d has an LF without CR", ErrReply, s.count+1)
	}
	if buf[i+1] != '\n' {
		return 0, false, fmt.Errorf("%w: line %d has a CR without LF", ErrReply, s.count+1)
	}
	return i + 2, buf[s.line+3] != '-', nil
}

// lineEnd returns the index of the first CR or LF in p, or -1.
func lineEnd(p []byte) int {
	lf := bytes.IndexByte(p, '\n')
	if lf >= 0 {
		p = p[:lf]
	}
	if cr := bytes.IndexByte(p, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// checkCode checks what there is of the code and of the octet that follows it.
func (s *replyScanner) checkCode(line []byte) error {
	code := 0
	for i, c := range line[:min(3, len(line))] {
		if c < '0' || c > '9' || i == 0 && (c < '2' || c > '5') {
			return fmt.Errorf("%w: line %d begins with %q, which is no reply code", ErrReply, s.count+1, line[:i+1])
		}
		code = code*10 + int(c-'0')
	}
	if len(line) < 3 {
		return nil
	}
	if s.count == 0 {
		s.code = code
	}
	if code != s.code {
		return fmt.Errorf("%w: line %d has the code %d, line 1 has %d", ErrReply, s.count+1, code, s.code)
	}
	if len(line) > 3 && line[3] != ' ' && line[3] != '-' && line[3] != '\r' && line[3] != '\n' {
		return fmt.Errorf("%w: line %d has %q after the code: a space, a hyphen or CRLF must follow it",
			ErrReply, s.count+1, line[3:4])
	}
	return nil
}

// note looks for a status code in a complete line. One of another class than the reply is nothing but text.
func (s *replyScanner) note(line []byte) {
	text, _ := cutRaw(line)
	if st, n := scanStatus(text); n > 0 && st.within(s.code) {
		s.found = st
	}
}

func (s *replyScanner) tooLarge(lim Limits) error {
	if lim.reply()-s.line < lim.replyLine() {
		return fmt.Errorf("%w: more than %d octets", ErrReply, lim.reply())
	}
	return fmt.Errorf("%w: line %d has more than %d octets", ErrReply, s.count+1, lim.replyLine())
}
