package proto

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// An Error is a reply as a Go error. A session of a server returns one to choose the reply, see [Refuse]. A client
// returns one for what the server has replied.
type Error struct {
	// Code is the reply code.
	Code int
	// Status is the enhanced status code. If it is zero, one that fits Code is sent.
	Status Status
	// Text is sent to the peer, or was received from it. Its lines are separated by "\n".
	Text string
	// Verb is the command that was answered, on a client. It may be empty.
	Verb string
	// Err is the cause, for errors.Is and logs. It is never sent.
	Err error
}

// Refuse returns the reply by which a session or an extension refuses a command:
//
//	return proto.Refuse(550, proto.Status{5, 1, 1}, "No such mailbox")
//
// The code is 400 to 599. A code of 4yz asks the client to try again later, one of 5yz tells it not to. The status has
// the same class as the code, or is zero for a default. A status of another class is sent with the class of the code.
func Refuse(code int, status Status, text string) *Error {
	return &Error{Code: code, Status: status, Text: text}
}

// Error returns all of e on one line, such as "smtp: RCPT: 550 5.1.1 no such user". The text may come from a stranger:
// characters that are not printable are escaped as in a Go string, and " / " stands between lines.
func (e *Error) Error() string {
	b := append(make([]byte, 0, 64+len(e.Text)), "smtp:"...)
	if e.Verb != "" {
		b = append(b, ' ')
		b = append(appendVisible(b, e.Verb), ':')
	}
	if reply := e.Reply(); reply != (Reply{}) {
		b = reply.appendLine(append(b, ' '))
	}
	if e.Err != nil {
		if b[len(b)-1] != ':' {
			b = append(b, ':')
		}
		b = append(b, ' ')
		b = appendVisible(b, strings.TrimPrefix(e.Err.Error(), "smtp: "))
	}
	return string(b)
}

// Unwrap returns the cause, which may be nil.
func (e *Error) Unwrap() error { return e.Err }

// Reply returns the reply that e stands for.
func (e *Error) Reply() Reply { return Reply{Code: e.Code, Status: e.Status, Text: e.Text} }

// Temporary reports whether the code is 4yz: the same command may succeed later (RFC 5321 section 4.2.1).
func (e *Error) Temporary() bool { return e.Code/100 == 4 }

// Permanent reports whether the code is 5yz: the same command will fail again.
func (e *Error) Permanent() bool { return e.Code/100 == 5 }

// appendVisible appends s as one line of printable characters.
func appendVisible(dst []byte, s string) []byte {
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == '\n':
			dst = append(dst, " / "...)
		case r == utf8.RuneError && size == 1:
			const digits = "0123456789abcdef"
			dst = append(dst, '\\', 'x', digits[s[0]>>4], digits[s[0]&15])
		case strconv.IsPrint(r):
			dst = append(dst, s[:size]...)
		default:
			quoted := strconv.AppendQuoteRune(nil, r)
			dst = append(dst, quoted[1:len(quoted)-1]...)
		}
		s = s[size:]
	}
	return dst
}
