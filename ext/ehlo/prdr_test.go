package ehlo

import (
	"context"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// apart is a session that reports the outcome for each recipient.
type apart struct{}

func (apart) DataEach(context.Context, io.Reader, func(int, proto.Reply, error)) error { return nil }

func TestPrdrOffer(t *testing.T) {
	set := testkit.MakeSet(t, PRDR())
	for _, tt := range []struct {
		x    ext.ServerConn
		want string
	}{
		{fake.NewServer(apart{}), "PRDR"},
		{&fake.Server{}, ""},
		{&fake.Server{Conn: fake.ServerState{Session: apart{}, Protocol: proto.LMTP}}, ""},
	} {
		if _, lines := set.Offer(tt.x); strings.Join(lines, "|") != tt.want {
			t.Errorf("offered %q, want %q", lines, tt.want)
		}
	}
}

func TestPrdrParam(t *testing.T) {
	set := testkit.MakeSet(t, PRDR(), SMTPUTF8(), EightBitMIME())
	mail := set.Table().Lookup("MAIL")
	for args, want := range map[string]bool{
		"FROM:<a@b.example> PRDR":                 true,
		"FROM:<> SMTPUTF8 prdr":                   true,
		"FROM:<a@b.example> PRDR BODY=8BITMIME":   true,
		"FROM:<a@b.example>":                      false,
		"FROM:<PRDR@b.example>":                   false,
		`FROM:<"a> PRDR"@b.example>`:              false,
		`FROM:<"a> PRDR"@b.example> PRDR`:         true,
		"FROM:<a@b.example> XPRDR":                false,
		"FROM:<a@b.example> X=PRDR":               false,
		"FROM:<a@b.example> PRDR PRDR":            false, // which is malformed
		"FROM:<a@b.example> BODY=8BITMIME X=PRDR": false,
	} {
		if got := mail.Split(([]byte)(args)); got != want {
			t.Errorf("%s splits: %t, want %t", args, got, want)
		}
	}
	if testkit.MakeSet(t, Size()).Table().Lookup("MAIL").Split != nil {
		t.Error("without the extension MAIL can ask for an outcome for each recipient")
	}
}

func TestPrdrPrepare(t *testing.T) {
	set := testkit.MakeSet(t, PRDR())
	a := testkit.Address(t, "a@b.example")
	for n, want := range map[int]bool{1: false, 2: true} {
		for _, offered := range []bool{true, false} {
			caps := fake.Caps("PRDR")
			if !offered {
				caps = fake.Caps("SIZE")
			}
			e := &ext.Envelope{From: a, To: make([]proto.Recipient, n), Size: -1}
			for i := range e.To {
				e.To[i].Address = a
			}
			if err := set.Prepare(set.Offered(caps), caps, e); err != nil {
				t.Fatal(err)
			}
			if got := e.Mail.Has("PRDR"); got != (want && offered) {
				t.Errorf("%d recipients, offered %t: asked for is %t", n, offered, got)
			}
			whole := &ext.Envelope{From: a, To: e.To, Size: -1, AllOrNone: true}
			if err := set.Prepare(set.Offered(caps), caps, whole); err != nil || whole.Mail.Has("PRDR") {
				t.Errorf("%d recipients, all or none: %v, %v", n, whole.Mail, err)
			}
		}
	}
}
