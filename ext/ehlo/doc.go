// Package ehlo has the SMTP service extensions, one file for each EHLO keyword, and the lists of them that servers and
// clients use. AUTH is in package [smtpkit.example/smtp/ext/auth]. To write an extension, see package
// [smtpkit.example/smtp/ext].
//
// # Which list to use
//
// Leave Extensions nil in the options: a server or client then uses [Default], or [LMTP] in that protocol. That is
// right for every client. A server of one kind has a better list:
//
//	&server.Options{Extensions: ehlo.Submission(ehlo.SubmissionPolicy{})} // users submit mail, on ports 465 and 587
//	&server.Options{Extensions: ehlo.Relay()}                             // strangers deliver to its domains, on port 25
//	&server.Options{Extensions: append(ehlo.Default(), ehlo.ETRN())}      // one extension more
//
// A [SubmissionPolicy] in the list makes a server a submission server (ext.MakesSubmission): it refuses mail from
// clients that have not authenticated, and applies the other rules of RFC 6409. [Submission] contains one. Some
// extensions are only for such a server, and others must not be on it. server.New returns an error for a list that is
// wrong in this respect.
//
// # How a client asks for a notification, and reads it
//
// Add the parameters of DSN to the message, the ones of MAIL to Mail and those of RCPT to each recipient:
//
//	m.Mail = ehlo.DSNMail{Return: ehlo.ReturnHeaders, EnvID: ehlo.NewEnvID()}.AddTo(m.Mail)
//	for i := range m.To {
//		dsn := ehlo.DSNRcpt{Notify: ehlo.NotifySuccess | ehlo.NotifyFailure}
//		m.To[i].Params = dsn.AddTo(m.To[i].Params)
//	}
//
// The notification is a message to the reverse-path. Parse it with report.Parse of package
// [smtpkit.example/smtp/ext/report], and recognise it by the EnvID.
//
// All parameters work like this. The type of the value has a method AddTo. A flag, such as REQUIRETLS, has a function
// in its place:
//
//	m.Mail = ehlo.Priority(3).AddTo(m.Mail)
//	m.Mail = ehlo.AddRequireTLS(m.Mail)
//
// # How a server learns a parameter
//
// Mail and Rcpt of a session get the parameters of their command. For each there is a function that reads it. It
// reports false if the client did not send the parameter:
//
//	func (s *session) Mail(ctx context.Context, from proto.Address, p proto.Params) error {
//		if priority, ok := ehlo.ReadPriority(p); ok {
//			s.priority = priority
//		}
//		return nil
//	}
//
// A session never gets a malformed parameter, or one whose extension is not advertised: the server refuses them with
// 501 and 555.
//
// # How to send a command
//
// A command has a function that sends it, such as [SendETRN], [SendATRN], [SendBURL], [SendXCLIENT] and [SendXFORWARD].
// These extensions are in no default list of a client, except BURL in [Submission], so add them:
//
//	c, err := client.Dial(ctx, addr, &client.Options{Extensions: append(ehlo.Default(), ehlo.ETRN())})
//	…
//	pending, err := ehlo.SendETRN(ctx, c, ehlo.Node{Name: "customer.example"})
//
// VRFY, EXPN and HELP need no function: call Do of the client.
//
// # Why an extension is not advertised
//
// A server advertises an extension if all of these are true:
//
//   - It is in the list of the options.
//   - The session implements the interface of the extension, such as [DSNSession], and its method does not decline. A
//     method with the right name and a wrong signature does not count: write var _ ehlo.DSNSession = (*session)(nil)
//     beside the session.
//   - The connection is fit for it. STARTTLS needs a TLS configuration, and plaintext. REQUIRETLS needs TLS, and so
//     does AUTH unless AllowInsecureAuth is set. BURL and FUTURERELEASE are not advertised on port 25, and ETRN is not
//     on ports 465 and 587. PRDR is not advertised in LMTP. XCLIENT and XFORWARD need a peer in a trusted network.
//   - The extensions that it requires are advertised, such as 8BITMIME for SMTPUTF8.
//
// A client takes a keyword as not offered if it is in Without of its options.
//
// # What happens to a message that needs what the server lacks
//
// The client does not send the message. Send returns an [ext.UnsupportedError], which names the keyword and has the
// status code to report. Nothing of the message was sent, and the client can send others. If a parameter may be
// dropped, drop it and send the message again. SIZE is different: a message larger than the server's limit is a
// [TooLargeError].
//
// # Limits of the server
//
// A client that has [Limits] in its list keeps to the limits of the server by itself. It ignores limits that arrive in
// plaintext if the server offers STARTTLS: an attacker may have written them.
//
// # The extensions
//
// The first part of the table is [Default], in its order. Add the others to a list; FUTURERELEASE and BURL come with
// [Submission], and work only there. The server column names the interface that a session has to implement for the
// extension to be advertised, or what the server does. The client column names what a program uses, and the error for a
// message that needs what the server does not offer.
//
//	keyword              RFC                  on a server                       on a client
//	PIPELINING           2920                 advertised                        commands leave in groups
//	SIZE                 1870                 limit; 552; SizeSession           SIZE=, or TooLargeError
//	8BITMIME             6152                 advertised                        BODY=8BITMIME, or UnsupportedError
//	ENHANCEDSTATUSCODES  2034                 replies have status codes         the client reads them
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
//	SUBMITTER            4405                 SubmitterSession                  AddResponsible, or UnsupportedError
//	ATRN                 2645                 ATRNSession                       SendATRN
//	BURL                 4468                 BURLSession                       SendBURL
//	PRDR                 draft-hall-prdr      server.RecipientData              PRDR, for several recipients
//	XCLIENT              Postfix              for the networks given to it      SendXCLIENT
//	XFORWARD             Postfix              the same; XFORWARDSession         SendXFORWARD
//
// # Decisions
//
// The parameters for which a server decides, such as MT-PRIORITY, have no default values: without the parameter the
// session sees nothing, as the RFCs say.
//
// BURL and FUTURERELEASE are for submission: only a server that knows its users fetches content for them (RFC 4468
// section 3.1) and holds their messages (RFC 4865 section 4.2).
package ehlo
