package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

const (
	// maxResponse is the maximum length of a line in an exchange, and of an initial response. RFC 4954 section 4 deems it
	// sufficient.
	maxResponse = 12288

	// maxRounds bounds the challenges of an exchange, on both sides. No mechanism in use has more than three.
	maxRounds = 10

	// defaultPause is how long after the client's last line a failure is answered at the earliest. Postfix has the same.
	defaultPause = time.Second
)

// isSafe reports whether credentials may travel on the connection.
func isSafe(conn ext.ServerConn) bool { return conn.TLS() != nil || conn.AllowInsecureAuth() }

// serve serves the AUTH command.
func serve(ctx context.Context, cmd ext.Command) (proto.Reply, error) {
	if cmd.Identity() != "" {
		return proto.Reply{}, proto.Refuse(503, proto.Status{5, 5, 1}, "The session has been authenticated already")
	}
	x := &serverExchange{cmd: cmd, attempt: attempt{ctx: ctx, conn: cmd}}
	if err := x.serve(ctx); err != nil {
		x.settle(ctx, err, false)
		return proto.Reply{}, err
	}
	x.settle(ctx, nil, false)
	return proto.Reply{Code: 235, Status: proto.Status{2, 7, 0}, Text: "Authenticated"}, nil
}

// serve returns nil once the client has authenticated. Any error is the reply.
func (x *serverExchange) serve(ctx context.Context) error {
	name, first, given := strings.Cut(x.cmd.Args(), " ")
	name = strings.ToUpper(name)
	x.name = name
	names := mechanisms(x.cmd)
	switch {
	case len(names) == 0:
		return proto.Refuse(502, proto.Status{5, 5, 1}, "Nobody can authenticate here")
	case !isSafe(x.cmd):
		// Valid and invalid credentials get the same answer (RFC 8314 section 4.1).
		return proto.Refuse(538, proto.Status{5, 7, 11}, "Encryption is required: use TLS")
	case name == "":
		return grammar.BadArgs("AUTH needs the name of a mechanism")
	case !slices.Contains(names, name):
		return proto.Refuse(504, proto.Status{5, 5, 4}, "The mechanism is none of "+strings.Join(names, " "))
	}
	var response []byte
	if given {
		response = []byte{}
		if first != "=" {
			var err error
			if response, err = decode64(first); err != nil || first == "" {
				return proto.Refuse(501, proto.Status{5, 5, 2}, "The initial response is not base64")
			}
		}
	}
	identity, err := x.start(ctx)
	if err != nil {
		return checkFailed(ctx, err)
	}
	x.since = time.Now()
	if err := x.run(ctx, response); err != nil {
		return err
	}
	if x.identity = identity(); x.identity == "" {
		return checkFailed(ctx, errNoName)
	}
	return nil
}

var errNoName = errors.New("smtp: the session has authenticated a client without a name")

// start begins the exchange by a mechanism: the session's own, or one of this package. After success, identity returns
// the name of the user.
func (x *serverExchange) start(ctx context.Context) (identity func() string, err error) {
	if s, ok := ext.As[MechanismSession](x.cmd.Session()); ok {
		for _, own := range s.SASLMechanisms() {
			if grammar.EqualFold(own, x.name) {
				x.mechanism, identity, err = s.SASL(ctx, own)
				return identity, err
			}
		}
	}
	for i := range builtin {
		if m := &builtin[i]; m.name == x.name && m.isReady(x.cmd) {
			x.mechanism = m.start(&x.attempt)
			return x.attempt.identity, nil
		}
	}
	return nil, fmt.Errorf("smtp: the session has put %s in the list of mechanisms, and has no such mechanism", x.name)
}

// A serverExchange is the server's side of one AUTH command: of the challenges and responses.
type serverExchange struct {
	cmd       ext.Command
	name      string // the mechanism, in upper case, as the client has written it
	mechanism sasl.Server
	attempt   attempt
	identity  string    // of the client, once it has authenticated
	since     time.Time // when the client's last line arrived
	settled   bool      // the outcome has been told
}

