package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// negotiate authenticates the client.
func negotiate(ctx context.Context, conn ext.Negotiation) error {
	p := conn.Policy()
	if p.Credentials == nil || conn.Identity() != "" {
		return nil
	}
	if err := checkSafe(conn, p); err != nil {
		return &ext.AuthError{Err: err}
	}
	list, err := p.Credentials(ctx, conn)
	if err != nil {
		return &ext.AuthError{Err: err}
	}
	offered := Offered(conn.Caps())
	for i, name := range offered {
		offered[i] = strings.ToUpper(name)
	}
	var tried *ext.AuthError
	var names []string
	var refused refusedMechanisms
	for _, m := range list {
		m, lax := unwrap(m)
		name, response, err := m.Start()
		names = append(names, name)
		switch {
		case err != nil && name == "":
			return &ext.AuthError{Err: err}
		case !slices.Contains(offered, strings.ToUpper(name)) || !refused.mayFollow(name):
			continue
		case err != nil: // the mechanism cannot carry this name or password
			tried = &ext.AuthError{Mechanism: name, Err: err}
			continue
		}
		x := &clientExchange{conn: conn, mechanism: m, name: name, response: response, lax: lax}
		err = x.run(ctx)
		if err == nil {
			conn.Authenticated(x.identity())
			return nil
		}
		tried = &ext.AuthError{Mechanism: name, Err: err}
		if !refused.note(name, err, x.responded) {
			return tried
		}
	}
	if tried != nil {
		return tried
	}
	return &ext.AuthError{Err: fmt.Errorf("the server offers the mechanisms [%s], and the credentials are for [%s]: give "+
		"credentials for one that it offers", strings.Join(offered, " "), strings.Join(names, " "))}
}

// Offered returns the names of the mechanisms that a server advertises, as it writes them: for those who choose one
// themselves, or show what there is. A server may have none before TLS.
func Offered(caps proto.Caps) []string {
	args, ok := caps.Args("AUTH")
	if !ok {
		return nil
	}
	return strings.Fields(args)
}

// checkSafe returns an error if credentials must not be sent on the connection.
func checkSafe(conn ext.ClientConn, p ext.Policy) error {
	switch {
	case conn.TLS() == nil && p.TLS == ext.TLSRequired:
		// AllowPlaintextAuth does not help an attacker who removes STARTTLS from the reply to EHLO.
		return errors.New("TLS is required and has not been started; the server does not offer it, or STARTTLS does not " +
			"come before AUTH in the list of extensions")
	case conn.TLS() == nil && !p.AllowPlaintextAuth:
		if p.TLS == ext.TLSIfOffered || p.TLS == ext.TLSOpportunistic {
			return errors.New("credentials are not sent on a connection in clear, and the server has no TLS to offer, or " +
				"somebody in between hides the offer: use a port with TLS, or set AllowPlaintextAuth")
		}
		return errors.New("credentials are not sent on a connection in clear: use TLS, or set AllowPlaintextAuth")
	case conn.TLS() != nil && !conn.Verified() && !p.AllowUnverifiedAuth:
		if p.TLS == ext.TLSOpportunistic {
			return errors.New("credentials are not sent to a server whose certificate has not been verified, as with " +
				"TLSOpportunistic: use TLSRequired or TLSIfOffered, or set AllowUnverifiedAuth")
		}
		return errors.New("credentials are not sent to a server whose certificate has not been verified: have it " +
			"verified, or set AllowUnverifiedAuth")
	}
	return nil
}

// A clientExchange is the client's side of the challenges and responses of one AUTH command.
type clientExchange struct {
	conn      ext.Negotiation
	mechanism sasl.Client
	name      string
	response  []byte // the initial response until it has been sent, or nil if there is none
	lax       bool   // a challenge that is not base64 counts as empty
	responded bool   // a challenge has been answered: the server knows the mechanism
}

func (x *clientExchange) run(ctx context.Context) error {
	x.conn.Secret()
	r, err := x.conn.Do(ctx, "AUTH", x.args())
	for range maxRounds {
		if err != nil {
			return err
		}
		if r.Code != 334 {
			return x.final(r)
		}
		response, bad := x.answer(r.Text)
		if bad != nil {
			return x.cancel(ctx, bad)
		}
		x.responded = true
		r, err = x.conn.Line(ctx, base64.StdEncoding.EncodeToString(response))
	}
	if err != nil {
		return err
	}
	if r.Code != 334 {
		return x.final(r)
	}
	return x.cancel(ctx, errors.New("the server goes on asking"))
}

// maxCommand is the maximum length of a command line with its CRLF (RFC 5321 section 4.5.3.1.4). An initial response
// that does not fit is sent in answer to an empty challenge (RFC 4954 section 4).
const maxCommand = 512

// args returns the arguments of the command, with the initial response if it fits.
func (x *clientExchange) args() string {
	if x.response == nil {
		return x.name
	}
	text := "="
	if len(x.response) > 0 {
		text = base64.StdEncoding.EncodeToString(x.response)
	}
	args := x.name + " " + text
	if len("AUTH ")+len(args)+len("\r\n") > maxCommand {
		return x.name
	}
	x.response = nil
	return args
}

// answer returns the response to a challenge: the initial response if it is still to be sent.
func (x *clientExchange) answer(challenge string) ([]byte, error) {
	b, err := decode64(challenge)
	switch {
	case err != nil && x.lax:
		b = []byte{}
	case err != nil:
		return nil, fmt.Errorf("the server's challenge is not base64: %w: if the server is known for that, wrap the "+
			"credentials in auth.LaxChallenges", err)
	}
	if x.response != nil {
		first := x.response
		x.response = nil
		return first, nil
	}
	return x.mechanism.Next(b)
}

// cancel ends the exchange because of why. A server has to refuse the command then (RFC 4954 section 4).
func (x *clientExchange) cancel(ctx context.Context, why error) error {
	r, err := x.conn.Line(ctx, "*")
	if err != nil {
		return fmt.Errorf("%w; then the cancellation failed: %w", why, err)
	}
	if r.Code < 400 {
		return fmt.Errorf("%w; and it answered the cancellation with %d", why, r.Code)
	}
	return why
}

// final returns what the reply means that ended the exchange. Nothing may be sent after it: the server would take a "*"
// for a command.
func (x *clientExchange) final(r proto.Reply) error {
	if r.Code >= 400 {
		var err error = r.Err()
		if m, ok := x.mechanism.(interface{ Explain(error) error }); ok {
			err = m.Explain(err)
		}
		return err
	}
	if r.Code != 235 {
		return fmt.Errorf("the server answered with %d, which is neither success nor refusal (RFC 4954 section 6)", r.Code)
	}
	if m, ok := x.mechanism.(interface{ Done() bool }); ok && !m.Done() {
		return errors.New("the server reported success before the exchange was complete, so that it has not proved its own " +
			"identity")
	}
	if m, ok := x.mechanism.(interface{ Succeeded(proto.Reply) error }); ok {
		return m.Succeeded(r)
	}
	return nil
}

// identity returns the name to record for the connection.
func (x *clientExchange) identity() string {
	if m, ok := x.mechanism.(interface{ Identity() string }); ok && m.Identity() != "" {
		return m.Identity()
	}
	return x.name
}
