package server_test

import (
	"context"
	"errors"
	"io"
	"net/mail"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// messageID is the one thing in a completed header that differs each time (RFC 5322 section 3.6.4).
var messageID = regexp.MustCompile(`Message-ID: <[a-z0-9]{16,}@([^>]*)>\r\n`)

func address(t testing.TB, s string) proto.Address {
	t.Helper()
	if s == "" {
		return proto.Address{}
	}
	a, err := proto.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// In the expectations D and I stand for the fields that are added, in a bubble in which it is the year 2000.
var shorthand = strings.NewReplacer("{D}", "Date: Sat, 01 Jan 2000 00:00:00 +0000\r\n", "{I}", "Message-ID: mail.example\r\n",
	"{S}", "Sender: <alice@b.example>\r\n")

func TestComplete(t *testing.T) {
	const id = "Message-ID: <1@b.example>\r\n"
	const date = "Date: Sat, 1 Jan 2000 00:00:00 +0000\r\n"
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		name, sender, in, want string
	}{
		{"U06 both", "", "Subject: x\r\n\r\nbody\r\n", "Subject: x\r\n{D}{I}\r\nbody\r\n"},
		{"U06 Date", "", id + "\r\nbody\r\n", id + "{D}\r\nbody\r\n"},
		{"U06 Message-ID", "", date + "\r\nbody\r\n", date + "{I}\r\nbody\r\n"},
		{"U06 nothing", "", date + id + "\r\nbody\r\n", date + id + "\r\nbody\r\n"},
		{"U06 in any case", "", "DATE: x\r\nmessage-id: y\r\n\r\n", "DATE: x\r\nmessage-id: y\r\n\r\n"},
		{"U06 old white space", "", "Date \t: x\r\nMessage-ID : y\r\n\r\n", "Date \t: x\r\nMessage-ID : y\r\n\r\n"},
		{"U06 a wrong one is there", "", "Date: never\r\nMessage-ID: none\r\n\r\n", "Date: never\r\nMessage-ID: none\r\n\r\n"},
		{"U06 another's", "", "Resent-Date: x\r\nX-Date: y\r\nDate-X: z\r\n\r\n", "Resent-Date: x\r\nX-Date: y\r\nDate-X: z\r\n{D}{I}\r\n"},
		{"U06 folded", "", "Subject: x\r\n Date: y\r\n\tMessage-ID: z\r\n \r\n\r\n.\r\n", "Subject: x\r\n Date: y\r\n\tMessage-ID: z\r\n \r\n{D}{I}\r\n.\r\n"},
		{"U06 folded at once", "", "Date:\r\n x\r\nMessage-ID:\r\n y\r\n\r\n", "Date:\r\n x\r\nMessage-ID:\r\n y\r\n\r\n"},
		{"U06 no body", "", "Subject: x\r\n", "Subject: x\r\n{D}{I}"},
		{"U06 no body and no end", "", "Subject: x", "Subject: x\r\n{D}{I}"},
		{"U06 no header", "", "\r\nbody\r\n", "{D}{I}\r\nbody\r\n"},
		{"U06 nothing at all", "", "", "{D}{I}"},
		{"U06 a body alone", "", "body\r\n", "{D}{I}\r\nbody\r\n"},
		{"U06 a body of one word", "", "body", "{D}{I}\r\nbody"},
		{"U06 a body that is folded", "", " body\r\nDate: x\r\n", "{D}{I}\r\n body\r\nDate: x\r\n"},
		{"U06 a line that is no field", "", "Subject: x\r\nno field\r\nDate: x\r\n", "Subject: x\r\n{D}{I}\r\nno field\r\nDate: x\r\n"},
		{"U06 a name with UTF-8", "", "Dätum: x\r\n", "{D}{I}\r\nDätum: x\r\n"},
		{"U06 a field without name", "", ": x\r\n", "{D}{I}\r\n: x\r\n"},
		{"U06 a line without end that is no field", "", date + id + "no field", date + id + "no field"},
		{"U06 complete before what is no field", "", date + id + "no field\r\n", date + id + "no field\r\n"},
		{"U06 mbox", "", "From alice Sat Jan 1 00:00:00 2000\r\nSubject: x\r\n\r\n", "From alice Sat Jan 1 00:00:00 2000\r\nSubject: x\r\n{D}{I}\r\n"},
		{"U06 mbox is first", "", "Subject: x\r\nFrom alice\r\nDate: x\r\n", "Subject: x\r\n{D}{I}\r\nFrom alice\r\nDate: x\r\n"},
		{"U06 only CRLF ends", "", "Subject: x\rDate: z\r\n\r\n", "Subject: x\rDate: z\r\n{D}{I}\r\n"},
		{"U06 the body is left alone", "", date + id + "\r\n\r\nDate: x\r\n..\n\r\r\n\x00", date + id + "\r\n\r\nDate: x\r\n..\n\r\r\n\x00"},
		{"U06 long lines", "", "Subject: " + long + "\r\n" + date + "\r\n" + long, "Subject: " + long + "\r\n" + date + "{I}\r\n" + long},
		{"U06 a long line that is folded", "", "Subject: x\r\n " + long + "Date: y\r\n\r\n", "Subject: x\r\n " + long + "Date: y\r\n{D}{I}\r\n"},
		{"U06 a name without end", "", long + ": x\r\n", "{D}{I}\r\n" + long + ": x\r\n"},
		{"U06 CRLF in two buffers", "", "Subject: " + long[:2048-10] + "\r\n" + date + "\r\n", "Subject: " + long[:2048-10] + "\r\n" + date + "{I}\r\n"},
		{"U06 many fields", "", strings.Repeat("Received: x\r\n", 9999) + "\r\n", strings.Repeat("Received: x\r\n", 9999) + "{D}{I}\r\n"},

		// RFC 5322 section 3.6.2.
		{"U06 Sender is From", "alice@b.example", date + id + "From: Alice <alice@B.example>\r\n\r\n", date + id + "From: Alice <alice@B.example>\r\n\r\n"},
		{"U06 Sender is a folded From", "alice@b.example", date + id + "From: Alice\r\n  (x)\r\n <alice@b.example>\r\n\r\n",
			date + id + "From: Alice\r\n  (x)\r\n <alice@b.example>\r\n\r\n"},
		{"U06 Sender is quoted", `"a b"@b.example`, date + id + "From: \"a b\"@b.example\r\n\r\n", date + id + "From: \"a b\"@b.example\r\n\r\n"},
		{"U06 Sender is another", "alice@b.example", date + id + "From: bob@b.example\r\n\r\n", date + id + "From: bob@b.example\r\n{S}\r\n"},
		{"U06 Sender is one of two", "alice@b.example", date + id + "From: alice@b.example, bob@b.example\r\n\r\n",
			date + id + "From: alice@b.example, bob@b.example\r\n{S}\r\n"},
		{"U06 Sender is there", "alice@b.example", date + id + "sender: x\r\nFrom: bob@b.example\r\n\r\n", date + id + "sender: x\r\nFrom: bob@b.example\r\n\r\n"},
		{"U06 no From", "alice@b.example", date + id + "\r\n", date + id + "{S}\r\n"},
		{"U06 two From", "alice@b.example", date + id + strings.Repeat("From: alice@b.example\r\n", 2) + "\r\n",
			date + id + strings.Repeat("From: alice@b.example\r\n", 2) + "{S}\r\n"},
		{"U06 two From, of which one is empty", "alice@b.example", date + id + "From:\r\nFrom: alice@b.example\r\n\r\n",
			date + id + "From:\r\nFrom: alice@b.example\r\n{S}\r\n"},
		{"U06 a From that is none", "alice@b.example", date + id + "From: @\r\n\r\n", date + id + "From: @\r\n{S}\r\n"},
		{"U06 a From without end", "alice@b.example", date + id + "From: alice@b.example (" + long + ")\r\n\r\n",
			date + id + "From: alice@b.example (" + long + ")\r\n{S}\r\n"},
		{"U06 Sender is not qualified", "alice@host", date + id + "\r\n", date + id + "\r\n"},
		{"U06 Sender not in ASCII", "jörg@b.example", date + id + "\r\n", date + id + "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for how, through := range map[string]func(io.Reader) io.Reader{
					"whole": func(r io.Reader) io.Reader { return r }, "by octets": iotest.OneByteReader, "EOF with the last": iotest.DataErrReader,
				} {
					r := server.Complete(through(strings.NewReader(tt.in)), server.Completion{Hostname: "mail.example", Sender: address(t, tt.sender)})
					got, err := io.ReadAll(iotest.HalfReader(r))
					if err != nil {
						t.Fatal(err)
					}
					text := messageID.ReplaceAllString(string(got), "Message-ID: $1\r\n")
					if want := shorthand.Replace(tt.want); text != want {
						t.Errorf("%s: %.300q has become %.300q, want %.300q", how, tt.in, text, want)
					}
				}
			})
		})
	}
}

