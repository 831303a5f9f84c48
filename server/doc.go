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
// The server passes nothing on by itself: what becomes of a message is the affair of your function or session.
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
// To choose the text of the 250, call [Conn.Accept] and return nil. [Conn.Reply] chooses another code, such as 251:
//
//	s.conn.Accept("queued as 4XyZ17")
//	return nil
//
// A session can have further methods, which the server and its extensions look for. [Resetter], [RecipientData] and
// io.Closer are in this package; Authenticate, Verify and the others are in the packages auth and ehlo. Embed a session
// in another and give that one a method Unwrap() any, and they are found all the same. Since a method with a wrong
// signature is not found, assert what you implement:
//
//	var _ auth.PasswordSession = (*session)(nil)
//
// # Submission
//
// A submission server takes mail from users. The extensions of ehlo.Submission bring its rules (RFC 6409): nobody sends
// before authentication, and nobody from another user's address if the session says whose it is.
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
// # LMTP
//
// An LMTP server (RFC 2033) delivers to mailboxes, and tells the outcome for each recipient:
//
//	srv, err := server.New(backend, &server.Options{Protocol: proto.LMTP})
//	err = srv.ListenAndServe("unix:/run/lmtp.sock")
//
// The session reports the outcomes with the method DataEach of [RecipientData]. Data is called in LMTP only if the
// session has no DataEach; its error is then the outcome for all recipients.
//
// # TLS
//
// With Options.TLSConfig the server offers STARTTLS, and can serve implicit TLS with [Server.ServeTLS]. STARTTLS makes
// the session begin anew: the server closes the session, forgets all that the client has said, and has the backend make
// another session.
//
// # Shutdown
//
// [Server.Shutdown] closes the listeners and lets each transaction in hand finish. A client gets 421 once it has no
// transaction open, or after 30 seconds without content. Shutdown returns when all connections are closed, or when its
// context ends; then it closes what is left. [Server.Close] closes everything at once.
//
// # What a session can rely on
//
// One goroutine calls the methods of a session, one at a time, in the order of the protocol. Commands that are
// malformed or out of sequence never reach it. A backend is called concurrently for several connections.
//
// Use a [Conn] only from within a call by the server. Copy beforehand what other goroutines need. Only the function
// result that DataEach is given may be called from other goroutines, until DataEach returns.
//
// The server reads and drops what Data leaves unread, up to twice the size of the largest message. It refuses a message
// with a bare CR or LF even if Data returned nil: a server behind this one might take it for the end of the message
// ("SMTP smuggling").
//
// A message in chunks (BDAT) comes through the same reader as one behind DATA. The reader asks for the next chunk
// itself, so nothing is stored, and a session that reads slowly slows the client down.
//
// A panic is logged with its stack. The client gets 421, and that connection ends; no other is affected.
//
// The context of a call ends when the client hangs up, when a timeout ends the connection, and when the server is
// closed. If a method takes longer than 0.1 s and the client hangs up, its context ends. While a message arrives, the
// error of its reader tells.
//
// Reset is called once for each transaction that began, and Close once for each session, whatever happened.
//
// # What an operator can rely on
//
// The zero [Options] are safe. These limits hold by default; each can be changed in [Limits] and [Timeouts]:
//
//	64 MiB                 the largest message
//	1000                   recipients in a transaction
//	1000, 100              connections at a time: in all, from one host
//	20, 100, 1000          since the last message accepted: errors, refused recipients, commands without mail
//	5 minutes              for a command line, for the next octets of content, for accepting replies
//	1 minute               for a TLS handshake
//	100 octets per second  content, on average, after 10 minutes
//
// An error of Accept is logged and does not stop the server. A slow TLS handshake delays no other connection. The
// replies to a pipelined group leave in one write. Passwords and messages pass neither through [Trace] nor through the
// log.
//
// # Which commands there are
//
// Built in are EHLO, HELO, MAIL, RCPT, DATA, RSET, NOOP and QUIT, and LHLO in LMTP. All else, STARTTLS, AUTH and VRFY
// included, comes from extensions. The default, ehlo.Default, suits a server that both relays and accepts submissions.
// For a server that does one of these, use ehlo.Relay or ehlo.Submission. This package knows no extension by name; to
// write one, see package ext.
//
// # Decisions
//
// The counters of errors start again after each accepted message, as in Postfix: a client with many good messages may
// have some bad recipients. A client that pipelines MAIL, RCPT and DATA is not charged for RCPT and DATA if MAIL was
// refused, since it could not know.
//
// If the backend cannot create a session, the client gets 421, not 554: it is welcome to come back.
//
// Between the chunks of a message only NOOP, RSET, QUIT and a new greeting are carried out. Other commands would call
// the session in the middle of its Data.
//
// An HTTP request ends the connection at once, and so does a TLS handshake where a command was expected: the client did
// not mean to speak SMTP, or was tricked into it (ALPACA).
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
