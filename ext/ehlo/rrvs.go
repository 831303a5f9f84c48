package ehlo

import (
	"context"
	"errors"
	"strings"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/proto"
)

// RRVS returns the extension RRVS (RFC 7293): a message is to be delivered only if the mailbox has belonged to the same
// person since a given time, so that nobody gets what was meant for a former owner of his address.
//
// A server offers it if the session is an [RRVSSession], and asks it about each recipient with the parameter but role
// accounts such as postmaster (section 5.1). A session that relays reads the parameter with [ReadValidSince], to pass it on.
//
// On a client the caller adds the parameter with [ValidSince.AddTo]. The message is refused with a [ext.UnsupportedError] if the server does
// not offer the extension. A relay may then leave the parameter out if it says so (section 5.1.1).
func RRVS() ext.Extension {
	return ext.Extension{
		Keyword:   "RRVS",
		Rcpt:      []ext.Param{{Key: "RRVS", MaxLength: len(" RRVS=2014-04-03T23:01:00+00:00;C"), Check: checkValidSince}},
		Advertise: advertiseTo[RRVSSession](),
		CheckRcpt: checkRcptValidSince,
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

// An RRVSSession is a session that knows since when mailboxes have belonged to their owners, or that relays messages
// to those who know.
type RRVSSession interface {
	// CheckOwnership returns nil if the mailbox has had the same owner since then, if it is not kept here, or if it does
	// not exist, which is for Rcpt to say. It should return nil as well for one that had no owner at all before
	// (RFC 7293 section 13.2): the answer tells strangers how old mailboxes are, and those who ask about one over
	// and over should be told nothing. Otherwise it returns [ErrOwnerChanged], [ErrDomainChanged] or
	// [ErrOwnerUnknown]. Another error is the reply.
	CheckOwnership(ctx context.Context, to proto.Address, since time.Time) error
}

// Why a message with RRVS is refused.
var (
	ErrOwnerChanged  = errors.New("smtp: the mailbox has got another owner")           // 550 5.7.17
	ErrDomainChanged = errors.New("smtp: the domain has got another owner")            // 550 5.7.18
	ErrOwnerUnknown  = errors.New("smtp: since when it has its owner is not recorded") // 550 5.7.19
)

// refuseOwner returns the reply for an error of CheckOwnership (RFC 7293 section 15.3).
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
	// Time is when the sender last knew whose the mailbox is. Parts of a second cannot be sent.
	Time time.Time
	// Continue says that a relay may send the message on to a server that does not offer the extension. Otherwise it
	// has to return it.
	Continue bool
}

// ReadValidSince returns the parameter RRVS of a RCPT command, if there is one.
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

// parseValidSince reads date-time [ ";" ( "C" / "R" ) ], without a time-secfrac.
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

// roleAccounts are the mailboxes of RFC 2142, which belong to whoever has the task.
var roleAccounts = []string{"info", "marketing", "sales", "support", "abuse", "noc", "security", "postmaster", "hostmaster", "usenet",
	"news", "webmaster", "www", "uucp", "ftp"}

func isRoleAccount(a proto.Address) bool {
	for _, name := range roleAccounts {
		if grammar.EqualFold(a.Local, name) {
			return true
		}
	}
	return false
}
