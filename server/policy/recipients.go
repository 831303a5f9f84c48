package policy

import (
	"context"
	"errors"
	"strings"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// Recipients refuses recipients that do not exist with 550 5.1.1, while the client is there to be told. A server that
// finds out later has to send bounces, and those go to people who never wrote (backscatter).
//
//	file, err := policy.ReadRecipients("/etc/mail/recipients", nil)
//	…
//	policy.Recipients{Lookup: file.Lookup}
//
// When the look-up fails, that recipient has 451 4.3.0, and the others are not affected. Postmaster exists at every
// domain and is not looked up (RFC 5321 section 4.5.1): what is inside has to take that mail.
//
// Put it behind [Relay], and [Harvest] in front of both. Its verdicts have the method "recipient", and "fail" or
// "temperror" as the result.
type Recipients struct {
	// Lookup reports whether there is such a recipient. It is required, and called concurrently. The local part comes as
	// the client wrote it: compare it without regard to case, unless two mailboxes differ by that. Address.Key has the
	// domain in one form. Its context ends after 30 seconds; that it has not returned by then is a failure. See
	// [RecipientFile] for one that reads a file.
	Lookup func(ctx context.Context, addr proto.Address) (bool, error)
	// Domains are those whose recipients are looked up, as in [Relay]. A server whose users send to other domains has to
	// name its own here. Default: all domains.
	Domains []string
	// Delimiters are octets of which each may separate a mailbox from a detail: with "+", mail for joe+lists goes to joe
	// (RFC 5233). The address as a whole is looked up first, and then what stands before the first delimiter. The session
	// inside gets the whole address. Default: there are no details.
	Delimiters string
	// Skip reports whose recipients are not looked up. Default: nobody's.
	Skip func(ctx context.Context, c *server.Conn) bool
}

// Middleware returns the check as middleware. It returns an error if there is no Lookup, or if a domain is malformed.
func (r Recipients) Middleware() (server.Middleware, error) {
	if r.Lookup == nil {
		return nil, optionError("Recipients", "Lookup", "it is nil; set it to a function that knows your recipients, "+
			"such as Lookup of a RecipientFile")
	}
	domains, err := newDomainSet("Recipients", "Domains", r.Domains)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(r.Delimiters, "@") || !isPrintable(r.Delimiters) {
		return nil, optionError("Recipients", "Delimiters", "%q has octets that cannot separate a detail; use \"+\"",
			r.Delimiters)
	}
	lookups := &calls{}
	st := &stages[struct{}, struct{}]{method: "recipient", closed: true, skip: r.Skip}
	st.rcpt = func(ctx context.Context, s *session[struct{}, struct{}], to proto.Address, _ proto.Params) error {
		if isPostmaster(to) || len(domains) > 0 && !domains.has(to.Domain) {
			return nil
		}
		known, err := within(ctx, lookups, lookupTimeout, func(ctx context.Context) (bool, error) {
			return r.lookup(ctx, to)
		})
		if err != nil {
			return failure{err}
		}
		if !known {
			s.record("fail", to.Key()+" is unknown", nil)
			return errRecipient
		}
		return nil
	}
	return st.middleware(), nil
}

var errRecipient = proto.Refuse(550, proto.Status{5, 1, 1}, "No such recipient here")

// lookup looks for the address, and then for it without its detail.
func (r Recipients) lookup(ctx context.Context, to proto.Address) (bool, error) {
	known, err := r.Lookup(ctx, to)
	i := strings.IndexAny(to.Local, r.Delimiters)
	if known || i <= 0 {
		return known, err
	}
	to.Local = to.Local[:i]
	known, err2 := r.Lookup(ctx, to)
	if known {
		return true, nil
	}
	return false, errors.Join(err, err2)
}

// isPrintable reports whether s has printable ASCII alone, and no space.
func isPrintable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
