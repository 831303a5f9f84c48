package server

import "smtpkit.example/smtp/proto"

// The replies of success.
var (
	okPlain        = proto.Reply{Code: 250, Text: "OK"}
	okMail         = proto.Reply{Code: 250, Status: proto.Status{2, 1, 0}, Text: "Sender OK"}
	okRcpt         = proto.Reply{Code: 250, Status: proto.Status{2, 1, 5}, Text: "Recipient OK"}
	outcomesFollow = proto.Reply{Code: 353, Text: "An outcome for each recipient follows"}
	okMessage      = proto.Reply{Code: 250, Status: proto.Status{2, 0, 0}, Text: "Message accepted"}
)

// The refusals of connections. They are greetings, so the name of the server is put in front.
var (
	errShutdown     = proto.Refuse(421, proto.Status{4, 3, 2}, "Service is shutting down")
	errTooMany      = proto.Refuse(421, proto.Status{4, 3, 2}, "Too many connections, try again later")
	errTooManyOfOne = proto.Refuse(421, proto.Status{4, 7, 0}, "Too many connections from your address")
	errNoMemory     = proto.Refuse(421, proto.Status{4, 3, 2}, "Too busy for another connection, try again later")
	errConnRate     = proto.Refuse(421, proto.Status{4, 7, 0}, "Too many connections in a short time, try again later")
)

// The replies with which the server itself ends a connection.
var (
	errTimeout  = proto.Refuse(421, proto.Status{4, 4, 2}, "Timeout, closing connection")
	errTooOld   = proto.Refuse(421, proto.Status{4, 4, 2}, "Connection has lasted too long, connect again")
	errMails    = proto.Refuse(421, proto.Status{4, 7, 0}, "Too many messages over one connection, connect again")
	errStress   = proto.Refuse(421, proto.Status{4, 4, 2}, "Timeout while the server is busy, try again later")
	errTooSlow  = proto.Refuse(421, proto.Status{4, 4, 2}, "Message comes too slowly, closing connection")
	errTooWrong = proto.Refuse(421, proto.Status{4, 7, 0}, "Too many errors, closing connection")
	errJunk     = proto.Refuse(421, proto.Status{4, 7, 0}, "Too many commands without mail, closing connection")
	errHTTP     = proto.Refuse(421, proto.Status{4, 7, 0}, "This is not a web server")
	errInternal = proto.Refuse(421, proto.Status{4, 3, 0}, "Internal error, closing connection")
	errEnding   = proto.Refuse(421, proto.Status{4, 3, 2}, "Closing connection")
)

// The refusals of commands of which a network has sent too many. For MAIL the code is Postfix's. For AUTH it is the one
// of RFC 4954 section 6 upon which a mail program does not ask for another password.
var (
	errMessageRate = proto.Refuse(450, proto.Status{4, 7, 1}, "Too much mail from your network, try again in a minute")
	errAuthRate    = proto.Refuse(454, proto.Status{4, 7, 0}, "Too many failed attempts to authenticate from your "+
		"network, try again in an hour")
)

// errAuthSpent is what the Trace is told of the 421 for an attempt that uses up what the network had.
var errAuthSpent = proto.Refuse(421, proto.Status{4, 7, 0}, "Too many failed attempts to authenticate from your "+
	"network")

// errMemory refuses a transaction, or a recipient, for which there is no memory, and errHandshakes to begin TLS.
var (
	errMemory     = proto.Refuse(452, proto.Status{4, 3, 1}, "Insufficient memory, try again later")
	errHandshakes = proto.Refuse(454, proto.Status{4, 7, 0}, "Too many TLS handshakes at a time, try again later")
)

const notASCII = "Address is not ASCII and the transaction does not permit that"

// The replies to clients that talk early. The first is a greeting.
var (
	errEarlyGreeting = proto.Refuse(554, proto.Status{5, 5, 0}, "Protocol error: wait for the greeting before you send")
	errEarly         = proto.Refuse(554, proto.Status{5, 5, 0}, "Protocol error: wait for the reply before you send more")
)

// The replies with which the server itself refuses commands.
var (
	errNoArgs     = proto.Refuse(501, proto.Status{5, 5, 4}, "This command has no arguments")
	errBadHello   = proto.Refuse(501, proto.Status{5, 5, 4}, "A domain name or an address literal expected")
	errNeedTLS    = proto.Refuse(530, proto.Status{5, 7, 0}, "Must start TLS first")
	errNeedAuth   = proto.Refuse(530, proto.Status{5, 7, 0}, "Authentication required")
	errNotServed  = proto.Refuse(502, proto.Status{5, 5, 1}, "Command not implemented")
	errNotOffered = proto.Refuse(503, proto.Status{5, 5, 1}, "Command not on offer in this session")
	// RFC 6531 section 3.5 has another code for senders than for recipients.
	errFromNotASCII = proto.Refuse(550, proto.Status{5, 6, 7}, notASCII)
	errRcptNotASCII = proto.Refuse(553, proto.Status{5, 6, 7}, notASCII)
	errRcpts        = proto.Refuse(452, proto.Status{4, 5, 3}, "Too many recipients, send the rest in another transaction")
	errBinary       = proto.Refuse(503, proto.Status{5, 5, 1}, "Binary content has to be sent in chunks")
	errLocal        = proto.Refuse(451, proto.Status{4, 3, 0}, "Local error in processing")
	errMidway       = proto.Refuse(503, proto.Status{5, 5, 1}, "Send the rest of the message first, or RSET")
)

// The refusals of content.
var (
	errTooBig = proto.Refuse(552, proto.Status{5, 3, 4}, "Message is larger than is accepted here")
	errBare   = proto.Refuse(554, proto.Status{5, 6, 0}, "A line of the message ends with LF or CR alone: send CRLF "+
		"at the end of each line")
	errHeaderSize   = proto.Refuse(552, proto.Status{5, 3, 4}, "Header is larger than is accepted here")
	errHeaderFields = proto.Refuse(554, proto.Status{5, 6, 0}, "Header has more fields than are accepted here")
	errLoop         = proto.Refuse(554, proto.Status{5, 4, 6}, "Too many Received fields: the message goes round in circles")
	errLineTooLong  = proto.Refuse(554, proto.Status{5, 6, 0}, "A line of the message is too long: use an encoding with "+
		"short lines, such as base64")
	errChunks = proto.Refuse(421, proto.Status{4, 7, 0}, "Too many small chunks, closing connection")
)

// errNoSession greets a client for which the backend failed to make a session.
var errNoSession = proto.Refuse(421, proto.Status{4, 3, 0}, "Service not available, try again later")
