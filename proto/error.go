package proto

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// An Error is a reply as a Go error. On a server it is what a session returns to choose the reply, a positive one
// included; on a client it is what the server answered.
type Error struct {
	Code   int    // the reply code
	Status Status // the enhanced status code; the zero value is replaced by a fitting one when it is sent
	Text   string // sent to the peer, or received; lines are separated by "\n"
	Verb   string // on a client: the command that was answered; may be empty
	Err    error  // the cause, for errors.Is and logs; never sent
}

// Refuse returns the reply with which a session or an extension refuses a command: code is 400 to 599, and status has the
// same class or is zero. A refusal of 4yz asks the client to try again later, one of 5yz tells it not to.
//
//	return proto.Refuse(550, proto.Status{5, 1, 1}, "No such mailbox")
//
// A status of another class than the code's is sent with the code's class.
func Refuse(code int, status Status, text string) *Error {
	return &Error{Code: code, Status: status, Text: text}
}

// Error returns everything in e on one line, such as "smtp: RCPT: 550 5.1.1 no such user". The text may come from a
// stranger: what is not printable in it is escaped as in a Go string, and " / " stands between its lines.
func (e *Error) Error() string {
	b := append(make([]byte, 0, 64+len(e.Text)), "smtp:"...)
	if e.Verb != "" {
		b = append(b, ' ')
		b = append(appendVisible(b, e.Verb), ':')
	}
	if e.Code != 0 {
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(e.Code), 10)
	}
	if !e.Status.IsZero() {
		b = append(b, ' ')
		b = e.Status.append(b)
	}
	if e.Text != "" {
		b = append(b, ' ')
		b = appendVisible(b, e.Text)
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