// run returns nil once the client has authenticated. Any error is the reply.
func (x *serverExchange) run(ctx context.Context, response []byte) error {
	initial := response != nil
	for range maxRounds {
		challenge, done, err := x.mechanism.Next(response)
		switch {
		case initial && errors.Is(err, sasl.ErrUnexpectedClientResponse):
			return proto.Refuse(501, proto.Status{5, 7, 0}, "The mechanism has no initial response")
		case err != nil:
			return x.fail(ctx, err)
		case done && len(challenge) == 0:
			return nil
		}
		initial = false
		var refused error
		if m, ok := x.mechanism.(interface{ Refusal() error }); ok && m.Refusal() != nil {
			// This challenge tells the client that it failed, so it waits as a final reply does.
			refused = x.fail(ctx, m.Refusal())
		}
		line, err := x.cmd.Challenge(ctx, proto.Reply{Code: 334, Text: base64.StdEncoding.EncodeToString(challenge)})
		if err != nil {
			return err
		}
		x.since = time.Now()
		if refused != nil {
			return afterRefusal(refused, line)
		}
		if line == "*" {
			return errCancelled
		}
		if response, err = decode64(line); err != nil {
			return proto.Refuse(501, proto.Status{5, 5, 2}, "The response is not base64")
		}
		if done {
			// A 235 reply has no room for data, so the mechanism's last data went out as a challenge. The client must
			// answer it with an empty line (RFC 4422 section 3.1).
			if len(response) > 0 {
				return x.fail(ctx, sasl.ErrUnexpectedClientResponse)
			}
			return nil
		}
	}
	return x.fail(ctx, errors.New("smtp: the exchange does not end"))
}

var errCancelled = proto.Refuse(501, proto.Status{5, 7, 0}, "Cancelled")

// afterRefusal returns the reply after a challenge that told the client of its failure. The failure counts whatever the
// client answers. To cancel is one of the right answers (RFC 7628 section 3.2.3).
func afterRefusal(refused error, line string) error {
	if e := replyIn(refused); line == "*" && e != nil && e.Code == 535 {
		return errCancelled
	}
	return refused
}

// fail ends a failed attempt: it tells the outcome, waits, and returns the reply. An attempt counts if the client's
// credentials are to blame, also when the client does not wait for the reply.
func (x *serverExchange) fail(ctx context.Context, err error) error {
	reply := replyIn(err)
	if reply != nil && reply.Code < 500 || ctx.Err() != nil && !errors.Is(err, ErrCredentials) {
		return err
	}
	failures, last := x.settle(ctx, err, true)
	pause := defaultPause
	if s, ok := ext.As[PauseSession](x.cmd.Session()); ok {
		pause = s.AuthPause(failures)
	}
	waitUntil(ctx, x.since.Add(pause))
	switch {
	case last:
		return &proto.Error{Code: 421, Status: proto.Status{4, 7, 0},
			Text: "Too many attempts to authenticate have failed", Err: err}
	case reply != nil:
		return err
	}
	return &proto.Error{Code: 535, Status: proto.Status{5, 7, 8},
		Text: "The credentials are not valid", Err: err}
}

// waitUntil returns at the time t, or when ctx ends.
func waitUntil(ctx context.Context, t time.Time) {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// checkFailed returns the reply for credentials that could not be checked.
func checkFailed(ctx context.Context, err error) error {
	if replyIn(err) != nil || ctx.Err() != nil {
		return err
	}
	return &proto.Error{Code: 454, Status: proto.Status{4, 7, 0},
		Text: "The credentials cannot be checked now; try again later", Err: err}
}

// replyIn returns the refusal that err is or wraps, or nil. An error with the code of a success is no refusal: only a
// nil error means that a client has authenticated.
func replyIn(err error) *proto.Error {
	if e, ok := grammar.AsType[*proto.Error](err); ok && e.Code >= 400 && e.Code <= 599 {
		return e
	}
	return nil
}
