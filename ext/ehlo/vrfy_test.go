package ehlo

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// directory is a session that knows a few people and a list.
type directory struct {
	t     *testing.T
	asked string
}

func (d *directory) Verify(_ context.Context, query string) (Mailbox, error) {
	d.asked = query
	switch query {
	case "fred", "Fred Smith", "<fred@b.example>":
		return Mailbox{Name: "Fred Smith", Address: testkit.Address(d.t, "fred@b.example")}, nil
	case "bare":
		return Mailbox{Address: testkit.Address(d.t, "bare@b.example")}, nil
	case "quoted":
		return Mailbox{Name: "<evil@x>\r\n250 a", Address: testkit.Address(d.t, `"a> b"@b.example`)}, nil
	case "jörg":
		return Mailbox{Name: "Jörg", Address: testkit.Address(d.t, "jörg@b.example")}, nil
	case "idn":
		return Mailbox{Name: "Jörg", Address: testkit.Address(d.t, "j@münchen.example")}, nil
	case "nowhere":
		return Mailbox{Name: "N"}, nil
	case "umgezogen":
		return Mailbox{Address: testkit.Address(d.t, "jörg@c.example"), Forward: true}, nil
	case "shy":
		return Mailbox{}, fmt.Errorf("who asks? %w", ErrCannotVerify)
	case "moved":
		return Mailbox{}, proto.Refuse(551, proto.Status{5, 1, 6}, "Try <a@c.example>")
	}
	return Mailbox{}, proto.Refuse(550, proto.Status{5, 1, 1}, "No such user")
}

func (d *directory) Expand(ctx context.Context, list string) ([]Mailbox, error) {
	d.asked = list
	switch list {
	case "empty":
		return nil, nil
	case "hidden":
		return nil, ErrCannotVerify
	case "secret":
		return nil, proto.Refuse(550, proto.Status{5, 7, 2}, "Not for you")
	case "all":
		list = "jörg"
	}
	fred, _ := d.Verify(ctx, "fred")
	other, _ := d.Verify(ctx, list)
	if other == (Mailbox{}) {
		other, _ = d.Verify(ctx, "bare")
	}
	return []Mailbox{fred, other}, nil
}

func TestVrfyExpn(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		want       string // the reply
		asked      string
	}{
		{"H04", "VRFY fred", "250 2.1.5 Fred Smith <fred@b.example>", "fred"},
		{"name of a user", "VRFY Fred Smith", "250 2.1.5 Fred Smith <fred@b.example>", "Fred Smith"},
		{"mailbox", "VRFY <fred@b.example>", "250 2.1.5 Fred Smith <fred@b.example>", "<fred@b.example>"},
		{"no name", "VRFY bare", "250 2.1.5 <bare@b.example>", "bare"},
		{"quoted, and a name that is none", "VRFY quoted", `250 2.1.5 evil@x   250 a <"a> b"@b.example>`, "quoted"},
		{"refused", "VRFY bob", "550 5.1.1 No such user", "bob"},
		{"moved", "VRFY moved", "551 5.1.6 Try <a@c.example>", "moved"},
		{"no argument", "VRFY", "501 5.5.4 ", ""},
		{"S06 UTF-8 needed", "VRFY jörg", "550 5.6.8 ", "jörg"},
		{"S05 UTF-8 permitted", "VRFY jörg SMTPUTF8", "250 2.1.5 Jörg <jörg@b.example>", "jörg"},
		{"S06 UTF-8 needed by 251", "VRFY umgezogen", "550 5.6.8 ", "umgezogen"},
		{"S06 UTF-8 permitted in 251", "VRFY umgezogen SMTPUTF8", "251 2.1.5 User not local; will forward to <jörg@c.example>", "umgezogen"},
		{"H02 not told", "VRFY shy", "252 2.5.0 ", "shy"},
		{"S06 in lower case", "VRFY jörg smtputf8", "250 2.1.5 Jörg <jörg@b.example>", "jörg"},
		{"domain in ASCII", "VRFY idn", "250 2.1.5 <j@xn--mnchen-3ya.example>", "idn"},
		{"parameter alone", "VRFY SMTPUTF8", "550 5.1.1 No such user", "SMTPUTF8"},
		{"no address", "VRFY nowhere", "not a reply: smtp: ", "nowhere"},
		{"list", "EXPN list", "250-2.1.5 Fred Smith <fred@b.example>\r\n250 2.1.5 <bare@b.example>", "bare"},
		{"S05 list in UTF-8", "EXPN all SMTPUTF8", "250-2.1.5 Fred Smith <fred@b.example>\r\n250 2.1.5 Jörg <jörg@b.example>", "jörg"},
		{"S06 list in UTF-8 without permission", "EXPN all", "550 5.6.8 ", "jörg"},
		{"list not told", "EXPN hidden", "252 2.5.0 ", "hidden"},
		{"refused list", "EXPN secret", "550 5.7.2 Not for you", "secret"},
		{"empty list", "EXPN empty", "550 5.1.1 ", "empty"},
		{"no list", "EXPN", "501 5.5.4 ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &directory{t: t}
			x := fake.NewServer(testkit.Wrap(d))
			verb, args, _ := strings.Cut(tt.line, " ")
			e := map[string]ext.Extension{"VRFY": VRFY(), "EXPN": EXPN()}[verb]
			got := x.Serve(t, e, args)
			if got != tt.want && !(strings.HasSuffix(tt.want, " ") && strings.HasPrefix(got, tt.want)) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if d.asked != tt.asked {
				t.Errorf("asked about %q, want %q", d.asked, tt.asked)
			}
		})
	}
}

// H02, H03: without a session that verifies, the server verifies nobody and refuses nobody.
func TestVrfyDefault(t *testing.T) {
	x := fake.NewServer(1)
	if got := x.Serve(t, VRFY(), "fred"); !strings.HasPrefix(got, "252 2.") {
		t.Errorf("%q", got)
	}
	if got := x.Serve(t, EXPN(), "list"); !strings.HasPrefix(got, "502 5.5.1 ") {
		t.Errorf("%q", got)
	}
}
