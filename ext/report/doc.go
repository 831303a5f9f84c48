// Package report makes and reads delivery status notifications, the messages that tell a sender what happened to a
// message (RFC 3461 section 6, RFC 3464, RFC 6522, and RFC 6533 for internationalised mail). The best known are
// bounces.
//
// You need it if you accept a message for somebody else and answer 250 before it is delivered: in a relay, a queue or a
// gateway. Then you have to tell the sender when delivery fails. A server that delivers before it answers 250, or else
// refuses, needs no notifications, and is better off: they often go to somebody whose address was forged.
//
// # How to make a bounce
//
// Keep of each message that you accept what [Message] has: the arguments of Mail, and the content in a file. Keep the
// arguments of each Rcpt as a [proto.Recipient]. After an attempt to send the message on, [NextHop].Outcome makes an
// [Outcome] of each entry in Recipients of a client.Result. [Message.Due] returns the reports that are due, and
// [Compose] makes a notification of each:
//
//	res, err := c.Send(ctx, m) // res has the error of each recipient; log err
//	hop := report.NextHop{Host: host, Caps: c.Caps()}
//	var outcomes []report.Outcome
//	for i, r := range res.Recipients {
//		r.Recipient = accepted[i] // as it came with RCPT
//		o := hop.Outcome(r)
//		if o.Action == ehlo.Delayed && expired {
//			o.Action = ehlo.Failed // no more attempts
//		}
//		outcomes = append(outcomes, o)
//	}
//	for _, rep := range message.Due(outcomes) {
//		n, err := report.Compose(&message, rep, &report.Options{Hostname: "relay.example.org"})
//		…
//		bounce := &client.Message{Mail: n.Mail, To: n.To, Needs: n.Needs, Body: n.Body}
//	}
//
// Send the bounce from the null reverse-path, which is the zero value of client.Message.From. A recipient whose Action
// is Delayed stays in the queue. Give each outcome to Due once: a sender who has not asked for more is told of each
// delay that Due gets.
//
// # Who gets none
//
// Due reports nothing on a message from the null reverse-path, so that bounces are never bounced. It reports nothing on
// recipients for whom the sender has asked for nothing (NOTIFY=NEVER). By default a sender is told of failure and
// delay; delivery and relaying are reported only if the sender has asked for it (NOTIFY=SUCCESS). If the next server
// advertises DSN and has accepted the message, that server reports, and Due does not.
//
// # How to read a bounce
//
// [Parse] reads the notifications of all kinds of mail systems. What happened is in Recipients of the [Received]:
// address, action and status code of each. To find the message that was reported on, use the EnvelopeID that you gave
// it, or a field of the returned header in Original. Anybody can forge a notification: see ehlo.NewEnvID.
//
// # What is not here
//
// There is no queue in this package. Nor are there notifications that a message was read (RFC 8098), or reports of
// abuse (RFC 5965).
//
// # Decisions
//
// The content of a message has to be an io.ReaderAt, such as a file. All its octets decide how it can be returned: a
// message with octets above 127 or with long lines cannot pass everywhere and must not be encoded. So the content is
// read twice, a buffer at a time, and no message is too large for memory. It also lets you send a notification again,
// and make several about one message.
//
// A notification is in ASCII unless Options.Carries permits more. It is sent when something has gone wrong, and a
// notification that cannot be delivered is lost.
//
// What a remote server said is untrusted text in a message of ours. It is folded, and it cannot end a line, a field or
// a part: the boundary is random, and no part contains it.
//
// A refusal without an enhanced status code is reported as 5.0.0 or 4.0.0, and not as what the reply code often means.
// Senders remove addresses from their lists because of these codes (RFC 3461 section 6.3).
//
// DELIVERBY asks for reports of relaying whether or not NOTIFY does (RFC 2852 section 4.1). These are left to the
// caller, who can give Compose a [Report] of its own.
package report
