// Package ext is the framework for SMTP service extensions: what an author of one needs, and what package server and
// package client are built on. Those who only use extensions need other packages: [smtpkit.example/smtp/ext/auth] to
// authenticate, and [smtpkit.example/smtp/ext/ehlo] for parameters such as DSN and for the lists of extensions.
//
// # How to write an extension
//
// RFC 5321 section 2.2.2 says what defines an extension: its name, its EHLO keyword and the keyword's arguments, the
// verbs it adds, the parameters it adds to MAIL and RCPT, what it does to the behaviour of each side, and by how much
// it lengthens command lines. An [Extension] is that list as a struct. Write a function that returns one, in any
// module, and add its value to the list of a server or a client:
//
//	func Extension() ext.Extension {
//		return ext.Extension{
//			Keyword: "XTRACE",
//			Mail:    []ext.Param{{Key: "XTRACE", MaxLength: len(" XTRACE=") + 32, Check: checkID}},
//		}
//	}
//
//	opt.Extensions = append(ehlo.Default(), xtrace.Extension())
//
// Use a keyword that IANA has registered, or one that begins with X (RFC 5321 section 2.2.2).
//
// To add a parameter, describe it as a [Param]: its longest length with the space before it, and a Check of its syntax.
// The server refuses the parameter with 555 unless it was offered, and with 501 if it is malformed. Otherwise the
// parameter reaches the session in proto.Params. Export a function that reads the value from there, as ehlo.ReadSize
// does, so that nobody parses it twice.
//
// To add a verb, write a row for the engine, a [proto.Verb]: the states in which the verb may be sent, and the states
// that its replies lead to. The engine refuses the verb in other states, so Serve need not look. Set Last unless other
// commands may follow the verb in a pipelined group (RFC 2920 section 3.1). Serve returns the reply of success as a
// proto.Reply, the zero Reply for
// 250. It refuses with a *proto.Error, which [proto.Refuse] makes. The server logs any other error and answers 451.
//
// To ask something of the session, define a small interface in the same file and find it with [As]. Have Advertise look
// for the interface, so that the server offers nothing that the session cannot do. An extension keeps no state of its
// own: state belongs to the session, or to a value that the constructor closes over, which all sessions share.
//
// To act on a client, set Prepare, which adds what a message needs, and Negotiate, which does what has to be done
// before the first message. The client calls both only if the server offered the keyword. Refuse in Prepare what cannot
// be done: nothing of the message has been sent by then. Limits tells the client how much the server takes.
//
// For more than that, a verb may carry on an exchange ([Command].Challenge), hand the connection over to another
// protocol (Handover), give it away (Surrender), or have the session begin anew for another client (Restart). A verb
// that may stand among chunks can bring content from elsewhere (Extension.Fetch). A parameter can ask for an outcome
// for each recipient (Param.PerRecipient).
//
// # How to test one
//
// Package exttest finds what any extension can get wrong. One call of its Test takes the extension, values of its
// parameters and a session that takes part, has a server and a client use them, and names each rule that is broken.
// Package fake has a [Command] and a [Negotiation] for unit tests. The program examples/extension is a keyword, a
// parameter and a verb with both ends and that test.
//
// # Compatibility
//
// Extension, Param, Envelope, Policy and ServerLimits may get more fields: use keyed literals. [ServerConn], [Command],
// [Client], [ClientConn] and [Negotiation] may get more methods: only this library implements them, and package fake
// for tests. [Set] and [Offer] are for those who build another end; a server or a client makes its set from its
// options. The whole policy is in package smtp.
//
// # Decisions
//
// Extensions are values in a list, and there is no registry: what a server offers can be read in its options, and two
// servers in a program can differ.
//
// Two extensions may describe the same parameter if both list its values, as 8BITMIME and BINARYMIME do with BODY. The
// server rejects a value while the extension that lists it is not advertised.
//
// A submission policy is an extension without keyword, not an option of the server: it decides by the same Guard and
// checks that any extension has, and a set can be asked what kind of server it makes (see [Role]).
package ext
