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

	// maxFailures is how many attempts may fail on a connection. RFC 4954 section 9 asks for at least three.
	maxFailures = 3

	// defaultPause is how long after the client's last line a failure is answered at the earliest. Postfix has the same.
	defaultPause = time.Second
)

// isSafe reports whether credentials may travel on the connection.
func isSafe(conn ext.ServerConn) bool { return conn.TLS() != nil || conn.AllowInsecureAuth() }

// serve serves the AUTH command.
func serve(ctx context.Context, cmd ext.Command) (proto.Reply, error) {
	name, first, given := strings.Cut(cmd.Args(), " ")
	name = strings.ToUpper(name)
	names := mechanisms(cmd)
	switch {
	case cmd.Identity() != "":
		return proto.Reply{}, proto.Refuse(503, proto.Status{5, 5, 1}, "The session has been authenticated already")
	case len(names) == 0:
		return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "Nobody can authenticate here")
	case !isSafe(cmd):
		// Valid and invalid credentials get the same answer (RFC 8314 section 4.1).
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
	mechanism, identity, err := startMechanism(ctx, cmd, name)
	if err != nil {
		return proto.Reply{}, checkFailed(ctx, err)
	}
	x := &serverExchange{cmd: cmd, mechanism: mechanism, since: time.Now()}
	if err := x.run(ctx, response); err != nil {
		return proto.Reply{}, err
	}
	user := identity()
	if user == "" {
		return proto.Reply{}, checkFailed(ctx, errNoName)
	}
	cmd.Authenticated(user)
	return proto.Reply{Code: 235, Status: proto.Status{2, 7, 0}, Text: "Authenticated"}, nil
}

var errNoName = errors.New("smtp: the session has authenticated a client without a name")

// startMechanism returns the server's side of the mechanism: the session's own, or one of this package.
func startMechanism(ctx context.Context, cmd ext.Command, name string) (sasl.Server, func() string, error) {
	if s, ok := ext.As[MechanismSession](cmd.Session()); ok {
		for _, own := range s.SASLMechanisms() {
			if grammar.EqualFold(own, name) {
				return s.SASL(ctx, own)
			}
		}
	}
	a := &attempt{ctx: ctx, conn: cmd}
	for i := range builtin {
		if m := &builtin[i]; m.name == name && m.isReady(cmd) {
			return m.start(a), a.identity, nil
		}
	}
	return nil, nil, fmt.Errorf("smtp: the session has put %s in the list of mechanisms, and has no such mechanism", name)
}

// A serverExchange is the server's side of the challenges and responses of one AUTH command.
type serverExchange struct {
	cmd       ext.Command
	mechanism sasl.Server
	since     time.Time // when the client's last line arrived
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

// fail counts a failed attempt, waits, and returns the reply.
func (x *serverExchange) fail(ctx context.Context, err error) error {
	if e := replyIn(err); e != nil && e.Code < 500 || ctx.Err() != nil {
		return err
	}
	failures := x.cmd.AuthFailed()
	pause := defaultPause
	if s, ok := ext.As[PauseSession](x.cmd.Session()); ok {
		pause = s.AuthPause(failures)
	}
	waitUntil(ctx, x.since.Add(pause))
	switch {
	case failures > maxFailures:
		return &proto.Error{Code: 421, Status: proto.Status{4, 7, 0},
			Text: "Too many attempts to authenticate have failed", Err: err}
	case replyIn(err) != nil:
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
