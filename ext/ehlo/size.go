package ehlo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Size returns the extension SIZE (RFC 1870), by which a server states the largest message that it accepts. A client
// declares the size of a message before it sends the content.
//
// A server states MaxSize of its options, or offers the bare keyword without a limit. It refuses MAIL with 552 if the
// client declares more. If the session implements [SizeSession], it may refuse as well. The declaration is a hint: the
// server counts the content as it arrives. The session reads it with [ReadSize].
//
// A client declares the size if it knows it. It refuses a message above the server's limit with a [TooLargeError].
//
// The extension is in [Default].
func Size() ext.Extension {
	return ext.Extension{
		Keyword:    "SIZE",
		Interfaces: []reflect.Type{reflect.TypeFor[SizeSession]()},
		Mail:       []ext.Param{{Key: "SIZE", MaxLength: len(" SIZE=") + maxSizeDigits, Check: checkSize}},
		Advertise:  advertiseSize,
		CheckMail:  checkMailSize,
		Prepare:    prepareSize,
	}
}

func checkMailSize(ctx context.Context, x ext.ServerConn, _ proto.Address, p proto.Params) error {
	n, ok := ReadSize(p)
	if !ok {
		return nil
	}
	limit := x.MaxSize()
	if limit <= 0 {
		limit = math.MaxInt64 - 1 // the largest size that can be counted
	}
	if n > limit {
		return proto.Refuse(552, proto.Status{5, 3, 4},
			fmt.Sprintf("The message is larger than the %d octets accepted here", limit))
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

// A SizeSession is a session that may have no room for a message of the declared size now.
type SizeSession interface {
	// CheckSize returns why there is no room for size octets, or nil. A *proto.Error is the reply to MAIL, such as one
	// with Code 452 and Status 4.3.1.
	CheckSize(ctx context.Context, size int64) error
}

// ReadSize returns the size in octets that the parameters of a MAIL command declare. It returns math.MaxInt64 for a
// size above that. It reports false if there is none.
func ReadSize(p proto.Params) (size int64, ok bool) {
	value, ok := p.Get("SIZE")
	if !ok || checkSize(value) != nil {
		return 0, false
	}
	return parseSize(value), true
}

// A TooLargeError is the reason for which a client did not send a message: the message is larger than the server
// accepts. Nothing of the message was sent.
type TooLargeError struct {
	Size, Max int64 // in octets
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("smtp: the message has %d octets, and the server accepts %d at most", e.Size, e.Max)
}

// Status returns 5.3.4, as if the server had refused the message (RFC 1870 section 6.1, RFC 3463 section 3.4). Report
// it to the sender if no other server takes the message.
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
		return nil // no limit, or a malformed one
	}
	if limit := parseSize(args); limit > 0 && size > limit {
		return &TooLargeError{Size: size, Max: limit}
	}
	return nil
}

// maxSizeDigits is the largest number of digits in a size (RFC 1870 section 4).
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

// parseSize returns the number in digits, which checkSize has accepted. It returns the largest int64 for a larger
// number: 20 digits can have one.
func parseSize(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return n
}
