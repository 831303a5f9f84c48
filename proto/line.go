package proto

import "bytes"

// A lineReader finds lines, which only CRLF ends (law 6), and passes over those that are too long.
type lineReader struct {
	seen    int // octets of the line in which there is no CRLF, so that a slow peer cannot make the search quadratic
	dropped int // octets of a line too long that are used up already
}

// next looks for a line in p. It returns the line without its CRLF if its end is there, and how many octets of p are
// done with; length is that of the line with its CRLF, or what has been seen of it. Octets of a line of which more
// than limit have been seen are used up as they come.
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

// badOctet returns the first control character in line, or 0. NUL is reported as 1.
func badOctet(line []byte) byte {
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			return max(c, 1)
		}
	}
	return 0
}

// trimRight cuts white space off the end of line, which a server should tolerate (RFC 5321 section 4.1.1).
func trimRight(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == ' ' || line[len(line)-1] == '\t') {
		line = line[:len(line)-1]
	}
	return line
}
