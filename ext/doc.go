// Package ext describes SMTP service extensions, and has those of everyday use.
//
// RFC 5321 section 2.2.2 says what defines an extension: its name, its EHLO keyword and the keyword's arguments, the
// verbs it adds, the parameters it adds to MAIL and RCPT, what it does to the behaviour of each side, and by how much
// it lengthens command lines. An [Extension] is that list as a struct. Package server and package client know none by
// name; they work with the [Set] made of the list in their options, which is [Default] if there is none: the first part
// of this table. What stands for the server in it is mostly the interface by which a session takes part; without it the
// extension is not on offer.
//
//	keyword              RFC                  on a server                       on a client
//	PIPELINING           2920                 offered                           commands leave in groups
//	SIZE                 1870                 limit; 552; SizeSession           SIZE=, or TooLargeError
//	8BITMIME             6152                 offered                           BODY=8BITMIME, or UnsupportedError
//	ENHANCEDSTATUSCODES  2034                 replies have status codes         they are read
//	STARTTLS             3207                 with a TLS configuration          as Policy.TLS says, or TLSError
//	AUTH                 4954; see Auth       Passwords and others; Submitter   Policy.Credentials, or AuthError
//	SMTPUTF8             6531                 UTF-8 in addresses                SMTPUTF8, or UnsupportedError
//	CHUNKING             3030 section 2       BDAT                              in place of DATA
//	BINARYMIME           3030 section 3       no DATA for such content          BODY=BINARYMIME, or UnsupportedError
//	HELP                 5321 section 4.1.1.8 Helper, or a list of commands     Do
//	VRFY                 5321 section 4.1.1.6 VRFYSession, or 252                  Do
//	EXPN                 5321 section 4.1.1.7 EXPNSession                          Do
//	DSN                  3461, 6533           DSNSession                          DSNMail and DSNRcpt, or UnsupportedError
//	REQUIRETLS           8689                 under TLS; RequireTLSSession              AddRequireTLS; verified, or UnsupportedError
//	MT-PRIORITY          6710                 MTPrioritySession                       Priority, or UnsupportedError
//	DELIVERBY            2852                 DeliverBySession                         By, or UnsupportedError
//	RRVS                 7293                 RRVSSession                  ValidSince, or UnsupportedError
//	LIMITS               9422                 RCPTMAX; Limited                  more transactions and connections
//	(none)               5321 appendix F      502 for SEND, TURN and the like   refused; see Obsolete
//
//	CONNEG               4141 section 5       ConNegSession                 AddConNeg, or UnsupportedError
//	CONPERM              4141 section 4       Converter                         AddConPerm, or UnsupportedError
//	ETRN                 1985                 ETRNSession                      SendETRN
//	FUTURERELEASE        4865                 Holder                            Hold, or UnsupportedError
//	MTRK                 3885                 Tracker                           Tracking, or UnsupportedError
//	NO-SOLICITING        3865                 550; NoSolicitingSession                  Solicitation, or UnsupportedError
//	SUBMITTER            4405                 SubmitterSession                  AddResponsible
//	ATRN                 2645                 ATRNSession                          SendATRN
//	BURL                 4468                 BURLSession                       SendBURL
//	PRDR                 draft-hall-prdr      server.RecipientData              PRDR, for several recipients
//	XCLIENT              Postfix              from the networks given to it     SendXCLIENT
//	XFORWARD             Postfix              likewise; XFORWARDSession          SendXFORWARD
//
// # Ready sets
//
// [Default] suits a server that does everything. [Relay] is for one that takes mail from anybody for its own domains,
// [LMTP] for one that delivers into mailboxes, and [Submission] for one that users hand their mail to: it has the rules of
// RFC 6409 with it, a [SubmissionPolicy]. A [SubmissionSession] says there who may send from which address. What must not be
// offered by a server of that kind, or by any other, says so in its [Role], and the server refuses to use it.
//
// # How to write an extension
//
// It takes one file, in any module. Write a function that returns the Extension, and add its value to the list:
//
//	opt.Extensions = append(ext.Default(), priority.Extension())
//
// The keyword is one that IANA has registered or one that begins with X (RFC 5321 section 2.2.2). A parameter is a
// [Param]: give its longest length, with the space before it, and a Check of its syntax. The server refuses it with
// 555 unless it was offered, with 501 if it is malformed, and hands it to the session in proto.Params otherwise;
// export a function that reads the value from there, as [ReadSize] does, so that nobody parses it twice.
//
// What only some sessions can do is a small interface in the same file, found with [As]; Advertise looks for it, so
// that nothing is offered that cannot be done. Extensions do not keep state: it belongs to the session, or to the
// value that the constructor closes over, which all sessions share.
//
// A verb is a row for the engine: the states in which it may be sent, and the states its replies lead to. The engine
// refuses it elsewhere, so that Serve need not look. Serve returns the reply as a *proto.Error, a positive one
// included; nil is 250, and any other error is logged and answered 451. Set Last unless the verb may have others
// behind it in a group (RFC 2920 section 3.1).
//
// An extension that is more than that has these ways: a verb may carry on an exchange (Command.Challenge), hand the
// connection over to another protocol (Handover) or give it away (Surrender), or have the session begin anew for
// another client (Restart). A verb that may come among chunks can bring content from elsewhere (Fetch). A parameter can
// ask for an outcome for each recipient (Param.PerRecipient).
//
// On a client, Prepare adds what a message needs and Connect does what has to be done before the first message. Both
// are called only if the server offered the keyword; what cannot be done is said before a byte of the message is
// sent. Bound tells the client how much the server takes.
//
// Package ext/exttest tests whether an extension keeps to all that: one call of its Test, with values of the parameters and
// a session that takes part, has a server and a client use it, and names each rule that is broken. The example in
// examples/extension is a keyword, a parameter and a verb with both ends and that test.
//
// # Decisions
//
// A submission policy is an extension without keyword, not an option of the server: what it decides with are the same
// Guard and checks that any extension has, and a set can be asked what kind of server it makes.
//
// AUTH has no switch. It is offered if the session can authenticate and the connection is safe, so that it cannot be
// offered in vain. PasswordSession.Authenticate returns an error rather than a bool since there are three outcomes, and a
// database that is down must not tell a million clients that their passwords are wrong: only ErrCredentials says so.
//
// No mechanism is offered in clear, SCRAM no more than PLAIN, unless the operator allows it: whoever listens to SCRAM can
// try passwords at leisure, and take the session over once it is authenticated. A session that then wants SCRAM alone is
// a FilterSession.
//
// A failure to authenticate is answered after a second rather than by a delay that grows, since clients that guess use
// many connections. It is counted from the client's last line, so that it covers what the check took.
//
// BODY is a parameter of both 8BITMIME and BINARYMIME. Two extensions may describe the same parameter if both list
// its values, and a value is as good as not there while its extension is not on offer.
package ext
