package proto

import (
	"strings"
	"testing"
)

func mustTable(t testing.TB, p Protocol, more ...Verb) *Table {
	t.Helper()
	table, err := NewTable(p, more...)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestTransitions walks every state, verb and class of reply. What it expects was written from RFC 5321 sections 4.1.1,
// 4.1.4 and 4.3.2: the state that follows, or "-" where the command has no such reply.
func TestTransitions(t *testing.T) {
	// Where a command may be sent, and what follows success, an intermediate reply, and failure.
	type row struct{ in, ok, more, fail string }
	session := "Hello Ready Mail Rcpt Chunks Broken"
	want := map[string]row{
		"EHLO": {session, "Ready", "-", "same"},
		"HELO": {session, "Ready", "-", "same"},
		"MAIL": {"Ready", "Mail", "-", "same"},
		"RCPT": {"Mail Rcpt", "Rcpt", "-", "same"},
		"DATA": {"Rcpt", "-", "Content", "same"},
		"RSET": {session, "Ready", "-", "same"},
		"NOOP": {session, "same", "-", "same"},
		"QUIT": {session + " Greeting", "Closed", "-", "same"},
	}
	table := mustTable(t, SMTP)
	if len(table.Verbs()) != len(want) {
		t.Errorf("%d verbs, want %d", len(table.Verbs()), len(want))
	}
	for _, v := range table.Verbs() {
		row, ok := want[v.Name]
		if !ok {
			t.Errorf("%s is not a command of RFC 5321", v.Name)
			continue
		}
		for s := Greeting; s <= Closed; s <<= 1 {
			in := false
			for _, name := range strings.Fields(row.in) {
				in = in || name == s.String()
			}
			if got := s&v.In != 0; got != in {
				t.Errorf("%s in %v: allowed is %t, want %t", v.Name, s, got, in)
			}
			for code, want := range map[int]string{250: row.ok, 354: row.more, 450: row.fail, 550: row.fail, 421: "Closed"} {
				next, ok := v.After(s, code)
				switch {
				case want == "-" || code == 354 && !in && s&Session == 0:
					if ok {
						t.Errorf("%s in %v answered %d: got %v, want no such reply", v.Name, s, code, next)
					}
					continue
				case want == "same" || code == 250 && !in || v.Name == "RSET" && code == 250 && s == Hello:
					want = s.String()
				}
				if !ok || next.String() != want {
					t.Errorf("%s in %v answered %d: got %v (%t), want %s", v.Name, s, code, next, ok, want)
				}
			}
			for _, code := range []int{0, 199, 600} {
				if next, ok := v.After(s, code); ok || next != s {
					t.Errorf("%s in %v answered %d: got %v (%t), want no such reply", v.Name, s, code, next, ok)
				}
			}
		}
	}
}

func TestTableErrors(t *testing.T) {
	for name, rows := range map[string][]Verb{
		"twice":     {{Name: "MAIL", In: Ready}},
		"lower":     {{Name: "foo", In: Ready}},
		"empty":     {{In: Ready}},
		"space":     {{Name: "A B", In: Ready}},
		"nowhere":   {{Name: "FOO"}},
		"badplace":  {{Name: "FOO", In: Content}},
		"shrinking": {{Name: "FOO", In: Ready, Grow: -1}},
		"nobody":    {{Name: "FOO", Grow: 10}},
	} {
		if _, err := NewTable(SMTP, rows...); err == nil {
			t.Errorf("%s: no error", name)
		} else if !strings.HasPrefix(err.Error(), "smtp: ") {
			t.Errorf("%s: error is %q", name, err)
		}
	}
	table := mustTable(t, LMTP, Verb{Name: "FOO", In: Ready}, Verb{Name: "MAIL", Grow: 26})
	if table.Lookup("EHLO") != nil || table.Lookup("lhlo") == nil || table.Lookup("foo") == nil {
		t.Error("LMTP has LHLO and not EHLO (RFC 2033 section 4.1)")
	}
	if table.Lookup("R\u017fET") != nil || table.lookup([]byte("R\u017fET")) != nil || table.Lookup(strings.Repeat("A", 100)) != nil {
		t.Error("a word that names no verb found one")
	}
	if v := table.Lookup("MAIL"); v.Grow != 26 || v.In != Ready {
		t.Errorf("MAIL is %+v, want it grown by 26 and otherwise as it was", v)
	}
}

func TestTableString(t *testing.T) {
	text := mustTable(t, SMTP).String()
	for _, line := range []string{
		"(greeting)       Greeting  2yz Hello     3yz -         4yz Greeting",
		"DATA             Rcpt      2yz -         3yz Content   4yz Rcpt",
		"(end of content) Content   2yz Ready     3yz -         4yz Ready",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
}
