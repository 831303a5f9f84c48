package proto

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestRFC5321Section42_Lax gives replies at every cut to a parser that is strict and to one that is lax.
func TestRFC5321Section42_Lax(t *testing.T) {
	tests := []struct {
		name   string
		in     string
		strict string // the error without LaxReplies, "" if there is none
		lax    string // the error with it
		want   []Reply
	}{
		{"LF", "220 mail.example.org\n", "line 1 has an LF without CR", "", []Reply{{220, Status{}, "mail.example.org"}}},
		{"LF, no text", "250\n", "line 1 has an LF without CR", "", []Reply{{250, Status{}, ""}}},
		{"LF, a space", "250 \n", "line 1 has an LF without CR", "", []Reply{{250, Status{}, ""}}},
		{"LF, several lines", "250-a\n250-\n250 b\n", "line 1 has an LF without CR", "", []Reply{{250, Status{}, "a\n\nb"}}},
		{"LF, several replies", "220 a\n250 b\n550 5.1.1 c\n", "line 1 has an LF without CR", "",
			[]Reply{{220, Status{}, "a"}, {250, Status{}, "b"}, {550, Status{5, 1, 1}, "c"}}},
		{"LF and then CRLF", "220 a\n250 b\r\n", "line 1 has an LF without CR", "", []Reply{{220, Status{}, "a"}, {250, Status{}, "b"}}},
		{"TAB", "250\tok\r\n", `line 1 has "\t" after the code`, "", []Reply{{250, Status{}, "ok"}}},
		{"TAB and LF", "250-a\n250\tb\n", "line 1 has an LF without CR", "", []Reply{{250, Status{}, "a\nb"}}},
		{"TAB and a status", "550\t5.1.1 no\r\n", `line 1 has "\t" after the code`, "", []Reply{{550, Status{5, 1, 1}, "no"}}},
		{"a second TAB is text", "250\t\tok\r\n", `line 1 has "\t" after the code`, "", []Reply{{250, Status{}, "\tok"}}},
		{"strict", "250-a\r\n250 b\r\n", "", "", []Reply{{250, Status{}, "a\nb"}}},

		// What remains an error, since something could hide there.
		{"LF after CRLF", "250 a\r\n550 b\n250 c\r\n", "line 1 has an LF without CR", "line 1 has an LF without CR", []Reply{{250, Status{}, "a"}}},
		{"LF after CRLF in a reply", "250-a\r\n250 b\n", "line 2 has an LF without CR", "line 2 has an LF without CR", nil},
		{"CR", "250 a\rb\n", "line 1 has a CR without LF", "line 1 has a CR without LF", nil},
		{"CR CR LF", "250 a\r\r\n", "line 1 has a CR without LF", "line 1 has a CR without LF", nil},
		{"CR at the end of the code", "250\rok\n", "line 1 has a CR without LF", "line 1 has a CR without LF", nil},
		{"empty line", "\n", "which is no reply code", "which is no reply code", nil},
		{"vertical TAB", "250\vok\n", "after the code", "after the code", nil},
		{"code and TAB alone in another reply", "250-a\n251\tb\n", "line 1 has an LF", "line 2 has the code 251, line 1 has 250", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, lim := range []Limits{{}, {LaxReplies: true}} {
				wantErr, want := tt.strict, tt.want
				if lim.LaxReplies {
					wantErr = tt.lax
				}
				for cut := range len(tt.in) + 1 {
					got, err := feed([]byte(tt.in), []int{cut}, true, lim)
					if wantErr != "" {
						if err == nil || !errors.Is(err, ErrReply) || !strings.Contains(err.Error(), wantErr) {
							t.Errorf("lax %v, cut at %d: %+v, %v, want %q", lim.LaxReplies, cut, got, err, wantErr)
						}
						if hint := !lim.LaxReplies && tt.strict != tt.lax; errors.Is(err, ErrLaxReply) != hint {
							t.Errorf("lax %v: %v is an ErrLaxReply: %v", lim.LaxReplies, err, !hint)
						}
					} else if err != nil || !slices.Equal(got, want) {
						t.Errorf("lax %v, cut at %d: %+v, %v, want %+v", lim.LaxReplies, cut, got, err, want)
					}
				}
			}
		})
	}
}

