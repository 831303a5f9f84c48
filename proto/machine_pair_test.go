package proto_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/proto/prototest"
)

// The verbs by which the engine is tried out: an exchange, a hand-over and counted chunks, as RFC 4954, RFC 3207 and
// RFC 3030 have them.
func verbs() []proto.Verb {
	payload := func(args []byte) (int64, *proto.Error) {
		bad := &proto.Error{Code: 501, Text: "bad size"}
		size, rest, _ := strings.Cut(string(args), " ")
		n := int64(0)
		for _, c := range []byte(size) {
			if c < '0' || c > '9' || n > 1<<40 {
				return -1, bad
			}
			n = 10*n + int64(c-'0')
		}
		switch {
		case size == "":
			return -1, bad
		case rest != "" && rest != "LAST":
			return n, bad
		}
		return n, nil
	}
	last := &proto.Verb{Name: "BDAT", In: proto.Rcpt | proto.Chunks, OK: proto.Ready, Fail: proto.Ready, PerRcpt: true, Payload: payload}
	variant := func(args []byte) *proto.Verb {
		if bytes.HasSuffix(args, []byte(" LAST")) {
			return last
		}
		return nil
	}
	return []proto.Verb{
		{Name: "AUTH", In: proto.Ready, Last: true, More: proto.Exchange, Grow: 100},
		{Name: "STARTTLS", In: proto.Ready, Last: true, OK: proto.Handover},
		{Name: "MAIL", Split: func(args []byte) bool { return bytes.HasSuffix(args, []byte(" EACH")) }},
		{Name: "BDAT", In: proto.Rcpt | proto.Chunks, OK: proto.Chunks, Fail: proto.Broken, Payload: payload, Variant: variant},
	}
}

func table(t testing.TB, p proto.Protocol) *proto.Table {
	t.Helper()
	table, err := proto.NewTable(p, verbs()...)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// arguments returns what a random dialogue sends with a verb.
func arguments(rnd *rand.Rand, v *proto.Verb) (args, payload string) {
	if v.Split != nil && rnd.IntN(2) == 0 {
		return "x EACH", ""
	}
	if v.Payload == nil {
		return "x", ""
	}
	payload = strings.Repeat("chunk\r\n", rnd.IntN(4))
	args = fmt.Sprint(len(payload))
	if rnd.IntN(2) == 0 {
		args += " LAST"
	}
	return args, payload
}

// TestRandomDialogues looks for a disagreement between the two ends (law 1 and 2).
func TestRandomDialogues(t *testing.T) {
	steps := 500_000
	if testing.Short() {
		steps = 20_000
	}
	for _, p := range []proto.Protocol{proto.SMTP, proto.LMTP} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			agreed := prototest.RandomDialogue(t, table(t, p), rand.New(rand.NewPCG(seed, uint64(p))), steps, arguments)
			for s := proto.Hello; s <= proto.Closed; s <<= 1 {
				if agreed[s] == 0 {
					t.Errorf("the dialogues never came to %v", s)
				}
			}
			t.Log(agreed)
		})
	}
}

func FuzzDialogue(f *testing.F) {
	f.Add(uint64(1), true)
	f.Add(uint64(2), false)
	f.Fuzz(func(t *testing.T, seed uint64, lmtp bool) {
		p := proto.SMTP
		if lmtp {
			p = proto.LMTP
		}
		prototest.RandomDialogue(t, table(t, p), rand.New(rand.NewPCG(seed, 0)), 300, arguments)
	})
}

// TestSplit plays transactions whose content gets an outcome for each recipient, with the next message in flight.
func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		name    string
		chunks  bool
		rcpts   int
		replies []int // to the content
		last    int   // of the second message's, which asks for nothing
	}{
		{"content", false, 2, []int{353, 250, 550, 250}, 250},
		{"chunks", true, 3, []int{353, 450, 550, 250, 250}, 250},
		{"all refused", false, 2, []int{353, 550, 550, 550}, 250},
		{"one recipient", true, 1, []int{353, 250, 250}, 554},
		{"a single reply", false, 2, []int{250}, 250},
		{"a single refusal", true, 2, []int{552}, 250},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tb := table(t, proto.SMTP)
			verb := tb.Lookup
			p := prototest.NewPair(tb)
			p.TX.SetGroups(true)
			codes := append(slices.Clone(tt.replies), tt.last)
			p.Answer = func(ev proto.Event) proto.Reply {
				if ev.Kind == proto.EndOfBody || ev.Verb.Ends() {
					code := codes[0]
					codes = codes[1:]
					return proto.Reply{Code: code}
				}
				return prototest.Accept(ev)
			}
			do := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			deliver := func() {
				t.Helper()
				for !p.Quiet() {
					do(p.Deliver(7))
				}
			}
			do(p.Greet())
			deliver()
			do(p.Command(verb("EHLO"), "x"))
			deliver()
			for _, args := range []string{"FROM:<> EACH", "FROM:<>"} {
				do(p.Command(verb("MAIL"), args))
				for range tt.rcpts {
					do(p.Command(verb("RCPT"), "TO:<a@b.example>"))
				}
				if tt.chunks {
					do(p.Command(verb("BDAT"), "5"))
					do(p.Payload("hello"))
					do(p.Command(verb("BDAT"), "0 LAST"))
					continue
				}
				do(p.Command(verb("DATA"), ""))
				deliver()
				do(p.Content("hello\r\n"))
			}
			deliver()
			before := p.Replies
			do(p.Command(verb("NOOP"), ""))
			deliver()
			if len(codes) != 0 || p.Replies != before+1 || p.TX.Outstanding() != 0 || p.TX.State() != proto.Ready || p.RX.State() != proto.Ready {
				t.Errorf("%v left, the client is in %v and the server in %v", codes, p.TX.State(), p.RX.State())
			}
		})
	}
}

