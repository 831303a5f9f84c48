package server

import (
	"bytes"

	"smtpkit.example/smtp/proto"
)

// A lineCache remembers the last MAIL and RCPT commands with what they were parsed into, so that a command which is
// repeated in the next transaction allocates nothing.
type lineCache struct {
	lines [cachedLines]line
	next  int // the one to replace
}

const (
	cachedLines   = 8
	maxCachedLine = 1 << 10 // longer ones are not remembered
)

// A line is a MAIL or RCPT command.
type line struct {
	rcpt   bool   // it is RCPT
	ascii  bool   // all of it
	args   []byte // as received; empty if they are too long to be remembered
	addr   proto.Address
	params proto.Params
}

// parse parses the arguments of MAIL, or of RCPT. What it returns is valid until a few more lines have been parsed.
func (l *lineCache) parse(args []byte, rcpt, lax bool) (*line, *proto.Error) {
	for i := range l.lines {
		if e := &l.lines[i]; e.rcpt == rcpt && len(e.args) > 0 && bytes.Equal(e.args, args) {
			return e, nil
		}
	}
	parse := proto.ParseMailArgs
	if rcpt {
		parse = proto.ParseRcptArgs
	}
	addr, params, err := parse(args, lax)
	if err != nil {
		return nil, err
	}
	e := &l.lines[l.next]
	l.next = (l.next + 1) % cachedLines
	*e = line{rcpt: rcpt, ascii: isASCII(args), args: e.args[:0], addr: addr, params: params}
	if len(args) <= maxCachedLine {
		e.args = append(e.args, args...)
	}
	return e, nil
}

func isASCII[T string | []byte](p T) bool {
	for i := range len(p) {
		if p[i] >= 0x80 {
			return false
		}
	}
	return true
}
