// Package ext is the framework for SMTP service extensions. It is for authors of extensions, and package server and
// package client are built on it. If you only use extensions, you need other packages: [smtpkit.example/smtp/ext/auth]
// to authenticate, and [smtpkit.example/smtp/ext/ehlo] for parameters such as DSN and for lists of extensions.
//
// # How to write an extension
//
// RFC 5321 section 2.2.2 says what defines an extension: the EHLO keyword with its arguments, the verbs and the
// parameters that it adds, what changes at each end, and how much longer command lines become. An [Extension] is that
// list as a struct. Write a function that returns one, in any module:
//
//	func XTrace() ext.Extension {
//		return ext.Extension{
//			Keyword: "XTRACE",
//			Mail:    []ext.Param{{Key: "XTRACE", MaxLength: len(" XTRACE=") + 32, Check: checkID}},
//		}
//	}
//
// A server and a client have a list of extensions in their options. Without one they use ehlo.Default, so append yours
// to that; the server advertises in the order of the list:
//
//	opt.Extensions = append(ehlo.Default(), XTrace())
//
// Use a keyword that IANA has registered, or one that begins with X.
//
// # Add a parameter
//
// Describe it as a [Param] in Mail or Rcpt. MaxLength is how many octets it adds to the command line at most: the space
// before it, the key, the equals sign and the longest value. Check is a func(value string) error. The server refuses
// the parameter with 555 if the extension is not advertised, and with 501 if the value is malformed. Otherwise the
// session gets it in the proto.Params of its Mail or Rcpt method.
//
// Export a function that reads the value, so that only one place parses it; ehlo.ReadSize is one:
//
//	func ReadID(p proto.Params) (id string, ok bool) { return p.Get("XTRACE") }
//
// # Add a verb
//
// Add a [proto.Verb] to Verbs. In has the states in which a client may send the verb, such as proto.Ready for between
// two messages, or several joined with |; type [proto.State] lists them. The server answers 503 in any other state, so
// Serve need not look. OK, More and Fail are the states that follow the replies of 2yz, 3yz, and 4yz or 5yz; leave them
// out if the state stays as it is. With Last the verb ends a pipelined group; without Last other commands may follow it
// in one (RFC 2920 section 3.1). If there are several verbs, x.Verb().Name tells Serve which one came.
//
//	Verbs: []proto.Verb{{Name: "XWHERE", In: proto.Ready, Last: true}},
//	Serve: func(ctx context.Context, x ext.Command) (proto.Reply, error) {
//		l, ok := ext.As[Locator](x.Session())
//		if !ok {
//			return proto.Reply{}, proto.Refuse(502, proto.Status{5, 5, 1}, "Messages are not traced here")
//		}
//		place, err := l.Where(ctx, x.Args())
//		if err != nil {
//			return proto.Reply{}, err
//		}
//		return proto.Reply{Code: 250, Text: place}, nil
//	},
//
// For success Serve returns a [proto.Reply] with a code of 2yz; the zero Reply stands for 250. To refuse, it returns a
// *proto.Error, which [proto.Refuse] makes, with a code of 4yz or 5yz. The server logs any other error and answers 451
// without its text.
//
// A client sends the verb with [Client].Do. Export a function for that which takes a Client, as ehlo.SendETRN does.
//
// # Ask something of the session
//
// Define a small interface, such as Locator above, and find it with [As]. Name it, so that a server can tell the author
// of a session whose method Where has another signature:
//
//	Interfaces: []reflect.Type{reflect.TypeFor[Locator]()},
//
// Let Advertise look for the interface too, so that the server advertises only what the session can do.
//
// The string that Advertise returns has the arguments of the keyword, and the bool says whether to advertise:
//
//	Advertise: func(x ext.ServerConn) (string, bool) {
//		_, ok := ext.As[Locator](x.Session())
//		return "", ok
//	},
//
// # State and concurrency
//
// All connections share the functions of an Extension, and call them concurrently: each function must be safe for that.
// For one connection only one function is called at a time.
//
// An extension keeps no state of a connection. Such state belongs to the session, where the functions find it by an
// interface. What all connections share, such as a configuration or a counter with a lock, may be a variable of the
// function that makes the Extension. A [ServerConn], [Command] or [ClientConn] must not be kept after the function that
// got it has returned.
//
// # Act on a client
//
// A client calls the functions Prepare, Negotiate and Limits only if the server advertises the keyword.
//
// Prepare is called for each message, before any command of the message is sent. It adds the parameters that the
// message needs, or returns an error to refuse the message:
//
//	Prepare: func(caps proto.Caps, e *ext.Envelope) error {
//		e.Mail = e.Mail.Set("XTRACE", newID())
//		return nil
//	},
//
// Return an [UnsupportedError] with the reason in Err if this server does not take what the message needs. Return any
// other error if the message itself is wrong.
//
// If the server does not advertise the keyword, the client refuses some messages by itself, with an UnsupportedError:
// those with a parameter of the extension, and those that need a [Feature] that the extension provides.
//
// Negotiate is called once for each session, after EHLO: STARTTLS and AUTH work there. Limits returns how many messages
// and recipients the server takes.
//
// # Take the connection over
//
// After a verb like STARTTLS another protocol takes over. Such a verb has OK: proto.Handover. On the server Serve calls
// Handover, which sends the reply and then calls a function with the connection. A new session begins on the connection
// that the function returns:
//
//	Verbs: []proto.Verb{{Name: "XCRYPT", In: proto.Ready, Last: true, OK: proto.Handover}},
//	Serve: func(ctx context.Context, x ext.Command) (proto.Reply, error) {
//		return proto.Reply{}, x.Handover(ctx, proto.Reply{Code: 220, Text: "Go ahead"}, accept)
//	},
//
// On the client Negotiate does the other half:
//
//	Negotiate: func(ctx context.Context, c ext.Negotiation) error {
//		r, err := c.Do(ctx, "XCRYPT", "")
//		if err != nil {
//			return err
//		}
//		if r.Code != 220 {
//			return r.Err()
//		}
//		return c.Handover(ctx, connect)
//	},
//
// Both accept and connect are of the type func(context.Context, net.Conn) (net.Conn, error). Both ends then forget what
// was said before, and the client sends EHLO again. Negotiate is called again too, if the server advertises the keyword
// again. So let Advertise return false once the protocol is in use; StartTLS looks at x.TLS() != nil.
//
// # More than that
//
// An exchange of lines, such as that of AUTH, needs More: proto.Exchange in the verb. Serve asks with Challenge, and
// the client answers with [ClientConn].Line:
//
//	line, err := x.Challenge(ctx, proto.Reply{Code: 334, Text: "What is your name?"})
//
// Command.Surrender gives the connection away for good, as ATRN does. Command.Restart begins a new session on the same
// connection, for another client of whom a proxy has told, as XCLIENT does. Extension.Fetch gets content from elsewhere
// in place of a chunk, as BURL does. With Param.PerRecipient the parameter asks for a reply to the content for each
// recipient, as PRDR does. Guard can refuse any command of the session, whichever extension it belongs to; CheckMail
// and CheckRcpt can refuse any MAIL and RCPT.
//
// Set [Role] to SubmissionOnly if only submission servers may advertise the extension, and to NeverSubmission if they
// must not. server.New then returns an error if the extension is in the wrong kind of server. A server is a submission
// server if its list has an ehlo.SubmissionPolicy, which has the role MakesSubmission. For most extensions the zero
// value, AnyServer, is right.
//
// # Test an extension
//
// Package [smtpkit.example/smtp/ext/exttest] finds the mistakes that any extension can have. One call runs a server and
// a client with the extension, and names each rule that the extension breaks:
//
//	exttest.Test(t, XTrace(), exttest.Sample{Session: func() any { return &locator{} }})
//
// Package [smtpkit.example/smtp/ext/fake] is for unit tests: fake.Server is a [Command], and fake.Client is a [Client]
// and a [Negotiation]. The program examples/extension has an extension with a parameter and a verb, both ends, and a
// test.
//
// # Compatibility
//
// Implement the interfaces by which a session takes part: your own, those of packages auth and ehlo, and
// [RecipientData]. They do not change. Do not implement [ServerConn], [Command], [Client], [ClientConn] and
// [Negotiation]: they may get more methods. Only the library implements them, and package fake has a stand-in for each.
//
// [Extension], [Param], [Envelope], [Policy] and [ServerLimits] may get more fields: write them with keyed fields. A
// [Set] is a list of extensions made ready, and an [Offer] says which of them are advertised. Both are for those who
// build a server or a client of their own; package server and package client make the Set from their options. The
// documentation of package smtp has the whole policy.
//
// # Decisions
//
// Extensions are values in a list, and there is no registry. So the options show what a server advertises, and two
// servers in a program can differ.
//
// Two extensions may describe the same parameter if both list its values in Param.Values, as 8BITMIME and BINARYMIME do
// with BODY. The server takes a value if an extension that lists it is advertised. DSN, SIZE and the others are in
// package ehlo, and AUTH is in package auth.
//
// A submission policy is an extension without a keyword, and not an option of the server: it needs no more than the
// Guard and the checks that any extension has.
package ext
