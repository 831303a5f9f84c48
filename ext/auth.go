package ext

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/proto"
)

// Auth returns the extension AUTH (RFC 4954).
//
// A server offers it if the session is a [Passwords] or a [Mechanisms], until the client has authenticated, and only
// on connections that are protected by TLS unless its options allow otherwise. The fourth attempt to fail on a
// connection ends it.
//
// A client authenticates if its policy has credentials. It sends none on a connection that is in clear or whose peer
// is not verified, unless the policy allows it. Of the mechanisms in the credentials it uses the first that the
// server offers, and goes on to the next only if the server says that this one will not do; what is wrong with one
// password is wrong with it by any mechanism. Failure is an [AuthError].
//
// [Submitter] reads the parameter AUTH of the MAIL command (RFC 4954 section 5).
func Auth() Extension {
	return Extension{
		Keyword: "AUTH",
		Verbs: []proto.Verb{{
			Name: "AUTH", In: proto.Ready, Last: true, Open: true, More: proto.Exchange, Grow: longestResponse,
		}},
		Mail: []Param{{Key: "AUTH", Length: 500, Check: checkSubmitter}},
		Advertise: func(x Info) (string, bool) {
			if x.Identity() != "" || !safe(x) {
				return "", false
			}
			names := mechanisms(x)
			return strings.Join(names, " "), len(names) > 0
		},
		Serve:   serveAuth,
		Connect: connectAuth,
	}
}

// Passwords is a session whose users have names and passwords. It is all that PLAIN and LOGIN need.
type Passwords interface {
	// Authenticate returns nil if password is that of user. Neither is empty; both are UTF-8 without control
	// characters. For a name that does not exist as for a password that is wrong it returns [ErrCredentials], having
	// taken the same time, and the client is answered with 535. A *proto.Error of 4yz or 5yz is the reply, such as
	// 454 4.7.0 for a user who has to wait. With any other error the check itself has failed: it is logged, and the
	// client is told with 454 to try again.
	Authenticate(ctx context.Context, user, password string) error
}

// ErrCredentials means that there is no such user or that the password is another. Which of the two it was, nobody is
// to learn.
var ErrCredentials = errors.New("smtp: no such user, or not that password")

// Mechanisms is a session that brings SASL mechanisms of its own. It may be a [Passwords] as well; PLAIN and LOGIN
// are then added to its list.
type Mechanisms interface {
	// SASLMechanisms returns the names of the mechanisms on offer, such as "SCRAM-SHA-256".
	SASLMechanisms() []string
	// SASL returns the server side of the mechanism, one in the list, and a function that returns the name of the
	// authenticated user once it is done, which cannot be empty.
	//
	// The first call to Next has nil for a response, unless the client has sent one with the command. A mechanism in
	// which the server begins returns sasl.ErrUnexpectedClientResponse for one that is not nil. Another error of Next
	// means that the client failed to authenticate, and is answered with 535; a *proto.Error of 4yz or 5yz in it
	// is the reply instead. An error of SASL itself is logged and answered with 454.
	SASL(ctx context.Context, mechanism string) (server sasl.Server, identity func() string, err error)
}

// Submitter returns the parameter AUTH of a MAIL command: who submitted the message to begin with, or the null
// address if that is unknown. It is a claim; unless the session trusts the client to make it, it has to proceed as if
// it were the null address (RFC 4954 section 5).
func Submitter(p proto.Params) (a proto.Address, ok bool) {
	value, ok := p.Get("AUTH")
	if !ok {
		return proto.Address{}, false
	}
	a, err := parseSubmitter(value)
	return a, err == nil
}

func checkSubmitter(value string) error {
	_, err := parseSubmitter(value)
	return err
}

func parseSubmitter(value string) (proto.Address, error) {
	text, err := proto.DecodeXtext(value)
	if err == nil && text == "<>" {
		return proto.Address{}, nil
	}
	var a proto.Address
	if err == nil {
		a, err = proto.ParseAddress(text)
	}
	if err != nil {
		return proto.Address{}, errors.New("AUTH has to be a mailbox in xtext, or <>")
	}
	return a, nil
}

// longestResponse is the length of a line in an exchange that RFC 4954 section 4 deems sufficient; initial responses
// may be as long.
const longestResponse = 12288

// mostRounds bounds the challenges of an exchange, on both sides. The longest mechanism in use has three.
const mostRounds = 10

// safe reports whether credentials may travel on the connection.
func safe(x Info) bool { return x.TLS() != nil || x.AllowInsecureAuth() }

