// Package report makes and reads delivery status notifications, the messages that tell a sender what became of his (RFC 3461
// section 6, RFC 3464, RFC 6522, and RFC 6533 for internationalised mail).
//
// Whoever accepts a message for somebody else, and so promises to deliver it or to say that it could not, has to send them: a
// relay, a queue, a gateway, and a program that delivers to mailboxes after it has answered 250. A [Message] is what was
// accepted, an [Outcome] what became of it for a recipient; [NextHop.Outcome] makes one from what the next server said.
// [Message.Due] tells which reports are due by what the sender has asked for, and [Compose] makes a notification of each.
// A server that refuses what it cannot deliver before it answers 250 needs none of this, and is better off: notifications
// often go to somebody whose address was forged.
//
// Who sends mail in bulk reads them with [Parse], which takes what all kinds of mail systems write.
//
// A queue that keeps the promise until it is kept, or broken with a notification, is not in this package. Nor are
// notifications that a message was read (RFC 8098) and reports of abuse (RFC 5965).
//
// # Decisions
//
// The content of a message has to be an io.ReaderAt, as a file of a queue is. What can be sent of it depends on all its octets:
// a message with octets above 127 or with long lines cannot pass everywhere and must not be encoded. So it is read twice,
// a buffer at a time, and no size is too large for memory. For the same reason the notification can be sent again, if the
// server cannot be reached, and there can be several at a time about one message.
//
// A notification is in ASCII unless it is said that more gets through. It is what is sent when something has gone wrong, and
// has nobody to be returned to.
//
// What a remote server said is a stranger's text, put into a message that comes from us. It is folded, and cannot end a line
// or a field, let alone a part: the boundary is a random one that none of the parts has.
//
// A refusal without an enhanced status code is reported as 5.0.0 or 4.0.0, rather than by what the reply code often means:
// senders strike addresses off their lists by these codes (RFC 3461 section 6.3).
//
// The reports of DELIVERBY on relaying, which are sent whether or not NOTIFY asks for them (RFC 2852 section 4.1), are left to
// the caller, who can give a [Report] of his own to Compose.
package report
