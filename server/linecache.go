package server

import (
	"bytes"

	"smtpkit.example/smtp/proto"
)

// A lineCache remembers the MAIL command and the first RCPT commands of the last transaction with what they were parsed
// into, so that a command which is repeated at its place in the next transaction allocates nothing.
type lineCache struct {
	lines [cachedLines]line
	next  int // the place of the next command
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

// parse parses the arguments of MAIL, or of RCPT. What it returns is valid until the next call.
func (l *lineCache) parse(args []byte, rcpt, lax bool) (*line, *proto.Error) {
	if !rcpt {
		l.next = 0
	}
	e := &l.lines[l.next]
	if e.rcpt == rcpt && len(e.args) > 0 && bytes.Equal(e.args, args) {
		l.next = min(l.next+1, cachedLines-1)
		return e, nil
	}
	parse := proto.ParseMailArgs
	if rcpt {
		parse = proto.ParseRcptArgs
	}
	addr, params, err := parse(args, lax)
	if err != nil {
		return nil, err
	}
	e.rcpt, e.ascii, e.addr, e.params, e.args = rcpt, isASCII(args), addr, params, e.args[:0]
	if l.next == cachedLines-1 {
		return e, nil // the place of all further commands, where no one is found again
	}
	l.next++
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
