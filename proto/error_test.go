package proto

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
)

func TestErrorText(t *testing.T) {
	cause := errors.New("smtp: command out of sequence")
	tests := []struct {
		err  *Error
		want string
	}{
		{&Error{Code: 550, Status: Status{5, 1, 1}, Text: "no such user"}, "smtp: 550 5.1.1 no such user"},
		{&Error{Code: 550, Text: "no such user"}, "smtp: 550 no such user"},
		{&Error{Code: 550, Verb: "RCPT", Status: Status{5, 1, 1}, Text: "no"}, "smtp: RCPT: 550 5.1.1 no"},
		{&Error{Code: 551, Text: "not here\ntry there"}, "smtp: 551 not here / try there"},
		{&Error{Code: 250}, "smtp: 250"},
		{&Error{Code: 451, Text: "try later", Err: cause}, "smtp: 451 try later: command out of sequence"},
		{&Error{Verb: "MAIL", Err: cause}, "smtp: MAIL: command out of sequence"},
		{&Error{Err: cause}, "smtp: command out of sequence"},
		{&Error{}, "smtp:"},
		// What a server says must not reach a terminal or a log as it is.
		{&Error{Code: 550, Text: "\x1b[2J\x00\r\x7f\tx"}, `smtp: 550 \x1b[2J\x00\r\x7f\tx`},
		{&Error{Code: 550, Text: "caf\xc3\xa9 \xff\xc3 \u0085\u202e\u2028"}, `smtp: 550 café \xff\xc3 \u0085\u202e\u2028`},
		{&Error{Code: 550, Verb: "RC\nPT", Err: errors.New("a\x00")}, `smtp: RC / PT: 550: a\x00`},
		{&Error{Code: 550, Text: "%s%n"}, "smtp: 550 %s%n"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%#v: Error() = %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestErrorIsItsReply(t *testing.T) {
	r := Reply{Code: 450, Status: Status{4, 2, 1}, Text: "later\nplease"}
	if got := r.Err().Reply(); got != r {
		t.Errorf("Err and Reply of %+v give %+v", r, got)
	}
	if (Reply{Code: 250}).Err() == nil {
		t.Error("Err of a positive reply is nil; a session returns it to choose the reply")
	}
}

func TestErrorClass(t *testing.T) {
	for code, want := range map[int][2]bool{
		250: {false, false}, 354: {false, false}, 421: {true, false}, 459: {true, false}, 550: {false, true}, 599: {false, true},
		0: {false, false}, 199: {false, false}, 600: {false, false},
	} {
		e := &Error{Code: code}
		if got := [2]bool{e.Temporary(), e.Permanent()}; got != want {
			t.Errorf("%d: Temporary, Permanent = %v, want %v", code, got, want)
		}
	}
}

func TestErrorUnwrap(t *testing.T) {
	err := fmt.Errorf("cannot deliver: %w", &Error{Code: 451, Err: ErrOutOfStep})
	if !errors.Is(err, ErrOutOfStep) {
		t.Error("the cause is not found by errors.Is")
	}
	if (&Error{Code: 451}).Unwrap() != nil {
		t.Error("an error without a cause unwraps to something")
	}
}

func FuzzErrorText(f *testing.F) {
	for _, s := range []string{"no such user", "a\r\nb", "\x1b]0;x\x07", "\xff\u202e", "\\x1b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range (&Error{Code: 550, Text: text, Verb: text}).Error() {
			if !strconv.IsPrint(r) {
				t.Fatalf("Error() of the text %q contains %q", text, r)
			}
		}
	})
}

// TestRefuse finds on the wire what a session refuses with, also where the status and the code are at odds
// (RFC 2034 section 4: the class must be that of the code).
func TestRefuse(t *testing.T) {
	for _, tt := range []struct {
		code       int
		status     Status
		text, want string
	}{
		{550, Status{5, 1, 1}, "No such mailbox", "550 5.1.1 No such mailbox\r\n"},
		{452, Status{4, 2, 2}, "Mailbox full", "452 4.2.2 Mailbox full\r\n"},
		{450, Status{5, 2, 2}, "Mailbox full", "450 4.2.2 Mailbox full\r\n"},
		{550, Status{}, "No", "550 5.0.0 No\r\n"},
		{550, Status{5, 7, 1}, "Rejected\nfor a reason", "550-5.7.1 Rejected\r\n550 5.7.1 for a reason\r\n"},
	} {
		e := Refuse(tt.code, tt.status, tt.text)
		if e.Code != tt.code || e.Status != tt.status || e.Text != tt.text || e.Verb != "" || e.Err != nil {
			t.Errorf("Refuse(%d, %v, %q) = %+v", tt.code, tt.status, tt.text, e)
		}
		if got := string(AppendReply(nil, e.Reply(), true, false)); got != tt.want {
			t.Errorf("Refuse(%d, %v, %q) is sent as %q, want %q", tt.code, tt.status, tt.text, got, tt.want)
		}
		if e.Temporary() != (tt.code < 500) || e.Permanent() != (tt.code >= 500) {
			t.Errorf("%v: Temporary %t, Permanent %t", e, e.Temporary(), e.Permanent())
		}
	}
	if a, b := Refuse(550, Status{}, "x"), Refuse(550, Status{}, "x"); a == b {
		t.Error("two refusals are one")
	}
}
