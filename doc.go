// Package smtp is a map of smtpkit, an embeddable SMTP library; it holds no code.
//
//   - [smtpkit.example/smtp/server] receives mail: implement a Backend, or a function, and serve SMTP, submission or LMTP.
//   - [smtpkit.example/smtp/client] sends mail: one call for one message, or a connection for a stream of them.
//   - [smtpkit.example/smtp/ext] has the service extensions, one file for each EHLO keyword, and is where to write another.
//   - [smtpkit.example/smtp/ext/exttest] tests extensions, for those who write one.
//   - [smtpkit.example/smtp/ext/report] makes and reads delivery status notifications, for relays and for senders of bulk mail.
//   - [smtpkit.example/smtp/proto] is the engine that both ends share: addresses, parameters, replies, and the state machine.
//   - [smtpkit.example/smtp/server/proxyproto] reads the header of a proxy in front of a server.
//   - [smtpkit.example/smtp/client/clienttest] and [smtpkit.example/smtp/proto/prototest] are for tests: a server that follows a
//     script, and dialogues played at every cut.
//   - examples holds programs to copy from: quickstart, receive, send, and an extension of one's own.
//
// Packages import each other in one direction: server and client import ext, which imports proto. A program that only
// sends does not contain a server.
package smtp
