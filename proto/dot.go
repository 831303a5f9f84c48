package proto

import (
	"bytes"
	"slices"
)

// A decoder removes the transparency of RFC 5321 section 4.5.2 from content, and finds its end. Only CRLF ends a line,
// and only CRLF.CRLF the content (law 6). The CRLF of the DATA command counts as the first.
type decoder struct {
	midLine bool // in the middle of a line, not after CRLF
	bare    bool // there was a CR without LF or an LF without CR
}

// decode decodes p in place. Content is p[:out], and p[used:] has to be offered again with more behind it. What is left
// over is a CR, a dot, or a dot and a CR, since only the next octet says what they are.
func (d *decoder) decode(p []byte) (out, used int, end bool) {
	crs := 0
	if !d.bare {
		crs = bytes.Count(p, crByte)
	}
	lines := 0     // CRLFs passed
	i, run := 0, 0 // p[run:i] is content that has not been moved to its place
loop:
	for i < len(p) {
		if !d.midLine && p[i] == '.' {
			switch rest := p[i+1:]; {
			case len(rest) == 0, len(rest) == 1 && rest[0] == '\r':
				break loop
			case rest[0] == '\r' && rest[1] == '\n':
				end = true
				break loop
			}
			out += move(p, out, run, i)
			i++
			run = i
		}
		d.midLine = true
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			i = len(p)
			if p[i-1] == '\r' {
				i--
			}
			break
		}
		if n > 0 && p[i+n-1] == '\r' {
			d.midLine = false
			lines++
		} else {
			d.bare = true
		}
		i += n + 1
	}
	if !d.bare {
		// If there are as many CRs as CRLFs, no CR stands alone; p[i:] has not been moved.
		d.bare = crs-bytes.Count(p[i:], crByte) != lines
	}
	out += move(p, out, run, i)
	used = i
	if end {
		used += len(".\r\n")
		d.midLine = false
	}
	return out, used, end
}

var crByte, lfByte = []byte{'\r'}, []byte{'\n'}

// move moves p[from:to] to p[at:] and returns its length.
func move(p []byte, at, from, to int) int {
	if at == from {
		return to - from
	}
	return copy(p[at:], p[from:to])
}

// A bareScanner finds a CR without LF or an LF without CR in content that arrives in chunks.
type bareScanner struct {
	cr   bool // the text so far ends in CR
	bare bool
}

func (s *bareScanner) scan(p []byte) {
	if s.bare || len(p) == 0 {
		return
	}
	if s.cr {
		if p[0] != '\n' {
			s.bare = true
			return
		}
		p = p[1:]
	}
	if s.cr = len(p) > 0 && p[len(p)-1] == '\r'; s.cr {
		p = p[:len(p)-1]
	}
	s.bare = !isCanonical(p)
}

// isCanonical reports whether each CR in p stands before an LF, and each LF behind a CR.
func isCanonical(p []byte) bool {
	crs := bytes.Count(p, crByte)
	if crs != bytes.Count(p, lfByte) {
		return false
	}
	// If there are as many pairs as CRs and LFs, none stands alone, however the pairs were found. Where a guess has jumped
	// over some, they are found without guesses.
	return countPairs(p, crs, true) == crs || countPairs(p, crs, false) == crs
}

// countPairs counts CRLFs in p, up to most. With guess it takes it that a line is as long as the two before it if they
// have the same length, as most lines of encoded data are, and misses those that lie between.
func countPairs(p []byte, most int, guess bool) int {
	pairs, length, alike := 0, 0, false
	for i := 0; pairs < most; pairs++ {
		if end := i + length; alike && end <= len(p) && p[end-1] == '\n' && p[end-2] == '\r' {
			i = end
			continue
		}
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 || i+n == 0 || p[i+n-1] != '\r' {
			break
		}
		alike = guess && n+1 == length && n > 0
		length = n + 1
		i += length
	}
	return pairs
}

// finish says that the content is complete.
func (s *bareScanner) finish() {
	s.bare = s.bare || s.cr
	s.cr = false
}

// An Encoder makes the line endings of text canonical: a bare LF or a bare CR becomes CRLF. With Dots it also doubles
// each dot at the beginning of a line (RFC 5321 section 4.5.2), for content that is sent after 354. How the text is cut
// into calls makes no difference. The zero value is ready for use.
type Encoder struct {
	Dots bool

	midLine bool // in the middle of a line
	cr      bool // the last octet of the text was a CR, and CRLF was written for it
}

// encodeBlock is how much Append examines at once. It is large enough to make counting cheap, and small enough that the
// octets are still in the cache when they are encoded.
const encodeBlock = 16 << 10

