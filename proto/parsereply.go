package proto

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrReply is wrapped by the error for a reply that does not have the form of RFC 5321 section 4.2, or that exceeds one
// of the [Limits]. The beginning of the next reply is unknown then, so the connection must not be used again.
var ErrReply = errors.New("smtp: bad reply")

// ErrLaxReply is wrapped too by the error for a reply that [Limits].LaxReplies would have accepted so far.
var ErrLaxReply = errors.New("smtp: bad reply, which LaxReplies accepts")

// A strictError is an error for a reply that LaxReplies would have accepted.
type strictError struct{ error }

func (e strictError) Unwrap() []error { return []error{e.error, ErrLaxReply} }

// ParseReply parses the reply at the beginning of buf and returns its length. If n is 0 and err is nil, the reply is
// not complete yet: call again with more.
//
// With status, enhanced status codes are separated from the text. Set it only if the server has advertised
// ENHANCEDSTATUSCODES (RFC 2034 section 4); otherwise the digits may mean something else.
//
// The error wraps [ErrReply]. It is returned as soon as the offending octet is in buf.
func ParseReply(buf []byte, status bool, lim Limits) (r RawReply, n int, err error) {
	var p replyParser
	return p.parse(buf, status, lim)
}

// A replyParser is ParseReply for a reply that arrives in pieces. It does not look twice at the same octets. After a
// complete reply it begins with the next one; after an error it must not be used again.
type replyParser struct {
	line   int // where the line being read begins
	seen   int // no CR or LF before this
	count  int // complete lines
	code   int // of the first line
	status Status
	begin  int // where the first line begins that is told: what is before it, a greeting has taken back

	greeting bool // the reply is a greeting, which may become a refusal
	crlf     bool // a line has ended with CRLF; kept from reply to reply
}

// parse is given all that has been received of the reply so far, and returns what ParseReply does.
func (p *replyParser) parse(buf []byte, status bool, lim Limits) (RawReply, int, error) {
	for {
		end, last, err := p.parseLine(buf, lim)
		if end == 0 || err != nil {
			return RawReply{}, 0, err
		}
		p.count++
		if status && p.status.IsZero() {
			p.findStatus(buf[p.line:end])
		}
		p.line, p.seen = end, end
		if !last {
			continue
		}
		r := RawReply{Code: p.code, Status: p.status, raw: buf[p.begin:end:end], strip: !p.status.IsZero()}
		*p = replyParser{crlf: p.crlf}
		return r, end, nil
	}
}

// parseLine returns where the line ends, or 0 if its end is not in buf, and whether the reply ends with it. It judges
// octets in their order, so that the outcome does not depend on how many are in buf.
func (p *replyParser) parseLine(buf []byte, lim Limits) (end int, last bool, err error) {
	if p.count == lim.replyLines() {
		return 0, false, fmt.Errorf("%w: more than %d lines", ErrReply, p.count)
	}
	room := min(lim.replyLine(), lim.reply()-p.line)
	window := buf[p.line:min(len(buf), p.line+room)]
	if err := p.checkCode(window, lim.LaxReplies); err != nil {
		return 0, false, err
	}
	i := lineEnd(window[p.seen-p.line:])
	if i < 0 || p.seen+i+1 == p.line+len(window) && buf[p.seen+i] == '\r' {
		if len(window) == room {
			return 0, false, p.tooLarge(lim)
		}
		p.seen = p.line + len(window)
		if i >= 0 {
			p.seen--
		}
		return 0, false, nil
	}
	i += p.seen
	if buf[i] == '\n' {
		if lim.LaxReplies && !p.crlf {
			return i + 1, buf[p.line+3] != '-', nil
		}
		return 0, false, p.lineFeed()
	}
	if buf[i+1] != '\n' {
		return 0, false, fmt.Errorf("%w: line %d has a CR without LF", ErrReply, p.count+1)
	}
	p.crlf = true
	return i + 2, buf[p.line+3] != '-', nil
}

// lineFeed returns the error for an LF without CR. Where lines have ended with CRLF before, LaxReplies does not take it
// for an end either.
func (p *replyParser) lineFeed() error {
	err := fmt.Errorf("%w: line %d has an LF without CR", ErrReply, p.count+1)
	if p.crlf {
		return err
	}
	return strictError{err}
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

// checkCode checks as much as there is of the code and of the octet that follows it.
func (p *replyParser) checkCode(line []byte, lax bool) error {
	code := 0
	for i, c := range line[:min(3, len(line))] {
		if c < '0' || c > '9' || i == 0 && (c < '2' || c > '5') {
			return fmt.Errorf("%w: line %d begins with %q, which is no reply code", ErrReply, p.count+1, line[:i+1])
		}
		code = code*10 + int(c-'0')
	}
	if len(line) < 3 {
		return nil
	}
	if p.count == 0 {
		p.code = code
	}
	if p.greeting && p.code < 300 && code >= 400 {
		// A server that has begun to greet, to see whether the client waits, has found that it does not want it.
		p.code, p.status, p.begin = code, Status{}, p.line
	}
	if code != p.code {
		return fmt.Errorf("%w: line %d has the code %d, line %d has %d", ErrReply, p.count+1, code, p.count, p.code)
	}
	if len(line) == 3 {
		return nil
	}
	switch line[3] {
	case ' ', '-', '\r', '\n':
		return nil
	case '\t':
		if lax {
			return nil
		}
	}
	err := fmt.Errorf("%w: line %d has %q after the code: a space, a hyphen or CRLF must follow it",
		ErrReply, p.count+1, line[3:4])
	if line[3] == '\t' {
		return strictError{err}
	}
	return err
}

// findStatus looks for a status code in a complete line. One whose class is not that of the reply is part of the text.
func (p *replyParser) findStatus(line []byte) {
	text, _ := cutRaw(line)
	if st, n := scanStatus(text); n > 0 && st.within(p.code) {
		p.status = st
	}
}

func (p *replyParser) tooLarge(lim Limits) error {
	if lim.reply()-p.line < lim.replyLine() {
		return fmt.Errorf("%w: more than %d octets", ErrReply, lim.reply())
	}
	return fmt.Errorf("%w: line %d has more than %d octets", ErrReply, p.count+1, lim.replyLine())
}
