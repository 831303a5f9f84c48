package proto

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestEncoderSkip compares Skip with Append: for all short texts, behind all short texts. What Skip takes, Append would
// have left as it is, and both lead to the same state. What Skip does not take, Append changes, or it has to do with a
// CR whose LF may be in another piece; then Skip changes nothing.
func TestEncoderSkip(t *testing.T) {
	texts := []string{""}
	for i := 0; len(texts[i]) < 4; i++ {
		for _, c := range "\r\n.x" {
			texts = append(texts, texts[i]+string(c))
		}
	}
	skipped := 0
	for _, dots := range []bool{true, false} {
		for _, before := range texts {
			for _, text := range texts {
				skips, appends := Encoder{Dots: dots}, Encoder{Dots: dots}
				skips.Append(nil, []byte(before))
				appends.Append(nil, []byte(before))
				was := skips
				got := skips.Skip([]byte(text))
				same := bytes.Equal(appends.Append(nil, []byte(text)), []byte(text))
				acrossCR := text != "" && (was.cr || text[len(text)-1] == '\r')
				if want := same && !acrossCR; got != want {
					t.Fatalf("%q behind %q, dots %v: Skip is %v, want %v", text, before, dots, got, want)
				}
				if got {
					was = appends
					skipped++
				}
				if skips != was {
					t.Fatalf("%q behind %q, dots %v: the state is %+v, want %+v", text, before, dots, skips, was)
				}
			}
		}
	}
	if skipped < 1000 {
		t.Errorf("only %d texts were skipped", skipped)
	}
}

// TestRawReplyIntern checks that Intern returns what Reply does, whatever came before, and makes no copy of a reply of
// one line that comes again.
func TestRawReplyIntern(t *testing.T) {
	var last Reply
	lines := []string{"250 2.1.5 OK\r\n", "250 2.1.5 OK.\r\n", "250 2.1.6 OK\r\n", "251 2.1.5 OK\r\n", "250 OK\r\n", "250\r\n",
		"250-2.1.5 OK\r\n250 2.1.5 OK\r\n", "250-OK\r\n250 2.1.5 OK\r\n"}
	for _, first := range lines {
		for _, second := range lines {
			for _, line := range []string{first, second, second} {
				raw, _, err := ParseReply([]byte(line), true, Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if got, want := raw.Intern(&last), raw.Reply(); got != want || last != want {
					t.Fatalf("%q behind %q: %+v, then last is %+v; want %+v", line, first, got, last, want)
				}
			}
		}
	}
	if got := (RawReply{}).Intern(&last); got != (Reply{}) {
		t.Errorf("the zero value: %+v", got)
	}
	raw, _, _ := ParseReply([]byte(lines[0]), true, Limits{})
	if n := testing.AllocsPerRun(100, func() { raw.Intern(&last) }); n > 0 {
		t.Errorf("%.0f allocations for a reply that came before", n)
	}
}

// TestIsCanonical compares isCanonical with its definition, for text whose lines are alike in length but for some, so
// that a guess where a line ends is right, or jumps over what is wrong.
func TestIsCanonical(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	good, bad := 0, 0
	for range 50_000 {
		var p []byte
		for range rnd.IntN(12) {
			length := 6
			if rnd.IntN(4) == 0 {
				length = rnd.IntN(8)
			}
			p = append(append(p, "xxxxxxxx"[:length]...), "\r\n"...)
		}
		for range rnd.IntN(3) {
			if len(p) > 0 {
				p[rnd.IntN(len(p))] = "\r\nx"[rnd.IntN(3)]
			}
		}
		want := !bytes.ContainsAny(bytes.ReplaceAll(p, []byte("\r\n"), nil), "\r\n")
		if got := isCanonical(p); got != want {
			t.Fatalf("%q: %v, want %v", p, got, want)
		}
		if want {
			good++
		} else {
			bad++
		}
	}
	if good < 1000 || bad < 1000 {
		t.Errorf("%d canonical and %d others: the texts test little", good, bad)
	}
}