// TestU06_BareLF has a header in which fields are hidden from those to whom only CRLF ends a line, as binary content
// can have.
func TestU06_BareLF(t *testing.T) {
	for _, in := range []string{"Subject: x\nDate: y\r\n\r\n", "Subject: x\r\n\nTo: a@host\r\n\r\n", "\nSubject: x\r\n\r\n", "Subject: x\r\nX\n"} {
		for _, through := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
			got, err := io.ReadAll(server.Complete(through(strings.NewReader(in)), server.Completion{Hostname: "mail.example"}))
			if e := (*proto.Error)(nil); !errors.As(err, &e) || e.Code != 554 || e.Status != (proto.Status{5, 6, 0}) {
				t.Errorf("%q has become %q, %v", in, got, err)
			}
		}
	}
}

// TestU02_Header: a server that alters a message sees to it that the domains in its header are fully qualified (RFC
// 6409 section 4.2).
func TestU02_Header(t *testing.T) {
	for _, tt := range []struct{ name, header, want string }{ // want is the domain refused
		{"alone", "To: a@host", "host"},
		{"at the end of the header", "To: a@host\r\n\r\n", "host"},
		{"before another field", "To: a@host\r\nDate: x\r\n\r\n", "host"},
		{"in a list", "Cc: a@b.example, c@host, d@e.example\r\n", "host"},
		{"in brackets", "Reply-To: A B <a@host>\r\n", "host"},
		{"in a group", "Resent-Bcc: team: a@b.example, c@host;\r\n", "host"},
		{"folded", "From: a\r\n @\r\n\t host\r\n , b@c.example\r\n", "host"},
		{"behind a comment", "Sender: a@(at (home)) host (x.y)\r\n", "host"},
		{"quoted", "To: \"a.b@c.d\"@host\r\n", "host"},
		{"a route", "To: <@host:a@b.example>\r\n", "host"},
		{"long", "To: a@" + strings.Repeat("h", 5000) + "\r\n", strings.Repeat("h", 64)},
		{"in UTF-8", "To: a@höst\r\n", "höst"},
		{"completed", "To: a@SALES, b@host\r\n", "host"},

		{"qualified", "To: a@b.example, C D <c@d.example> (at home), e@f.example\r\n", ""},
		{"white space about the dots", "To: a@b . example, c@d (x) .example\r\n", ""},
		{"a literal", "To: a@[192.0.2.1], <b@[IPv6:2001:db8::1]>\r\n", ""},
		{"a literal and more", "To: a@[192.0.2.1] b, c@d.example\r\n", ""},
		{"a name that is displayed", "To: a@host <a@b.example>, \"c@host\" <c@d.example>, x@host y <e@f.example>\r\n", ""},
		{"in a comment", "To: a@b.example (a@host, b@host)\r\n", ""},
		{"behind backslashes", "To: \"\\\"@host, \" <a@b.example> (\\) c@host, )\r\n", ""},
		{"completed alone", "To: a@sales\r\n", ""},
		{"nothing", "To:\r\nCc: undisclosed:;\r\nBcc: @\r\n", ""},
		{"a field of another kind", "Subject: a@host, b@host\r\nMessage-ID: <1@host>\r\nX-To: a@host\r\n", ""},
		{"the body", "To: a@b.example\r\n\r\nTo: a@host\r\n", ""},
		{"behind an open quotation mark", "To: \"a\r\nSubject: x@host\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sales := func(name string) bool { return name == "sales" }
			for how, r := range map[string]io.Reader{
				"whole": strings.NewReader(tt.header), "by octets": iotest.OneByteReader(strings.NewReader(tt.header)),
			} {
				_, err := io.ReadAll(server.Complete(r, server.Completion{Completes: sales}))
				var e *proto.Error
				ok := errors.As(err, &e)
				if tt.want == "" && err != nil || tt.want != "" && (!ok || e.Code != 554 || !strings.Contains(e.Text, " "+tt.want+" ")) {
					t.Errorf("%s: %v, want it to be about %q", how, err, tt.want)
				}
			}
		})
	}
}

