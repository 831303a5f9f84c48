// Package tracefield makes the trace fields of messages: Received, which tells how a message came to a server, and
// Return-Path and Delivered-To, which are added when it reaches its mailbox (RFC 5322 section 3.6.7, RFC 5321 section
// 4.4). It also finds out from them that a message goes round in circles.
//
// A server that accepts a message to pass it on has to add a Received field. It should refuse a message that has a
// hundred of them. In a session's Data:
//
//	func (s *session) Data(ctx context.Context, r io.Reader) error {
//		r = tracefield.CheckLoop(r, nil)
//		r = tracefield.Prepend(r, server.Received(s.conn).String())
//		return s.queue(r)
//	}
//
// Here server.Received fills the [Received] from what the server knows of the connection. A program without one of our
// servers fills it by hand.
//
// # Final delivery
//
// The program that puts a message into a mailbox adds its reverse-path, in place of one that the message may have
// brought along:
//
//	r = tracefield.Prepend(tracefield.Strip(r, "Return-Path"), tracefield.ReturnPath(from))
//
// A program that forwards mail of its mailboxes adds Delivered-To as well, and looks for it:
//
//	r = tracefield.CheckLoop(r, &tracefield.LoopOptions{DeliveredTo: []proto.Address{to}})
//	r = tracefield.Prepend(r, tracefield.DeliveredTo(to))
//
// It thus notices at the second round what CheckLoop would notice after a hundred.
//
// # Limits
//
// No reader of this package stores a message. [Strip] keeps a buffer of 2 KiB; the others keep less. A Received field
// has at most 10 KiB. The readers pass the errors of the reader below on, and are not safe for concurrent use.
//
// # Decisions
//
// What a client says in EHLO is text of a stranger, and so is the name that the DNS has for its address. Neither can
// end a field, a line or a clause. The grammar wants a domain in the clause FROM. If EHLO had something else, the
// clause has the client's address, and a comment has what the client said: many an honest client sends "my_pc".
//
// Blind copies stay blind: [Received] has room for one recipient in FOR, and server.Received leaves the clause out if
// there are several recipients (RFC 5321 section 7.2). The user who has authenticated is named nowhere. Add a comment
// if all recipients may know the name.
//
// The number of a cipher suite without a name is written as the number, which RFC 8314 section 4.3 permits. The names
// that other libraries have for suites are no names of the registry, and become comments.
//
// The header is read as a server reads it that knows no more than RFC 5322: a field counts if its name is followed by
// white space and a colon, and the first line that cannot belong to a header ends it. Servers add fields on top, so the
// ones that a loop added are in front of all that the author of the message may have written.
//
// A loop is found while the message passes, and its beginning has been passed on then. That costs nothing, since a
// session has to drop a message anyway whose reader fails.
package tracefield
