package proto

import (
	"bytes"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Reply is an answer of a server (RFC 5321 section 4.2).
type Reply struct {
	Code   int    // 200 to 599
	Status Status // the enhanced status code, zero if there is none (RFC 2034)
	Text   string // without code and status; lines are separated by "\n"
}

// Err returns r as an error, whatever its code. The error of a 2yz reply is not nil either, and a server that gets it
// from a session answers 451: look at the code first.
func (r Reply) Err() *Error { return &Error{Code: r.Code, Status: r.Status, Text: r.Text} }

// String returns r on one line for people to read, such as "550 5.1.1 No such user". The text may come from a stranger:
// characters that are not printable are escaped as in a Go string, and " / " stands between lines. Use [AppendReply]
// for the wire.
func (r Reply) String() string { return string(r.appendLine(nil)) }

func (r Reply) appendLine(b []byte) []byte {
	b = strconv.AppendInt(b, int64(r.Code), 10)
	if !r.Status.IsZero() {
		b = r.Status.append(append(b, ' '))
	}
	if r.Text != "" {
		b = appendVisible(append(b, ' '), r.Text)
	}
	return b
}

// maxReplyLine is the length of the longest reply line that every client accepts, with its CRLF
// (RFC 5321 section 4.5.3.1.5).
const maxReplyLine = 512

// AppendReply appends r in its wire form, with a line for each line of the text. Lines have at most 512 octets with
// their CRLF. A longer one is folded, at a space if it has one.
//
// With status, every line of a 2yz, 4yz or 5yz reply carries an enhanced status code. If r has none, that is the
// default for the reply code; if the class of r's differs from the reply code, the class is changed
// (RFC 2034 section 4). With utf8, the text may have UTF-8 in it (RFC 6531 section 3.7.4).
//
// A character that the text must not have becomes a question mark, so that nothing in it can pass for another reply. A
// code outside 200 to 599 is a mistake of the caller, and sent as 451.
func AppendReply(dst []byte, r Reply, status, utf8 bool) []byte {
	return appendReply(dst, r, status, utf8, maxReplyLine)
}

// appendReply is AppendReply with lines of up to maxLine octets.
func appendReply(dst []byte, r Reply, status, utf8 bool, maxLine int) []byte {
	if r.Code < 200 || r.Code > 599 {
		r.Code, r.Status = 451, Status{}
	}
	head := replyHead{code: r.Code}
	if status && r.Code/100 != 3 {
		head.status = r.Status
		if !r.Status.IsZero() {
			head.status[0] = uint16(r.Code / 100)
		}
		if !head.status.within(r.Code) {
			head.status = DefaultStatus(r.Code)
		}
	}
	for {
		var at int
		dst, at = head.append(dst)
		room := maxLine - len("\r\n") - (len(dst) - at)
		if len(r.Text) <= room && printable(r.Text) == len(r.Text) {
			dst[at+len("250")] = ' '
			dst = append(dst, r.Text...)
			return append(dst, "\r\n"...)
		}
		line, rest, more := cutLine(r.Text, room, utf8)
		dst = appendText(dst, line, utf8)
		dst = append(dst, "\r\n"...)
		if !more {
			dst[at+len("250")] = ' '
			return dst
		}
		r.Text = rest
	}
}

// A replyHead is the beginning of every line of a reply.
type replyHead struct {
	code   int
	status Status
}

// append appends the head of a line that is not the last, and returns where the line begins.
func (h replyHead) append(dst []byte) (_ []byte, at int) {
	at = len(dst)
	c := h.code
	dst = append(dst, '0'+byte(c/100), '0'+byte(c/10%10), '0'+byte(c%10), '-')
	if !h.status.IsZero() {
		dst = h.status.append(dst)
		dst = append(dst, ' ') // RFC 2034 section 4: "always followed by one or more spaces"
	}
	return dst, at
}

// cutLine cuts from text what fits into a line of room octets. It reports in more whether anything follows.
func cutLine(text string, room int, utf8 bool) (line, rest string, more bool) {
	used, space := 0, 0
	for i := 0; i < len(text); {
		switch {
		case text[i] == '\n':
			return text[:i], text[i+1:], true
		case text[i] == '\r' && i+1 < len(text) && text[i+1] == '\n':
			return text[:i], text[i+2:], true
		case text[i] == ' ':
			space = i
		}
		size, width, _ := measure(text[i:], utf8)
		if used+width > room {
			if space > 0 {
				return text[:space], text[space+1:], true
			}
			return text[:i], text[i:], true
		}
		used += width
		i += size
	}
	return text, "", false
}

func appendText(dst []byte, line string, utf8 bool) []byte {
	for {
		n := printable(line)
		dst = append(dst, line[:n]...)
		if line = line[n:]; line == "" {
			return dst
		}
		size, _, ok := measure(line, utf8)
		if ok {
			dst = append(dst, line[:size]...)
		} else {
			dst = append(dst, '?')
		}
		line = line[size:]
	}
}

// printable returns how many octets at the beginning of s are printable ASCII.
func printable(s string) int {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return i
		}
	}
	return len(s)
}

