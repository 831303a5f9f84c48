package ehlo

import (
	"context"
	"errors"
	"reflect"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Submitter returns the extension SUBMITTER (RFC 4405), by which a client tells who is responsible for sending a
// message. It is part of Sender ID, an experiment that has ended: use it only with peers that still do. It has nothing
// to do with the parameter AUTH, which auth.ReadSubmitter reads.
//
// A server offers it if the session implements [SubmitterSession]. The session reads the parameter with
// [ReadResponsible].
//
// On a client, add the parameter with [AddResponsible]. If the server does not offer the extension, the client refuses
// the message with an [ext.UnsupportedError].
//
// The extension is not in [Default].
func Submitter() ext.Extension {
	return ext.Extension{
		Keyword:    "SUBMITTER",
		Interfaces: []reflect.Type{reflect.TypeFor[SubmitterSession]()},
		Mail:       []ext.Param{{Key: "SUBMITTER", MaxLength: len(" SUBMITTER=") + maxSubmitter, Check: checkResponsible}},
		Advertise:  advertiseTo[SubmitterSession](),
		CheckMail:  checkMailResponsible,
	}
}

func checkMailResponsible(ctx context.Context, x ext.ServerConn, _ proto.Address, p proto.Params) error {
	a, ok := ReadResponsible(p)
	if !ok {
		return nil
	}
	s, ok := ext.As[SubmitterSession](x.Session())
	if !ok {
		return nil
	}
	permitted, err := s.PermitsSubmitter(ctx, a)
	if err == nil && !permitted {
		err = proto.Refuse(550, proto.Status{5, 7, 1}, "Submitter not allowed.") // the text of RFC 4405 section 4.2
	}
	return err
}

// maxSubmitter is room for a mailbox of 254 octets. RFC 4405 states no limit.
const maxSubmitter = 254

// A SubmitterSession is a session that knows who may send mail for whom.
type SubmitterSession interface {
	// PermitsSubmitter reports whether the client may send messages for which a is responsible. If not, the server refuses
	// MAIL with 550 5.7.1. An error refuses it as that of Mail does.
	PermitsSubmitter(ctx context.Context, a proto.Address) (bool, error)
}

// ReadResponsible returns the parameter SUBMITTER of a MAIL command, the address that is responsible for the message.
// It reports false if there is none. Notifications still go to the reverse-path, and replies to the author (RFC 4405
// section 4.2).
func ReadResponsible(p proto.Params) (a proto.Address, ok bool) {
	return readParam(p, "SUBMITTER", parseResponsible)
}

// AddResponsible returns p with the parameter SUBMITTER.
func AddResponsible(p proto.Params, a proto.Address) proto.Params {
	return p.Set("SUBMITTER", string(proto.AppendXtext(nil, a.String())))
}

func parseResponsible(value string) (proto.Address, bool) {
	text, err := proto.DecodeXtext(value)
	if err != nil {
		return proto.Address{}, false
	}
	a, err := proto.ParseAddress(text)
	return a, err == nil
}

func checkResponsible(value string) error {
	if _, ok := parseResponsible(value); !ok {
		return errors.New("SUBMITTER has to be a mailbox in xtext")
	}
	return nil
}
