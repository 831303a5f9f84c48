package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

var (
	// ErrClosed means that the client was closed. Either that was before the call, which was not begun: nothing of it was
	// sent. If the reason was another than Close, such as a timeout, the error wraps that reason too. Or Close was called
	// while the call was running, and ended it.
	ErrClosed = errors.New("smtp: the connection is closed")
	// ErrBusy means that another call is running: this one was not begun. A client does one thing at a time.
	ErrBusy = errors.New("smtp: the client is in use by another call: wait for it, or use a client for each goroutine")
)

// A closedError is ErrClosed with the reason.
type closedError struct {
	reason error
}

func (e *closedError) Error() string        { return ErrClosed.Error() + ": " + cause(e.reason) }
func (e *closedError) Is(target error) bool { return target == ErrClosed }
func (e *closedError) Unwrap() error        { return e.reason }

// Status returns that of a lost connection: whatever closed the client, it was not this call.
func (e *closedError) Status() proto.Status { return badConnection }

var (
	noAnswer      = proto.Status{4, 4, 1} // RFC 3463 section 3.5
	badConnection = proto.Status{4, 4, 2} // likewise
)

// A LostError means that the connection could not be made, was lost, or was closed because the server took too long or
// the context ended. It is temporary (RFC 5321 section 3.8), unless the caller cancelled the context, or
// Options.DialContext said otherwise.
type LostError struct {
	Doing string // such as "waiting for the reply to MAIL"
	Err   error  // for a timeout it wraps os.ErrDeadlineExceeded
	// InDoubt says that the content had been sent to its end: the server may have accepted the message or not (RFC 1047).
	// It is set only in the errors of recipients; see SendError.Unknown.
	InDoubt bool

	unconnected bool         // there was no connection
	status      proto.Status // what DialContext says of it, or zero
	abandoned   bool         // the connection goes on, and nobody waits for the outcome
}

func (e *LostError) Error() string {
	switch {
	case e.unconnected:
		return "smtp: " + e.Doing + ": " + cause(e.Err)
	case e.abandoned:
		return "smtp: given up while " + e.Doing + ": " + cause(e.Err)
	}
	return "smtp: connection lost while " + e.Doing + ": " + cause(e.Err)
}

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Err }

// Status returns the status code for a delivery status notification: 4.4.1 if no connection could be made, otherwise
// 4.4.2 (RFC 3463 section 3.5). An error of Options.DialContext may have another code.
func (e *LostError) Status() proto.Status {
	if !e.status.IsZero() {
		return e.status
	}
	if op, ok := asType[*net.OpError](e.Err); e.unconnected || ok && op.Op == "dial" {
		return noAnswer
	}
	return badConnection
}

// Timeout reports whether the server took too long.
func (e *LostError) Timeout() bool {
	var t net.Error
	return errors.As(e.Err, &t) && t.Timeout()
}

// A ProtocolError means that the server violated the protocol, so that its replies can no longer be matched to
// commands. The connection was closed. It is temporary (RFC 5321 section 3.8).
type ProtocolError struct {
	Err error
	// InDoubt says that the server may have accepted the message or not, as in a LostError.
	InDoubt bool
}

func (e *ProtocolError) Error() string {
	return "smtp: the server does not follow the protocol: " + cause(e.Err)
}

// Unwrap returns the cause; it may wrap proto.ErrOutOfStep or proto.ErrReply.
func (e *ProtocolError) Unwrap() error { return e.Err }

// A MessageError means that a message cannot be sent as it is: an address is malformed, an extension refused it, or its
// Body failed or was used up. No recipient has got the message.
type MessageError struct {
	What string // such as "the recipient \"x\""
	Err  error
}

func (e *MessageError) Error() string { return "smtp: " + e.What + ": " + cause(e.Err) }

// Unwrap returns the cause.
func (e *MessageError) Unwrap() error { return e.Err }

// Status returns the status code for a delivery status notification: 5.6.0 (RFC 3463 section 3.7). A code about an
// address would be wrong for all recipients but one.
func (e *MessageError) Status() proto.Status { return proto.Status{5, 6, 0} }

// A LimitError means that the server's limit was reached before the turn of this recipient, or of this message, and
// that there was no other transaction or connection for it. Send to the recipient again later: the error is temporary.
type LimitError struct {
	Limits ext.ServerLimits // those that the server has stated; zero if it has stated none
	Err    error            // why there was no other transaction or connection
}

func (e *LimitError) Error() string {
	what := describeLimits(e.Limits)
	if what == "" {
		return "smtp: this was not offered to the server: " + cause(e.Err)
	}
	return "smtp: the server takes " + what + ", and this was not offered to it: " + cause(e.Err)
}

