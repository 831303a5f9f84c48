package tracefield_test

import (
	"errors"
	"io"
	"net/mail"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/proto"
)

func TestReturnPath(t *testing.T) {
	for _, tt := range []struct {
		name   string
		from   proto.Address
		path   string // of Return-Path
		mailto string // of Delivered-To
	}{
		{"J08 a mailbox", testkit.Address(t, "joe@example.org"), "<joe@example.org>", "joe@example.org"},
		{"J08 the null path", proto.Address{}, "<>", ""},
		{"J08 quoted", proto.Address{Local: `a "b`, Domain: testkit.Address(t, "x@example.org").Domain}, `<"a \"b"@example.org>`, `"a \"b"@example.org`},
		{"J08 a literal", testkit.Address(t, "joe@[192.0.2.1]"), "<joe@[192.0.2.1]>", "joe@[192.0.2.1]"},
		{"J08 a domain in UTF-8", testkit.Address(t, "joe@münchen.example"), "<joe@xn--mnchen-3ya.example>", "joe@xn--mnchen-3ya.example"},
		{"J08 SMTPUTF8", testkit.Address(t, "jürgen@münchen.example"), "<jürgen@münchen.example>", "jürgen@münchen.example"},
		{"J08 no address", proto.Address{Local: "a\r\nb", Domain: testkit.Address(t, "x@example.org").Domain}, "", ""},
		{"J08 no domain", proto.Address{Local: "joe"}, "", ""},
		{"J08 postmaster", proto.Address{Local: "postmaster"}, "<postmaster>", "postmaster"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := ""
			if tt.path != "" {
				want = "Return-Path: " + tt.path + "\r\n"
			}
			if got := tracefield.ReturnPath(tt.from); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			want = ""
			if tt.mailto != "" {
				want = "Delivered-To: " + tt.mailto + "\r\n"
			}
			if got := tracefield.DeliveredTo(tt.from); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestPrepend: the message behind the fields is the same, octet for octet; but what does not belong to a header cannot
// become a part of a field.
func TestPrepend(t *testing.T) {
	const field = "Received: x\r\n"
	for _, tt := range []struct{ name, message, between string }{
		{"J07 a header", "Received: a\r\nreceived : b\r\nReturn-Path: <c@d>\r\nSubject: x\r\n\r\n\x00\xff\r\n.\r\n", ""},
		{"J07 no header", "\r\nbody\r\n", ""},
		{"J07 nothing", "", ""},
		{"J07 one octet", "x", ""},
		{"a continuation of nothing", " by evil.example; date\r\n\r\nbody", "\r\n"},
		{"a tab", "\tx", "\r\n"},
		{"a space alone", " ", "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readBoth(t, tt.message, func(r io.Reader) io.Reader { return tracefield.Prepend(r, field, "A: b\r\n") })
			if want := field + "A: b\r\n" + tt.between + tt.message; got != want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
			if tt.between != "" {
				m, err := mail.ReadMessage(strings.NewReader(got))
				if err != nil || m.Header.Get("Received") != "x" {
					t.Errorf("the field is %v, %v", m, err)
				}
			}
		})
	}
	// A field without its end does not swallow the next one.
	whole, err := io.ReadAll(tracefield.Prepend(strings.NewReader("Date: x\r\n\r\n"), "A: b", "", "C: d\r\n", "E: f"))
	if want := "A: b\r\nC: d\r\nE: f\r\nDate: x\r\n\r\n"; string(whole) != want || err != nil {
		t.Errorf("got %q, %v, want %q", whole, err, want)
	}
	r := strings.NewReader("x")
	if got := tracefield.Prepend(r, "", ""); got != r {
		t.Error("no field, and another reader")
	}
}

func TestPrependErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, message := range []string{"", "x", " ", "x\r\n\r\ny"} {
		for _, r := range []io.Reader{
			io.MultiReader(strings.NewReader(message), iotest.ErrReader(broken)),
			iotest.DataErrReader(io.MultiReader(strings.NewReader(message), iotest.ErrReader(broken))),
		} {
			got, err := io.ReadAll(tracefield.Prepend(r, "A: b\r\n"))
			if !strings.HasSuffix(string(got), message) || err != broken {
				t.Errorf("%q: %q, %v", message, got, err)
			}
		}
	}
}

// once is a reader that returns an octet together with an error, and then another error.
type once struct{ err, next error }

func (r *once) Read(p []byte) (int, error) {
	err := r.err
	if r.err = r.next; err == r.next {
		return 0, err
	}
	return copy(p, "x"), err
}

// TestPrependFirstError: an error that comes with the first octet is not lost.
func TestPrependFirstError(t *testing.T) {
	broken := errors.New("broken")
	r := tracefield.Prepend(&once{broken, io.EOF}, "A: b\r\n")
	if got, err := io.ReadAll(r); string(got) != "A: b\r\nx" || err != broken {
		t.Errorf("%q, %v", got, err)
	}
}

// TestJ08_FinalDelivery: a delivered message has one Return-Path, in front of the Received fields, which are as they
// were.
func TestJ08_FinalDelivery(t *testing.T) {
	const message = "Received: a\r\nReturn-Path: <forged@example.net>\r\nReceived: b\r\n\r\nReturn-Path: body\r\n"
	r := tracefield.Prepend(tracefield.Strip(strings.NewReader(message), "Return-Path"),
		tracefield.ReturnPath(testkit.Address(t, "a@b.example")), tracefield.DeliveredTo(testkit.Address(t, "c@d.example")))
	got, err := io.ReadAll(r)
	const want = "Return-Path: <a@b.example>\r\nDelivered-To: c@d.example\r\nReceived: a\r\nReceived: b\r\n\r\nReturn-Path: body\r\n"
	if string(got) != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
