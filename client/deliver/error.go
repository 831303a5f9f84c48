package deliver

import (
	"context"
	"errors"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/internal/ended"
	"smtpkit.example/smtp/proto"
)

// An Error says why a message was not delivered to a recipient. It is the Err of an outcome, unless a function of the
// program's has returned a *proto.Error, or the message itself is at fault, which is a [client.MessageError].
type Error struct {
	// Doing is what failed, such as "writing /var/mail/joe". It may name files and programs of this host.
	Doing string
	Err   error

	status  proto.Status
	inDoubt bool
}

func (e *Error) Error() string { return "smtp: " + e.Doing + ": " + cause(e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Status returns the status code for a delivery status notification. [client.Temporary] goes by it.
func (e *Error) Status() proto.Status { return e.status }

// InDoubt reports whether the recipient may have got the message all the same: a program was killed, or the end of a
// delivery failed and could not be undone. Then [client.SafeToRetry] is false, and another attempt may deliver the
// message twice.
func (e *Error) InDoubt() bool { return e.inDoubt }

// Status codes of RFC 3463.
var (
	statusNoUser      = proto.Status{5, 1, 1}
	statusBadAddress  = proto.Status{5, 1, 3}
	statusMailbox     = proto.Status{4, 2, 0}
	statusFull        = proto.Status{4, 2, 2}
	statusTooLarge    = proto.Status{5, 2, 2}
	statusSystem      = proto.Status{4, 3, 0}
	statusSystemFull  = proto.Status{4, 3, 1}
	statusConfig      = proto.Status{4, 3, 5}
	statusUnroutable  = proto.Status{5, 4, 4}
	statusPermissions = proto.Status{5, 7, 0}
)

// failure returns err, which came up while doing something, as the error of an outcome. The operating system's errors
// are temporary: somebody can free the disk, or mend the permissions.
func failure(doing string, err error) *Error {
	e := &Error{Doing: doing, Err: err, status: statusSystem}
	switch {
	case isNoSpace(err):
		e.status = statusSystemFull
	case isOverQuota(err):
		e.status = statusFull
	}
	return e
}

// refused returns what a function of the program's has returned for a recipient, as the error of an outcome.
func refused(doing string, err error) error {
	reply, ok := err.(*proto.Error)
	if ok {
		return reply
	}
	failed := failure(doing, err)
	if errors.As(err, &reply) {
		failed.status = reply.Status
		if reply.Status.IsZero() {
			failed.status = proto.DefaultStatus(reply.Code)
		}
	}
	return failed
}

var errNoMailbox = proto.Refuse(550, statusNoUser, "there is no such mailbox")

// notBegun returns the error for a recipient whose turn did not come before the context ended.
func notBegun(ctx context.Context) *Error {
	return &Error{Doing: "not begun", Err: ended.Reason(ctx), status: statusSystem}
}

// cause is the text of err as part of a longer one.
func cause(err error) string { return strings.TrimPrefix(err.Error(), "smtp: ") }

// each delivers m to its recipients, one after the other. The function returns how many octets it has delivered.
func each(
	ctx context.Context, m *client.Message, deliver func(*client.Message) (int64, error),
) (*client.Result, error) {
	if res, err := unfit(m); err != nil {
		return res, err
	}
	shared, err := client.Share(m)
	if err != nil {
		return all(m, err)
	}
	defer shared.Close()
	parts := make([]client.Part, len(m.To))
	for i := range m.To {
		p := client.Part{To: []int{i}}
		if ctx.Err() != nil {
			p.Err = notBegun(ctx)
		} else {
			p.Result = &client.Result{Recipients: make([]proto.Outcome, 1)}
			p.Result.Octets, p.Err = deliver(shared.Message(m.To[i : i+1 : i+1]))
			p.Result.Recipients[0].Err = p.Err
		}
		parts[i] = p
	}
	return client.Join(m, parts)
}

// all returns the outcome err for all recipients of m.
func all(m *client.Message, err error) (*client.Result, error) {
	p := client.Part{To: make([]int, len(m.To)), Err: err}
	for i := range p.To {
		p.To[i] = i
	}
	return client.Join(m, []client.Part{p})
}

// unfit returns the outcome of a message that cannot be delivered, whoever its recipients are.
func unfit(m *client.Message) (*client.Result, error) {
	if m == nil || len(m.To) == 0 {
		res := &client.Result{}
		return res, &client.SendError{Result: res, Err: errNoRecipients}
	}
	if m.AllOrNone && len(m.To) > 1 {
		return all(m, errAllOrNone)
	}
	return nil, nil
}

// misused returns the outcome of a message for a Sender with wrong settings.
func misused(m *client.Message, err *Error) (*client.Result, error) {
	if res, err := unfit(m); err != nil {
		return res, err
	}
	return all(m, err)
}

var (
	errNoRecipients = &client.MessageError{What: "the message", Err: errors.New("it has no recipients")}
	errAllOrNone    = &client.MessageError{
		What: "the message",
		Err: errors.New("AllOrNone cannot be kept for recipients that are served one by one: " +
			"give it one recipient, or leave AllOrNone out"),
	}
)