// Append appends the encoding of p to dst.
func (e *Encoder) Append(dst, p []byte) []byte {
	for len(p) > 0 {
		if e.cr { // at the end of the block before, too
			e.cr = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		block := p[:min(len(p), encodeBlock)]
		if len(block) < len(p) && block[len(block)-1] == '\r' && len(block) > 1 {
			block = block[:len(block)-1] // keep a CR with what follows it
		}
		p = p[len(block):]
		dst = e.block(dst, block)
	}
	return dst
}

// Skip reports whether Append would append p as it is: all of its line endings are CRLF, and with Dots no line begins
// with a dot. If so, p counts as appended, and the caller may send p from where it lies. If not, nothing has changed.
// A CR at the end of p is not known to be part of a CRLF, so that Skip reports false.
func (e *Encoder) Skip(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	if e.cr || p[len(p)-1] == '\r' {
		return false
	}
	if e.Dots && (!e.midLine && p[0] == '.' || bytes.Contains(p, dotLine)) || !isCanonical(p) {
		return false
	}
	e.midLine = p[len(p)-1] != '\n'
	return true
}

// dotLine begins a line with a dot.
var dotLine = []byte("\n.")

// block encodes p. Its line endings are most likely all CRLF, or all LF.
func (e *Encoder) block(dst, p []byte) []byte {
	tail := p[len(p)-1] == '\r'
	body := p
	if tail {
		body = p[:len(p)-1]
	}
	before, mid := len(dst), e.midLine
	ok := true
	if crs := bytes.Count(body, crByte); crs > 0 {
		dst, ok = e.canonical(dst, body, crs)
	} else {
		dst = e.unix(dst, body)
	}
	if !ok {
		e.midLine = mid
		return e.mixed(dst[:before], p)
	}
	if tail {
		dst = append(dst, '\r', '\n')
		e.midLine, e.cr = false, true
	}
	return dst
}

// canonical encodes p, which has crs CRs. It reports false if there is an LF without CR or a CR without LF; what it has
// appended is useless then.
func (e *Encoder) canonical(dst, p []byte, crs int) ([]byte, bool) {
	// The shortest line with a dot to be doubled has three octets, so this is room for all of it.
	dst = slices.Grow(dst, len(p)+len(p)/3+1)
	out, o := dst[len(dst):cap(dst)], 0
	run, lines := 0, 0
	for i := 0; i < len(p); {
		begin := i
		if !e.midLine && e.Dots && p[i] == '.' {
			if run < i {
				o += copy(out[o:], p[run:i])
			}
			out[o] = '.'
			o++
			// Lines that begin with a dot tend to be short, and a short line is copied faster than it is searched.
			for end := min(i+shortLine, len(p)); i < end && p[i] != '\n'; i++ {
				out[o] = p[i]
				o++
			}
			run = i
			if i < len(p) && p[i] == '\n' {
				out[o] = '\n'
				o++
				run++
			}
		}
		n := 0
		if i == len(p) || p[i] != '\n' {
			if n = bytes.IndexByte(p[i:], '\n'); n < 0 {
				e.midLine = true
				break
			}
		}
		i += n + 1
		if i-1 == begin || p[i-2] != '\r' {
			return dst, false
		}
		e.midLine = false
		lines++
	}
	o += copy(out[o:], p[run:])
	return dst[:len(dst)+o], crs == lines
}

// shortLine is how much of a line is copied octet by octet.
const shortLine = 8

// unix encodes p, which has no CR.
func (e *Encoder) unix(dst, p []byte) []byte {
	for len(p) > 0 {
		if !e.midLine && e.Dots && p[0] == '.' {
			dst = append(dst, '.')
		}
		n := bytes.IndexByte(p, '\n')
		if n < 0 {
			e.midLine = true
			return append(dst, p...)
		}
		dst = append(dst, p[:n]...)
		dst = append(dst, '\r', '\n')
		e.midLine = false
		p = p[n+1:]
	}
	return dst
}

// mixed encodes any text.
func (e *Encoder) mixed(dst, p []byte) []byte {
	for _, c := range p {
		switch {
		case c == '\n' && e.cr:
		case c == '\n', c == '\r':
			dst = append(dst, '\r', '\n')
			e.midLine = false
		default:
			if !e.midLine && e.Dots && c == '.' {
				dst = append(dst, '.')
			}
			dst = append(dst, c)
			e.midLine = true
		}
		e.cr = c == '\r'
	}
	return dst
}

// Close appends the end of the text, and makes e ready for another. With Dots the end is CRLF, if the last line lacks
// it, and the line with a single dot (RFC 5321 section 4.1.1.4). Without Dots nothing is appended, since counted text
// needs no end.
func (e *Encoder) Close(dst []byte) []byte {
	if e.Dots {
		if e.midLine {
			dst = append(dst, '\r', '\n')
		}
		dst = append(dst, '.', '\r', '\n')
	}
	*e = Encoder{Dots: e.Dots}
	return dst
}
