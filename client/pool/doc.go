// Package pool sends mail over a few connections that many goroutines share.
//
//	p, err := pool.New("mail.example.org:587", &client.Options{Credentials: auth.Password("alice", "secret")}, nil)
//	if err != nil {
//		return err
//	}
//	defer p.Close(ctx)
//	…
//	result, err := p.Send(ctx, m) // from any goroutine
//
// Send says the same as [client.Client.Send]. A program that sends to many servers makes a [Group], which bounds all of
// its connections together, and gets a Pool for each server from it.
//
// # What it does
//
// A Pool makes a connection when a message would have to wait for one, up to [Options].MaxConnsPerHost. If the server
// takes pipelined commands, several messages are on their way on each connection: messages of different goroutines
// share its round trips. Messages that have to wait are sent in their order.
//
// A connection ends when it has had nothing to do for a while, and after so many messages or so much time; see
// [Options]. Those that a server states (RFC 9422) count too.
//
// # Connections that fail
//
// A connection may turn out to be dead, such as one that the server has closed while it had nothing to do. Its messages
// are sent over another one, and nobody is told, if it is certain that the server has accepted nothing of them. This
// goes for connections that have been used before. Otherwise the outcome is told as it is: a message whose end was on
// its way is in doubt (RFC 1047).
//
// If a server says 421 to a message, or refuses another connection, the pool keeps to the connections that it has. It
// tries for more after [Options].Pause. [Pool.Stats] tells what the server has said. If there is no connection, and
// none can be made, all messages that wait get the error.
//
// # Contexts
//
// The context of Send bounds the wait for the outcome and nothing else. When it ends, Send returns at once, the Body
// belongs to the caller again, and the connection serves others. The connections themselves live until the pool is
// closed.
//
// # Which messages share a connection
//
// All messages of a Pool do. Two Pools of a Group do if they have the same address and the same Options: the same
// pointer, or equal values of Hostname, Protocol, TLS and TLSConfig where nothing else is set. So a connection is never
// used under another TLS policy, identity, name or local address than its own.
package pool