// mechanisms returns the names of the mechanisms that the session has, in upper case.
func mechanisms(x Info) []string {
	var names []string
	add := func(list ...string) {
		for _, name := range list {
			if name = strings.ToUpper(name); isMechanism(name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if m, ok := As[Mechanisms](x.Session()); ok {
		add(m.SASLMechanisms()...)
	}
	if _, ok := As[Passwords](x.Session()); ok {
		add(sasl.Plain, sasl.Login)
	}
	return names
}

// isMechanism reports whether name is a sasl-mech (RFC 4422 section 3.1).
func isMechanism(name string) bool {
	return name != "" && len(name) <= 20 && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

func serveAuth(ctx context.Context, x Exchange) error {
	name, first, given := strings.Cut(x.Args(), " ")
	name = strings.ToUpper(name)
	names := mechanisms(x)
	switch {
	case x.Identity() != "":
		return refuseAuth(503, 5, 1, "The session has been authenticated already")
	case len(names) == 0:
		return refuseAuth(502, 5, 1, "Nobody can authenticate here")
	case !safe(x):
		// Good credentials and bad ones get the same answer (RFC 8314 section 4.1).
		return refuseAuth(538, 7, 11, "Encryption is required: use TLS")
	case name == "":
		return badArgs("AUTH needs the name of a mechanism")
	case !slices.Contains(names, name):
		return refuseAuth(504, 5, 4, "The mechanism is none of "+strings.Join(names, " "))
	}
	var response []byte
	if given {
		response = []byte{}
		if first != "=" {
			var err error
			if response, err = decode64(first); err != nil {
				return refuseAuth(501, 5, 2, "The initial response is not base64")
			}
		}
	}
	server, identity, err := startSASL(ctx, x, name)
	if err != nil {
		return failedCheck(ctx, err)
	}
	if err := exchange(ctx, x, server, response); err != nil {
		return err
	}
	who := identity()
	if who == "" {
		return failedCheck(ctx, errors.New("smtp: the session has authenticated a client without a name"))
	}
	x.Authenticated(who)
	return &proto.Error{Code: 235, Status: proto.Status{Class: 2, Subject: 7}, Text: "Authenticated"}
}

// startSASL returns the server side of the mechanism: the session's own if it has it.
func startSASL(ctx context.Context, x Exchange, name string) (sasl.Server, func() string, error) {
	if m, ok := As[Mechanisms](x.Session()); ok {
		for _, own := range m.SASLMechanisms() {
			if equalFold(own, name) {
				return m.SASL(ctx, own)
			}
		}
	}
	p, ok := As[Passwords](x.Session())
	if !ok {
		return nil, nil, fmt.Errorf("smtp: the session has taken the mechanism %s from its list", name)
	}
	var who string
	check := func(user, password string) error {
		if !isSecret(user) || !isSecret(password) {
			return ErrCredentials
		}
		err := p.Authenticate(ctx, user, password)
		if err == nil {
			who = user
		} else if !errors.Is(err, ErrCredentials) {
			err = failedCheck(ctx, err)
		}
		return err
	}
	identity := func() string { return who }
	if name == sasl.Login {
		return &loginServer{check: check}, identity, nil
	}
	return sasl.NewPlainServer(func(authzid, user, password string) error {
		if authzid != "" && authzid != user {
			return ErrCredentials // to act for somebody else is for a session with Mechanisms of its own
		}
		return check(user, password)
	}), identity, nil
}

// exchange carries the exchange through to the client's success: any error is the reply.
func exchange(ctx context.Context, x Exchange, server sasl.Server, response []byte) error {
	initial := response != nil
	for range mostRounds {
		challenge, done, err := server.Next(response)
		switch {
		case initial && errors.Is(err, sasl.ErrUnexpectedClientResponse):
			return refuseAuth(501, 7, 0, "The mechanism has no initial response")
		case err != nil:
			return failedAuth(ctx, x, err)
		case done && len(challenge) == 0:
			return nil
		}
		initial = false
		line, err := x.Challenge(ctx, proto.Reply{Code: 334, Text: base64.StdEncoding.EncodeToString(challenge)})
		if err != nil {
			return err
		}
		if line == "*" {
			return refuseAuth(501, 7, 0, "Cancelled")
		}
		if response, err = decode64(line); err != nil {
			return refuseAuth(501, 5, 2, "The response is not base64")
		}
		if done {
			// SMTP has no room for data in a reply of success, so they went out as a challenge, to which nothing
			// is left to respond (RFC 4422 section 3.1).
			if len(response) > 0 {
				return failedAuth(ctx, x, sasl.ErrUnexpectedClientResponse)
			}
			return nil
		}
	}
	return failedAuth(ctx, x, errors.New("smtp: the exchange does not end"))
}

// mostFailures is how many attempts may fail on a connection. RFC 4954 section 9 asks for three at least.
const mostFailures = 3

// failedAuth is the reply to a client that failed to authenticate.
func failedAuth(ctx context.Context, x Exchange, err error) error {
	if e := chosen(err); e != nil && e.Code < 500 {
		return err
	}
	if ctx.Err() != nil {
		return err
	}
	if x.AuthFailed() > mostFailures {
		return &proto.Error{Code: 421, Status: proto.Status{Class: 4, Subject: 7},
			Text: "Too many attempts to authenticate have failed", Err: err}
	}
	if chosen(err) != nil {
		return err
	}
	return &proto.Error{Code: 535, Status: proto.Status{Class: 5, Subject: 7, Detail: 8},
		Text: "The credentials are not valid", Err: err}
}

// failedCheck is the reply when it could not be found out whether the credentials are good.
func failedCheck(ctx context.Context, err error) error {
	if chosen(err) != nil || ctx.Err() != nil {
		return err
	}
	return &proto.Error{Code: 454, Status: proto.Status{Class: 4, Subject: 7},
		Text: "The credentials cannot be checked now; try again later", Err: err}
}

// chosen returns the refusal in err, or nil if there is none. A reply of success is no refusal: only nil means that a
// client has authenticated.
func chosen(err error) *proto.Error {
	if e, ok := errors.AsType[*proto.Error](err); ok && e.Code >= 400 && e.Code <= 599 {
		return e
	}
	return nil
}

func refuseAuth(code int, subject, detail uint16, text string) error {
	return &proto.Error{Code: code, Status: proto.Status{Class: 5, Subject: subject, Detail: detail}, Text: text}
}
