// Package exttest tests whether an SMTP service extension keeps the rules that the others rely on. It is for authors of
// extensions:
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
// [Test] has the real server and the real client use the extension over pipes in memory, beside all of [ehlo.Default]. What
// it finds names the rule that was broken, with the section of the RFC, and says what to do: the first flaw of a kind, and
// how many there are like it. Where something is found the test ends soon, lest it tell the same in other words: mend that
// and run it again. In short, these are the rules:
//
//   - The description is well-formed, and goes with every other extension of the library, wherever in the list it stands.
//   - Advertise copes with every session, in SMTP and LMTP, with TLS and without, and what it returns can be sent. Clients
//     that do not use the extension are served as if it were not there; one without a keyword may refuse some of them.
//   - A parameter is accepted where the extension is on offer, in any case, and reaches the session as it was sent. Unknown
//     it is answered 555; malformed, twice, with a value too many or one too few, 501. Lines grow by its Length and no more.
//   - Check decides, always alike, whatever the value is, and says why in words that a reply can carry.
//   - A verb has one reply, one that its row knows, in whatever state and with whatever arguments it comes, and the same
//     however the octets were cut on the way. It is refused where the extension is not on offer, and known where it is.
//   - The client sends nothing of the extension to a server that does not offer it. Prepare adds what the description has,
//     to a copy. What the client sends, the server of the same extension accepts.
//   - Sessions do not get in each other's way; use the flag -race.
//
// It knows nothing of what the extension is for: the dialogues of a [Sample] and tests of its own are for that. Nor does it
// know whether IANA has registered a keyword that does not begin with X. A function that panics is reported; one that does
// not return within ten seconds is left behind, and if that happens over and over, the test is given up.
package exttest
