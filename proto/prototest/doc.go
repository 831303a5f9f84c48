// Package prototest has tools to test SMTP servers, clients, extensions and the engine itself:
//
//   - [Peer] is the client's end of a connection, which sends lines and expects replies;
//   - [Script] is a dialogue in a text file, which can be played to a server, a client or an engine;
//   - [EveryCut] gives the same octets to a Receiver cut in every way, and compares the outcomes;
//   - [Pair] joins a client's engine to a server's, and [RandomDialogue] looks for a disagreement between them;
//   - [Certificate] makes a certificate, and [Main] finds goroutines that tests have left behind.
//
// The tests of this library use them, and so can the tests of extensions.
package prototest