// measure returns the octets of the first character of s, the octets that it takes on the wire, and whether it may be
// sent. The characters of textstring are allowed (RFC 5321 section 4.2). With unicode so are those beyond ASCII, except
// for characters that some programs take for the end of a line.
func measure(s string, unicode bool) (size, width int, ok bool) {
	c := s[0]
	if c < utf8.RuneSelf {
		return 1, 1, c == '\t' || ' ' <= c && c != 0x7f
	}
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case !unicode, r == utf8.RuneError && size == 1, r < 0xa0, r == '\u2028', r == '\u2029':
		return size, 1, false
	}
	return size, size, true
}

// A RawReply is a reply as it lies in the buffer of a Sender. Slices that its methods return are overwritten with the
// buffer (law 5); Reply makes a copy.
type RawReply struct {
	Code   int
	Status Status
	raw    []byte // all lines as received, with their ends
	strip  bool   // status codes were recognised and are not part of the text
}

// Intern returns r as Reply does, and sets *last to it. If r is *last already, no copy is made: a client that gets the
// same reply again and again so keeps one copy of it.
func (r RawReply) Intern(last *Reply) Reply {
	text, ok := r.single()
	if !ok || r.Code != last.Code || r.Status != last.Status || string(text) != last.Text {
		*last = r.Reply()
	}
	return *last
}

// single returns the text of a reply of one line, and reports whether r is one.
func (r RawReply) single() (text []byte, ok bool) {
	if len(r.raw) == 0 {
		return nil, true
	}
	line, rest := cutRaw(r.raw)
	return r.stripped(line), len(rest) == 0
}

// Reply returns a copy of r that lives for ever.
func (r RawReply) Reply() Reply {
	if line, ok := r.single(); ok {
		return Reply{Code: r.Code, Status: r.Status, Text: string(line)}
	}
	var text strings.Builder
	text.Grow(len(r.raw))
	first := true
	for line := range r.Lines() {
		if !first {
			text.WriteByte('\n')
		}
		first = false
		text.Write(line)
	}
	return Reply{Code: r.Code, Status: r.Status, Text: text.String()}
}

// Lines returns the text of each line, without code and status. The slices must not be kept.
func (r RawReply) Lines() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) { r.each(yield) }
}

func (r RawReply) each(yield func([]byte) bool) {
	for raw := r.raw; len(raw) > 0; {
		var line []byte
		line, raw = cutRaw(raw)
		if !yield(r.stripped(line)) {
			return
		}
	}
}

// stripped returns the text of a line without its status code.
func (r RawReply) stripped(line []byte) []byte {
	if r.strip {
		if st, n := scanStatus(line); n > 0 && st.within(r.Code) {
			return line[min(n+1, len(line)):]
		}
	}
	return line
}

// cutRaw cuts the first line from raw, which is well-formed, and returns its text.
func cutRaw(raw []byte) (text, rest []byte) {
	end := 3 + bytes.IndexByte(raw[3:], '\n')
	text, rest = raw[3:end], raw[end+1:]
	if n := len(text); n > 0 && text[n-1] == '\r' {
		text = text[:n-1]
	}
	if len(text) > 0 {
		text = text[1:]
	}
	return text, rest
}
