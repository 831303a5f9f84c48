package netsmtp

import (
	"errors"
	"net/textproto"

	"smtpkit.example/smtp/proto"
)

// A netError is an error in which errors.As finds a *textproto.Error too, if the server refused: that is the type by
// which net/smtp returns refusals.
type netError struct{ error }

func asNetSMTP(err error) error {
	if err == nil {
		return nil
	}
	return &netError{err}
}

func (e *netError) Unwrap() error { return e.error }

// As is for errors.As.
func (e *netError) As(target any) bool {
	t, ok := target.(**textproto.Error)
	if !ok {
		return false
	}
	var refused *proto.Error
	if ok = errors.As(e.error, &refused); ok {
		*t = &textproto.Error{Code: refused.Code, Msg: text(refused.Status, refused.Text)}
	}
	return ok
}
