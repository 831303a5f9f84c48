package client

import (
	"context"
	"crypto/tls"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// A VerifyStep is a step of [Verify].
type VerifyStep string

// The steps, in their order. Where TLS comes first, StepTLS precedes StepGreeting. After STARTTLS the client says EHLO
// once more.
const (
	StepOptions  VerifyStep = "options"  // the address and the options are checked; nothing was sent
	StepConnect  VerifyStep = "connect"  // the name is looked up, and a connection is made
	StepGreeting VerifyStep = "greeting" // the server greets
	StepEHLO     VerifyStep = "EHLO"     // the client introduces itself
	StepTLS      VerifyStep = "TLS"      // STARTTLS, the handshake, and the server's certificate
	StepAuth     VerifyStep = "auth"     // the client authenticates, if there are credentials
	StepNoop     VerifyStep = "NOOP"     // the session works
)

// A VerifyError tells which step of [Verify] failed.
type VerifyError struct {
	Step VerifyStep
	Err  error // that of Dial or Client.Noop
}

func (e *VerifyError) Error() string {
	return "smtp: the server failed the check at the step " + string(e.Step) + ": " + cause(e.Err)
}

// Unwrap returns the cause.
func (e *VerifyError) Unwrap() error { return e.Err }

// Verify checks that mail can be sent to the server at addr as opt says: it connects, starts TLS, authenticates, says
// NOOP and QUIT. It sends no message. It is for health pages and installers. Addr and opt are those of [Dial].
//
// An error is a *VerifyError, which names the step that failed. [Temporary] tells whether the cause may pass. The
// timeouts are long for somebody who waits: give ctx a deadline.
//
// That Verify succeeds does not mean that the server takes every sender and recipient.
func Verify(ctx context.Context, addr string, opt *Options) error {
	v := &verifier{step: StepConnect}
	var with Options
	if opt != nil {
		with = *opt
	}
	if _, err := newConfig(&with); err != nil {
		return &VerifyError{StepOptions, err}
	}
	if _, _, _, err := target(addr); err != nil {
		return &VerifyError{StepOptions, err}
	}
	v.trace(&with)
	c, err := Dial(ctx, addr, &with)
	if err != nil {
		return v.failed(err)
	}
	defer c.Close()
	v.step = StepNoop
	if err := c.Noop(ctx); err != nil {
		return v.failed(err)
	}
	return nil
}

// A verifier keeps account of the step that is under way.
type verifier struct {
	step VerifyStep
}

// failed returns the error for the step that was under way. The type of an error knows better which step that was, if
// it is about one: that a server does not offer TLS is found out after EHLO, and a failed login is an AuthError.
func (v *verifier) failed(err error) error {
	step := v.step
	if _, ok := asType[*ext.TLSError](err); ok {
		step = StepTLS
	}
	if _, ok := asType[*ext.AuthError](err); ok {
		step = StepAuth
	}
	return &VerifyError{step, err}
}

// sends takes note of a command that is about to be sent. Row is nil for a line of an exchange. What an extension's
// command is for shows in its row: the package knows no extension by name.
func (v *verifier) sends(row *proto.Verb) {
	switch {
	case row == nil:
	case row.Name == "EHLO" || row.Name == "LHLO" || row.Name == "HELO":
		v.step = StepEHLO
	case row.OK == proto.Handover:
		v.step = StepTLS
	}
}

// trace has v told of what happens on the connection, beside the functions of the caller.
func (v *verifier) trace(opt *Options) {
	var t Trace
	if opt.Trace != nil {
		t = *opt.Trace
	}
	own := t
	t.Connected = func(ctx context.Context, c *Client) {
		v.step = StepGreeting
		if opt.TLS == ext.TLSImplicit {
			v.step = StepTLS
		}
		if own.Connected != nil {
			own.Connected(ctx, c)
		}
	}
	t.Secured = func(ctx context.Context, c *Client, state tls.ConnectionState) {
		if opt.TLS == ext.TLSImplicit {
			v.step = StepGreeting
		}
		if own.Secured != nil {
			own.Secured(ctx, c, state)
		}
	}
	t.Command = func(ctx context.Context, c *Client, verb, args string) {
		v.sends(c.cfg.set.Table().Lookup(verb))
		if own.Command != nil {
			own.Command(ctx, c, verb, args)
		}
	}
	opt.Trace = &t
}
