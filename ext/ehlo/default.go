package ehlo

import (
	"slices"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
)

// Default returns the extensions that servers and clients use whose options name none, in the order in which a server
// offers them. STARTTLS comes before AUTH, so that a client authenticates on the protected connection. What takes a
// session's part is on offer only if the session has the interface for it.
//
// It suits a server that both relays and takes submissions. One that does either is better served by [Relay] or
// [Submission], and LMTP has [LMTP].
func Default() []ext.Extension {
	return []ext.Extension{
		Pipelining(),
		Size(),
		EightBitMIME(),
		EnhancedStatusCodes(),
		StartTLS(),
		auth.Auth(),
		SMTPUTF8(),
		Chunking(),
		BinaryMIME(),
		Help(),
		VRFY(),
		EXPN(),
		DSN(),
		RequireTLS(),
		MTPriority(),
		DeliverBy(),
		RRVS(),
		Limits(),
		Obsolete(),
	}
}

// DefaultFor returns the extensions that servers and clients of p use whose options name none: [LMTP] or [Default].
func DefaultFor(p proto.Protocol) []ext.Extension {
	if p == proto.LMTP {
		return LMTP()
	}
	return Default()
}

// Relay returns the extensions of a server that takes mail from anybody for its own domains, as on port 25: those of
// [Default] without AUTH. Strangers have no password here, and where there is nothing to guess nobody guesses. Add [auth.Auth]
// if customers relay through the server. What is for submission only is not among them: FUTURERELEASE (RFC 4865 section
// 4.2) and BURL (RFC 4468 section 3.1). [ETRN] is to be added by a server with queues for hosts that dial in.
func Relay() []ext.Extension { return without(Default(), "AUTH") }

// LMTP returns the extensions of a server that delivers into mailboxes (RFC 2033), and those in use with that protocol if
// options name none. PIPELINING and ENHANCEDSTATUSCODES are required and 8BITMIME is recommended (section 5). They are those
// of [Default] but two. EXPN is left out because lists have been expanded before mail gets here, and DELIVERBY because the
// reply tells at once what became of the message, so that there is no time to bound. AUTH and STARTTLS are in: they are
// for a connection that leaves the machine (RFC 3848). So are REQUIRETLS and MT-PRIORITY, whose specifications have rules
// for LMTP (RFC 8689 section 1, RFC 6710 section 6). What asks for an outcome for each recipient, such as [PRDR], has no place:
// the protocol always tells it.
func LMTP() []ext.Extension { return without(Default(), "EXPN", "DELIVERBY") }

// Submission returns the extensions of a submission server (RFC 6409), as on the ports 465 and 587, with p among them. They are
// chosen by the table of section 7:
//
//   - AUTH is required. Without it nothing but a refusal is to be had, unless the policy trusts the client.
//   - PIPELINING, ENHANCEDSTATUSCODES, DSN and 8BITMIME are recommended; STARTTLS, SIZE, CHUNKING, BINARYMIME and DELIVERBY
//     are permitted.
//   - FUTURERELEASE and BURL are here alone, on offer to sessions that are a [FutureReleaseSession] or a [BURLSession].
//   - ETRN and ATRN are forbidden, and a server that has them in its list beside p is refused.
//   - NO-SOLICITING, MTRK, CONPERM and CONNEG are permitted, and to be added by those who have a use for them.
//   - EXPN is left out: a user who can log in need not learn who else is on a list.
//
// The client that uses them can do without them: p has no effect there.
func Submission(p SubmissionPolicy) []ext.Extension {
	list := append([]ext.Extension{p.Extension()}, without(Default(), "EXPN")...)
	return append(list, FutureRelease(p.Hold), BURL(p.URLs...))
}

// without returns list less the extensions of the keywords.
func without(list []ext.Extension, keywords ...string) []ext.Extension {
	kept := list[:0]
	for _, e := range list {
		if !slices.Contains(keywords, e.Keyword) {
			kept = append(kept, e)
		}
	}
	return kept
}