// TestSplitNot has servers answer 353 where it has no place.
func TestSplitNot(t *testing.T) {
	for _, tt := range []struct {
		name     string
		protocol proto.Protocol
		mail     string
		before   []string // further commands
		replies  []int    // to the last of them, of which the last one is out of place
	}{
		{"not asked for", proto.SMTP, "FROM:<>", []string{"BDAT 0 LAST"}, []int{353}},
		{"twice", proto.SMTP, "FROM:<> EACH", []string{"BDAT 0 LAST"}, []int{353, 353}},
		{"late", proto.SMTP, "FROM:<> EACH", []string{"BDAT 0 LAST"}, []int{353, 250, 353}},
		{"another code", proto.SMTP, "FROM:<> EACH", []string{"BDAT 0 LAST"}, []int{354}},
		{"354 for a recipient", proto.SMTP, "FROM:<> EACH", []string{"BDAT 0 LAST"}, []int{353, 354}},
		{"too many", proto.SMTP, "FROM:<> EACH", []string{"BDAT 0 LAST"}, []int{353, 250, 250, 250}},
		{"not the last chunk", proto.SMTP, "FROM:<> EACH", []string{"BDAT 0"}, []int{353}},
		{"not content", proto.SMTP, "FROM:<> EACH", []string{"RCPT x"}, []int{353}},
		{"LMTP", proto.LMTP, "FROM:<> EACH", []string{"BDAT 0 LAST"}, []int{353}},
		{"the message before asked", proto.SMTP, "FROM:<> EACH", []string{"RSET", "MAIL FROM:<>", "RCPT x", "BDAT 0 LAST"}, []int{353}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tb := table(t, tt.protocol)
			m := proto.NewMachine(tb)
			step := func(line string) {
				t.Helper()
				v := tb.Lookup(line[:4])
				if err := m.Command(v, []byte(line[min(len(line), 5):])); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
			}
			reply := func(code int) {
				t.Helper()
				if _, err := m.Reply(code); err != nil {
					t.Fatalf("%d: %v", code, err)
				}
			}
			reply(220)
			hello := "EHLO x"
			if tt.protocol == proto.LMTP {
				hello = "LHLO x"
			}
			for _, line := range append([]string{hello, "MAIL " + tt.mail, "RCPT x"}, tt.before...) {
				step(line)
				if line != tt.before[len(tt.before)-1] {
					reply(250)
				}
			}
			last := len(tt.replies) - 1
			for _, code := range tt.replies[:last] {
				reply(code)
			}
			due := m.Due()
			if _, err := m.Reply(tt.replies[last]); !errors.Is(err, proto.ErrOutOfStep) || m.Due() != due {
				t.Errorf("%d: %v, and %d replies are due, %d before", tt.replies[last], err, m.Due(), due)
			}
		})
	}
}

// TestSplitRefused shows that a MAIL that was refused leaves the transaction's wish as it was, and that 421 ends all of
// it.
func TestSplitRefused(t *testing.T) {
	tb := table(t, proto.SMTP)
	m := proto.NewMachine(tb)
	for _, s := range []struct {
		line string
		code int
		want bool
	}{
		{"", 220, false}, {"EHLO x", 250, false}, {"MAIL x EACH", 550, false}, {"MAIL x", 250, false}, {"RSET", 250, false},
		{"MAIL x EACH", 250, true}, {"RCPT x", 250, true}, {"BDAT 0 LAST", 353, true}, {"", 421, false},
	} {
		if s.line != "" {
			if err := m.Command(tb.Lookup(s.line[:4]), []byte(s.line[min(len(s.line), 5):])); err != nil {
				t.Fatalf("%s: %v", s.line, err)
			}
		}
		if _, err := m.Reply(s.code); err != nil {
			t.Fatalf("%d to %q: %v", s.code, s.line, err)
		}
		if m.Splits() != s.want {
			t.Errorf("after %d to %q it splits: %t", s.code, s.line, m.Splits())
		}
	}
	if m.Now() != proto.Closed {
		t.Errorf("after 421 in the middle the session is in %v", m.Now())
	}
}
