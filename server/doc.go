// Package server receives mail: from other servers, from users who submit it, or for mailboxes by LMTP.
//
// Receive mail with one function:
//
//	backend := server.MessageFunc(func(ctx context.Context, m *server.Message) error {
//		return store(m.From, m.To, m.Body)
//	})
//	srv, err := server.New(backend, &server.Options{Hostname: "mail.example.org"})
//	if err != nil {
//		return err
//	}
//	return srv.ListenAndServe(":25")
//
// Here m.From is a proto.Address, m.To a list of proto.Recipient, and m.Body an io.Reader. The server passes nothing on
// by itself: what becomes of a message is the affair of your function or session.
//
// # Sessions
//
// A MessageFunc accepts every sender and recipient. To decide about them, implement [Session] and a [Backend] that
// makes one for each connection:
//
//	func (s *session) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
//		if to.Domain.Key() != "example.org" {
//			return proto.Refuse(550, proto.Status{5, 7, 1}, "Not here")
//		}
//		s.to = append(s.to, to)
//		return nil
//	}
//
// Compare domains by Domain.Key, and addresses by Address.Key: the domain of joe@EXAMPLE.ORG is example.org.
//
// To refuse with a code, return the *proto.Error that proto.Refuse makes. The client gets it as the reply. Any other
// error is logged, and the client gets 451, which asks it to try again later; it never sees the error's text.
//
// When Data has read the message to io.EOF and returns nil, the client gets 250 and forgets the message. So the message
// has to be on disk by then. To choose the text of a 250, call Accept of the [Conn] in the method that the reply is
// for, and return nil. [Conn.Reply] chooses another code, such as 251. NewSession is given the Conn; a MessageFunc
// finds it in m.Conn:
//
//	func (s *session) Data(ctx context.Context, r io.Reader) error {
//		id, err := s.queue.Add(s.from, s.to, r)
//		if err == nil {
//			s.conn.Accept("queued as " + id)
//		}
//		return err
//	}
//
// A session can have further methods, which the server and its extensions look for. [Resetter], [RecipientData] and
// [io.Closer] are in this package; Authenticate, Verify and the others are in the packages auth and ehlo. Reset is
// called once for each transaction that began: its message was accepted if Data read to io.EOF and returned nil. Close
// is called once when the session ends. Middleware wraps a session in another; with a method Unwrap() any it keeps the
// further methods of the inner session visible. A method with a wrong signature is not found, so assert what you
// implement:
//
//	var _ auth.PasswordSession = (*session)(nil)
//
// # Middleware
//
// Middleware is a function that puts a backend around another one: to limit rates, to log, to look up who a client is.
// Use puts several around yours, the outermost first:
//
//	backend = server.Use(backend, limit, lookUp)
//
// A session of middleware embeds a [Wrapper] and has only the methods that it is about. With FilterContent it sees the
// content of messages. What it finds out it tells by Conn.Record, and the sessions inside of it read that by
// Conn.Verdicts.
//
// # Submission
//
// A submission server takes mail from users. The extensions of ehlo.Submission bring its rules (RFC 6409): a client
// that has not authenticated is refused with 530.
//
//	srv, err := server.New(backend, &server.Options{
//		Hostname:   "mail.example.org",
//		TLSConfig:  &tls.Config{Certificates: certificates},
//		Extensions: ehlo.Submission(ehlo.SubmissionPolicy{}),
//	})
//	go srv.ListenAndServe(":587")     // TLS by STARTTLS
//	err = srv.ListenAndServeTLS("")   // port 465, TLS from the first octet
//
// Authentication is in package auth. The server offers AUTH if the session has one of the methods there, such as
// Authenticate of auth.PasswordSession, and the connection has TLS. After that [Conn.Identity] is the user. [Complete]
// adds the Date and Message-ID that a user's program left out.
//
// # Trace fields
//
// A server that passes messages on, or delivers them, adds a Received field on top. [Received] fills it from what is
// known of the connection, and package tracefield writes it and refuses messages that go round in circles:
//
//	func (s *session) Data(ctx context.Context, r io.Reader) error {
//		field := server.Received(s.conn)
//		r = tracefield.Prepend(tracefield.CheckLoop(r, nil), field.String())
//		if err := s.queue.Add(field.ID, s.from, s.to, r); err != nil {
//			return err
//		}
//		s.conn.Accept("queued as " + field.ID)
//		return nil
//	}
//
// The server adds no field by itself. The program that puts messages into mailboxes adds Return-Path, see
// tracefield.ReturnPath.
//
// # LMTP
//
// An LMTP server (RFC 2033) delivers to mailboxes, and tells the outcome for each recipient:
//
//	srv, err := server.New(backend, &server.Options{Protocol: proto.LMTP})
//	err = srv.ListenAndServe("unix:/run/lmtp.sock")
//
// A session that is a [RecipientData] gets DataEach called in place of Data. It reports the outcome for the i-th
// accepted recipient by a call of result: the zero Reply and nil accept, and an error refuses:
//
//	func (s *session) DataEach(ctx context.Context, r io.Reader, result func(i int, r proto.Reply, err error)) error {
//		text, err := io.ReadAll(r)
//		if err != nil {
//			return err
//		}
//		for i, to := range s.to {
//			result(i, proto.Reply{}, s.store.Put(to, text))
//		}
//		return nil
//	}
//
// What DataEach returns is the outcome for recipients without one. For a session without DataEach, Data is called, and
// what Data returns is the outcome for all recipients.
//
// # TLS
//
// With Options.TLSConfig the server offers STARTTLS, whose extension is in every list of package ehlo, and can serve
// implicit TLS with [Server.ServeTLS]. STARTTLS makes the session begin anew: the server closes the session, forgets
// all that the client has said, and has the backend make another session.
//
// New copies the TLSConfig. To renew certificates while the server runs, set its GetCertificate, which is called for
// each handshake. [ReadCertificates] has one for certificates in files, such as those of certbot: it looks for new ones
// once a minute, and keeps the old ones while the new ones are no pair:
//
//	certs, err := server.ReadCertificates(nil, server.CertificateFile{Certificate: "cert.pem", Key: "key.pem"})
//	...
//	TLSConfig: &tls.Config{GetCertificate: certs.GetCertificate},
//
// The Manager of golang.org/x/crypto/acme/autocert, which gets certificates by itself, has a GetCertificate too.
//
// The server uses TLS 1.2 and newer, and sends no session tickets, because outlook.com was seen to hang up at them.
// Options.SessionTickets lets users' programs resume their sessions; Options.AllowObsoleteTLS lets old printers in.
//
// # Listeners
//
// ListenAndServe takes a TCP address such as ":25", or "unix:" and the path of a socket. [Server.Serve] takes any
// net.Listener. One Server may serve several at a time.
//
// To listen on port 25 without being root, let systemd open the socket: put FileDescriptorName=mx into its unit, and
// listen on "systemd:mx". [SystemdListeners] returns the listeners themselves.
//
// Listeners whose clients are served in another way belong to a [Service], which has a backend and options of its own.
// This is a relay and a submission server in one program:
//
//	srv, err := server.New(relay, &server.Options{Extensions: ehlo.Relay(), TLSConfig: config})
//	users, err := srv.Service(submission, &server.Options{Extensions: ehlo.Submission(policy), TLSConfig: config})
//	go users.ListenAndServe(":587")
//	go users.ListenAndServeTLS(":465")
//	err = srv.ListenAndServe(":25")
//
// Both count against the same Limits.Conns and ConnsPerHost, and Server.Shutdown ends both.
//
// Options.BaseContext and ConnContext give values to the contexts of sessions, as those of net/http do.
//
// # Traces and logs
//
// Options.Trace has functions that are called for each connection, command, reply and message, for logs and metrics:
//
//	Trace: &server.Trace{
//		Command: func(ctx context.Context, c *server.Conn, verb, args string) { log.Print(c.RemoteAddr(), verb, args) },
//		Reply:   func(ctx context.Context, c *server.Conn, verb string, r proto.Reply) { log.Print(r.Code, r.Text) },
//	},
//
// Trace.Transaction is called once for each MAIL that was accepted, with the envelope and the outcome. Those that were
// refused, and the recipients who were, are in Trace.Reply.
//
// [Server.Stats] has counters: of connections, of messages, and of what was refused.
//
// Options.Logger gets what goes wrong: errors of sessions that are no refusals, and panics. Passwords and messages pass
// neither through the [Trace] nor through the log.
//
// # Shutdown
//
// [Server.Shutdown] closes the listeners and lets each message that is arriving finish. A client without a transaction
// gets 421 at once. A client that has said MAIL has 30 seconds to begin with the content, and gets 421 after its
// message or after that time. Shutdown returns when all connections are closed. When its context ends before that,
// Shutdown closes the connections that are left. [Server.Close] closes everything at once.
//
// # What a session can rely on
//
// One goroutine calls the methods of a session, one at a time, in the order of the protocol. Commands that are
// malformed or out of sequence never reach the session. Sessions of different connections run at the same time, and so
// may calls of NewSession.
//
// Use a [Conn] only while the server is calling you, and copy beforehand what other goroutines need. The one thing that
// other goroutines may call is the argument result of DataEach, until DataEach returns.
//
// Data need not read to the end. The server then reads the rest, drops it, and answers with what Data returned. But if
// the rest makes the message too large or malformed, the client is refused although Data returned nil. A session that
// reads to the end learns of this from the error of the reader.
//
// A message that is larger than Limits.MessageSize is refused with 552. A client that sends more than twice as much is
// disconnected besides.
//
// A message of text with a bare CR or LF is refused with 554: another server might take that for the end of the message
// ("SMTP smuggling"). For programs that know no better, such as scripts and printers, Options.NormalizeNewlines makes
// each such line ending CRLF in place of refusing it; the end of a message stays CRLF, dot, CRLF. Binary content may
// have any octets. The client declares it with BODY=BINARYMIME and sends it in chunks. To refuse binary content, leave
// ehlo.BinaryMIME out of Options.Extensions. To pass it on, set ext.Binary in Needs of a client.Message.
//
// A message in chunks (BDAT) comes through the same reader as one behind DATA. The reader asks for the next chunk
// itself, so nothing is stored, and a session that reads slowly slows the client down.
//
// A panic is logged with its stack. The client gets 421, and that connection ends; no other is affected.
//
// The context of a call ends when the client hangs up, when a timeout ends the connection, and when the server is
// closed. A hang-up is noticed only in calls that take longer than 0.1 s. In Data it is noticed once the message has
// been read to its end; before that, the reader returns io.ErrUnexpectedEOF.
//
// A client that shuts down its own direction and still reads has not hung up. It gets the replies to all that it has
// sent, and the context ends only if one call takes 10 minutes. The server cannot tell it from a client that has closed
// its socket, until the network says so.
//
// Reset is called once for each transaction that began, and Close once for each session, whatever happened.
//
// # What an operator can rely on
//
// The zero [Options] are safe. These limits hold by default. Options.Limits and Options.Timeouts change them: zero is
// the default, and a negative value switches a limit off.
//
//	Limits.MessageSize   64 MiB             a larger message is refused with 552
//	Limits.HeaderSize    1 MiB              a larger header is refused with 552
//	Limits.HeaderFields  1000               a message with more fields in the header is refused with 554 5.6.0
//	Limits.Received      100                a message with more Received fields is refused with 554 5.4.6
//	Limits.LineLength    no limit           a message with longer lines is refused with 554 5.6.0; the RFC has 1000
//	Limits.Rcpts         1000               a further recipient of a message is refused with 452; cannot be switched off
//	Limits.Mails         1000               a further MAIL of a session gets 421; stated as MAILMAX
//	Limits.Conns         1000               a further connection gets 421
//	Limits.ConnsPerHost  100                a further connection from the same network gets 421
//	Limits.Errors        20                 errors since the last accepted message: one more gets 421
//	Limits.RefusedRcpts  100                refused recipients since the last accepted message: one more gets 421
//	Limits.Junk          1000               NOOP, RSET and the like since the last accepted message: one more gets 421
//	Limits.MinRate       100 octets/second  content that comes slower over 10 minutes of waiting gets 421
//	Limits.Handshakes    250                TLS handshakes at a time: one more waits 10 seconds, then STARTTLS gets 454
//	Limits.Memory        256 MiB            of all connections: 421, 452 4.3.1 or 454; cannot be switched off
//	Limits.AuthFailures  3                  attempts to authenticate denied on a connection: one more gets 421
//	Timeouts.Age         2 hours            a connection gets 421 4.4.2 then, when no transaction is open
//	Timeouts.Command     5 minutes          for a command line
//	Timeouts.Content     5 minutes          for the next octets of a message
//	Timeouts.Write       5 minutes          for the client to accept replies
//	Timeouts.Handshake   1 minute           for a TLS handshake
//
// An idle connection takes about 8 KB of memory, and 18 KB with TLS. The server counts more for it, 16 and 56 KiB, so
// that the bound holds for connections at work; see Limits.Memory. It does not see what sessions and the network stack
// hold. [Server.Stats] tells how much is counted now.
//
// What a network may do in a time is limited too. A network is one IPv4 address, or one /64 of IPv6 addresses;
// Limits.IPv4Prefix and IPv6Prefix make it larger. It may spend a limit at once, and then gets it back evenly.
//
//	Limits.ConnsPerMinute       200   a further connection gets 421 4.7.0
//	Limits.MessagesPerMinute    1000  a further MAIL gets 450 4.7.1
//	Limits.AuthFailuresPerHour  100   a further AUTH gets 454 4.7.0, whatever the password
//
// Clients on the same machine have no such limits, and neither have those in Options.Exempt. List there the proxies in
// front of the server that do not name their clients. A client that a proxy names, by XCLIENT or the PROXY protocol, is
// counted by its own network. The server counts up to 65,536 networks each by itself, which takes 10 MB; what more
// there are at a time share the tenfold of a limit.
//
// A server that is nearly full is under stress: more than 90 % of Limits.Conns, Handshakes or Memory are in use. Of
// connections and handshakes, a limit below 10 does not count. Then timeouts and limits are stricter, so that clients
// which only wait do not keep the others out. Waits that have lasted too long already end at once. Stress is over when
// the load has been lower for 10 seconds. The log tells when it begins and ends, [Server.Stats] how often, and
// [Server.Load] how full the server is. Options.Stress can choose otherwise.
//
//	Command       10 seconds  for a command line, and for Options.GreetingDelay
//	Content       10 seconds  for the next octets of a message
//	MinRateGrace  10 seconds  of waiting for content, before Limits.MinRate is enforced
//	Write         10 seconds  for the client to accept replies
//	Handshake     10 seconds  for a TLS handshake
//	Errors        1           errors since the last accepted message: one more gets 421
//	Junk          10          NOOP, RSET, EHLO and the like since then: one more gets 421
//
// Clients that have no limits of rates feel no stress either.
//
// Clients that send before they may are noted in the log and as a [Verdict]; Options.EarlyTalkers can make them wait,
// or refuse them. Options.GreetingDelay lets the server wait with the greeting, so that they show.
//
// An error of Accept is logged and does not stop the server. A slow TLS handshake delays no other connection. The
// replies to a pipelined group leave in one write.
//
// # Putting it on the internet
//
// A server that strangers can reach needs these. The defaults do not fit:
//
//   - Options.Hostname is a name that the DNS has for the server's address, and that leads back to it. It is the name
//     in the MX record.
//   - Options.TLSConfig has a certificate for that name; see [ReadCertificates]. Without it, mail comes in plaintext.
//   - On port 25, Options.Extensions is ehlo.Relay, which has no AUTH: users submit on ports 587 and 465, by a
//     [Service] with ehlo.Submission. Passwords are then not to be guessed where everybody connects.
//   - The backend refuses recipients that are not yours, at RCPT. A server that takes them is an open relay, and finds
//     itself on block lists within a day. policy.Relay does this, and policy.Recipients knows which of yours exist.
//     Refuse those that do not exist: a bounce goes to whoever was forged.
//   - Options.Exempt has the proxies and monitors that connect on behalf of many.
//   - A backend that stores lines, as a Maildir does, cannot hold binary content: leave ehlo.BinaryMIME out of
//     Options.Extensions.
//   - Mail for <Postmaster>, without a domain, is taken by policy.Recipients: give it to somebody. People read the mail
//     for postmaster and abuse at each domain.
//   - The process may open as many files as Limits.Conns has connections, and what the sessions need (ulimit -n, or
//     LimitNOFILE of systemd).
//
// Package policy has checks to put in front of the backend. Those that count refusals come first, and then what asks
// the DNS behind what does not. HELO and IPRev note what they find, and refuse when told to. DNSList with NoteOnly does
// the same. Have a caching resolver on the same machine: some block lists do not answer those of large providers.
//
//	resolver, err := dns.New(nil)
//	recipients, err := policy.ReadRecipients("/etc/mx/recipients", nil)
//	kept, err := policy.OpenGreylistFile("/var/lib/mx/greylist", nil)
//	checks, err := policy.Chain(
//		policy.Rate{Messages: 60, Recipients: 600},
//		policy.Harvest{},
//		policy.Relay{Domains: []string{"example.org"}},
//		policy.Recipients{Lookup: recipients.Lookup},
//		policy.HELO{Resolver: resolver},
//		policy.DNSList{Resolver: resolver, Lists: lists}, // call its Check when the program starts
//		policy.Greylist{Store: kept},
//	)
//	srv, err := server.New(server.Use(backend, checks), &server.Options{
//		Hostname: "mx.example.org", Extensions: ehlo.Relay(), TLSConfig: config,
//	})
//	…
//	err = srv.Shutdown(ctx) // on SIGTERM, and then kept.Close()
//
// The program examples/mx is a whole server of this kind. Before it goes live, run servertest.TestBackend over the
// backend, and send to it from another network: to a recipient of yours, to one that does not exist, and to another
// domain.
//
// Watch these counters of [Server.Stats], as rates. Package expvar publishes them, see there:
//
//	Open, ConnsRefused              Open near Limits.Conns: raise it, or find out who holds the connections
//	  (which has ConnsOverRate too)
//	ConnsOverRate, MessagesOverRate one sender: is it a large one? Then raise the limit, or put it into Exempt
//	AuthOverRate                    somebody guesses passwords; Trace.Authenticated tells at whose
//	HandshakesRefused               Limits.Handshakes are stalled, or too few
//	HandshakesFailed                many at once: an expired certificate, or one without its chain
//	Memory, MemoryRefused           raise Limits.Memory if there is more; sessions hold some beside it
//	MessagesRefused, RcptsRefused   a sudden rise is an attack, or a mistake in the recipients; greylisting adds some
//	Panics                          each is a mistake in a session, and has its stack in the log
//
// In the log, errors are yours: a session or an extension has failed, and a client was put off. What clients do wrong
// is at level Info, with the connection's id as "conn" and the client as "remote". A [Verdict] with the result
// "temperror" means that a look-up does not work. No mail is lost by that, and the check is without effect.
//
// The server does not check SPF, DKIM or DMARC, looks for no viruses, and has no queue: a message is in a mailbox, or
// on the disk of the backend, before it is accepted.
//
// # Which commands there are
//
// Built in are EHLO, HELO, MAIL, RCPT, DATA, RSET, NOOP and QUIT, and LHLO in LMTP. All others, such as STARTTLS, AUTH
// and VRFY, come from the extensions in Options.Extensions. The default, ehlo.Default, suits a server that both relays
// and accepts submissions. For a server that does one of these, use ehlo.Relay or ehlo.Submission. This package knows
// no extension by name; to write one, see package ext.
//
// # Decisions
//
// The counters of errors start again after each accepted message, as in Postfix: a client with many good messages may
// have some bad recipients. RCPT and DATA behind a refused MAIL in the same pipelined group do not count as errors: the
// client could not know of the refusal.
//
// If the backend cannot create a session, the client gets 421, not 554: it is welcome to come back.
//
// Between the chunks of a message only NOOP, RSET, QUIT and EHLO are carried out; other commands get 503, since they
// would call the session in the middle of its Data. After RSET, QUIT and EHLO the reader of Data returns [ErrReset].
//
// An HTTP request ends the connection at once, and so do TLS and SSH where a command was expected: the client did not
// mean to speak SMTP, or was tricked into it (ALPACA). It gets one reply, and is logged once.
//
// The text of the greeting cannot be changed, except for the name of the server.
//
// # Words
//
// A session is what happens on a connection from the greeting to QUIT, and the [Session] that the backend made for it.
// It begins anew after STARTTLS. A transaction is one message in it: MAIL, one RCPT for each recipient, and the
// content. The reverse-path is the address in MAIL, to which bounces go; the null reverse-path <> asks for none, and is
// the zero Address. A pipelined group is a series of commands that a client sends without waiting for the reply to
// each. A chunk is a piece of content with its length in front (BDAT, RFC 3030), where DATA ends with a dot. The
// outcome for a recipient is what happened to the message for it. An exchange is a command that takes several lines,
// such as AUTH. A 2yz reply is one with a code from 200 to 299; 4yz is a temporary refusal, and 5yz a permanent one.
// Plaintext means without TLS.
package server