// TestGreetingThatRefuses gives greetings to an engine at every cut: the last line decides if it refuses.
func TestGreetingThatRefuses(t *testing.T) {
	table, err := NewTable(SMTP)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		in   string
		want Reply // zero for an error
		err  string
	}{
		{"220-mx.example.net\r\n521 5.7.1 blocked using bl.example.com\r\n", Reply{521, Status{}, "5.7.1 blocked using bl.example.com"}, ""},
		{"220-mx.example.net\r\n220-wait\r\n550-no\r\n550 go\r\n", Reply{550, Status{}, "no\ngo"}, ""},
		{"220-mx.example.net\r\n421 busy\r\n", Reply{421, Status{}, "busy"}, ""},
		{"220-mx.example.net\r\n450\r\n", Reply{450, Status{}, ""}, ""},
		{"220-mx.example.net\r\n220 ready\r\n", Reply{220, Status{}, "mx.example.net\nready"}, ""},
		{"220-mx.example.net\r\n250 ok\r\n", Reply{}, "line 2 has the code 250, line 1 has 220"},
		{"521-no\r\n220 yes\r\n", Reply{}, "line 2 has the code 220, line 1 has 521"},
		{"521-no\r\n421 busy\r\n", Reply{}, "line 2 has the code 421, line 1 has 521"},
		{"220-mx.example.net\r\n521-no\r\n220 yes\r\n", Reply{}, "line 3 has the code 220, line 2 has 521"},
		{"220-mx.example.net\r\n334 go on\r\n", Reply{}, "line 2 has the code 334, line 1 has 220"},
	} {
		for cut := range len(tt.in) {
			tx := NewSender(table, Limits{})
			var ev Event
			for _, part := range []string{tt.in[:cut], tt.in[cut:]} {
				n := copy(tx.Space(), part)
				tx.Filled(n)
				ev = tx.Next()
			}
			if tt.err != "" {
				if ev.Kind != Fatal || !strings.Contains(ev.Err.Err.Error(), tt.err) {
					t.Errorf("%q cut at %d: %+v, want %s", tt.in, cut, ev, tt.err)
				}
				continue
			}
			if ev.Kind != Answer || ev.Reply.Reply() != tt.want {
				t.Errorf("%q cut at %d: %+v, want %+v", tt.in, cut, ev, tt.want)
			}
		}
	}
}

// TestOnlyGreetingsChange checks that a reply to a command whose code changes is an error: its lines may belong to two
// replies, and then all further ones would be taken for those before them.
func TestOnlyGreetingsChange(t *testing.T) {
	table, err := NewTable(SMTP)
	if err != nil {
		t.Fatal(err)
	}
	tx := NewSender(table, Limits{})
	tx.Filled(copy(tx.Space(), "220-mail.example\r\n220 ready\r\n"))
	if ev := tx.Next(); ev.Kind != Answer {
		t.Fatalf("%+v", ev)
	}
	if _, err := tx.AppendCommand(nil, table.Lookup("EHLO"), []byte("client.example")); err != nil {
		t.Fatal(err)
	}
	tx.Filled(copy(tx.Space(), "250-mail.example\r\n550 no\r\n"))
	if ev := tx.Next(); ev.Kind != Fatal || !errors.Is(ev.Err, ErrReply) {
		t.Errorf("%+v, want an error", ev)
	}
}

// TestLaxAfterHandover checks that octets behind an LF after STARTTLS belong to TLS, and that a session which has seen
// CRLF before does not end lines with LF behind the hand-over.
func TestLaxAfterHandover(t *testing.T) {
	startTLS := Verb{Name: "STARTTLS", In: Ready, Last: true, OK: Handover}
	table, err := NewTable(SMTP, startTLS)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"\n", "\r\n"} {
		tx := NewSender(table, Limits{LaxReplies: true})
		say := func(text string) Event {
			tx.Filled(copy(tx.Space(), text))
			return tx.Next()
		}
		command := func(verb, args string) {
			if _, err := tx.AppendCommand(nil, table.Lookup(verb), []byte(args)); err != nil {
				t.Fatal(err)
			}
		}
		say("220 mail.example" + end)
		command("EHLO", "client.example")
		say("250 STARTTLS" + end)
		command("STARTTLS", "")
		if ev := say("220 go" + end + "250 slipped in" + end); ev.Kind != Answer || tx.Next().Kind != End {
			t.Fatalf("%+v", ev)
		}
		if got := string(tx.Leftover()); got != "250 slipped in"+end {
			t.Errorf("the leftover is %q", got)
		}
		tx.Restart(Hello)
		command("EHLO", "client.example")
		if ev := say("250 mail.example\n"); (ev.Kind == Answer) != (end == "\n") {
			t.Errorf("LF behind %q: %+v", end, ev)
		}
	}
}

// FuzzLaxReply is FuzzReply with LaxReplies. What a strict parser accepts, a lax one has to understand in the same way.
func FuzzLaxReply(f *testing.F) {
	for _, s := range []string{
		"250 ok\n", "250-a\n250\tb\n550 5.1.1 c\n", "550-\n550\n", "250 a\r\n250 b\n", "250 a\r\r\n", "250\t\r\n", "250-a\n251 b\n",
		"250 0\n200\t\r\n200 0\n",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, status bool) {
		lim := Limits{ReplyLine: 32, ReplyLines: 5, Reply: 100}
		strict, strictErr := feed(in, nil, status, lim)
		lim.LaxReplies = true
		want, wantErr := feed(in, nil, status, lim)
		every := make([]int, len(in))
		for i := range in {
			every[i] = i
			got, err := feed(in, []int{i}, status, lim)
			same(t, i, got, want, err, wantErr)
		}
		got, err := feed(in, every, status, lim)
		same(t, -1, got, want, err, wantErr)
		if len(want) < len(strict) || !slices.Equal(want[:len(strict)], strict) {
			t.Fatalf("%+v, but strictly %+v", want, strict)
		}
		// Both may fail by the same words, and at different replies.
		alike := wantErr != nil && strictErr != nil && wantErr.Error() == strictErr.Error() && len(want) == len(strict)
		if strictErr != nil && errors.Is(strictErr, ErrLaxReply) == alike {
			t.Fatalf("strictly %v, lax %v", strictErr, wantErr)
		}
		for _, r := range want {
			if strings.ContainsRune(r.Text, '\r') {
				t.Fatalf("%q has a CR", r.Text)
			}
		}
	})
}
