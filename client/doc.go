// Package client sends mail: to a submission server, to a relay, to a mail exchanger, or to a mailbox by LMTP.
//
//	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, body)
//	…
//	err = client.Send(ctx, "mail.example.org:587", &client.Options{Credentials: auth.Password(user, password)}, m)
//
// [Dial] makes a [Client] for more than one message, and [DialSubmission] one for a submission server whose port is not known.
// [Client.Send] returns what became of each recipient,
// [Client.SendAll] sends a stream of messages without waiting for each in turn, and [Client.Do] sends the commands of
// extensions.
//
// # What it promises
//
// TLS is required unless Options.TLS says otherwise, whatever the server offers or does not, and until it has been started
// nothing is sent in clear but what leads to it. Credentials are sent to a server whose certificate was verified, and
// nowhere else unless AllowInsecureAuth says so.
//
// Commands are made of typed values, and everything in a message that the server cannot take is found before a byte of it
// is sent, as far as that can be known. A CR or LF is sent only as part of CRLF, unless the content is binary.
//
// If the server takes groups of commands, MAIL, every RCPT and DATA leave in one write, or the first 64 KiB of the content
// in place of DATA if it takes chunks. Reading does not wait for writing, so neither side can block the other for ever.
//
// Every wait is bounded by a timeout and by the context of the call. A connection is never used again after a timeout,
// a cancelled wait, a reply that makes no sense, or 421: the next reply might be one to the last command. Later calls
// return an error that wraps [ErrClosed].
//
// # What can go wrong
//
// A refusal is a *proto.Error, whose Verb tells what was refused. *[LostError] is trouble with the network,
// *[ProtocolError] a server that is not one, *ext.TLSError and *ext.AuthError a session that cannot be what it has to be,
// and *[MessageError], *ext.UnsupportedError and *ehlo.TooLargeError a message that cannot be sent, or not to this server. A
// *[LimitError] means that the server takes no more than it was sent. What concerns a message is wrapped in a
// *[SendError]. Programs need not take errors apart to decide what to do: [SafeToRetry] and [Temporary] tell.
//
// # Decisions
//
// What a server says it takes (RFC 9422) is what it gets: a client divides recipients over transactions and connections
// rather than have some of them refused, since a server may count refusals against its client. It says QUIT to make another
// connection, and asks for Credentials anew.
//
// HELO follows only if EHLO was answered with 500 or 502, command not recognised (RFC 5321 section 3.2). 501, 504 and
// 550 are about the argument, which HELO would have too. There is no HELO where TLS or authentication is still to come.
//
// Small content goes along with the envelope if the server takes chunks (RFC 3030): when all recipients are refused it
// has been sent in vain, which costs less than a round trip for every message. Since nobody knows what a server makes of
// a transaction whose chunk it refused (RFC 3030 section 2), RSET stands between such messages; refusals in one cannot harm
// the next.
//
// Waiting is done by one goroutine that reads; writes have a goroutine of their own for as long as they last. A write by
// the goroutine that calls would be cheaper by a microsecond, and deaf while it lasts: a server that refuses the content
// and stops reading would hold it until the timeout.
package client
