package smtpotel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestRecipientOutcome: what an error means for a recipient.
func TestRecipientOutcome(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, accepted},
		{&proto.Error{Code: 452}, deferred},
		{&proto.Error{Code: 550}, rejected},
		{&client.LostError{Err: io.EOF, InDoubt: true}, unknown},
		{&client.LostError{Err: io.EOF}, deferred},
		{&client.LimitError{}, deferred},
		{&client.MessageError{Err: io.EOF}, failed},
	} {
		if got := recipientOutcome(tt.err); got != tt.want {
			t.Errorf("%v is %q, want %q", tt.err, got, tt.want)
		}
	}
}

// TestContentCodes: which of the replies are those for recipients.
func TestContentCodes(t *testing.T) {
	for _, tt := range []struct {
		codes []int
		n     int
		p     proto.Protocol
		want  string
	}{
		{[]int{354, 250}, 2, proto.SMTP, "[250 250]"},
		{[]int{554}, 1, proto.SMTP, "[554]"},
		{[]int{354, 250, 452}, 2, proto.LMTP, "[250 452]"},
		{[]int{354, 353, 250, 550, 250}, 2, proto.SMTP, "[250 550]"},
		{[]int{354, 353, 250, 550, 451}, 2, proto.SMTP, "[451 451]"},
		{nil, 2, proto.SMTP, "[]"},
	} {
		if got := fmt.Sprint(contentCodes(tt.codes, tt.n, tt.p)); got != tt.want {
			t.Errorf("of %v: %s, want %s", tt.codes, got, tt.want)
		}
	}
}

// TestErrorType: there are few types, and a wrapped error has that of what it wraps.
func TestErrorType(t *testing.T) {
	for want, err := range map[string]error{
		"":            nil,
		"550":         fmt.Errorf("x: %w", &proto.Error{Code: 550}),
		"451":         &client.AllOrNoneError{Err: &proto.Error{Code: 451}},
		"canceled":    &client.LostError{Err: context.Canceled},
		"timeout":     &client.LostError{Err: context.DeadlineExceeded},
		"connection":  &client.LostError{Err: io.EOF},
		"protocol":    &client.ProtocolError{Err: io.EOF},
		"limit":       &client.LimitError{},
		"message":     &client.MessageError{Err: io.EOF},
		"unsupported": &ext.UnsupportedError{},
		"tls":         &ext.TLSError{Err: io.EOF},
		"auth":        &ext.AuthError{Err: io.EOF},
		"_OTHER":      errors.New("x"),
	} {
		if got := errorType(err); got != want {
			t.Errorf("%v has the type %q, want %q", err, got, want)
		}
	}
}
