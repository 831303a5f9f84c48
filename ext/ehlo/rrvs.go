package ehlo

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// RRVS returns the extension RRVS (RFC 7293), by which a sender protects a message from a new owner of the mailbox. The
// server delivers only if the owner has been the same since a given time. Use it for password resets, for example.
//
// A server offers it if the session implements [RRVSSession]. It asks the session about each recipient with the
// parameter, except role accounts such as postmaster (RFC 7293 section 5.1). A session that relays reads the parameter
// with [ReadValidSince] and passes it on.
//
// On a client, add the parameter with [ValidSince.AddTo]. If the server does not offer the extension, the client
// refuses the message with an [ext.UnsupportedError]. A relay may then drop the parameter if the sender set Continue
// (RFC 7293 section 5.1.1).
//
// The extension is in [Default].
func RRVS() ext.Extension {
	return ext.Extension{
		Keyword:    "RRVS",
		Interfaces: []reflect.Type{reflect.TypeFor[RRVSSession]()},
		Rcpt:       []ext.Param{{Key: "RRVS", MaxLength: len(" RRVS=2014-04-03T23:01:00+00:00;C"), Check: checkValidSince}},
		Advertise:  advertiseTo[RRVSSession](),
		CheckRcpt:  checkRcptValidSince,
	}
}

func checkRcptValidSince(ctx context.Context, x ext.ServerConn, to proto.Address, p proto.Params) error {
	v, ok := ReadValidSince(p)
	if !ok || isRoleAccount(to) {
		return nil
	}
	s, ok := ext.As[RRVSSession](x.Session())
	if !ok {
		return nil
	}
	return refuseOwner(s.CheckOwnership(ctx, to, v.Time))
}

// An RRVSSession is a session that knows since when mailboxes have had their owners, or that relays messages to servers
// that know.
type RRVSSession interface {
	// CheckOwnership returns nil if the mailbox has had the same owner since the given time, is not kept here, or does not
	// exist: Rcpt refuses unknown mailboxes. Otherwise it returns [ErrOwnerChanged], [ErrDomainChanged] or
	// [ErrOwnerUnknown]. Any other error refuses RCPT as that of Rcpt does.
	//
	// The answer tells strangers how old mailboxes are. Return nil for a mailbox without any owner at that time (RFC 7293
	// section 13.2), and for clients that keep asking about one mailbox.
	CheckOwnership(ctx context.Context, to proto.Address, since time.Time) error
}

// The refusals of an [RRVSSession], and the reply to each.
var (
	ErrOwnerChanged  = errors.New("smtp: the mailbox has got another owner")           // 550 5.7.17
	ErrDomainChanged = errors.New("smtp: the domain has got another owner")            // 550 5.7.18
	ErrOwnerUnknown  = errors.New("smtp: since when it has its owner is not recorded") // 550 5.7.19
)

// refuseOwner returns the reply to an error of CheckOwnership (RFC 7293 section 15.3).
func refuseOwner(err error) error {
	switch {
	case errors.Is(err, ErrOwnerChanged):
		return proto.Refuse(550, proto.Status{5, 7, 17}, "The mailbox has got another owner since")
	case errors.Is(err, ErrDomainChanged):
		return proto.Refuse(550, proto.Status{5, 7, 18}, "The domain has got another owner since")
	case errors.Is(err, ErrOwnerUnknown):
		return proto.Refuse(550, proto.Status{5, 7, 19}, "Since when the mailbox has its owner is not known")
	}
	return err
}

// ValidSince is the parameter RRVS of a RCPT command.
type ValidSince struct {
	// Time is when the sender last knew who owned the mailbox. AddTo drops fractions of a second.
	Time time.Time
	// Continue permits a relay to send the message to a server that does not offer the extension. Otherwise the relay has
	// to return it.
	Continue bool
}

// ReadValidSince returns the parameter RRVS of a RCPT command. It reports false if there is none.
func ReadValidSince(p proto.Params) (v ValidSince, ok bool) {
	return readParam(p, "RRVS", parseValidSince)
}

// AddTo returns p with the parameter RRVS.
func (v ValidSince) AddTo(p proto.Params) proto.Params {
	value := formatDateTime(v.Time)
	if v.Continue {
		value += ";C"
	}
	return p.Set("RRVS", value)
}

// parseValidSince reads date-time [ ";" ( "C" / "R" ) ]. The date-time has no fraction.
func parseValidSince(value string) (v ValidSince, ok bool) {
	date, action, has := strings.Cut(value, ";")
	switch {
	case grammar.EqualFold(action, "C"):
		v.Continue = true
	case has && !grammar.EqualFold(action, "R"):
		return ValidSince{}, false
	}
	if v.Time, ok = parseDateTime(date, false); !ok {
		return ValidSince{}, false
	}
	return v, true
}

func checkValidSince(value string) error {
	if _, ok := parseValidSince(value); !ok {
		return errors.New("RRVS has to be a time such as 2030-01-01T00:00:00Z, and may have ;C or ;R behind it")
	}
	return nil
}

// roleAccounts are the mailboxes of RFC 2142. They belong to a task, not to a person.
var roleAccounts = []string{
	"info", "marketing", "sales", "support", "abuse", "noc", "security", "postmaster", "hostmaster", "usenet", "news",
	"webmaster", "www", "uucp", "ftp",
}

func isRoleAccount(a proto.Address) bool {
	for _, name := range roleAccounts {
		if grammar.EqualFold(a.Local, name) {
			return true
		}
	}
	return false
}
