package ext_test

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

func TestPrepare(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.Default()...)
	for _, tt := range []struct {
		name    string
		caps    proto.Caps
		from    string
		to      string
		size    int64
		need    ext.Feature
		mail    string
		want    string // MAIL and its parameters as sent
		wantErr string // a part of the error
	}{
		{name: "B21 nothing offered", caps: fake.Caps(), size: 5, want: "FROM:<a@b.example>"},
		{name: "E22 no SIZE", caps: fake.Caps("8BITMIME"), size: 5, want: "FROM:<a@b.example>"},
		{name: "M08 size", caps: testkit.Everything(), size: 5, want: "FROM:<a@b.example> SIZE=5"},
		{name: "M08 size replaced", caps: testkit.Everything(), size: 5, mail: "SIZE=4", want: "FROM:<a@b.example> SIZE=5"},
		{name: "size unknown", caps: testkit.Everything(), size: -1, want: "FROM:<a@b.example>"},
		{name: "size at the limit", caps: testkit.Everything(), size: 10240, want: "FROM:<a@b.example> SIZE=10240"},
		{name: "M09 above the limit", caps: testkit.Everything(), size: 10241, wantErr: "10241 octets, and the server accepts 10240"},
		{name: "M09 declared above", caps: testkit.Everything(), size: -1, mail: "SIZE=20000", wantErr: "20000 octets"},
		{name: "M01 no limit", caps: fake.Caps("SIZE"), size: 1 << 40, want: "FROM:<a@b.example> SIZE=1099511627776"},
		{name: "M01 zero limit", caps: fake.Caps("SIZE 0"), size: 1 << 40, want: "FROM:<a@b.example> SIZE=1099511627776"},
		{name: "131 huge limit", caps: fake.Caps("SIZE 99999999999999999999"), size: 1, want: "FROM:<a@b.example> SIZE=1"},
		{name: "131 negative limit", caps: fake.Caps("SIZE -1"), size: 1, want: "FROM:<a@b.example> SIZE=1"},
		{name: "131 junk limit", caps: fake.Caps("SIZE 1k x"), size: 1, want: "FROM:<a@b.example> SIZE=1"},

		{name: "M13 7-bit", caps: fake.Caps("8BITMIME"), want: "FROM:<a@b.example>"},
		{name: "M13 8-bit", caps: fake.Caps("8bitmime"), need: ext.EightBit, want: "FROM:<a@b.example> BODY=8BITMIME"},
		{name: "8-bit called 7-bit", caps: fake.Caps("8BITMIME"), need: ext.EightBit, mail: "BODY=7BIT",
			want: "FROM:<a@b.example> BODY=8BITMIME"},
		{name: "M12 8-bit, not offered", caps: fake.Caps("SIZE"), need: ext.EightBit, wantErr: "does not offer 8BITMIME"},
		{name: "binary", caps: testkit.Everything(), size: -1, need: ext.Binary | ext.EightBit, want: "FROM:<a@b.example> BODY=BINARYMIME"},
		{name: "binary is 8-bit", caps: fake.Caps("CHUNKING", "BINARYMIME"), need: ext.Binary | ext.EightBit,
			want: "FROM:<a@b.example> BODY=BINARYMIME"},
		{name: "N21 binary, not offered", caps: fake.Caps("8BITMIME", "CHUNKING"), need: ext.Binary, wantErr: "does not offer BINARYMIME"},
		{name: "N21 binary without chunks", caps: fake.Caps("8BITMIME", "BINARYMIME"), need: ext.Binary, wantErr: "BINARYMIME"},

		{name: "S09 ASCII", caps: fake.Caps("8BITMIME", "SMTPUTF8"), want: "FROM:<a@b.example>"},
		{name: "S09 header", caps: fake.Caps("8BITMIME", "SMTPUTF8 x"), need: ext.UTF8, want: "FROM:<a@b.example> SMTPUTF8"},
		{name: "S13 recipient alone", caps: fake.Caps("8BITMIME", "SMTPUTF8"), to: "jörg@c.example", want: "FROM:<a@b.example> SMTPUTF8"},
		{name: "S09 sender", caps: fake.Caps("8BITMIME", "SMTPUTF8"), from: "jörg@b.example", want: "FROM:<jörg@b.example> SMTPUTF8"},
		{name: "S10 domain alone", caps: fake.Caps("8BITMIME", "SMTPUTF8"), from: "a@münchen.example",
			want: "FROM:<a@xn--mnchen-3ya.example>"},
		{name: "S10 recipient, not offered", caps: fake.Caps("8BITMIME"), to: "jörg@c.example",
			wantErr: "does not offer SMTPUTF8, which the recipient jörg@c.example needs"},
		{name: "S10 header, not offered", caps: fake.Caps("8BITMIME"), need: ext.UTF8, wantErr: "does not offer SMTPUTF8"},
		{name: "SMTPUTF8 without 8BITMIME", caps: fake.Caps("SMTPUTF8"), need: ext.UTF8, wantErr: "does not offer SMTPUTF8"},

		{name: "E22 parameter, not offered", caps: fake.Caps(), mail: "BODY=7BIT", wantErr: "does not offer 8BITMIME, which the MAIL parameter BODY"},
		{name: "value, not offered", caps: fake.Caps("8BITMIME"), mail: "BODY=BINARYMIME", wantErr: "does not offer BINARYMIME"},
		{name: "unknown parameter", caps: testkit.Everything(), size: -1, mail: "XFOO=1", wantErr: "Options.Extensions"},
		{name: "bad value", caps: testkit.Everything(), size: -1, mail: "BODY=9BIT", wantErr: "BODY"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &ext.Envelope{From: testkit.Address(t, "a@b.example"), Mail: testkit.Params(tt.mail), Size: tt.size, Needs: tt.need}
			if tt.from != "" {
				e.From = testkit.Address(t, tt.from)
			}
			if tt.to != "" {
				e.To = []proto.Recipient{{Address: testkit.Address(t, tt.to)}}
			}
			o := s.Offered(tt.caps)
			err := s.Prepare(o, tt.caps, e)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) || !strings.HasPrefix(err.Error(), "smtp: ") {
					t.Fatalf("error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := proto.AppendMailArgs(nil, e.From, e.Mail, s.UTF8(o, e.Mail))
			if err != nil || string(got) != tt.want {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestPrepareRcpt(t *testing.T) {
	notify := ext.Extension{Keyword: "XNOTIFY", Rcpt: []ext.Param{{Key: "XNOTIFY", MaxLength: 20, Values: []string{"NEVER"}}}}
	s := testkit.MakeSet(t, append(ehlo.Default(), notify)...)
	e := &ext.Envelope{Size: -1, To: []proto.Recipient{
		{Address: testkit.Address(t, "a@b.example")},
		{Address: testkit.Address(t, "c@d.example"), Params: testkit.Params("XNOTIFY=never")},
	}}
	err := s.Prepare(s.Offered(fake.Caps()), fake.Caps(), e)
	need, ok := grammar.AsType[*ext.UnsupportedError](err)
	if !ok || need.Keyword != "XNOTIFY" {
		t.Errorf("%v, want an UnsupportedError for XNOTIFY", err)
	}
	if err := s.Prepare(s.Offered(fake.Caps("XNOTIFY")), fake.Caps("XNOTIFY"), e); err != nil {
		t.Errorf("refused although it is offered: %v", err)
	}
}

// TestPrepareWithoutExtension checks that the error does not blame the server if no extension of the set would do.
func TestPrepareWithoutExtension(t *testing.T) {
	s := testkit.MakeSet(t, []ext.Extension{}...)
	err := s.Prepare(ext.Offer{}, testkit.Everything(), &ext.Envelope{Needs: ext.EightBit})
	need, ok := grammar.AsType[*ext.UnsupportedError](err)
	if !ok || need.Keyword != "" || !strings.Contains(err.Error(), "Options.Extensions") {
		t.Errorf("%v", err)
	}
}

// TestPrepareLeavesParamsAlone checks that Prepare does not write to parameters that a caller shares between messages.
func TestPrepareLeavesParamsAlone(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.Default()...)
	shared := make(proto.Params, 1, 8)
	shared[0] = proto.Param{Key: "BODY", Value: "7BIT", HasValue: true}
	e := &ext.Envelope{Mail: shared, Size: 7, Needs: ext.EightBit | ext.UTF8}
	if err := s.Prepare(s.Offered(testkit.Everything()), testkit.Everything(), e); err != nil {
		t.Fatal(err)
	}
	if len(e.Mail) != 3 || shared[0].Value != "7BIT" || shared[:2][1].Key != "" {
		t.Errorf("%v written into %v", e.Mail, shared[:2])
	}
}

// TestPrepareKeepsRecipients checks that an extension cannot change the recipients.
func TestPrepareKeepsRecipients(t *testing.T) {
	s := testkit.MakeSet(t, ext.Extension{Keyword: "XDROP", Prepare: func(_ proto.Caps, e *ext.Envelope) error {
		e.To = e.To[1:]
		return nil
	}})
	e := &ext.Envelope{Size: -1, To: []proto.Recipient{{Address: testkit.Address(t, "a@b.example")}, {Address: testkit.Address(t, "c@d.example")}}}
	if err := s.Prepare(s.Offered(fake.Caps("XDROP")), fake.Caps("XDROP"), e); err == nil || !strings.Contains(err.Error(), "XDROP changes the recipients") {
		t.Errorf("%v", err)
	}
}
