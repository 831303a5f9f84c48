package server

import (
	"bytes"

	"smtpkit.example/smtp/proto"
)

// A header counts what the header of a message has, and how long the lines of the message are, as the octets come. It
// keeps none of them but a short name. The header ends with an empty line, or with a line that is neither a field nor a
// continuation of one. In front of all fields there may be a line of mbox, which begins with "From ".
type header struct {
	size     int64 // in octets, without the line behind it
	pending  int64 // octets of what is a field if a colon follows, and otherwise no part of the header
	fields   int
	received int // fields that are named Received
	over     bool
	place    headerPlace
	begun    bool                        // the first line has begun
	second   bool                        // and another
	name     [len(receivedName) + 1]byte // of the field in hand, in lower case, or what fits
	length   int                         // of it
	line     int                         // octets of the line in hand
}

// A headerPlace is where in the header the next octet is.
type headerPlace uint8

const (
	lineStart headerPlace = iota
	inName
	inGap  // the white space between a name and the colon (RFC 5322 section 4.5)
	inRest // of a line
)

const receivedName = "received"

// check looks at the next octets of a message. It returns why the message cannot be accepted, or nil.
func (h *header) check(p []byte, l *Limits, binary bool) *proto.Error {
	if l.LineLength > 0 && !binary && h.isTooLong(p, l.LineLength) {
		return errLineTooLong
	}
	for len(p) > 0 && !h.over {
		p = h.next(p)
		switch {
		case l.HeaderSize > 0 && h.size > l.HeaderSize:
			return errHeaderSize
		case exceeds(h.fields, l.HeaderFields):
			return errHeaderFields
		case exceeds(h.received, l.Received):
			return errLoop
		}
	}
	return nil
}

// next takes one or more octets of the header, and returns the others.
func (h *header) next(p []byte) []byte {
	n := 1
	switch b := p[0]; h.place {
	case lineStart:
		h.begin(b)
	case inRest:
		if n = bytes.IndexByte(p, '\n') + 1; n == 0 {
			n = len(p)
		} else {
			h.place = lineStart
		}
	default:
		h.within(b)
	}
	switch {
	case h.over:
	case h.place == inName || h.place == inGap:
		h.pending += int64(n)
	default:
		h.size += h.pending + int64(n)
		h.pending = 0
	}
	return p[n:]
}

// begin takes the first octet of a line.
func (h *header) begin(b byte) {
	h.second, h.begun = h.begun, true
	switch {
	case isFieldChar(b):
		h.place, h.length = inName, 0
		h.within(b)
	case (b == ' ' || b == '\t') && h.second:
		h.place = inRest
	default:
		h.over = true
	}
}

// within takes an octet of a name, or of the white space behind it.
func (h *header) within(b byte) {
	name := string(h.name[:h.length])
	switch {
	case b == ':':
		h.fields++
		if h.place = inRest; name == receivedName {
			h.received++
		}
	case b == ' ' || b == '\t':
		if h.place = inGap; name == "from" && !h.second {
			h.place = inRest
		}
	case h.place == inName && isFieldChar(b):
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if h.length < len(h.name) {
			h.name[h.length] = b
			h.length++
		}
	default:
		h.over = true
	}
}

// isFieldChar reports whether b may stand in the name of a field (RFC 5322 section 2.2).
func isFieldChar(b byte) bool { return b > ' ' && b <= '~' && b != ':' }

// isTooLong reports whether a line has more than limit octets, with CRLF.
func (h *header) isTooLong(p []byte, limit int) bool {
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n') + 1
		ended := n > 0
		if !ended {
			n = len(p)
		}
		if h.line += n; h.line > limit {
			return true
		}
		if ended {
			h.line = 0
		}
		p = p[n:]
	}
	return false
}
