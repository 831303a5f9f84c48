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
// Send thousands without waiting for the reply to each; the function gets the outcome of each message in its order, and
// returns false to stop:
//
//	err = c.SendAll(ctx, slices.Values(messages), func(m *client.Message, r *client.Result, err error) bool {
//		return true
//	})
//
// Messages that come from many goroutines share the connections of a pool, package [smtpkit.example/smtp/client/pool].
//
// Send a single command:
//
//	reply, err := c.Do(ctx, "VRFY", "alice")
//
// To let the library find the port of a submission server, use [DialSubmission].
//
// # Configuration by URL
//
// [ParseURL] takes the server, the credentials and the options from a URL, for instance one in an environment variable.
// [Endpoint.Verify] tells which step fails if no mail can be sent. It is for health pages and installers:
//
//	server, err := client.ParseURL(os.Getenv("MAIL_URL")) // such as smtps://alice:secret@mail.example.org
//	if err != nil {
//		return err // it says what to write, and does not show the password
//	}
//	if err := server.Verify(ctx); err != nil {
//		log.Print(err)
//	}
//	result, err := server.Send(ctx, m)
//
// # TLS
//
// TLS is required by default. Options.TLS says otherwise:
//
//	ext.TLSRequired       TLS is started with STARTTLS, or Dial fails: the default, for the ports 587 and 25
//	ext.TLSImplicit       TLS from the first octet: for port 465, which is called smtps or submissions
//	ext.TLSOpportunistic  TLS if the server offers it, whatever its certificate: for delivery to mail exchangers
//	ext.TLSIfOffered      TLS if the server offers it, and then with a certificate that verifies
//	ext.TLSInsecureNone   no TLS
//
// With the first two the certificate is verified. If TLS cannot be had, Dial fails with an [ext.TLSError], and nothing
// of the message or the credentials has been sent. With TLSIfOffered that is so if the server offers TLS. Somebody in
// between can hide the offer, and then the message travels in plaintext.
//
// TLSOpportunistic protects from listeners only: somebody in between can pretend to be the server, or that it has no
// TLS (RFC 7435). If the handshake fails there, the error is temporary and has Optional set: a program that delivers to
// mail exchangers may then make one attempt with TLSInsecureNone.
//
//	opt := &client.Options{TLS: ext.TLSImplicit}                           // for mail.example.org:465
//	opt := &client.Options{TLSConfig: &tls.Config{RootCAs: pool}}          // a private certificate authority
//
// On a unix socket TLSRequired means no TLS, since nobody is in between.
//
// # Credentials
//
// Package [smtpkit.example/smtp/ext/auth] makes credentials: auth.Password for a name and a password, auth.Token for
// OAuth 2.0, auth.External for a client certificate. If Options.Credentials is set, Dial authenticates or fails.
//
// Credentials are sent only over TLS, to a server whose certificate was verified. They are never sent in plaintext,
// which a unix socket is too, unless Options.AllowPlaintextAuth is set, and not with TLSOpportunistic, unless
// Options.AllowUnverifiedAuth is set.
//
// A user who sends in the name of another one, such as a shared mailbox, has auth.PasswordAs.
//
// # When a program starts, and while it runs
//
// Options.Check finds mistakes in the options without a connection, and [Verify] tries them on the server. [Client.Err]
// tells whether a client that is kept for later can still be used: it knows of a server that has hung up meanwhile, and
// asks nothing of it.
//
// # The name in EHLO
//
// The client introduces itself by Options.Hostname. By default that is the name of the machine if it is fully
// qualified, and otherwise the address of the connection as a literal, such as [192.0.2.1].
//
// # The content
//
// The content is sent as it is, except that each CR, LF or CRLF is sent as CRLF. Content that is not lines of text has
// ext.Binary in Message.Needs; then its octets are not touched. The library adds no header fields, and it removes none:
// a Bcc field goes to everybody, so leave it out. Message.To alone decides who gets the message; the fields To, Cc and
// Bcc do not. Write a header with From, To, Date, Subject and Message-ID: many servers refuse or filter messages that
// lack them.
//
// Where there is no envelope, as in sendmail -t, [ReadMessage] takes the addresses from the header, and Bcc out of it:
//
//	m, err := client.ReadMessage(os.Stdin)
//
// Give Message.Body an io.Seeker if you want to send the message again: a strings.Reader, a bytes.Reader or an
// *os.File. Send puts it back to where it stood. What a program writes is a body too, and can be sent again: a message
// built by another package, or a template. So is what can be opened again. Neither is held in memory:
//
//	m.Body = client.WriterBody(msg)                      // msg has WriteTo, such as a *mail.Msg of go-mail
//	m.Body = client.WriterBody(client.WriterFunc(write)) // write is a func(io.Writer) error
//	m.Body = client.OpenBody(open)                       // open is a func() (io.ReadCloser, error)
//
// Any other reader is used up by the first attempt, and a second attempt fails with a [MessageError].
//
// # Errors and retries
//
// [Client.Send] returns a [Result] with the outcome for each recipient, in the order of Message.To, whatever happened.
// If the Err of an outcome is nil, the server has taken responsibility for the message to this recipient. Send returns
// nil if that is so for all recipients, and a [SendError] otherwise. The accepted recipients get the message even if
// the server refuses others. So do not send the whole message again. A [Retry] sends it again, after a wait, to those
// for whom that makes sense:
//
//	result, err := client.Retry{}.Send(ctx, client.DialSender("mail.example.org:587", opt), m)
//
// A mail queue does that by itself, with the message that is left:
//
//	var failed *client.SendError
//	if errors.As(err, &failed) {
//		if again := failed.Retry(m); again != nil {
//			… // send it later
//		}
//	}
//
// [Temporary] tells whether another attempt, minutes later, may succeed. [SafeToRetry] is true if the recipient has
// certainly not got the message. It is false if the connection was lost between the end of the content and the reply to
// it; the error is then a [LostError] with InDoubt set. Another attempt may then deliver the message twice, and without
// another attempt the message may be lost. Which risk to take is for you to decide.
//
// Temporary and SafeToRetry take the error of a whole Send too. Temporary is then true if it is for one recipient at
// least, and SafeToRetry if it is for all. Both are false for errors that do not come from this library. If the caller
// cancelled the context, Temporary is false; if the deadline of the context passed, it is true.
//
// # All or none
//
// Set Message.AllOrNone for a message that nobody is to get unless the server takes all of its recipients:
//
//	m.AllOrNone = true
//
// The content then waits for the replies to the recipients. If one is refused, nobody gets the message, and the whole
// of it can be sent again; [Temporary] says whether that has prospects. What is written for net/smtp often expects
// this. It costs a round trip for each message with more than one recipient.
//
// # Types of errors
//
//	*proto.Error            the server refused; Verb names the command, Code and Status say why
//	*SendError              a message did not get to all of its recipients; it wraps one of the others
//	*LostError              the connection could not be made, was lost, or took too long
//	*ProtocolError          the server does not follow the protocol
//	*AllOrNoneError         another recipient was refused, and the message goes to all or to none
//	*LimitError             the server takes no more recipients or messages now; this one was not offered to it
//	*MessageError           the message cannot be sent: an address, a parameter or the Body is wrong
//	*ext.UnsupportedError   the message cannot be sent to this server: it needs an extension that is not offered
//	*ehlo.TooLargeError     the message cannot be sent to this server: it is too large
//	*ext.TLSError           TLS could not be had as the options demand
//	*ext.AuthError          the client could not authenticate
//	ErrClosed               the client was closed before the call; the error tells why
//	ErrBusy                 another call was running
//
// # Goroutines, contexts and timeouts
//
// A [Client] does one thing at a time. A call while another one runs returns [ErrBusy]. To send from several
// goroutines, use a client in each, or a pool. Close may be called at any time.
//
// A timeout bounds each wait, and the context bounds the whole call. The timeouts are those of RFC 5321: up to 5
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
// # Ways out
//
// Dial tries all addresses of a host, IPv6 and IPv4 in turns, until a server greets. To send from one of several
// addresses of this machine, set Options.LocalAddr.
//
//	opt := &client.Options{LocalAddr: netip.MustParseAddr("192.0.2.9")}
//
// Options.LookupNetIP finds the addresses in another way than the resolver of package net.
//
// Options.DialContext makes the connections in another way: through a SOCKS5 proxy with golang.org/x/net/proxy, through
// an HTTP proxy with [HTTPProxy], or with a header of the PROXY protocol in front, by [ProxyHeader]. For client
// certificates, pinned keys and checks of one's own see the examples of [Options].
//
// # The dialogue
//
// Print the dialogue, or log it without addresses:
//
//	opt.Trace = client.DebugTrace(os.Stderr)
//	opt.Trace = client.LogTrace(slog.Default(), nil)
//
// Neither passwords nor content pass through a [Trace]. Write functions of your own to count what happens, and use
// [JoinTraces] to have several. The module smtpkit.example/smtp/ext/otel makes spans and metrics of OpenTelemetry.
//
// # What it promises
//
// Where TLS is required, the client sends EHLO, STARTTLS and QUIT in plaintext, and nothing else. On a unix socket TLS
// is not required.
//
// Commands are built from typed values: nobody can slip one in through an address or a parameter. The client checks
// addresses, parameters, size and needed extensions before it sends any command of the message.
//
// If the server takes pipelined commands, MAIL, every RCPT and DATA leave in one write. If the server takes chunks too,
// the first 64 KiB of the content take the place of DATA in that write, unless the connection has been silent for five
// seconds. Reading does not wait for writing, so the two sides cannot block each other.
//
// A connection is never used again after a timeout or a cancelled wait: a late reply would be taken for the answer to
// the next command. Nor is it after a malformed reply or a 421, or after another refusal that answers nothing, by which
// servers give up an idle connection. Later calls return an error that wraps [ErrClosed], and has what the server said.
//
// # Decisions
//
// The client keeps to the limits that a server states (RFC 9422), since a server may count refusals against its client.
// It sends the recipients in several transactions. If the server takes no more over this connection, a client made by
// Dial says QUIT, dials again, and calls the Credentials again.
//
// A refusal for good in place of the greeting, such as 554, sends Dial to the next address too: addresses of a host can
// be different machines, and RFC 5321 section 5.1 wants each to be tried. Once a server has greeted, there is no next
// address. Nor is there one after a certificate that is not valid, of which somebody should hear.
//
// The client sends HELO only if EHLO was answered with 500 or 502, command not recognised (RFC 5321 section 3.2). 501,
// 504 and 550 are about the argument, which HELO has too. Where TLS or authentication is required, there is no HELO,
// and Dial fails.
//
// If the server takes chunks (RFC 3030), small content goes along with the envelope. If all recipients are refused,
// that content was sent in vain. That happens rarely, and waiting for the replies would cost every message a round
// trip. Once a server has refused a chunk, the state of the transaction is unclear (RFC 3030 section 2). The client
// therefore sends RSET before the next message.
//
// One goroutine reads for as long as there is a connection, and each write has a goroutine of its own. If the calling
// goroutine wrote, it could not read the refusal of a server that refuses the content and stops reading.
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
