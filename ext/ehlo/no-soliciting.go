package ehlo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// longestSolicitation bounds the list of classes (RFC 3865 section 2.2).
const maxSolicitation = 1000

// NoSoliciting returns the extension NO-SOLICITING (RFC 3865): a server tells which classes of solicitations it does not
// want, and a client which classes a message is of. A class is a name such as "com.example:ADV", made of a domain name
// backwards, a colon and letters, digits, dots, hyphens, underscores and colons.
//
// A server offers it with the classes given, and refuses messages of these with 550 5.7.1 and the class. Without any it
// refuses none, but may still be told; a session that is a [NoSolicitingSession] decides for each recipient. The session reads
// the classes of a message with [ReadSolicitation].
//
// On a client the caller adds them with [Solicitation.AddTo]; they have to be those of the header field Solicitation. The
// message is refused with a [ext.UnsupportedError] if the server does not offer the extension, or does not want one of them. The
// extension is not among those of [Default].
func NoSoliciting(classes ...string) ext.Extension {
	unwanted := Solicitation(slices.Clone(classes))
	e := ext.Extension{
		Keyword:   "NO-SOLICITING",
		Mail:      []ext.Param{{Key: "SOLICIT", MaxLength: 1007, Check: checkSolicitation}}, // RFC 3865 section 4.1
		Advertise: func(ext.ServerConn) (string, bool) { return unwanted.String(), true },
		CheckMail: func(_ context.Context, _ ext.ServerConn, _ proto.Address, p proto.Params) error {
			s, _ := ReadSolicitation(p)
			return refuseSolicitation(s.intersect(unwanted))
		},
		CheckRcpt: checkRcptSolicitation,
		Prepare:   prepareSolicitation,
	}
	if _, ok := parseSolicitation(unwanted.String()); len(classes) > 0 && !ok || len(unwanted.String()) > grammar.MaxOffer-len("NO-SOLICITING ") {
		e.Invalid = fmt.Errorf("smtp: NoSoliciting cannot tell clients of %q: use names such as com.example:ADV, of no more "+
			"than %d octets together (RFC 3865 section 2.2)", classes, grammar.MaxOffer-len("NO-SOLICITING "))
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

// A NoSolicitingSession is a session whose users differ in what solicitations they do not want.
type NoSolicitingSession interface {
	// Unwanted returns the classes that the recipient does not want. It is asked if the message has any. The error
	// is the reply to RCPT.
	Unwanted(ctx context.Context, to proto.Address) (classes []string, err error)
}

// Solicitation are the classes of a message, in its parameter SOLICIT.
type Solicitation []string

// ReadSolicitation returns the classes in the parameters of a MAIL command, if there are any.
func ReadSolicitation(p proto.Params) (s Solicitation, ok bool) {
	return readParam(p, "SOLICIT", parseSolicitation)
}

// AddTo returns p with the classes for the parameter SOLICIT. It returns p if there are none.
func (s Solicitation) AddTo(p proto.Params) proto.Params {
	if len(s) == 0 {
		return p
	}
	return p.Set("SOLICIT", s.String())
}

// String returns the classes with commas between them.
func (s Solicitation) String() string { return strings.Join(s, ",") }

// among returns those of s that are in list, in any case.
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

// parseSolicitation reads word 0*("," word), a word being ALPHA 0*wordchar.
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
