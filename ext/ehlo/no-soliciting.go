package ehlo

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// maxSolicitation is the longest list of classes in octets (RFC 3865 section 2.2).
const maxSolicitation = 1000

// NoSoliciting returns the extension NO-SOLICITING (RFC 3865), by which a server names classes of solicitations that it
// does not want. A sender names the classes of a message. A class is a name such as "com.example:ADV": a domain name
// backwards, a colon, and letters, digits, dots, hyphens, underscores and colons.
//
// A server offers the extension with the classes given, and refuses messages of these classes with 550 5.7.1. Without
// classes it offers the bare keyword. If the session implements [NoSolicitingSession], it decides for each recipient.
// The session reads the classes of a message with [ReadSolicitation].
//
// On a client, add the classes with [Solicitation.AddTo]. They have to be those of the header field Solicitation. If
// the server does not offer the extension, or does not want one of the classes, the client refuses the message with an
// [ext.UnsupportedError].
//
// The extension is not in [Default].
func NoSoliciting(classes ...string) ext.Extension {
	unwanted := Solicitation(slices.Clone(classes))
	e := ext.Extension{
		Keyword:    "NO-SOLICITING",
		Interfaces: []reflect.Type{reflect.TypeFor[NoSolicitingSession]()},
		Mail:       []ext.Param{{Key: "SOLICIT", MaxLength: 1007, Check: checkSolicitation}}, // RFC 3865 section 4.1
		Advertise:  func(ext.ServerConn) (string, bool) { return unwanted.String(), true },
		CheckMail: func(_ context.Context, _ ext.ServerConn, _ proto.Address, p proto.Params) error {
			s, _ := ReadSolicitation(p)
			return refuseSolicitation(s.intersect(unwanted))
		},
		CheckRcpt: checkRcptSolicitation,
		Prepare:   prepareSolicitation,
	}
	const maxList = grammar.MaxOffer - len("NO-SOLICITING ")
	if _, ok := parseSolicitation(unwanted.String()); len(classes) > 0 && !ok || len(unwanted.String()) > maxList {
		e.Invalid = fmt.Errorf("smtp: NoSoliciting cannot tell clients of %q: use names such as com.example:ADV, of no more "+
			"than %d octets together (RFC 3865 section 2.2)", classes, maxList)
	}
	return e
}

func checkRcptSolicitation(ctx context.Context, x ext.ServerConn, to proto.Address, _ proto.Params) error {
	s, ok := ReadSolicitation(x.MailParams())
	if !ok {
		return nil
	}
	d, ok := ext.As[NoSolicitingSession](x.Session())
	if !ok {
		return nil
	}
	refused, err := d.Unwanted(ctx, to)
	if err != nil {
		return err
	}
	return refuseSolicitation(s.intersect(refused))
}

func prepareSolicitation(c proto.Caps, e *ext.Envelope) error {
	s, ok := ReadSolicitation(e.Mail)
	if !ok {
		return nil
	}
	args, _ := c.Args("NO-SOLICITING")
	if refused := s.intersect(strings.Split(args, ",")); len(refused) > 0 {
		return &ext.UnsupportedError{Keyword: "NO-SOLICITING", What: "a message of the class " + refused[0],
			Err: errors.New("the server does not want such solicitations")}
	}
	return nil
}

// A NoSolicitingSession is a session whose recipients want different classes of solicitations.
type NoSolicitingSession interface {
	// Unwanted returns the classes that a recipient does not want. The server calls it for messages with classes, and
	// refuses the recipient with 550 5.7.1 if one of them is unwanted. An error refuses RCPT as that of Rcpt does.
	Unwanted(ctx context.Context, to proto.Address) (classes []string, err error)
}

// Solicitation is the classes of a message, the parameter SOLICIT of a MAIL command.
type Solicitation []string

// ReadSolicitation returns the classes in the parameters of a MAIL command. It reports false if there are none.
func ReadSolicitation(p proto.Params) (s Solicitation, ok bool) {
	return readParam(p, "SOLICIT", parseSolicitation)
}

// AddTo returns p with the parameter SOLICIT, or p itself if s is empty.
func (s Solicitation) AddTo(p proto.Params) proto.Params {
	if len(s) == 0 {
		return p
	}
	return p.Set("SOLICIT", s.String())
}

// String returns the classes separated by commas.
func (s Solicitation) String() string { return strings.Join(s, ",") }

// intersect returns the classes of s that are in list, in any case.
func (s Solicitation) intersect(list []string) Solicitation {
	var both Solicitation
	for _, class := range s {
		if slices.ContainsFunc(list, func(other string) bool { return grammar.EqualFold(class, other) }) {
			both = append(both, class)
		}
	}
	return both
}

// refuseSolicitation refuses a message for the classes in s, if there are any (RFC 3865 section 2.4).
func refuseSolicitation(s Solicitation) error {
	if len(s) == 0 {
		return nil
	}
	return proto.Refuse(550, proto.Status{5, 7, 1}, "SOLICIT="+s.String()+" is not wanted")
}

// parseSolicitation reads word 0*("," word). A word is ALPHA 0*wordchar.
func parseSolicitation(value string) (Solicitation, bool) {
	if len(value) > maxSolicitation {
		return nil, false
	}
	s := strings.Split(value, ",")
	for _, word := range s {
		for i := range len(word) {
			if c := word[i]; !grammar.IsAlpha(c) && (i == 0 || !grammar.IsAlnum(c) && strings.IndexByte(".-_:", c) < 0) {
				return nil, false
			}
		}
		if word == "" {
			return nil, false
		}
	}
	return s, true
}

func checkSolicitation(value string) error {
	if _, ok := parseSolicitation(value); !ok {
		return errors.New("SOLICIT has to be a list of classes with commas between them, of 1000 octets at most")
	}
	return nil
}
