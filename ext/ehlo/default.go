package ehlo

import (
	"slices"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
)

// Default returns the extensions that servers and clients use if their options name none, unless the protocol is LMTP.
// The order is that in which a server advertises them. STARTTLS comes before AUTH, so that a client authenticates over
// TLS.
//
// The list suits every client, and a server that both relays and accepts submissions. A server that does one of these
// uses [Relay] or [Submission]. A server advertises an extension with a session interface only if the session
// implements it.
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

// DefaultFor returns the extensions that servers and clients of p use if their options name none: [LMTP] or [Default].
func DefaultFor(p proto.Protocol) []ext.Extension {
	if p == proto.LMTP {
		return LMTP()
	}
	return Default()
}

// Relay returns the extensions of a server that accepts mail from strangers for its own domains, as on port 25. They
// are those of [Default] without AUTH: without passwords there is nothing to guess. Add [auth.Auth] if customers relay
// through the server, and [ETRN] if it has queues for hosts that dial in.
//
// FUTURERELEASE and BURL are for submission only (RFC 4865 section 4.2, RFC 4468 section 3.1): do not add them.
func Relay() []ext.Extension { return without(Default(), "AUTH") }

// LMTP returns the extensions of a server that delivers to mailboxes (RFC 2033). Servers and clients use them in that
// protocol if their options name none. RFC 2033 section 5 requires PIPELINING and ENHANCEDSTATUSCODES, and recommends
// 8BITMIME.
//
// The list is that of [Default] without two. EXPN is left out because lists are expanded before mail gets here.
// DELIVERBY is left out because the reply tells the outcome at once, so there is no time to limit.
//
// AUTH and STARTTLS are for connections that leave the host (RFC 3848). REQUIRETLS and MT-PRIORITY have rules for LMTP
// (RFC 8689 section 1, RFC 6710 section 6). [PRDR] has no use, because LMTP always reports an outcome for each
// recipient.
func LMTP() []ext.Extension { return without(Default(), "EXPN", "DELIVERBY") }

// Submission returns the extensions of a submission server (RFC 6409), as on ports 465 and 587, with p among them. They
// follow the table of RFC 6409 section 7:
//
//   - AUTH is required: without it the server refuses all mail, unless the policy trusts the client.
//   - PIPELINING, ENHANCEDSTATUSCODES, DSN and 8BITMIME are recommended.
//   - STARTTLS, SIZE, CHUNKING, BINARYMIME and DELIVERBY are permitted.
//   - FUTURERELEASE and BURL are in no other list. The server advertises them to a [FutureReleaseSession] and a
//     [BURLSession].
//   - ETRN and ATRN are forbidden. A server with one of them beside p is an error of server.New.
//   - NO-SOLICITING, MTRK, CONPERM and CONNEG are permitted, but not in the list. Add those that you use.
//   - EXPN is left out: a user who can log in need not learn who else is on a list.
//
// A client can use the list too; p has no effect there. It is useful for [FutureRelease] and [BURL].
func Submission(p SubmissionPolicy) []ext.Extension {
	list := append([]ext.Extension{p.Extension()}, without(Default(), "EXPN")...)
	return append(list, FutureRelease(p.Hold), BURL(p.URLs...))
}

// without returns list without the extensions of the keywords.
func without(list []ext.Extension, keywords ...string) []ext.Extension {
	kept := list[:0]
	for _, e := range list {
		if !slices.Contains(keywords, e.Keyword) {
			kept = append(kept, e)
		}
	}
	return kept
}
