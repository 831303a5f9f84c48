// Package proto is the engine of SMTP and LMTP, without I/O, clocks or goroutines: what stands between the bytes of a
// connection and the decisions of the people at its two ends. Package server and package client are pumps around it. Use
// it directly to build something that neither of them is, such as a proxy, a load generator or a monitor.
//
// # The laws
//
//  1. The Machine never learns which side it is on.
//  2. Every recorded command is answered by exactly as many replies as its row says.
//  3. The answer does not depend on how the bytes were cut.
//  4. No byte is skipped unread. What cannot be understood is refused; what follows a hand-over (STARTTLS) belongs to the
//     new owner. Framing comes before policy: a refused BDAT still consumes its octets.
//  5. Slices in an event die at the next call; strings given to users live for ever.
//  6. Only CRLF ends a line, only CRLF.CRLF ends a message, and we never send a bare CR or LF in one.
//  7. One goroutine owns a session. Nothing of the user's is ever called concurrently for one connection.
//
// # Theory of operation
//
// A [Table] holds a row, a [Verb], for every command: in which states it may be sent, whether it ends a group, and which
// state follows its success, an intermediate reply, and its failure. The rows of RFC 5321 are built in; those of extensions
// are of the same kind. [Table.String] prints the table.
//
// A [Machine] is driven by the table from either end. It holds the state that replies have confirmed and the state ahead,
// where the session will be if all that is outstanding succeeds. A server answers each command before it reads the
// next, so its two states never part. A client that sends groups of commands (RFC 2920) runs ahead, and when
// something in the group fails, finds the state ahead again by walking through what is still outstanding: a command that
// has become out of sequence will be refused and change nothing. That is why content, the MAIL, RCPT and DATA of the
// next message, and refusals anywhere among them need no rules of their own.
//
// How many replies content gets is the table's business too: one, or one for each recipient in LMTP. Where the command that
// opened the transaction has asked for it, the first of them may turn one into many: 353 promises an outcome for each
// recipient and one for all. Both ends read that wish from the same arguments.
//
// A [Receiver] is a server's end: it finds commands, lines of an exchange, content and chunks in the input and
// returns them as events; [Receiver.AppendReply] answers them. A malformed command is an event that carries its refusal,
// not a Go error, because SMTP answers and goes on. The few things after which the stream cannot be understood, such as a
// BDAT whose size cannot be read, are Fatal events. A [Sender] is a client's end: commands, lines and
// content are appended to the caller's buffer, and replies are returned as events, with the command they answer.
//
// Addresses, parameters and replies are typed ([Address], [Params], [Reply], [Status]). What is parsed is never passed on as
// text: it is printed again by the rules of the grammar.
//
// # Past vulnerabilities
//
// The protocol has been attacked in these ways; each names the file that answers it and the test that shows it.
//
// Smuggling through line endings (2023; CVE-2023-51764, CVE-2023-51765, CVE-2023-51766): a server that takes LF.LF or
// another fake for the end of content reads the rest of it as commands. The decoder in dot.go ends content at CRLF.CRLF
// alone and notices every bare CR and LF, so that a server can refuse them; the Encoder sends none.
// TestSmuggling, TestDecodeEveryCut, TestEncodeEveryCut.
//
// STARTTLS injection (CVE-2011-0411, and its mirror image in clients): bytes sent in clear behind STARTTLS, or behind its
// reply, are taken for ones that came through TLS. Receiver.Leftover and Sender.Leftover give them to the TLS handshake,
// which they break. TestReceiverLeftover.
//
// Injection through arguments (net/smtp and many others; CVE-2025-59937 with quoted local parts, CVE-2025-7962 with
// characters narrowed to bytes): an address that contains CRLF, or a quoted local part written without its quotes, adds
// commands or parameters. Addresses are parsed and printed by the grammar (address.go), and Sender.AppendCommand sends no
// control character. FuzzMailArgs, FuzzRcptArgs.
//
// Response splitting: text that a server passes on in a reply begins a reply of its own. AppendReply in reply.go gives every
// line the code and replaces control characters. FuzzAppendReply.
//
// Chunks taken for commands: a server that refuses BDAT without reading its octets runs them. The Receiver consumes
// them whatever becomes of the command (law 4), and gives the connection up when it cannot know how many there are.
// TestReceiverEveryCut.
//
// Downgrade of AUTH and TLS, and slow or endless input, are matters of policy and time, and answered in the packages
// ext, client and server; what an engine keeps in memory is bounded by [Limits]. TestReceiverDroppedLine.
package proto
