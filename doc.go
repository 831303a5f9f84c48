// Package smtp is the map of smtpkit, an embeddable SMTP library. It has no code: import the packages below.
//
// # Send mail
//
//   - [smtpkit.example/smtp/client] sends mail: one call for one message, or a connection for many.
//   - [smtpkit.example/smtp/client/pool] sends from many goroutines over a few connections.
//   - [smtpkit.example/smtp/client/mx] delivers to the mail exchangers of any domain.
//   - [smtpkit.example/smtp/client/queue] keeps mail on disk until it is delivered, and reports what cannot be.
//     Its package [smtpkit.example/smtp/client/queue/sqlstore] keeps it in a database, and queuetest has the
//     tests for a store of your own.
//   - [smtpkit.example/smtp/client/queue/queuehttp] shows a queue to operators, in a browser or as JSON.
//   - [smtpkit.example/smtp/client/deliver] delivers into Maildirs, mailbox files and programs, and routes by domain.
//   - [smtpkit.example/smtp/client/mx/dane] knows from the DNS which certificate a mail exchanger must have (DANE).
//   - [smtpkit.example/smtp/client/mx/tlsrpt] reports on TLS to the domains that ask for it (TLSRPT).
//   - [smtpkit.example/smtp/client/mx/mtasts] knows which domains ask for verified TLS (MTA-STS).
//   - [smtpkit.example/smtp/ext/auth] has the credentials to log in with, such as a password or a token.
//   - [smtpkit.example/smtp/ext/ehlo] sets parameters of a message, such as delivery notifications (DSN), and sends
//     commands such as ETRN.
//   - [smtpkit.example/smtp/ext] names the TLS modes of the client's options.
//   - [smtpkit.example/smtp/client/netsmtp] lets programs that come from net/smtp keep what they have.
//   - [smtpkit.example/smtp/ext/report] reads the bounces that come back.
//   - smtpkit.example/smtp/client/dkim, a module of its own, signs messages with DKIM.
//   - smtpkit.example/smtp/ext/otel, a module of its own, makes spans and metrics of OpenTelemetry, for servers too.
//
// # Receive mail
//
//   - [smtpkit.example/smtp/server] receives mail: implement a Backend, or one function, and serve SMTP, submission or
//     LMTP.
//   - [smtpkit.example/smtp/server/policy] has checks for mail from strangers: who may relay, which recipients
//     there are, rates, greylisting, block lists.
//   - [smtpkit.example/smtp/proto] has the types that a session works with: addresses, parameters, replies, and
//     refusals.
//   - [smtpkit.example/smtp/ext/auth] has the interfaces by which a session checks passwords and tokens.
//   - [smtpkit.example/smtp/ext/ehlo] has lists of extensions for relays, submission servers and LMTP, and reads the
//     parameters of MAIL and RCPT.
//   - [smtpkit.example/smtp/ext/report] makes the bounces and other delivery status notifications that a relay or queue
//     has to send.
//   - [smtpkit.example/smtp/ext/tracefield] adds Received and Return-Path, and finds messages that go round in circles.
//   - [smtpkit.example/smtp/server/proxyproto] reads the header that a proxy in front of the server sends.
//
// # Test a program
//
//   - [smtpkit.example/smtp/client/clienttest] is a server that follows a script, to test a client against.
//   - [smtpkit.example/smtp/server/servertest] is a server to test a program against that sends mail.
//   - [smtpkit.example/smtp/ext/dns] asks the DNS, with DNSSEC, for client/mx and server/policy.
//   - [smtpkit.example/smtp/ext/dns/dnstest] answers questions about the DNS from a text.
//
// # Extend the protocol
//
//   - [smtpkit.example/smtp/ext] is the framework for service extensions, and says how to write one.
//   - [smtpkit.example/smtp/ext/exttest] tests an extension with the real server and the real client.
//   - [smtpkit.example/smtp/ext/fake] has stand-ins for both ends, for unit tests of an extension.
//
// # Build another server, client or proxy
//
//   - [smtpkit.example/smtp/proto] is the protocol engine that both ends share, without any I/O.
//   - [smtpkit.example/smtp/proto/prototest] plays scripts of dialogues against an engine, at every cut of their bytes.
//
// The directory examples has programs to copy from. Start with note, which sends a message, and inbox, which receives
// some; quickstart runs both ends. Then see send, receive and extension; direct and outbound, which deliver by MX; and
// mx, a server for port 25.
//
// Packages import each other in one direction: server and client import ehlo, ehlo imports auth, auth imports ext, and
// ext imports proto. Server and client do not import each other, so a program that only sends contains no server.
//
// # Compatibility
//
// The library follows semantic versioning. Within a major version, code that keeps to these rules compiles and works
// with every later minor version. Before 1.0 a minor version may break them, and the changelog says so under Behaviour.
//
// Interfaces that users implement are frozen: server.Backend, server.Session, server.Resetter, ext.RecipientData, and
// the interfaces of packages auth and ehlo by which a session takes part in an extension. They never get another
// method. New abilities come as new optional interfaces, which the library finds through Unwrap.
//
// Interfaces that only the library implements may get more methods in a minor version: ext.ServerConn, ext.Command,
// ext.Client, ext.ClientConn and ext.Negotiation. Call them, but do not implement them. Package fake has a stand-in for
// each.
//
// Structs may get more fields in a minor version. Write them with keyed fields. (proto.Status is an array, and needs
// none.) Do not compare structs with ==, unless their documentation says that you may. The zero value of an option
// stands for the default that its documentation names. A negative value means none, except where the documentation says
// that there must be a limit. A minor version may change such a default.
//
// ext.Offer is opaque. ext.Set is for those who build another server or client; it may get more methods.
//
// A minor version may also add packages, functions, methods, types and constants. It may add extensions to the lists of
// package ehlo: to fix what a server advertises, write the list down. It may refuse what a standard forbids, and
// tolerate what other programs send.
//
// Types of errors, reply codes and enhanced status codes are part of the API. Texts of replies, of errors and of the
// log are not, and neither is how what is written is divided into packets.
//
// The library supports the two newest releases of Go, and the go line of go.mod names the older one, now 1.25. A minor
// version may raise it.
//
// The repository keeps the exported API in a file for each package, under .ci/api. The check .ci/run compares them with
// the code, so that every change of the API is seen in review.
package smtp
