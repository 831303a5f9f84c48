// Package exttest tests whether an SMTP service extension keeps the rules that servers, clients and other extensions
// rely on. It is for authors of extensions:
//
//	func TestXTrace(t *testing.T) {
//		exttest.Test(t, XTrace(), exttest.Sample{
//			Session: func() any { return &session{} },
//			Mail:    []string{"XTRACE=c0ffee"},
//			BadMail: []string{"XTRACE=coffee"},
//			Dialogues: []string{`
//	C: XWHERE c0ffee
//	S: 250 2.0.0 *
//	`},
//		})
//	}
//
// [Test] lets the real server and the real client use the extension over pipes in memory, beside all extensions of
// ehlo.Default. Each error names the rule that was broken, with the section of the RFC, and says what to do. Of several
// errors of a kind it reports the first, and the number of the others. The test ends soon after it has found something,
// since the rest would mostly be the same mistake in other words: correct it and run the test again.
//
// # The rules
//
//   - The description is well-formed. The extension works beside every other extension of the library, at any place in
//     the list.
//   - If it depends on the session whether the extension is advertised, Interfaces names an interface of the session's.
//   - Advertise works for every session, in SMTP and LMTP, with TLS and without, and the server can send what it
//     returns. Clients that do not use the extension are served as if it did not exist. An extension without a keyword
//     may refuse some of them.
//   - Where the extension is advertised, its parameters are accepted, in any case, and reach the session as they were
//     sent. An unknown parameter gets 555. A malformed one gets 501, and so does one that is repeated, or has a value
//     too many, or lacks one. Command lines grow by its MaxLength and no more.
//   - Check always decides in the same way, for every possible value. A reply can carry its texts.
//   - A verb gets one reply in every state and with all arguments, one that its row permits. The reply does not depend
//     on how the octets were cut on the way. The verb is refused where the extension is not advertised, and known where
//     it is.
//   - The client sends nothing of the extension to a server that does not advertise it. Prepare adds only what the
//     description has, to a copy. The server accepts what the client of the same extension sends.
//   - Sessions do not disturb each other. Run the test with the flag -race.
//
// A function that panics is reported. If a function does not return within ten seconds, the test goes on without it;
// after a few of these it is given up.
//
// # What it does not test
//
// The test does not know what the extension is for: write the dialogues of a [Sample], and tests of your own. Nor does
// it know whether IANA has registered a keyword that does not begin with X.
//
// # Decisions
//
// This package stands under ext but imports server and client, against the direction in which the packages of the
// library import each other. Half of the rules are about both ends at once: the server must accept what the client
// sends, and neither may use the extension without the other. With one call an author cannot forget one end, and one
// Sample describes the extension to both. No package of the library imports this one, so no program contains it; only
// tests do.
package exttest
