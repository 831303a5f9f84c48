package ehlo

import (
	"context"
	"errors"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// Submitter returns the extension SUBMITTER (RFC 4405), by which a client told who was responsible for sending a
// message. It belonged to Sender ID, an experiment that is over; it is for those who have peers that still use it, and not
// among the extensions of [Default]. The parameter has nothing to do with that of AUTH, which [auth.ReadSubmitter] reads.
//
// A server offers it if the session is a [SubmitterSession]. On a client it adds nothing by itself: the caller adds the
// parameter with [AddResponsible].
func Submitter() ext.Extension {
	return ext.Extension{
		Keyword:   "SUBMITTER",
		Mail:      []ext.Param{{Key: "SUBMITTER", MaxLength: len(" SUBMITTER=") + maxSubmitter, Check: checkResponsible}},
		Advertise: advertiseTo[SubmitterSession](),
		CheckMail: checkMailResponsible,
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
		err = proto.Refuse(550, proto.Status{5, 7, 1}, "Submitter not allowed.") // in these words (RFC 4405 section 4.2)
	}
	return err
}

// longestSubmitter is the room for a mailbox of 254 octets; RFC 4405 does not say how much there has to be.
const maxSubmitter = 254

// A SubmitterSession is a session that knows who may send mail for whom.
type SubmitterSession interface {
	// PermitsSubmitter reports whether the client may send messages for which a is responsible. If not, it is refused with
	// 550 5.7.1. The error is the reply.
	PermitsSubmitter(ctx context.Context, a proto.Address) (bool, error)
}

// ReadResponsible returns the parameter SUBMITTER of a MAIL command: who is responsible for the message. It changes neither
// where notifications go to nor where replies do (RFC 4405 section 4.2).
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
