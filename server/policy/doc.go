// Package policy has checks for a server that receives mail from strangers: who may relay, which recipients there are,
// how much a client may send, and whether it is known for spam.
//
// What takes mail for example.org on port 25:
//
//	resolver, err := dns.New(nil)
//	…
//	recipients, err := policy.ReadRecipients("/etc/mail/recipients", nil) // a line: joe@example.org
//	…
//	kept, err := policy.OpenGreylistFile("/var/lib/mail/greylist", nil)
//	…
//	checks, err := policy.Chain(
//		policy.Rate{Messages: 60, Recipients: 600},
//		policy.Harvest{},
//		policy.Relay{Domains: []string{"example.org"}},
//		policy.Recipients{Lookup: recipients.Lookup},
//		policy.DNSList{Resolver: resolver, Lists: []policy.List{{Zone: "zen.spamhaus.org"}}},
//		policy.Greylist{Store: kept},
//	)
//	if err != nil {
//		return err // it says which option is wrong
//	}
//	srv, err := server.New(server.Use(backend, checks), nil)
//
// Each check is a [Part]: a struct whose fields are its options. The zero value of a field is the default that its
// comment names. The parts of a [Chain] are asked in their order, about each command; the backend is asked last. What
// one part refuses, the others do not get to see.
//
// # The parts
//
// Each has a method, which its verdicts have, and a time at which it decides:
//
//	part        method        at             what it asks                         what it does by default
//	Relay       relay         RCPT           the domain, Domains and Ours         takes mail for no domain
//	Recipients  recipient     RCPT           Lookup                               refuses whom Lookup does not know
//	Rate        rate          MAIL, RCPT     what came before                     counts each network, for a minute
//	HELO        helo          MAIL           the name in EHLO, by a Resolver too  records, and refuses nothing
//	DNSList     dnsbl, dnswl  MAIL           the lists: A, TXT                    refuses whom one list has
//	IPRev       iprev         MAIL           PTR, and then A or AAAA              records, and refuses nothing
//	Greylist    greylist      RCPT, content  the Store                            puts off the first attempt for a minute
//	Harvest     harvest       RCPT           how many recipients were refused     waits from the fourth on, then hangs up
//	Size        size          MAIL, content  Max, and the size                    refuses what is larger than you say
//
// This is what they reply, and whom they leave alone if Skip is nil:
//
//	part        refuses with                                      where a look-up fails  leaves alone
//	Relay       550 5.7.1                                         451 4.3.0              who has authenticated
//	Recipients  550 5.1.1                                         451 4.3.0              nobody
//	Rate        450 4.7.1                                         –                      Trusted by network, or nobody
//	HELO        550 5.7.1, or 450 4.7.1 for HELOUnresolvable      passes                 Trusted
//	DNSList     554 5.7.1                                         passes                 Trusted, and private addresses
//	IPRev       550 5.7.25                                        passes                 Trusted
//	Greylist    451 4.7.1                                         passes                 Trusted and Vouched
//	Harvest     421 4.7.0 in place of one refusal too many        –                      Trusted
//	Size        552 5.3.4                                         has the other limits   nobody
//
// [Trusted] without networks reports clients that have authenticated, and those on the same machine. [Vouched] reports
// those that an allow list has.
//
// # Order
//
// Put first what costs least: what needs no look-up, such as Relay, before what asks the DNS, and that before what
// keeps state. [Harvest] stands in front of the parts whose refusals it counts, and so does a [Rate] that is to count
// them. [DNSList] stands in front of [Greylist], which asks whether it vouched for the client.
//
// # To try it
//
// Clients on the same machine are left alone by most parts. Set Skip to [Nobody], or give clients another address. In a
// test, a listener of package servertest does that, also in a bubble of testing/synctest, where the wait of Greylist
// takes no time:
//
//	l := servertest.Listen(nil)
//	go srv.Serve(l)
//	conn, err := l.DialFrom(ctx, &net.TCPAddr{IP: net.IPv4(9, 9, 9, 9), Port: 1})
//
// Over the network, package proxyproto takes the address that swaks sends with --proxy-version 1. DNSList never asks
// about addresses that are not public.
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
// So is a function that takes too long, of which the comment of its field says how long it has. It should return when
// its context ends. If it does not, it is left to itself, and the session goes on. While a part has 1000 of these, it
// calls no other one, and that is a failure. Skip and Size.Max have the Conn, and so the session waits for them: have
// Skip look nothing up.
//
// [Relay] and [Recipients] do not let mail pass that they know nothing about, since they say what the server takes at
// all. They answer 451 for that recipient, and the client tries again later. Other recipients are not affected.
//
// # When a refusal is sent
//
// What a part finds about a client, its name in EHLO or its address, is held back until RCPT, where the refusal is the
// reply. The log of the client then names the recipient, and mail for postmaster passes (RFC 5321 section 4.5.1):
// somebody who was refused by mistake can say so. The client may authenticate, and is asked about anew with each MAIL.
//
// [Rate] counts mail for postmaster like any other, and [Relay] takes it for the domains of the server alone.
//
// Middleware of your own goes into the same list of [server.Use]; package server says how to write it.
package policy
