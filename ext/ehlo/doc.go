// Package ehlo has the SMTP service extensions, one file for each EHLO keyword, and the lists of them that servers and clients use.
// Authentication has a package of its own, [smtpkit.example/smtp/ext/auth].
//
// # Which extensions to use
//
// Leave the Extensions of a server's or client's options nil, and it uses [Default], or [LMTP] in that protocol. For a server of one
// kind there are better lists:
//
//	&server.Options{Extensions: ehlo.Submission(ehlo.SubmissionPolicy{})} // users hand their mail to it, on 465 and 587
//	&server.Options{Extensions: ehlo.Relay()}                             // takes mail from anybody for its own domains, on 25
//	&server.Options{Extensions: append(ehlo.Default(), ehlo.ETRN())}      // one more
//
// [Submission] has the rules of RFC 6409 with it: a [SubmissionPolicy], and a [SubmissionSession] says who may send from which
// address. A server refuses a list with an extension that must not be offered by a server of its kind.
//
// # How to use one
//
// Many extensions need nothing. Where a session has a part, it implements the interface named after the extension, such as
// [DSNSession]; without it the server does not advertise the extension.
//
// A parameter has a function that reads it from those that Mail or Rcpt of a session is given. Its value has a method AddTo that
// adds it to those of a client's message. A flag, and a value that is only an address, has a function Add in place of that:
//
//	priority, ok := ehlo.ReadPriority(params)
//	message.Mail = ehlo.Priority(3).AddTo(message.Mail)
//	message.Mail = ehlo.AddRequireTLS(message.Mail)
//
// A command has a function that sends it over a client, such as [SendETRN].
//
// The first part of this table is [Default]. The rest is to be added to a list; FUTURERELEASE and BURL come with [Submission].
// The server column names what a session has to be for the extension to be advertised. The client column names what a program
// uses, and the error for a message that needs what the server does not offer.
//
//	keyword              RFC                  on a server                       on a client
//	PIPELINING           2920                 advertised                        commands leave in groups
//	SIZE                 1870                 limit; 552; SizeSession           SIZE=, or TooLargeError
//	8BITMIME             6152                 advertised                        BODY=8BITMIME, or UnsupportedError
//	ENHANCEDSTATUSCODES  2034                 replies have status codes         they are read
//	STARTTLS             3207                 with a TLS configuration          as Policy.TLS says, or TLSError
//	AUTH                 4954, package auth   auth.PasswordSession and others   Policy.Credentials, or AuthError
//	SMTPUTF8             6531                 UTF-8 in addresses                SMTPUTF8, or UnsupportedError
//	CHUNKING             3030 section 2       BDAT                              in place of DATA
//	BINARYMIME           3030 section 3       no DATA for such content          BODY=BINARYMIME, or UnsupportedError
//	HELP                 5321 section 4.1.1.8 HelpSession, or a list            Do
//	VRFY                 5321 section 4.1.1.6 VRFYSession, or 252               Do
//	EXPN                 5321 section 4.1.1.7 EXPNSession                       Do
//	DSN                  3461, 6533           DSNSession                        DSNMail, DSNRcpt, or UnsupportedError
//	REQUIRETLS           8689                 under TLS; RequireTLSSession      AddRequireTLS, or UnsupportedError
//	MT-PRIORITY          6710                 MTPrioritySession                 Priority, or UnsupportedError
//	DELIVERBY            2852                 DeliverBySession                  By, or UnsupportedError
//	RRVS                 7293                 RRVSSession                       ValidSince, or UnsupportedError
//	LIMITS               9422                 RCPTMAX; LimitsSession            more transactions and connections
//	(none)               5321 appendix F      502 for SEND, TURN and so on      not sent; see Obsolete
//
//	CONNEG               4141 section 5       ConNegSession                     AddConNeg, or UnsupportedError
//	CONPERM              4141 section 4       ConPermSession                    AddConPerm, or UnsupportedError
//	ETRN                 1985                 ETRNSession                       SendETRN
//	FUTURERELEASE        4865                 FutureReleaseSession              Hold, or UnsupportedError
//	MTRK                 3885                 MTRKSession                       Tracking, or UnsupportedError
//	NO-SOLICITING        3865                 550; NoSolicitingSession          Solicitation, or UnsupportedError
//	SUBMITTER            4405                 SubmitterSession                  AddResponsible
//	ATRN                 2645                 ATRNSession                       SendATRN
//	BURL                 4468                 BURLSession                       SendBURL
//	PRDR                 draft-hall-prdr      server.RecipientData              PRDR, for several recipients
//	XCLIENT              Postfix              for the networks given to it      SendXCLIENT
//	XFORWARD             Postfix              likewise; XFORWARDSession         SendXFORWARD
//
// # Decisions
//
// MT-PRIORITY and the other parameters for which the server decides have no default values of ours: without the parameter the session
// sees nothing, as the RFCs say.
//
// Limits that a server states are believed only over TLS if it offers TLS: somebody in between may have written them.
package ehlo