// describeLimits says what a server with the limits takes. It returns "" if there are none.
func describeLimits(limits ext.ServerLimits) string {
	var what []string
	for _, l := range []struct {
		n    int
		what string
	}{
		{limits.MailMax, "%d messages over a connection"},
		{limits.RcptMax, "%d recipients in a transaction"},
		{limits.RcptDomainMax, "recipients of %d domains over a connection"},
	} {
		if l.n > 0 {
			what = append(what, fmt.Sprintf(l.what, l.n))
		}
	}
	return strings.Join(what, ", ")
}

// Unwrap returns the cause.
func (e *LimitError) Unwrap() error { return e.Err }

// Status returns the status code for a delivery status notification: 4.5.3 (RFC 3463 section 3.6).
func (e *LimitError) Status() proto.Status { return proto.Status{4, 5, 3} }

// A SendError means that a message did not get to all of its recipients.
type SendError struct {
	// Result tells the outcome for each recipient.
	Result *Result
	// Unknown means that the connection was lost between the end of the content and the reply to it. The server may have
	// accepted the message or not; to send it again may deliver it twice (RFC 1047). The recipients in doubt are those for
	// whose Err in Result [SafeToRetry] is false. The others were refused, or not offered to the server.
	Unknown bool
	// Err is the error of the first recipient that the message did not get to; with Unknown, of the first in doubt. If the
	// others went without the message because of it (Message.AllOrNone), it is the refusal of the recipient to blame.
	Err error
}

func (e *SendError) Error() string {
	var b strings.Builder
	b.WriteString("smtp: ")
	failed, first, blamed := 0, "", ""
	for i := range e.Result.Recipients {
		r := &e.Result.Recipients[i]
		if r.Err != nil {
			failed++
		}
		if first == "" && r.Err != nil {
			first = r.Address.String()
		}
		if none, ok := r.Err.(*AllOrNoneError); ok {
			blamed = none.Refused.String()
		}
	}
	switch n := len(e.Result.Recipients); {
	case e.Unknown:
		b.WriteString("whether the message was accepted is unknown: ")
	case n > 1 && failed == n && blamed != "":
		fmt.Fprintf(&b, "not sent to any of %d recipients, since %s was refused: ", n, blamed)
	case n > 1 && failed == n:
		fmt.Fprintf(&b, "not sent to any of %d recipients: ", n)
	case n > 1 && failed > 1:
		fmt.Fprintf(&b, "not sent to %d of %d recipients (%s, …): ", failed, n, first)
	case n > 1 && failed == 1:
		fmt.Fprintf(&b, "not sent to 1 of %d recipients (%s): ", n, first)
	}
	b.WriteString(cause(e.Err))
	return b.String()
}

// Unwrap returns Err.
func (e *SendError) Unwrap() error { return e.Err }

// Retry returns the message for those recipients who may be tried again: for whose Err in Result both [Temporary] and
// [SafeToRetry] are true. It returns nil if there is nobody. M is the message that was sent; it stays as it is.
//
// The new message differs from m in To alone, where the recipients are in the order of Result. It has the same Body. If
// that was used up and cannot be read again, give the new message another Body before you send it: otherwise that fails
// with a [MessageError]. Do not send both messages at the same time.
//
// To try several times, with waits in between, use a [Retry].
func (e *SendError) Retry(m *Message) *Message {
	var to []proto.Recipient
	vague := e.vague()
	for i := range e.Result.Recipients {
		if r := &e.Result.Recipients[i]; permits(r.Err, vague) {
			to = append(to, r.Recipient)
		}
	}
	if to == nil {
		return nil
	}
	again := *m
	again.To, again.delivery = to, nil
	return &again
}

// vague reports whether e does not tell which recipients are in doubt, though the outcome is unknown: none of their
// errors has the mark. The library's own errors do tell.
func (e *SendError) vague() bool {
	if !e.Unknown || e.Result == nil {
		return e.Unknown
	}
	return !slices.ContainsFunc(e.Result.Recipients, func(o proto.Outcome) bool { return isMarked(o.Err) })
}

// permits reports whether another attempt may be made for a recipient with err. Vague is that of the SendError.
func permits(err error, vague bool) bool {
	return Temporary(err) && SafeToRetry(err) && !(vague && isInDoubt(err))
}

// SafeToRetry reports whether it is certain that no recipient has got the message, so that sending it again delivers it
// once; see Message.Body for the content. Whether another attempt has better prospects is for [Temporary] to say.
//
// It can be asked of the error of a call, and of the error of one recipient in a Result: then it is certain that this
// recipient has not got the message. It is false for nil, and for errors that do not come from this library. The bare
// error of a context is taken for the library's, which returns it for a call that was not begun. So is an error of your
// own [Sender] that has a method Status() proto.Status. If it has a method InDoubt() bool too, and that returns true,
// SafeToRetry is false.
func SafeToRetry(err error) bool {
	if err == nil {
		return false
	}
	e, ok := asType[*SendError](err)
	if !ok {
		return isOurs(err) && !isMarked(err)
	}
	for i := range e.Result.Recipients {
		if !SafeToRetry(e.Result.Recipients[i].Err) {
			return false
		}
	}
	return !e.Unknown && (len(e.Result.Recipients) > 0 || SafeToRetry(e.Err))
}

