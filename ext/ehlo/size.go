package ehlo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Size returns the extension SIZE (RFC 1870): the server tells the largest message it accepts, and the client how
// large the one is that it is about to send.
//
// A server offers the limit of its options, or the bare keyword if there is none, and answers 552 to a MAIL command
// that declares more. A session that is a [SizeSession] is asked as well. The declaration decides nothing else:
// content is counted as it arrives. [ReadSize] reads it.
//
// A client declares the size of an envelope if it is known, and refuses one that is above the server's limit with a
// [TooLargeError].
func Size() ext.Extension {
	return ext.Extension{
		Keyword:   "SIZE",
		Mail:      []ext.Param{{Key: "SIZE", MaxLength: len(" SIZE=") + maxSizeDigits, Check: checkSize}},
		Advertise: advertiseSize,
		CheckMail: checkMailSize,
		Prepare:   prepareSize,
	}
}

func checkMailSize(ctx context.Context, x ext.ServerConn, _ proto.Address, p proto.Params) error {
	n, ok := ReadSize(p)
	if !ok {
		return nil
	}
	limit := x.MaxSize()
	if limit <= 0 {
		limit = math.MaxInt64 - 1 // what ReadSize had to cut short cannot be counted either
	}
	if n > limit {
		return proto.Refuse(552, proto.Status{5, 3, 4}, fmt.Sprintf("The message is larger than the %d octets accepted here", limit))
	}
	if s, ok := ext.As[SizeSession](x.Session()); ok {
		return s.CheckSize(ctx, n)
	}
	return nil
}

func advertiseSize(x ext.ServerConn) (string, bool) {
	if n := x.MaxSize(); n > 0 {
		return strconv.FormatInt(n, 10), true
	}
	return "", true
}

// A SizeSession is a session that can tell from the declared size of a message that it has no room for it now. The
// size is in octets. The error is the reply to MAIL, such as a *proto.Error with Code 452 and Status 4.3.1.
type SizeSession interface {
	CheckSize(ctx context.Context, size int64) error
}

// ReadSize returns the size in octets that the parameters of a MAIL command declare. One beyond the range of an
// int64 is returned as math.MaxInt64.
func ReadSize(p proto.Params) (size int64, ok bool) {
	value, ok := p.Get("SIZE")
	if !ok || checkSize(value) != nil {
		return 0, false
	}
	return parseSize(value), true
}

// A TooLargeError is why a client did not send a message: it is larger than what the server says it accepts. Nothing
// of the message has been sent.
type TooLargeError struct {
	Size, Max int64 // in octets
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("smtp: the message has %d octets, and the server accepts %d at most", e.Size, e.Max)
}

// Status returns the status code by which the sender of the message is told, should no other server take it: 5.3.4, as if the
// server had refused it (RFC 1870 section 6.1, RFC 3463 section 3.4).
func (e *TooLargeError) Status() proto.Status { return proto.Status{5, 3, 4} }

func prepareSize(c proto.Caps, e *ext.Envelope) error {
	size := e.Size
	if size >= 0 {
		e.Mail = e.Mail.Set("SIZE", strconv.FormatInt(size, 10))
	} else if n, ok := ReadSize(e.Mail); ok {
		size = n
	}
	args, _ := c.Args("SIZE")
	if checkSize(args) != nil {
		return nil // no limit, or none that can be understood
	}
	if limit := parseSize(args); limit > 0 && size > limit {
		return &TooLargeError{Size: size, Max: limit}
	}
	return nil
}

// maxSizeDigits is the largest number of digits that a size can have (RFC 1870 section 4).
const maxSizeDigits = 20

var errSize = errors.New("SIZE has to be a number of 1 to 20 digits")

func checkSize(value string) error {
	if value == "" || len(value) > maxSizeDigits {
		return errSize
	}
	for i := range len(value) {
		if value[i] < '0' || value[i] > '9' {
			return errSize
		}
	}
	return nil
}

// parseSize returns the number that checkSize has found fit, or the largest int64 if it is larger: 20 digits have
// room for more.
func parseSize(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return n
}
