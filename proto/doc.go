// Package proto is an engine for SMTP and LMTP. It turns the bytes of a connection into events, and decisions into
// bytes. It does no I/O, reads no clock and starts no goroutine.
//
// Packages server and client of this module are built around it. Use it directly for what neither of them is:
//
//   - a proxy that reads commands from one side and forwards them to the other;
//   - a load generator or a monitor that controls every octet and every pause;
//   - a server or a client over a transport that is no net.Conn, or in an event loop;
//   - a program that reads recorded sessions.
//
// The types for addresses, parameters and replies ([Address], [Domain], [Params], [Reply], [Status], [Error]) are
// useful without the engine as well: [ParseAddress], [ParseMailArgs] and [ParseReply] need no session.
//
// # A server's end
//
// A [Receiver] is the engine of a server. Put what was received into Space, call Next until it wants more, and answer:
//
//	rx := proto.NewReceiver(table, proto.Limits{})
//	out, _ := rx.AppendReply(nil, proto.Reply{Code: 220, Text: "mail.example"})
//	for ev := rx.Next(); ev.Kind != proto.End; ev = rx.Next() {
//		switch ev.Kind {
//		case proto.NeedInput: // write out, then read
//			conn.Write(out)
//			n, err := conn.Read(rx.Space())
//			if err != nil {
//				return err
//			}
//			rx.Filled(n)
//			out = out[:0]
//		case proto.Command, proto.EndOfBody, proto.Fatal: // decide
//			reply = decide(ev)
//		case proto.NeedReply: // answer
//			out, _ = rx.AppendReply(out, reply)
//		}
//	}
//	conn.Write(out)
//
// A command with an error in Err was refused by the engine: send ev.Err.Reply(). After [Fatal] one last reply can be
// sent, and the connection has to be closed. Content arrives as [Body] events, with the dots of transparency removed.
//
// # A client's end
//
// A [Sender] is the engine of a client. AppendCommand, AppendBody, AppendEnd, AppendPayload and AppendLine append what
// is to be sent to a buffer. They return an error where the protocol does not allow it. Next returns each reply as an
// [Answer], with the command that it answers. After SetGroups(true) commands may be appended before earlier ones are
// answered (PIPELINING).
//
// The examples show a whole loop for each end, and a proxy that joins the two.
//
// # States
//
// The engine follows the session through these states. A name alone stands for a positive reply, 2yz. "refused" stands
// for a reply of 4yz or 5yz, "answered" for either; a refusal that is not listed changes nothing. After Handover the
// wire belongs to TLS; Restart begins again in Hello. The table is the one that a server has by default, with the verbs
// of its extensions.
//
//	in this state  these lead to that state
//	Greeting       (greeting) → Hello
//	Hello          EHLO, HELO → Ready
//	Ready          MAIL → Mail
//	               STARTTLS → Handover
//	               AUTH 3yz → Exchange
//	Mail           EHLO, HELO, RSET → Ready
//	               RCPT → Rcpt
//	Rcpt           EHLO, HELO, RSET, BDAT LAST answered → Ready
//	               DATA 3yz → Content
//	               BDAT → Chunks
//	               BDAT refused → Broken
//	Chunks         EHLO, HELO, RSET, BDAT LAST answered → Ready
//	               BDAT refused → Broken
//	Broken         EHLO, HELO, RSET → Ready
//	Content        (end of content) answered → Ready
//	Exchange       line of AUTH answered → Ready
//	(as named)     QUIT in Greeting, Hello, Ready, Mail, Rcpt, Chunks, Broken, and 421 in any state → Closed
//	(no change)    NOOP, HELP, VRFY, EXPN
//	(only refused) SEND, SOML, SAML, TURN, VERB, ONEX
//
// # Words
//
//   - A group is several commands sent at once, before the first is answered (PIPELINING).
//   - Content is the message after DATA or in chunks; a chunk is what one BDAT command carries, and its payload.
//   - An exchange follows a 334 reply: lines go back and forth that belong to one command, such as AUTH.
//   - A hand-over gives the connection to another protocol, such as TLS after STARTTLS.
//   - A path is an address in a command: the reverse-path in MAIL, a forward-path in RCPT. The null reverse-path is <>.
//   - A U-label is a label of a domain in its own script, such as münchen. Its A-label is xn--mnchen-3ya.
//   - Transparency is the rule that a dot at the beginning of a line is doubled after DATA.
//   - 2yz, 3yz, 4yz and 5yz are the classes of reply codes: success, intermediate, try later, and failed.
//
// # Theory of operation
//
// These laws hold everywhere in the module:
//
//  1. The Machine never learns which side it is on.
//  2. Every recorded command is answered by exactly as many replies as its row says.
//  3. The answer does not depend on how the bytes were cut.
//  4. No byte is skipped unread. What cannot be understood is refused; what follows a hand-over (STARTTLS) belongs to
//     the new owner. Framing comes before policy: a refused BDAT still consumes its octets.
//  5. Slices in an event die at the next call; strings given to users live for ever.
//  6. Only CRLF ends a line, only CRLF.CRLF ends a message, and we never send a bare CR or LF in one.
//  7. One goroutine owns a session. Nothing of the user's is ever called concurrently for one connection.
//
// The sixth is about lines. Binary content (RFC 3030 section 3) has none, and is sent in chunks only.
//
// A [Table] has a row, a [Verb], for every command. The row says in which states the command may be sent, whether it
// must end a pipelined group, and which state follows its success, an intermediate reply, and its failure. EHLO or
// LHLO, HELO, MAIL, RCPT, DATA, RSET, NOOP and QUIT are built in. All other commands are rows given to [NewTable]:
// STARTTLS, AUTH, BDAT, and also VRFY, EXPN and HELP, which RFC 5321 section 2.2.2 treats as extensions. [Table.String]
// prints the rows.
//
// A [Machine] follows the table from either end. It holds two states: the one that replies have confirmed, and the one
// ahead, which the session reaches if everything outstanding succeeds. A server answers each command before it reads
// the next, so its two states are always equal. A client that sends pipelined groups (RFC 2920) runs ahead. When a
// command of the group fails, the Machine replays the commands that are still outstanding: one that is now out of
// sequence will be refused and changes nothing. Content, the commands of the next message, and refusals among them
// therefore need no rules of their own.
//
// The table also says how many replies content gets: one in SMTP, one for each accepted recipient in LMTP. If the MAIL
// command asked for it (PRDR), the reply 353 announces one reply for each recipient and one for all. Both ends learn
// this from the same arguments.
//
// SMTP answers a malformed command and goes on. So a malformed command is an event that carries its refusal, not a Go
// error. Few things make the rest of the stream unreadable, such as a BDAT whose size cannot be parsed. Those are Fatal
// events.
//
// The engine never passes on text that it has parsed. Addresses, parameters and replies are typed, and printed again by
// the rules of the grammar.
//
// # Past vulnerabilities
//
// SMTP software has been attacked in the following ways. Each paragraph names the file that answers the attack and the
// test that shows it.
//
// Smuggling through line endings (2023; CVE-2023-51764, CVE-2023-51765, CVE-2023-51766): a server that takes LF.LF or
// another imitation for the end of content reads the rest of the content as commands. The decoder in dot.go ends
// content at CRLF.CRLF alone, and reports every bare CR and LF, so that a server can refuse the message. The Encoder
// never sends one. TestSmuggling, TestDecodeEveryCut, TestEncodeEveryCut.
//
// STARTTLS injection (CVE-2011-0411, and its mirror image in clients): plaintext sent behind STARTTLS, or behind the
// reply to it, is taken for text that came through TLS. Receiver.Leftover (receiver.go) and Sender.Leftover (sender.go)
// give it to the TLS handshake, which fails because of it. TestReceiverLeftover, TestSenderLeftover.
//
// Injection through arguments (net/smtp and many others; CVE-2025-59937 with quoted local parts, CVE-2025-7962 with
// characters narrowed to bytes): an address that contains CRLF, or a quoted local part written without its quotes, adds
// commands or parameters. Addresses are parsed and printed by the grammar (address.go, mailrcpt.go), and
// Sender.AppendCommand (sender.go) sends no control character. FuzzMailArgs, FuzzRcptArgs, TestSenderArguments.
//
// Response splitting: text that a server passes on in a reply begins a reply of its own. AppendReply in reply.go gives
// every line the code, and replaces control characters. At the other end, an LF within a line is an error for a Sender.
// With Limits.LaxReplies it is one from the first CRLF on. FuzzAppendReply, TestRFC5321Section42_Lax.
//
// Chunks taken for commands: a server that refuses BDAT without reading its octets executes them. The Receiver
// (receiver.go) consumes them whatever becomes of the command (law 4). It closes the connection if it cannot know how
// many there are. TestReceiverEveryCut.
//
// Slow and endless input: the engine bounds what it keeps in memory (limits.go, line.go), and gives up a peer whose
// line does not end. TestReceiverDroppedLine. Time is the affair of packages server and client, and so is the downgrade
// of AUTH and TLS, which is a matter of policy.
package proto
