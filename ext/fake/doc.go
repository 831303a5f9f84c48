// Package fake is for unit tests of extensions: a [Server] and a [Client] that exist only in memory. They stand in for
// the connections that package server and package client give to an extension.
//
// Say that Greeter returns an extension with a verb XGREET, and a Negotiate that sends it.
//
// To test what a server does, describe the connection, have the extension serve a command, and look at the reply:
//
//	x := fake.NewServer(&session{})
//	if got := x.Serve(t, Greeter(), "alice"); got != "250 2.0.0 Hello alice" {
//		t.Errorf("the reply is %q", got)
//	}
//
// Functions such as CheckMail, Guard and Advertise take the same Server. [Reply] and [Refusal] show what they returned
// as it would be on the wire.
//
// To test what a client does, say what the server advertises and how it replies, and look at what was sent:
//
//	c := &fake.Client{Conn: fake.ClientState{Caps: fake.Caps("XGREET")}, Replies: []proto.Reply{{Code: 250}}}
//	if err := Greeter().Negotiate(t.Context(), c); err != nil || len(c.Sent) != 1 {
//		t.Errorf("%v, sent %q", err, c.Sent)
//	}
//
// The zero Server and the zero Client are connections in plaintext, ready for a command. A field that is not set has
// the default that its comment gives. Set what the test is about.
//
// The fakes check no rules. The Server serves a command in any state, and the Client sends a verb that nobody
// advertised. A test that needs the rules uses package exttest, which has a real server and a real client use the
// extension.
//
// Interfaces of package ext may get more methods in later versions. The fakes get them at the same time, which is why a
// test should use these rather than types of its own.
//
// A Server or a Client must not be used by several goroutines at once.
package fake
