package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"

	"smtpkit.example/smtp/ext/internal/grammar"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/proto"
)

// longestResponse is the length of a line in an exchange that RFC 4954 section 4 deems sufficient; initial responses
// may be as long.
const maxResponse = 12288

// mostRounds bounds the challenges of an exchange, on both sides. The longest mechanism in use has three.
const maxRounds = 10

// mostFailures is how many attempts may fail on a connection. RFC 4954 section 9 asks for three at least.
const maxFailures = 3

// usualPause is how long after the client's last line a failure is answered at the earliest, as Postfix has it.
const defaultPause = time.Second

// safe reports whether credentials may travel on the connection.
func safe(x ext.ServerConn) bool { return x.TLS() != nil || x.AllowInsecureAuth() }

// serveAuth carries out the command.
func serveAuth(ctx context.Context, x ext.Command) (proto.Reply, error) {
	name, first, given := strings.Cut(x.Args(), " ")
	name = strings.ToUpper(name)
	names := mechanisms(x)
	switch {
	case x.Identity() != "":
		return proto.Reply{}, proto.Refuse(503, proto.Status{5, 5, 1}, "The session has been authenticated already")
	case len(names) == 0:
		return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "Nobody can authenticate here")
	case !safe(x):
		// Good credentials and bad ones get the same answer (RFC 8314 section 4.1).
		return proto.Reply{}, proto.Refuse(538, proto.Status{5, 7, 11}, "Encryption is required: use TLS")
	case name == "":
		return proto.Reply{}, grammar.BadArgs("AUTH needs the name of a mechanism")
	case !slices.Contains(names, name):
		return proto.Reply{}, proto.Refuse(504, proto.Status{5, 5, 4}, "The mechanism is none of "+strings.Join(names, " "))
	}
	var response []byte
	if given {
		response = []byte{}
		if first != "=" {
			var err error
			if response, err = decode64(first); err != nil || first == "" {
				return proto.Reply{}, proto.Refuse(501, proto.Status{5, 5, 2}, "The initial response is not base64")
			}
		}
	}
	server, identity, err := startSASL(ctx, x, name)
	if err != nil {
		return proto.Reply{}, failedCheck(ctx, err)
	}
	t := &trial{x: x, server: server, since: time.Now()}
	if err := t.run(ctx, response); err != nil {
		return proto.Reply{}, err
	}
	who := identity()
	if who == "" {
		return proto.Reply{}, failedCheck(ctx, errors.New("smtp: the session has authenticated a client without a name"))
	}
	x.Authenticated(who)
	return proto.Reply{Code: 235, Status: proto.Status{2, 7, 0}, Text: "Authenticated"}, nil
}

// startSASL returns the server side of the mechanism: the session's own if it has it.
func startSASL(ctx context.Context, x ext.Command, name string) (sasl.Server, func() string, error) {
	if m, ok := ext.As[MechanismSession](x.Session()); ok {
		for _, own := range m.SASLMechanisms() {
			if grammar.EqualFold(own, name) {
				return m.SASL(ctx, own)
			}
		}
	}
	l := &login{ctx: ctx, x: x}
	for i := range builtin {
		if b := &builtin[i]; b.name == name && b.ready(x) {
			return b.start(l), l.identity, nil
		}
	}
	return nil, nil, fmt.Errorf("smtp: the session has put %s in the list of mechanisms, and has no such mechanism", name)
}

// A trial is the exchange by which a client tries to authenticate.
type trial struct {
	x      ext.Command
	server sasl.Server
	since  time.Time // when the client's last line arrived
}

// run carries the exchange through to the client's success: any error is the reply.
func (t *trial) run(ctx context.Context, response []byte) error {
	initial := response != nil
	for range maxRounds {
		challenge, done, err := t.server.Next(response)
		switch {
		case initial && errors.Is(err, sasl.ErrUnexpectedClientResponse):
			return proto.Refuse(501, proto.Status{5, 7, 0}, "The mechanism has no initial response")
		case err != nil:
			return t.failed(ctx, err)
		case done && len(challenge) == 0:
			return nil
		}
		initial = false
		var refused error
		if r, ok := t.server.(interface{ Refusal() error }); ok && r.Refusal() != nil {
			refused = t.failed(ctx, r.Refusal()) // the challenge tells the client so, and must not come sooner than a reply
		}
		line, err := t.x.Challenge(ctx, proto.Reply{Code: 334, Text: base64.StdEncoding.EncodeToString(challenge)})
		if err != nil {
			return err
		}
		t.since = time.Now()
		if refused != nil {
			return hasBeenTold(refused, line)
		}
		if line == "*" {
			return errCancelled
		}
		if response, err = decode64(line); err != nil {
			return proto.Refuse(501, proto.Status{5, 5, 2}, "The response is not base64")
		}
		if done {
			// SMTP has no room for data in a reply of success, so they went out as a challenge, to which nothing
			// is left to respond (RFC 4422 section 3.1).
			if len(response) > 0 {
				return t.failed(ctx, sasl.ErrUnexpectedClientResponse)
			}
			return nil
		}
	}
	return t.failed(ctx, errors.New("smtp: the exchange does not end"))
}

var errCancelled = proto.Refuse(501, proto.Status{5, 7, 0}, "Cancelled")

// hasBeenTold ends an exchange whose last challenge told the client that it has failed. Whatever it answers, the attempt
// counts; to cancel it is one of the proper answers (RFC 7628 section 3.2.3).
func hasBeenTold(refused error, line string) error {
	if e := chosen(refused); line == "*" && e != nil && e.Code == 535 {
		return errCancelled
	}
	return refused
}

// failed is the reply to a client that failed to authenticate.
func (t *trial) failed(ctx context.Context, err error) error {
	if e := chosen(err); e != nil && e.Code < 500 || ctx.Err() != nil {
		return err
	}
	failures := t.x.AuthFailed()
	pause := defaultPause
	if p, ok := ext.As[PauseSession](t.x.Session()); ok {
		pause = p.AuthPause(failures)
	}
	wait(ctx, t.since.Add(pause))
	switch {
	case failures > maxFailures:
		return &proto.Error{Code: 421, Status: proto.Status{4, 7, 0},
			Text: "Too many attempts to authenticate have failed", Err: err}
	case chosen(err) != nil:
		return err
	}
	return &proto.Error{Code: 535, Status: proto.Status{5, 7, 8},
		Text: "The credentials are not valid", Err: err}
}

// wait returns when it is time, or when the context ends.
func wait(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// failedCheck is the reply when it could not be found out whether the credentials are good.
func failedCheck(ctx context.Context, err error) error {
	if chosen(err) != nil || ctx.Err() != nil {
		return err
	}
	return &proto.Error{Code: 454, Status: proto.Status{4, 7, 0},
		Text: "The credentials cannot be checked now; try again later", Err: err}
}

// chosen returns the refusal in err, or nil if there is none. A reply of success is no refusal: only nil means that a
// client has authenticated.
func chosen(err error) *proto.Error {
	if e, ok := grammar.AsType[*proto.Error](err); ok && e.Code >= 400 && e.Code <= 599 {
		return e
	}
	return nil
}
