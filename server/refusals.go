package server

import "smtpkit.example/smtp/proto"

// What commands are answered with when they have been carried out.
var (
	okPlain        = proto.Reply{Code: 250, Text: "OK"}
	okMail         = proto.Reply{Code: 250, Status: proto.Status{2, 1, 0}, Text: "Sender OK"}
	okRcpt         = proto.Reply{Code: 250, Status: proto.Status{2, 1, 5}, Text: "Recipient OK"}
	outcomesFollow = proto.Reply{Code: 353, Text: "An outcome for each recipient follows"}
	okMessage      = proto.Reply{Code: 250, Status: proto.Status{2, 0, 0}, Text: "Message accepted"}
)

// refusal returns a reply of the server's own, with the status code of the class that code has.
func refusal(code int, subject, detail uint16, text string) *proto.Error {
	status := proto.Status{uint16(code / 100), subject, detail}
	return &proto.Error{Code: code, Status: status, Text: text}
}

// The refusals of connections. They are greetings, to which the name of the server is added.
var (
	errShutdown     = refusal(421, 3, 2, "Service is shutting down")
	errTooMany      = refusal(421, 3, 2, "Too many connections, try again later")
	errTooManyOfOne = refusal(421, 7, 0, "Too many connections from your address")
)

// The replies with which the server itself ends a connection.
var (
	errTimeout  = refusal(421, 4, 2, "Timeout, closing connection")
	errTooSlow  = refusal(421, 4, 2, "Message comes too slowly, closing connection")
	errTooWrong = refusal(421, 7, 0, "Too many errors, closing connection")
	errJunk     = refusal(421, 7, 0, "Too many commands without mail, closing connection")
	errHTTP     = refusal(421, 7, 0, "This is not a web server")
	errInternal = refusal(421, 3, 0, "Internal error, closing connection")
	errEnding   = refusal(421, 3, 2, "Closing connection")
)

// What the server itself refuses commands with.
var (
	errNoArgs     = refusal(501, 5, 4, "This command has no arguments")
	errBadHello   = refusal(501, 5, 4, "A domain name or an address literal expected")
	errNeedTLS    = refusal(530, 7, 0, "Must start TLS first")
	errNeedAuth   = refusal(530, 7, 0, "Authentication required")
	errNotServed  = refusal(502, 5, 1, "Command not implemented")
	errNotOffered = refusal(503, 5, 1, "Command not on offer in this session")
	// RFC 6531 section 3.5 has another code for senders than for recipients.
	errFromNotASCII = refusal(550, 6, 7, "Address is not ASCII and the transaction does not permit that")
	errRcptNotASCII = refusal(553, 6, 7, "Address is not ASCII and the transaction does not permit that")
	errRcpts        = refusal(452, 5, 3, "Too many recipients, send the rest in another transaction")
	errBinary       = refusal(503, 5, 1, "Binary content has to be sent in chunks")
	errLocal        = refusal(451, 3, 0, "Local error in processing")
	errMidway       = refusal(503, 5, 1, "Send the rest of the message first, or RSET")
)

// The refusals of content.
var (
	errTooBig = refusal(552, 3, 4, "Message is larger than is accepted here")
	errBare   = refusal(554, 6, 0, "Message has a bare CR or LF in it: lines end with CRLF")
	errChunks = refusal(421, 7, 0, "Too many small chunks, closing connection")
)

// errNoSession greets a client for which the backend failed to make a session.
var errNoSession = refusal(421, 3, 0, "Service not available, try again later")
