// Package servertest has a mail server for the tests of programs that send mail, as net/http/httptest has one for HTTP.
//
// A test of a program that sends a message:
//
//	func TestWelcome(t *testing.T) {
//		srv := servertest.NewServer(t, nil)
//		app := myapp.New(myapp.Config{SMTP: srv.Addr, TLS: srv.ClientTLS()})
//		app.SignUp("joe@example.net")
//
//		m := srv.Inbox.Wait(servertest.To("joe@example.net"), servertest.Subject("Welcome"))
//		if !strings.Contains(m.Text(), "Hello Joe") {
//			t.Errorf("the text is %q", m.Text())
//		}
//	}
//
// The server listens on a port of the loopback interface, offers STARTTLS, accepts every message, and passes nothing
// on. It is closed when the test ends. If the test fails, what was said on the connections is logged.
//
// # Authentication, TLS, LMTP
//
// Options choose the kind of server:
//
//	users := map[string]string{"alice": "secret"}
//	servertest.NewServer(t, &servertest.Options{Users: users})                    // AUTH is offered
//	servertest.NewServer(t, &servertest.Options{Users: users, Submission: true})  // AUTH is required
//	servertest.NewServer(t, &servertest.Options{ImplicitTLS: true})               // as on port 465
//	servertest.NewServer(t, &servertest.Options{Certificate: servertest.Expired}) // does the client notice?
//	servertest.NewServer(t, &servertest.Options{NoTLS: true, Server: server.Options{Protocol: proto.LMTP}})
//
// A program that calls smtp.SendMail needs NoTLS: that function begins TLS on its own, and trusts the certificates of
// the system alone.
//
// Options.Server has all other options of a server, such as its limits and timeouts. Options.Backend is a backend of
// your own: what its sessions accept is in the Inbox as well.
//
// # Faults
//
// Declare what goes wrong, for a verb, or for what is no command: [Greeting], [Content], [Handshake], [Any].
//
//	srv.Fail("RCPT", 450).For("joe@example.net").Times(2) // refuse the recipient twice, then accept it
//	srv.Delay(servertest.Greeting, 10*time.Minute)        // greet late
//	srv.Drop(servertest.Content).Times(1)                 // accept the message, and hang up in place of the reply
//	srv.Truncate("EHLO", 20)                              // hang up in the middle of a reply
//	srv.DropContent(1000)                                 // hang up in the middle of a message
//	srv.Hide("STARTTLS")                                  // as a server that has no TLS
//	srv.Chaos(0, 0.05)                                    // anything, now and then; the seed is logged
//
// To refuse a message use Content. "DATA" stands for the command alone, and clients that send chunks by BDAT never send
// it. Commands and faults are written as here: a verb in upper case, without what is behind it.
//
// Faults act on what is inside of TLS too. If the test fails, the faults that have not acted are logged.
//
// # Without a network, and with a clock of its own
//
// With Options.Memory the connections are in memory, and the server works in a bubble of testing/synctest, where
// minutes of waiting take no time. Make the server inside of the bubble. Give the client the function
// [Server.DialContext]:
//
//	synctest.Test(t, func(t *testing.T) {
//		srv := servertest.NewServer(t, &servertest.Options{Memory: true})
//		opt := &client.Options{DialContext: srv.DialContext, TLSConfig: srv.ClientTLS()}
//		err := client.Send(t.Context(), srv.Addr, opt, message)
//		…
//	})
//
// [Listen] and [Pipe] are those connections without a server.
//
// # What a test can look at
//
// The [Inbox] has the messages in the order in which they were accepted. Wait waits for one that matches all conditions
// given, such as [To] and [Subject], and says what arrived instead if none does. A [Message] has the envelope with its
// parameters, the octets, the header as net/mail parses it, and how it came: TLS, user, address and time.
// [Server.Transcripts] has what was said on each connection.
//
// # Test a backend
//
// [TestBackend] is for those who write a server.Backend. It tests whether sessions keep the rules of server.Session,
// one subtest for each rule: that a message which was cut off is not kept, that one which was accepted is kept once,
// that a method returns when its context has ended, and so on.
//
//	func TestMaildir(t *testing.T) {
//		b := newMaildirBackend(t.TempDir())
//		servertest.TestBackend(t, b, &servertest.BackendOptions{Kept: b.messages})
//	}
//
// # Decisions
//
// What refuses a command does so in front of the session: if the reply alone were changed, the server would deliver to
// a recipient whom the client takes for refused. What spoils a reply does it behind the server's back, which has
// accepted the message: that is what happens when a connection is lost.
//
// The clients of these servers are those of the program under test. To test a client against a server that says
// something particular, or something that is no SMTP, package clienttest has one that follows a script.
package servertest
