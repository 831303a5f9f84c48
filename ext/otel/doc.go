// Package smtpotel makes spans and metrics of OpenTelemetry from the traces of package client and package server.
//
//	opt := &client.Options{Trace: smtpotel.ClientTrace(nil)}
//	srv, err := server.New(backend, &server.Options{Trace: smtpotel.ServerTrace(nil)})
//
// Make one Trace for each end, and share it among all clients, or servers. If you have a Trace already, join the two
// with client.JoinTraces.
//
// # Spans
//
// The client has a span "SMTP send" for each message, of the kind Client. Its parent is the span in the context of
// Send, of SendAll, or of NewDelivery, so that it belongs to the request that caused it. It begins when the client
// begins to send the message, and ends when the outcome is known. Another span, "SMTP session", is for the connection;
// its parent is the span in the context of Dial. A message has a link to the span of its connection, which may serve
// many requests.
//
// The server has a span "SMTP session" for each connection, of the kind Server, and a child "SMTP receive" for each
// message: from MAIL to the reply to its content, or to what ended the transaction otherwise. Spans of the session's
// own calls are no children of these.
//
// What happens before there is a session is told by the error of Dial, or of the pool, and not by a span. A message for
// which no connection could be made has none. A session that the client gives up, for want of TLS or because of a wrong
// password, has a span without an error.
//
// The status of a span is Error if a recipient did not get the message, or if something other than QUIT ended the
// connection. On the server it is Error for replies of 4yz alone: a 5yz tells the client of a mistake.
//
// # Attributes of spans
//
//	attribute                            of        value
//	server.address                       client    the host that was dialled, or the path of a unix socket
//	server.port                          client    the port of the connection
//	network.peer.address                 both      the address of the other end
//	network.peer.port                    both      its port
//	network.protocol.name                both      "smtp" or, on the server, "lmtp"
//	tls.protocol.version                 both      such as "1.3"; absent without TLS
//	tls.cipher                           both      such as "TLS_AES_128_GCM_SHA256"; absent without TLS
//	error.type                           both      see below; absent if all went well
//	smtp.command                         both      of a message: which command was refused; on the client, if one was
//	smtp.response.status_code            both      of a message: the code of the refusal, or of the reply to the content
//	smtp.response.enhanced_status_code   both      likewise (RFC 3463)
//	smtp.recipients                      both      how many recipients the message has; on the server, RCPT commands
//	smtp.recipients.accepted             both      how many of them the message was accepted for
//	smtp.size                            both      the octets of content as they were transmitted
//	smtp.outcome                         both      of a message: see below
//
// The names that begin with smtp are this package's own: there are no semantic conventions for SMTP. There is never an
// address of a mailbox, a subject, the text of a reply, or the name of a user in an attribute.
//
// The outcome is "accepted", "deferred" (4yz, or another attempt makes sense), "rejected" (5yz) or "failed" (anything
// else). It is "unknown" if the connection was lost between the content and the reply to it. On the server it is
// "aborted" if the transaction ended without content. Of a message with different outcomes it is "partial".
//
// The error type is the code of the reply, such as "550". On the client it can be "canceled", "timeout", "connection",
// "protocol", "limit", "message", "unsupported", "tls" or "auth", for the types of errors in package client, and
// otherwise "_OTHER". On the server it can be "timeout", "canceled" (the server was shut down) or "connection".
//
// # Events of spans
//
// These are on the server, and belong to the span of the message if one has begun, and otherwise to that of the
// session:
//
//	event          attributes
//	smtp.auth      smtp.auth.mechanism, smtp.outcome: an attempt to authenticate has ended
//	smtp.verdict   smtp.verdict.method, smtp.verdict.result: a check has found something out, see server.Verdict
//
// The outcome of an attempt is "accepted", "rejected" if the credentials were not good, or "failed". The mechanism of
// one that has failed is "_OTHER", since a client may have made it up.
//
// # Metrics
//
//	metric                             unit           attributes
//	smtp.client.message.duration       s              server.address, smtp.outcome, error.type
//	smtp.client.message.size           By             server.address, smtp.outcome
//	smtp.client.recipients             {recipient}    server.address, smtp.outcome
//	smtp.client.open_connections       {connection}   server.address
//	smtp.client.connection.duration    s              server.address, error.type
//	smtp.server.message.duration       s              smtp.outcome, error.type
//	smtp.server.message.size           By             smtp.outcome
//	smtp.server.recipients             {recipient}    smtp.outcome
//	smtp.server.open_connections       {connection}
//	smtp.server.connection.duration    s              error.type
//	smtp.server.refused_connections    {connection}   smtp.response.status_code
//	smtp.server.limited_commands       {command}      smtp.response.status_code
//	smtp.server.authentications        {attempt}      smtp.auth.mechanism, smtp.outcome
//	smtp.server.verdicts               {verdict}      smtp.verdict.method, smtp.verdict.result
//
// Durations and sizes are histograms; the count of the durations of messages is the number of messages. The size has no
// value for a message of which no content was sent. A program that delivers to many hosts has many values of
// server.address: drop the attribute with a View of the SDK.
package smtpotel
