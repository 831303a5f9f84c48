// Package ext is the framework for SMTP service extensions. It is for authors of extensions, and package server and
// package client are built on it. If you only use extensions, you need other packages: [smtpkit.example/smtp/ext/auth]
// to authenticate, and [smtpkit.example/smtp/ext/ehlo] for parameters such as DSN and for lists of extensions.
//
// # How to write an extension
//
// An extension is defined by a list (RFC 5321 section 2.2.2). It has the EHLO keyword with its arguments, the verbs and
// the parameters of MAIL and RCPT that the extension adds, what changes at each end, and by how much command lines
// grow. An [Extension] is that list as a struct. Write a function that returns one, in any module:
//
//	func XTrace() ext.Extension {
//		return ext.Extension{
//			Keyword: "XTRACE",
//			Mail:    []ext.Param{{Key: "XTRACE", MaxLength: len(" XTRACE=") + 32, Check: checkID}},
//		}
//	}
//
// Add it to the Extensions of a server's or a client's options, behind the list that is the default:
//
//	opt.Extensions = append(ehlo.Default(), XTrace())
//
// Use a keyword that IANA has registered, or one that begins with X.
//
// # Add a parameter
//
// Describe it as a [Param] in Mail or Rcpt: its key, the largest number of octets that it adds to the command line, and
// a Check of its value. The server refuses the parameter with 555 if the extension is not advertised, and with 501 if
// the value is malformed. Otherwise the session gets it in the proto.Params of its Mail or Rcpt method.
//
// Export a function that reads the value from proto.Params, as ehlo.ReadSize does, so that only one place parses it.
//
// # Add a verb
//
// Add a [proto.Verb] to Verbs, a row of the table that drives the engine. It names the states in which a client may
// send the verb, and the states to which its replies lead. The engine refuses the verb in any other state, so Serve
// need not look. Set Last unless other commands may follow the verb in a pipelined group (RFC 2920 section 3.1).
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
// Define a small interface, such as Locator above, and find it with [As]. Let Advertise look for it too, so that the
// server advertises only what the session can do:
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
// A client calls these functions only if the server advertises the keyword. Prepare is called for each message. It adds
// the parameters that the message needs, or returns an error to refuse the message: no byte of it has been sent by
// then. Return an [UnsupportedError] if the server does not take what the message needs, with the reason in Err; any
// other error means that the message is wrong.
//
// Negotiate does what has to be done before the first message, and Limits tells the client how much the server takes. A
// message that has a parameter of the extension, or needs a [Feature] that the extension provides, is only sent to
// servers that advertise it. For any other server the client refuses the message with an UnsupportedError.
//
// # Take the connection over
//
// A verb like STARTTLS, after which another protocol takes over, has proto.Handover as OK. On the server Serve calls
// Handover, which sends the reply and then calls a function with the connection. The session goes on with what the
// function returns:
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
// Both accept and connect are of the type func(context.Context, net.Conn) (net.Conn, error). Both ends then forget the
// session, and the client sends EHLO again. Negotiate is called again too: let Advertise return false where the
// protocol is in use already.
//
// # More than that
//
// A verb can carry on an exchange of lines ([Command].Challenge and [ClientConn].Line), give the connection away for
// good (Surrender), and begin a new session for another client (Restart). A verb among chunks can bring content from
// elsewhere (Extension.Fetch). A parameter can ask for an outcome for each recipient (Param.PerRecipient). Guard,
// CheckMail and CheckRcpt can refuse commands of others.
//
// Set [Role] if the extension is for submission servers only, or must not be advertised by them. server.New then
// returns an error if the extension is in the wrong kind of server. For most extensions the zero value, AnyServer, is
// right.
//
// # Test an extension
//
// Package exttest finds the mistakes that any extension can have. One call of its Test takes the extension, sample
// parameters and a session that takes part. It lets a server and a client use them, and names each rule that is broken.
// Package fake has a [Command] and a [Negotiation] for unit tests, fake.Server and fake.Client. The program
// examples/extension is a keyword, a parameter and a verb, with both ends and that test.
//
// # Compatibility
//
// Implement the interfaces by which a session takes part: your own, those of packages auth and ehlo, and
// [RecipientData]. They do not change. Do not implement [ServerConn], [Command], [Client], [ClientConn] and
// [Negotiation]: they may get more methods. Only the library implements them, and package fake has a stand-in for each.
//
// [Extension], [Param], [Envelope], [Policy] and [ServerLimits] may get more fields: write them with keyed fields.
// [Set] and [Offer] are for those who build a server or a client of their own; package server and package client make
// the set from their options. An Offer is opaque. The documentation of package smtp has the whole policy.
//
// # Decisions
//
// Extensions are values in a list, and there is no registry. So the options show what a server advertises, and two
// servers in a program can differ.
//
// Two extensions may describe the same parameter if both list its values, as 8BITMIME and BINARYMIME do with BODY. The
// server refuses a value while the extension that lists it is not advertised.
//
// A submission policy is an extension without a keyword, and not an option of the server. It uses the same Guard and
// checks as any extension, and a set can say what kind of server it makes (see [Role]).
package ext
