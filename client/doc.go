// Package client sends mail: to a submission server, to a relay, to a mail exchanger, or to a mailbox by LMTP.
//
// Send one message:
//
//	body := strings.NewReader("From: alice@example.org\r\nTo: bob@example.net\r\nDate: …\r\nSubject: Hello\r\n" +
//		"\r\nHow are you?\r\n")
//	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, body)
//	if err != nil {
//		return err
//	}
//	opt := &client.Options{Credentials: auth.Password("alice", "secret")}
//	return client.Send(ctx, "mail.example.org:587", opt, m)
//
// Send several messages over one connection:
//
//	c, err := client.Dial(ctx, "mail.example.org:587", opt)
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	for _, m := range messages {
//		result, err := c.Send(ctx, m)
//		…
//	}
//
// [Client.SendAll] sends many messages without waiting for the reply to each. [Client.Do] sends single commands, such
// as VRFY. To let the library find the port of a submission server, use [DialSubmission].
//
// # TLS
//
// TLS is required by default. Options.TLS says otherwise:
//
//	ext.TLSRequired       TLS is started with STARTTLS, or Dial fails: the default, for the ports 587 and 25
//	ext.TLSImplicit       TLS from the first octet: for port 465, which is called smtps or submissions
//	ext.TLSOpportunistic  TLS if the server offers it, whatever its certificate: for delivery to mail exchangers
//	ext.TLSInsecureNone   no TLS
//
// With the first two the certificate is verified. If it comes from a private authority, put that into RootCAs:
//
//	opt := &client.Options{TLSConfig: &tls.Config{RootCAs: pool}}
//
// On a unix socket the default is no TLS.
//
// # Credentials
//
// Package auth makes credentials: auth.Password for a name and a password, auth.Token for OAuth 2.0, auth.External for
// a client certificate. If Options.Credentials is set, Dial authenticates or fails. Credentials are sent only over TLS,
// to a server whose certificate was verified, unless Options.AllowInsecureAuth is set.
//
// # The content
//
// The content is sent as it is, except that each CR, LF or CRLF is sent as CRLF. The library adds no header fields, and
// it removes none: a Bcc field goes to everybody, so leave it out. Who gets the message is decided by Message.To alone,
// and not by the fields To, Cc and Bcc. Write a header with From, To, Date, Subject and Message-ID: many servers refuse
// or filter messages without.
//
// Give Message.Body an io.Seeker, such as a strings.Reader, a bytes.Reader or an *os.File, if the message may be sent
// again. Another reader is used up by the first attempt, and a second one fails with a [MessageError].
//
// # Errors and retries
//
// [Client.Send] returns a [Result] with the outcome for each recipient, whatever happened. A recipient whose Err is nil
// has got the message, that is: the server has taken responsibility for it. The error is nil if that is so for all
// recipients, and a [SendError] otherwise. The recipients that the server accepts get the message even if it refuses
// others, so do not simply send the message again. Send it to those for whom it makes sense:
//
//	var failed *client.SendError
//	if errors.As(err, &failed) {
//		again := *m
//		again.To = nil
//		for i, r := range failed.Result.Recipients {
//			if client.Temporary(r.Err) && client.SafeToRetry(r.Err) {
//				again.To = append(again.To, m.To[i])
//			}
//		}
//	}
//
// [Temporary] tells whether another attempt, minutes later, may succeed. [SafeToRetry] tells whether it is certain that
// the recipient has not got the message. It is not if the connection is lost between the end of the content and the
// reply to it: then another attempt may deliver the message twice, and none may lose it. Both also take the error of a
// whole call.
//
// These are the types of errors:
//
//	*proto.Error            the server refused; Verb names the command, Code and Status say why
//	*SendError              a message did not get to all of its recipients; it wraps one of the others
//	*LostError              the connection could not be made, was lost, or took too long
//	*ProtocolError          the server does not follow the protocol
//	*LimitError             the server takes no more than it was sent
//	*MessageError           the message cannot be sent: an address, a parameter or the Body is wrong
//	*ext.UnsupportedError   the message needs an extension that the server does not offer
//	*ehlo.TooLargeError     the message is larger than the server takes
//	*ext.TLSError           TLS could not be had as the options demand
//	*ext.AuthError          the client could not authenticate
//	ErrClosed               the client was closed: before the call, for a reason that the error tells, or by Close
//	ErrBusy                 another call was running
//
// # Goroutines, contexts and timeouts
//
// A [Client] does one thing at a time. A call while another one runs returns [ErrBusy]. To send from several
// goroutines, use a client in each. Close may be called at any time.
//
// Every wait is bounded by a timeout and by the context of the call. The timeouts are those of RFC 5321: up to 5
// minutes for most replies, 10 minutes for the reply to content; see [Timeouts]. That suits a mail queue. If a user
// waits, give the context a deadline. After a timeout, or once a context has ended while the client waited, the
// connection is closed.
//
// # LMTP and unix sockets
//
// LMTP (RFC 2033) delivers to a mailbox server such as Dovecot, which answers the content once for each recipient:
//
//	err := client.Send(ctx, "unix:/run/dovecot/lmtp", &client.Options{Protocol: proto.LMTP}, m)
//
// # The dialogue
//
// To print the dialogue or to count what happens, set Options.Trace; the example of [Trace] prints it. Neither
// passwords nor content pass through it.
//
// # What it promises
//
// Until TLS has been started where it is required, the client sends nothing but what leads to it.
//
// Commands are built from typed values: nobody can slip one in through an address or a parameter. What is wrong with a
// message, or what the server cannot take, is found before a byte of it is sent, as far as that can be known.
//
// A CR or LF is sent only as part of CRLF, unless the content is binary.
//
// If the server takes pipelined commands, MAIL, every RCPT and DATA leave in one write. If it takes chunks too, the
// first 64 KiB of the content leave with them, in place of DATA. Reading does not wait for writing, so the two sides
// cannot block each other.
//
// A connection is never used again after a timeout or a cancelled wait: a late reply would be taken for the answer to
// the next command. Nor is it after a malformed reply or a 421. Later calls return an error that wraps [ErrClosed].
//
// # Decisions
//
// The client keeps to the limits that a server states (RFC 9422). It divides recipients over transactions and
// connections rather than have some of them refused, since a server may count refusals against its client. To make
// another connection it says QUIT, dials, and asks for Credentials again.
//
// HELO follows only if EHLO was answered with 500 or 502, command not recognised (RFC 5321 section 3.2). 501, 504 and
// 550 are about the argument, which HELO has too. There is no HELO where TLS or authentication is still to come.
//
// If the server takes chunks (RFC 3030), small content goes along with the envelope. When all recipients are refused it
// has been sent in vain, which costs less than a round trip for every message. Nobody knows what a server makes of a
// transaction whose chunk it refused (RFC 3030 section 2), so RSET stands between such messages: refusals in one cannot
// harm the next.
//
// One goroutine reads for as long as there is a connection. Each write has a goroutine of its own. A write by the
// calling goroutine would be cheaper by a microsecond. But a server that refuses the content and stops reading would
// then hold it until the timeout, its refusal unread.
//
// # Words
//
// A session is what happens on a connection from EHLO to QUIT. A transaction is one message in it: MAIL, one RCPT for
// each recipient, and the content. The reverse-path is the address in MAIL, to which bounces go; the null reverse-path
// <> asks for none. Pipelined commands are sent as a group, without waiting for the reply to each. A chunk is a piece
// of content with its length in front (BDAT, RFC 3030), where DATA ends with a dot. The outcome for a recipient is what
// happened to the message for it (proto.Outcome). A 2yz reply is one with a code from 200 to 299; 4yz is a temporary
// refusal, and 5yz a permanent one.
package client
