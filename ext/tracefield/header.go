package tracefield

// A scanner follows a header, octet by octet, and keeps no more of it than the name of the field in hand. A line ends
// with CRLF, LF or CR, as a client that sends the message will see it (proto.Encoder). The header ends at an empty
// line, or at a line that is neither a field nor a continuation. In front of all fields there may be a line of mbox.
type scanner struct {
	place place
	cr    bool   // the last octet was a CR, which has ended a line
	lines int    // how many have begun, up to 2
	name  []byte // of the field in hand, in lower case; no longer than its capacity
	long  bool   // the name is longer
}

// A place is where in a header a scanner is.
type place uint8

const (
	atStart place = iota // of a line
	inName
	inGap // the white space between a name and the colon (RFC 5322 section 4.5)
	inValue
	over
)

// next takes the next octet. It reports whether this is the colon of a field, whose name is then complete.
func (s *scanner) next(b byte) (colon bool) {
	ended := s.cr && b == '\n'
	s.cr = false
	if ended {
		return false // the rest of the end of a line
	}
	switch s.place {
	case atStart:
		s.begin(b)
	case inName, inGap:
		return s.within(b)
	case inValue:
		if b == '\r' || b == '\n' {
			s.place, s.cr = atStart, b == '\r'
		}
	}
	return false
}

// begins reports whether the next octet, which is b, is the first of a line.
func (s *scanner) begins(b byte) bool { return s.place == atStart && !(s.cr && b == '\n') }

// begin takes the first octet of a line.
func (s *scanner) begin(b byte) {
	s.lines = min(s.lines+1, 2)
	switch {
	case isFieldChar(b):
		s.place, s.name, s.long = inName, s.name[:0], false
		s.add(b)
	case (b == ' ' || b == '\t') && s.lines > 1:
		s.place = inValue
	default:
		s.place = over
	}
}

// within takes an octet of a name, or of what follows it.
func (s *scanner) within(b byte) (colon bool) {
	switch {
	case b == ':':
		s.place = inValue
		return true
	case b == ' ' || b == '\t':
		s.place = inGap
	case isFieldChar(b) && s.place == inName:
		s.add(b)
	case s.place == inGap && s.lines == 1 && string(s.name) == "from":
		s.place = inValue // a line of mbox
		if b == '\r' || b == '\n' {
			s.place, s.cr = atStart, b == '\r'
		}
	default:
		s.place = over
	}
	return false
}

// add adds an octet to the name, in lower case.
func (s *scanner) add(b byte) {
	if 'A' <= b && b <= 'Z' {
		b += 'a' - 'A'
	}
	if s.long = len(s.name) == cap(s.name); !s.long {
		s.name = append(s.name, b)
	}
}

// is reports whether the field in hand has this name, in lower case.
func (s *scanner) is(name string) bool { return !s.long && string(s.name) == name }

// isFieldChar reports whether b may stand in the name of a field (RFC 5322 section 2.2).
func isFieldChar(b byte) bool { return b > ' ' && b <= '~' && b != ':' }
