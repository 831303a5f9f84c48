// Package deliver is the last hop: it delivers messages into Maildirs and mailbox files, and to programs. A table of
// routes says which domain goes where.
//
//	local := deliver.Maildir{Path: deliver.Under("/var/mail/vhosts")}
//	routes, err := deliver.NewRoutes(map[string]client.Sender{
//		"example.org":        local,
//		"lists.example.org":  deliver.Pipe{Args: []string{"/usr/local/bin/list", "--", deliver.RecipientArg}},
//		"*":                  smarthost, // a pool, client.DialSender, or MX
//	}, nil)
//	if err != nil {
//		return err
//	}
//	result, err := routes.Send(ctx, m)
//
// Everything here is a [client.Sender], as are a client, a pool, and MX. Each gives every recipient an outcome of its
// own. Its Err is nil if the message is in the mailbox, on the disk. Otherwise it has a method Status, by which
// [client.Temporary] says whether another attempt makes sense. So a [client.Retry] or a queue works over all of them.
//
// Mistakes in the settings are errors of NewRoutes: it calls the method Check of each Sender that has one. Without a
// table, call Check when the program starts.
//
// # Which one to use
//
// [Maildir] is the first choice for mailboxes: it needs no locks, and a loss of power or a crash never leaves half a
// message. [Mbox] is for archives, tests, and systems that have mailbox files. [Pipe] is for a program, such as a
// filter or a ticket system.
//
// A mail store with an LMTP server, such as Dovecot, wants to get its mail by LMTP. It runs filters, keeps quotas, and
// brings its index up to date at once. [client.DialSender] and package pool do that with Protocol set to proto.LMTP:
// no part of this package is needed.
//
// # What is done to a message
//
// The line endings become those of the destination. Maildir and Mbox put the fields Return-Path and Delivered-To on
// top, and leave out a Return-Path that is there: after final delivery there is exactly one (RFC 5321 section 4.4).
// Nothing else is changed.
//
// A mailbox of lines cannot hold binary content (RFC 3030): its bare CR and LF become line endings. A server that
// delivers here leaves ehlo.BinaryMIME out of its extensions.
//
// # From a server
//
// A server delivers each message while its client waits, and adds the Received field:
//
//	backend := server.MessageFunc(func(ctx context.Context, m *server.Message) error {
//		body := tracefield.Prepend(tracefield.CheckLoop(m.Body, nil), server.Received(m.Conn).String())
//		result, err := routes.Send(ctx, &client.Message{From: m.From, To: m.To, Body: body})
//		if err == nil || result.Sent() == 0 {
//			return err
//		}
//		…
//	})
//
// An SMTP client gets one reply for all recipients. If some of them have the message and others do not, refuse with
// 451: the client tries again, and some have it twice. Over LMTP each recipient has a reply, see server.RecipientData.
// The program examples/mx does all of this.
//
// # Who may have a mailbox
//
// Path of Maildir and Mbox decides. A server has to know it earlier, at RCPT: what is refused only after the message
// was accepted has to be returned to its sender, who may be forged. See [Maildir].MustExist too.
//
// Files belong to the user that this process runs as. Run a process for each owner, or a virtual store with one owner.
package deliver
