package tracefield

import (
	"io"
	"slices"
)

// Strip returns a reader of the message in r without the fields of its header that have one of the names, in any case.
// All else passes as it is, octet for octet. The server that makes the final delivery takes Return-Path off before it
// adds its own (RFC 5321 section 4.4):
//
//	r = tracefield.Prepend(tracefield.Strip(r, "Return-Path"), tracefield.ReturnPath(from))
//
// A relay must not do that, and nobody may take Received off. The reader keeps no more of the message than a buffer,
// and passes the errors of r on.
func Strip(r io.Reader, names ...string) io.Reader {
	s := &stripper{r: r}
	longest := len("from")
	for _, name := range names {
		s.names = append(s.names, lower(name))
		longest = max(longest, len(name))
	}
	s.scan.name = make([]byte, 0, longest)
	return s
}

const (
	stripBuffer = 2048
	// maxGap is how much white space there may be between a name and its colon: as much as a line has room for (RFC 5322
	// section 2.1.1). With more the field is not taken off.
	maxGap = 998
)

// A stripper is the reader that Strip returns.
type stripper struct {
	r     io.Reader
	names []string // in lower case
	err   error    // behind out

	scan     scanner
	held     []byte // the beginning of a line, until it is known what becomes of it
	given    bool   // some of the line in hand is in buf, or has been returned
	dropping bool   // the field in hand is taken off
	out      []byte // to be returned next; it is in buf
	buf      []byte // what stays
	in       []byte // what was read
}

func (s *stripper) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(s.out) == 0 {
		switch {
		case s.err != nil:
			return 0, s.err
		case s.scan.place == over:
			s.in, s.buf, s.held = nil, nil, nil
			return s.r.Read(p)
		}
		s.fill()
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// fill reads some of the header, and puts into out what stays of it.
func (s *stripper) fill() {
	if s.in == nil {
		s.in = make([]byte, stripBuffer)
	}
	n, err := s.r.Read(s.in)
	s.buf = s.buf[:0]
	for i, b := range s.in[:n] {
		if s.scan.place == over {
			s.buf = append(s.buf, s.in[i:n]...)
			break
		}
		s.next(b)
	}
	if err != nil {
		s.buf = append(s.buf, s.held...)
		s.held, s.err = nil, err
	}
	s.out = s.buf
}

// next takes an octet of the header.
func (s *stripper) next(b byte) {
	begins := s.scan.begins(b)
	colon := s.scan.next(b)
	if begins {
		s.given = false
		s.dropping = s.dropping && s.scan.place == inValue // a continuation
	}
	if s.dropping {
		return
	}
	s.held = append(s.held, b)
	switch {
	case colon && s.unwanted():
		s.held, s.dropping = s.held[:0], true
	case (s.scan.place == inName || s.scan.place == inGap) && len(s.held) <= cap(s.scan.name)+maxGap && !s.scan.long:
		// The name is not complete.
	default:
		s.buf = append(s.buf, s.held...)
		s.held, s.given = s.held[:0], true
	}
}

// unwanted reports whether the field in hand is to be taken off. Not if some of it has been given away already.
func (s *stripper) unwanted() bool {
	return !s.given && slices.ContainsFunc(s.names, s.scan.is)
}
