// Package policy has checks for a server that receives mail from strangers: who may relay, which recipients there are,
// how much a client may send.
//
// A server for the mail of example.org:
//
//	mw, err := policy.Chain(
//		policy.Harvest{},
//		policy.HELO{},
//		policy.Rate{Messages: 60},
//		policy.Relay{Domains: []string{"example.org"}},
//		policy.Recipients{Lookup: mailboxes.Exists},
//	)
//	if err != nil {
//		return err // it says which option is wrong
//	}
//	srv, err := server.New(server.Use(backend, mw), nil)
//
// Each check is a [Part]: a struct whose fields are its options. The zero value of a field is the default that its
// comment names. The parts of a [Chain] are asked in their order, about each command; the backend is asked last. What
// one part refuses, the others do not get to see.
//
// # Order
//
// Put first what costs least: what needs no look-up, such as Relay, before what asks the DNS, and that before what
// keeps state. [Harvest] stands in front of the parts whose refusals it counts, and so does a [Rate] that is to count
// them.
//
// # What a part tells
//
// A part records what it finds by [server.Conn.Record]. Sessions and parts further inside read that by
// [server.Conn.Verdicts], and the server's Trace.Verdict gets each. The parts share nothing else.
//
// # When a look-up fails
//
// A part that cannot find something out knows nothing: it never takes a failure for a "no". It records a verdict with
// the result "temperror", and lets the mail pass. So a broken part refuses no mail. A panic in a part, or in a function
// that a part was given, is such a failure too: it becomes a temperror with the stack in its Err, and the connection
// goes on.
//
// [Relay] and [Recipients] do not let mail pass that they know nothing about, since they say what the server takes at
// all. They answer 451 for that recipient, and the client tries again later. Other recipients are not affected.
//
// # When a refusal is sent
//
// What a part finds when a client connects or says EHLO is held back until RCPT, where the refusal is the reply. Until
// then the client may authenticate, which changes the answer, and the log of its user names the recipient. Mail for
// postmaster is let through in spite of it (RFC 5321 section 4.5.1): somebody who was refused by mistake can say so.
//
// # Whom a part leaves alone
//
// Most parts have a field Skip, a function that leaves clients out. Its default is what [Trusted] returns without
// networks: clients that have authenticated, and those on the same machine.
//
// Middleware of your own goes into the same list of [server.Use]; package server says how to write it.
package policy
