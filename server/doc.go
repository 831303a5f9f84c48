// Package server receives mail: an SMTP or LMTP server to be built into a program.
//
// A program implements [Backend], whose sessions are told the sender, the recipients and the message, and returns
// errors to refuse what it does not want. For a start there is [Handler]:
//
//	backend := server.Handler(func(ctx context.Context, m *server.Message) error {
//		return store(m.From, m.To, m.Body)
//	})
//	srv, err := server.New(backend, &server.Options{Hostname: "mail.example.org"})
//	…
//	err = srv.ListenAndServe(":25")
//
// Everything but the commands of RFC 5321 section 4.1.1 is the business of extensions (package ext), none of which
// this package knows by name.
//
// That server relays and takes submissions. For a server of one kind there are lists of extensions, ehlo.Relay, ehlo.Submission
// and ehlo.LMTP. With the second one the rules of submission (RFC 6409) hold: nobody sends mail before authentication, or
// from another's address if the session says whose it is. Serve it with ListenAndServeTLS on port 465 and with
// ListenAndServe on port 587, and complete headers with [Complete].
//
// # What a session can rely on
//
//   - Its methods are called by one goroutine, in the order of the protocol: what is out of sequence or malformed
//     never reaches it.
//   - The text of an error is not sent to the peer, unless it is that of a *proto.Error.
//   - What its Data leaves unread is read and dropped, up to twice the size of the largest message allowed. A message
//     with a bare CR or LF in it is refused even if Data returned nil: a server behind this one might take it for the
//     end of the message ("SMTP smuggling").
//   - A message in chunks comes through the same reader. There is no goroutine behind it, and nothing is stored: the
//     reader itself asks for the next chunk.
//   - A panic is logged, answered 421, and ends that connection only.
//   - The context ends when the client hangs up, when time is up and when the server is closed. That a client has
//     hung up is noticed while a session is at work for more than a tenth of a second, and before the end of a
//     message by its reader.
//   - Reset is called for each transaction that was begun, and Close for each session, whatever became of it.
//   - The replies to a group of commands leave in one write, once there is nothing more to read.
//
// # What an operator can rely on
//
// The zero [Options] are safe: everything a client can use up has a limit. [Server.Shutdown] lets transactions in
// hand finish and says 421 to everybody. An error of Accept does not stop the server, and a TLS handshake delays
// nobody else. Passwords never pass through [Trace] or the log, nor do messages.
//
// # Decisions
//
// Budgets for errors begin anew when a message is accepted, as in Postfix: a client that relays good mail may have
// its share of recipients who have moved away. RCPT and DATA that are out of sequence because what they stood behind
// in a group was refused are no errors of the client's.
//
// A backend that fails to make a session has the client told 421, not 554: nothing says that it is not wanted.
//
// Between the chunks of a message, while the session is at work on it, only NOOP, RSET, QUIT and a new greeting are
// carried out. Other commands would call the session in the middle of its Data.
//
// A request of HTTP ends the connection at once, and so does a TLS handshake where a command was expected: whoever is
// behind it did not mean to speak to us, or has been led here (ALPACA).
package server