// isOurs reports whether err is one of the errors by which the library says that something was not sent.
func isOurs(err error) bool {
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrBusy) || err == context.Canceled || err == context.DeadlineExceeded {
		return true
	}
	if _, ok := asType[*proto.Error](err); ok {
		return true
	}
	if _, ok := asType[*ProtocolError](err); ok {
		return true
	}
	_, ok := asType[interface {
		error
		Status() proto.Status
	}](err)
	return ok
}

// isMarked reports whether err says that the outcome for a recipient is in doubt.
func isMarked(err error) bool {
	lost, _ := asType[*LostError](err)
	protocol, _ := asType[*ProtocolError](err)
	other, _ := asType[interface {
		error
		InDoubt() bool
	}](err)
	return lost != nil && lost.InDoubt || protocol != nil && protocol.InDoubt || other != nil && other.InDoubt()
}

// inDoubt returns err with the mark that the outcome for a recipient is in doubt.
func inDoubt(err error) error {
	switch e := err.(type) {
	case *LostError:
		marked := *e
		marked.InDoubt = true
		return &marked
	case *ProtocolError:
		return &ProtocolError{Err: e.Err, InDoubt: true}
	}
	return &LostError{Doing: "waiting for the reply to " + contentName, Err: err, InDoubt: true}
}

// isInDoubt reports whether err leaves open whether a recipient has got the message. When the outcome is unknown, it is
// unknown for every recipient that was offered to the server and not refused.
func isInDoubt(err error) bool {
	_, refused := asType[*proto.Error](err)
	_, skipped := asType[*LimitError](err)
	return !refused && !skipped
}

// Temporary reports whether what failed may succeed later. It is true
//   - for a refusal with a code of 4yz,
//   - if the connection could not be made, was lost, or the server took too long; an error of Options.DialContext that
//     has a status code of class 5 is final,
//   - if the server did not follow the protocol (RFC 5321 section 3.8),
//   - for a [LimitError], for [ErrClosed] and for [ErrBusy],
//   - if the deadline of the context passed: the server was too slow for this call, and may be faster the next time.
//
// It is false if the caller cancelled the context. That says nothing of the recipients: do not give them up, and do not
// send them a bounce. It is false too for nil, and for errors that do not come from this library.
//
// It can be asked of the error of one recipient in a Result. For a [SendError] it is true if at least one recipient is
// worth another attempt; [SendError.Retry] returns the message for those.
func Temporary(err error) bool {
	if e, ok := asType[*SendError](err); ok {
		for i := range e.Result.Recipients {
			if temporary(e.Result.Recipients[i].Err) {
				return true
			}
		}
		return false
	}
	return temporary(err)
}

func temporary(err error) bool {
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrBusy) {
		return true // whatever the reason was, it is not about this call
	}
	if _, ok := asType[*LimitError](err); ok {
		return true // nobody has said anything about this recipient
	}
	if isCanceled(err) {
		return false
	}
	if lost, ok := asType[*LostError](err); ok {
		return lost.Status().Class() != 5 // what the server said when it ended the session is not about a message
	}
	if e, ok := asType[*proto.Error](err); ok {
		return e.Temporary()
	}
	if _, ok := asType[*ProtocolError](err); ok {
		return true // RFC 5321 section 3.8: as if 451 had been received
	}
	if e, ok := asType[interface {
		error
		Status() proto.Status
	}](err); ok {
		return e.Status().Class() == 4
	}
	return err == context.DeadlineExceeded
}

// isCanceled reports whether the reason of err is that a context was cancelled. If err wraps several errors, it has to
// be the reason of each: of several attempts to connect, some are cancelled once they are not needed any more.
func isCanceled(err error) bool {
	if is, ok := err.(interface{ Is(error) bool }); err == context.Canceled || ok && is.Is(context.Canceled) {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return isCanceled(e.Unwrap())
	case interface{ Unwrap() []error }:
		all := e.Unwrap()
		return len(all) > 0 && !slices.ContainsFunc(all, func(err error) bool { return !isCanceled(err) })
	}
	return false
}

// cause is the text of err as part of a longer one.
func cause(err error) string { return strings.TrimPrefix(err.Error(), "smtp: ") }

// refusal is the reply r to what verb names, as an error.
func refusal(r proto.Reply, verb string) *proto.Error {
	e := r.Err()
	e.Verb = verb
	return e
}

// asType returns the first error of type E that err is or wraps. It is errors.AsType of Go 1.26.
func asType[E error](err error) (E, bool) {
	var e E
	ok := errors.As(err, &e)
	return e, ok
}