// TestU02_HeaderReply: the refusal answers the message, after its end.
func TestU02_HeaderReply(t *testing.T) {
	st := &store{data: func(_ context.Context, r io.Reader) error {
		_, err := io.Copy(io.Discard, server.Complete(r, server.Completion{}))
		return err
	}}
	p := dial(t, newServer(t, st, server.Options{}))
	p.hello()
	p.begin()
	p.ask("DATA", "354 ")
	p.ask("From: a@host\r\n\r\nbody\r\n"+strings.Repeat("QUIT\r\n", 9999)+".", "554 5.6.0 The domain host ")
	p.begin()
	p.ask("DATA", "354 ", "From: a@host.example\r\n\r\nbody\r\n.", "250 ")
	p.quit()
}

// TestU06_Readable: net/mail can read the fields that Complete adds.
func TestU06_Readable(t *testing.T) {
	ids := make(map[string]bool)
	for hostname, want := range map[string]string{
		"mail.example": "mail.example", "[192.0.2.1]": "[192.0.2.1]", "münchen.example": "xn--mnchen-3ya.example",
		"": "localhost", "a b>\r\nX: y": "localhost",
	} {
		r := server.Complete(strings.NewReader("From: bob@b.example\r\n\r\nbody\r\n"),
			server.Completion{Hostname: hostname, Sender: address(t, `"alice, a"@b.example`)})
		m, err := mail.ReadMessage(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Header.Date(); err != nil {
			t.Errorf("Date: %v", err)
		}
		if list, err := m.Header.AddressList("Sender"); err != nil || len(list) != 1 || list[0].Address != "alice, a@b.example" {
			t.Errorf("Sender is %v, %v", list, err)
		}
		id := m.Header.Get("Message-ID")
		if !strings.HasPrefix(id, "<") || !strings.HasSuffix(id, "@"+want+">") || ids[id] || len(m.Header) != 4 {
			t.Errorf("with the name %q the fields are %v", hostname, m.Header)
		}
		ids[id] = true
	}
}

// TestU06_BreaksOff: the error of the reader comes through behind what it returned, and nothing is added.
func TestU06_BreaksOff(t *testing.T) {
	broken := errors.New("broken")
	for _, in := range []string{"", "Subj", "Subject: x\r\n", "Subject: x\r\n y"} {
		r := server.Complete(io.MultiReader(strings.NewReader(in), iotest.ErrReader(broken)), server.Completion{})
		if got, err := io.ReadAll(r); string(got) != in || err != broken {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// FuzzComplete: all that the message has stays, in its order, and completing it again adds nothing.
func FuzzComplete(f *testing.F) {
	f.Add("Subject: x\r\n\r\nbody\r\n", "alice@b.example")
	f.Add("From: a\r\n b@c\r\nno field\r\n", "")
	f.Add("From x\r\n y", "a@[192.0.2.1]")
	f.Add("From:"+strings.Repeat(" \r\n", 2000), "a@b.example")
	added := regexp.MustCompile(`(?:Date: [^\r]+\r\n)?(?:Message-ID: <[a-z0-9]+@mail\.example>\r\n)?(?:Sender: <[^\r]+>\r\n)?(?:\r\n)?`)
	f.Fuzz(func(t *testing.T, in, sender string) {
		add := server.Completion{Hostname: "mail.example"}
		if a, err := proto.ParseAddress(sender); err == nil {
			add.Sender = a
		}
		once, err := io.ReadAll(server.Complete(strings.NewReader(in), add))
		if e := (*proto.Error)(nil); errors.As(err, &e) && e.Code == 554 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		out := string(once)
		same := 0
		for same < len(in) && same < len(out) && in[same] == out[same] {
			same++
		}
		found := out == in
		for i := 0; i <= same && !found; i++ {
			rest, more := out[i:], in[i:]
			n := len(added.FindString(strings.TrimPrefix(rest, "\r\n")))
			found = strings.HasSuffix(rest, more) && len(rest)-len(more) <= n+2
		}
		if !found {
			t.Fatalf("%q has become %q", in, out)
		}
		twice, err := io.ReadAll(server.Complete(strings.NewReader(out), add))
		if err != nil || string(twice) != out {
			t.Fatalf("%q has become %q, and then %q, %v", in, out, twice, err)
		}
	})
}
