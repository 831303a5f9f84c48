package proto

import "bytes"

// A lineReader finds lines, which end with CRLF and nothing else (law 6). It drops lines that are too long.
type lineReader struct {
	seen    int // octets searched already, so that a slow peer cannot make the search quadratic
	dropped int // octets of a line that is too long, dropped already
}

// next looks for a line in p. If its end is there, next returns the line without its CRLF. It returns in used how many
// octets of p it has used, and in length the length of the line with its CRLF, or of what has been seen of it. If a
// line exceeds limit, its octets are used as they come.
func (l *lineReader) next(p []byte, limit int) (line []byte, used, length int, found bool) {
	for {
		n := bytes.IndexByte(p[l.seen:], '\n')
		if n < 0 {
			break
		}
		end := l.seen + n
		l.seen = end + 1
		if end > 0 && p[end-1] == '\r' {
			return p[:end-1], end + 1, l.dropped + end + 1, true
		}
	}
	l.seen = len(p)
	length = l.dropped + len(p)
	if length <= limit {
		return nil, 0, length, false
	}
	// Keep the last octet: it may be the CR of the line's end.
	used = len(p) - 1
	l.dropped += used
	l.seen = 1
	return nil, used, length, false
}

// done forgets the line just found.
func (l *lineReader) done() { *l = lineReader{} }

// badOctet returns the first control character in line, or 0 if there is none. It returns 1 for NUL.
func badOctet(line []byte) byte {
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			return max(c, 1)
		}
	}
	return 0
}

// printableASCII reports whether line has nothing but printable ASCII in it, as most lines do.
func printableASCII(line []byte) bool {
	for _, c := range line {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// trimRight removes white space at the end of line, which a server should tolerate (RFC 5321 section 4.1.1).
func trimRight(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == ' ' || line[len(line)-1] == '\t') {
		line = line[:len(line)-1]
	}
	return line
}
