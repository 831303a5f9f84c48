package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"

	"smtpkit.example/smtp/ext/internal/grammar"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/proto"
)

// connectAuth authenticates a client.
func connectAuth(ctx context.Context, d ext.Negotiation) error {
	p := d.Policy()
	if p.Credentials == nil || d.Identity() != "" {
		return nil
	}
	if err := fit(d, p); err != nil {
		return &ext.AuthError{Err: err}
	}
	list, err := p.Credentials(ctx, d)
	if err != nil {
		return &ext.AuthError{Err: err}
	}
	args, _ := d.Caps().Args("AUTH")
	offered := strings.Fields(strings.ToUpper(args))
	var tried *ext.AuthError
	var own []string
	for _, c := range list {
		name, response, err := c.Start()
		own = append(own, name)
		switch {
		case err != nil && name == "":
			return &ext.AuthError{Err: err}
		case !slices.Contains(offered, strings.ToUpper(name)):
			continue
		case err != nil: // it cannot be done with this name or password
			tried = &ext.AuthError{Mechanism: name, Err: err}
			continue
		}
		a := &attempt{d: d, c: c, name: name, response: response}
		err = a.run(ctx)
		if err == nil {
			d.Authenticated(a.identity())
			return nil
		}
		tried = &ext.AuthError{Mechanism: name, Err: err}
		if !unfit(err) {
			return tried
		}
	}
	if tried != nil {
		return tried
	}
	return &ext.AuthError{Err: fmt.Errorf("the server offers the mechanisms [%s], and the credentials are for [%s]: give "+
		"credentials for one that it offers", strings.Join(offered, " "), strings.Join(own, " "))}
}

// fit says why credentials must not be sent on the connection, if so.
func fit(d ext.ClientConn, p ext.Policy) error {
	switch {
	case d.TLS() == nil && p.TLS == ext.TLSRequired:
		// A server, or somebody in between, that keeps quiet about STARTTLS gets nothing, whatever
		// AllowInsecureAuth says.
		return errors.New("TLS is required and has not been started; the server does not offer it, or STARTTLS does not " +
			"come before AUTH in the list of extensions")
	case p.AllowInsecureAuth:
		return nil
	case d.TLS() == nil:
		return errors.New("credentials are not sent on a connection in clear: use TLS, or set AllowInsecureAuth")
	case !d.Verified():
		return errors.New("credentials are not sent to a server whose certificate has not been verified: use " +
			"TLSRequired, or set AllowInsecureAuth")
	}
	return nil
}

// unfit reports whether the server said that the mechanism will not do, and another may (RFC 4954 section 6).
func unfit(err error) bool {
	e, ok := grammar.AsType[*proto.Error](err)
	return ok && (e.Code == 504 || e.Code == 534)
}

// An attempt is an exchange by one mechanism.
type attempt struct {
	d        ext.Negotiation
	c        sasl.Client
	name     string
	response []byte // the initial response as long as it has not been sent; nil if there is none
}

func (a *attempt) run(ctx context.Context) error {
	a.d.Secret()
	r, err := a.d.Do(ctx, "AUTH", a.args())
	for range maxRounds {
		if err != nil {
			return err
		}
		if r.Code != 334 {
			return a.final(r)
		}
		response, bad := a.answer(r.Text)
		if bad != nil {
			return a.cancel(ctx, bad)
		}
		r, err = a.d.Line(ctx, base64.StdEncoding.EncodeToString(response))
	}
	if err != nil {
		return err
	}
	if r.Code != 334 {
		return a.final(r)
	}
	return a.cancel(ctx, errors.New("the server goes on asking"))
}

// longestCommand is the length of a command line with its CRLF (RFC 5321 section 4.5.3.1.4). That of AUTH is no
// longer: what does not fit is sent in answer to an empty challenge (RFC 4954 section 4).
const maxCommand = 512

// args returns the arguments of the command, with the initial response if there is one and it fits.
func (a *attempt) args() string {
	if a.response == nil {
		return a.name
	}
	text := "="
	if len(a.response) > 0 {
		text = base64.StdEncoding.EncodeToString(a.response)
	}
	args := a.name + " " + text
	if len("AUTH ")+len(args)+len("\r\n") > maxCommand {
		return a.name
	}
	a.response = nil
	return args
}

// answer returns the response to a challenge.
func (a *attempt) answer(challenge string) ([]byte, error) {
	b, err := decode64(challenge)
	if err != nil {
		return nil, fmt.Errorf("the server's challenge is not base64: %w", err)
	}
	if a.response != nil {
		first := a.response
		a.response = nil
		return first, nil
	}
	return a.c.Next(b)
}

// cancel ends the exchange. The server has to refuse the command then; one that reports success is out of its mind.
func (a *attempt) cancel(ctx context.Context, why error) error {
	r, err := a.d.Line(ctx, "*")
	if err != nil {
		return fmt.Errorf("%w; then the cancellation failed: %w", why, err)
	}
	if r.Code < 400 {
		return fmt.Errorf("%w; and it answered the cancellation with %d", why, r.Code)
	}
	return why
}

// final judges the reply that ended the exchange. Nothing may be sent in answer to it, a "*" least of all: the server
// would take that for a command.
func (a *attempt) final(r proto.Reply) error {
	if r.Code >= 400 {
		var err error = r.Err()
		if m, ok := a.c.(interface{ Explain(error) error }); ok {
			err = m.Explain(err)
		}
		return err
	}
	if r.Code != 235 {
		return fmt.Errorf("the server answered with %d, which is neither success nor refusal (RFC 4954 section 6)", r.Code)
	}
	if m, ok := a.c.(interface{ Done() bool }); ok && !m.Done() {
		return errors.New("the server reported success before the exchange was complete, so that it has not proved its own " +
			"identity")
	}
	return nil
}

// identity returns the name that the connection is recorded under.
func (a *attempt) identity() string {
	if m, ok := a.c.(interface{ Identity() string }); ok && m.Identity() != "" {
		return m.Identity()
	}
	return a.name
}
