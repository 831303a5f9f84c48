package hostile

import (
	"strings"

	"smtpkit.example/smtp/proto"
)

// maxLetter is the size of the largest message that the server of the dialogues takes.
const maxLetter = 200

// dotted is content with dots in odd places, and dottedOnWire is how it is sent.
const (
	dotted       = "one\r\n.\r\n..two\r\n.three\r\n"
	dottedOnWire = "one\r\n..\r\n...two\r\n..three\r\n.\r\n"
)

var tooLarge = strings.Repeat("0123456789012345678\r\n", 12)

// dialogues returns the dialogues, which take each way that a message can go.
func dialogues() []dialogue {
	say := func(text string) stretch { return stretch{text: text + "\r\n", owed: 1, wait: true} }
	ahead := func(text string, owed int) stretch { return stretch{text: text + "\r\n", owed: owed} }
	last := func(text string, owed, letter int) stretch {
		return stretch{text: text, owed: owed, letter: letter, wait: true}
	}
	begin := func(to string) []stretch {
		return []stretch{say("MAIL FROM:<a@b.example>"), say("RCPT TO:<" + to + "@d.example>")}
	}
	join := func(lists ...[]stretch) (all []stretch) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	list := func(s ...stretch) []stretch { return s }
	quit := list(say("QUIT"))
	const mail = "MAIL FROM:<a@b.example>\r\nRCPT TO:<alice@d.example>\r\n"
	startTLS := stretch{text: "STARTTLS\r\n", owed: 1, wait: true, tls: true}

	return []dialogue{
		{
			name: "DATA",
			stretches: join(list(say("EHLO client.example")),
				begin("alice"), list(say("RCPT TO:<nobody@d.example>"), say("RCPT TO:<bob@d.example>")),
				list(say("DATA"), last(dottedOnWire, 1, 1)),
				begin("alice"), list(say("DATA"), last("spam\r\n.\r\n", 1, 2)),
				begin("alice"), list(say("RSET")),
				begin("bob"), list(say("DATA"), last(".\r\n", 1, 3)),
				quit),
			letters: []letter{
				{content: dotted, to: []string{"alice", "bob"}},
				{content: "spam\r\n", to: []string{"alice"}, refused: []string{"alice"}},
				{content: "", to: []string{"bob"}},
			},
		},
		{
			name: "malformed",
			stretches: join(list(say("EHLO client.example")),
				begin("alice"), list(say("DATA"), last("bare\nLF\r\n.\r\n", 1, 1)),
				begin("alice"), list(say("DATA"), last(tooLarge+".\r\n", 1, 2)),
				begin("alice"), list(say("DATA"), last("smuggled\r\n.\nMAIL FROM:<evil@b.example>\r\n.\r\n", 1, 3)),
				begin("alice"), list(say("DATA"), last("fine\r\n.\r\n", 1, 4)),
				quit),
			letters: []letter{
				{content: "bare\nLF\r\n", to: []string{"alice"}, refused: []string{"alice"}},
				{content: tooLarge, to: []string{"alice"}, refused: []string{"alice"}},
				{content: "smuggled\r\n", to: []string{"alice"}, refused: []string{"alice"}},
				{content: "fine\r\n", to: []string{"alice"}},
			},
		},
		{
			name: "pipelining",
			stretches: join(list(say("EHLO client.example")), list(
				stretch{text: mail + "RCPT TO:<nobody@d.example>\r\nDATA\r\n", owed: 4, wait: true},
				stretch{text: "first\r\n.\r\n", owed: 1, letter: 1},
				stretch{text: mail + "DATA\r\n", owed: 3, wait: true},
				stretch{text: "second\r\n.\r\n", owed: 1, letter: 2},
				ahead("NOOP", 1), ahead(mail+"RSET", 3)), quit),
			letters: []letter{{content: "first\r\n", to: []string{"alice"}}, {content: "second\r\n", to: []string{"alice"}}},
		},
		{
			name: "BDAT",
			stretches: join(list(say("EHLO client.example")),
				begin("alice"), list(last("BDAT 6\r\nfirst\r", 1, 0), last("BDAT 6 LAST\r\n\n.\r\nab", 1, 1)),
				begin("alice"), list(last("BDAT 7\r\nforget\r", 1, 0), say("RSET")),
				begin("alice"), list(last("BDAT 6\r\nspam\r\n", 1, 0), say("NOOP"), last("BDAT 0 LAST\r\n", 1, 2)),
				begin("bob"), list(last("BDAT 0 LAST\r\n", 1, 3)),
				quit),
			letters: []letter{
				{content: "first\r\n.\r\nab", to: []string{"alice"}},
				{content: "spam\r\n", to: []string{"alice"}, refused: []string{"alice"}},
				{content: "", to: []string{"bob"}},
			},
		},
		{
			name: "BDAT with pipelining",
			stretches: join(list(say("EHLO client.example")), list(
				stretch{text: mail + "BDAT 9\r\nchunk 1\r\n", owed: 3},
				stretch{text: "BDAT 9 LAST\r\nchunk 2\r\n", owed: 1, letter: 1},
				stretch{text: mail + "BDAT 8 LAST\r\nsecond\r\n", owed: 3, letter: 2},
				ahead("RSET", 1),
				stretch{text: mail + "BDAT 4\r\nab\r\nBDAT 7 LAST\r\nthird\r\n", owed: 4, letter: 3}), quit),
			letters: []letter{
				{content: "chunk 1\r\nchunk 2\r\n", to: []string{"alice"}},
				{content: "second\r\n", to: []string{"alice"}},
				{content: "ab\r\nthird\r\n", to: []string{"alice"}},
			},
		},
		{
			name: "LMTP", protocol: proto.LMTP,
			stretches: join(list(say("LHLO client.example")),
				begin("alice"), list(say("RCPT TO:<full@d.example>"), say("RCPT TO:<bob@d.example>")),
				list(say("DATA"), last(dottedOnWire, 3, 1)),
				begin("nobody"), begin("bob")[1:], list(say("DATA"), last("x\r\n.\r\n", 1, 2)),
				quit),
			letters: []letter{
				{content: dotted, to: []string{"alice", "full", "bob"}, refused: []string{"full"}},
				{content: "x\r\n", to: []string{"bob"}},
			},
		},
		{
			name: "LMTP with pipelining", protocol: proto.LMTP,
			stretches: join(list(say("LHLO client.example")), list(
				stretch{text: mail + "RCPT TO:<bob@d.example>\r\nBDAT 7 LAST\r\nfirst\r\n", owed: 5, letter: 1},
				stretch{text: mail + "RCPT TO:<full@d.example>\r\nDATA\r\n", owed: 4, wait: true},
				stretch{text: "second\r\n.\r\n", owed: 2, letter: 2},
				stretch{text: mail + "BDAT 3\r\nabc", owed: 3}, ahead("RSET", 1)), quit),
			letters: []letter{
				{content: "first\r\n", to: []string{"alice", "bob"}},
				{content: "second\r\n", to: []string{"alice", "full"}, refused: []string{"full"}},
			},
		},
		{
			name: "STARTTLS",
			stretches: join(list(say("EHLO client.example"), startTLS, say("EHLO client.example")),
				begin("alice"), list(say("DATA"), last("first\r\n.\r\n", 1, 1),
					stretch{text: mail + "BDAT 8 LAST\r\nsecond\r\n", owed: 3, letter: 2}), quit),
			letters: []letter{{content: "first\r\n", to: []string{"alice"}}, {content: "second\r\n", to: []string{"alice"}}},
		},
		{
			name: "implicit TLS", implicit: true,
			stretches: join(list(say("EHLO client.example")), list(
				stretch{text: mail + "DATA\r\n", owed: 3, wait: true},
				stretch{text: "first\r\n.\r\n", owed: 1, letter: 1},
				stretch{text: mail + "BDAT 8 LAST\r\nsecond\r\n", owed: 3, letter: 2}), quit),
			letters: []letter{{content: "first\r\n", to: []string{"alice"}}, {content: "second\r\n", to: []string{"alice"}}},
		},
	}
}
