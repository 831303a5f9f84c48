package ext

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/internal/grammar"

	"smtpkit.example/smtp/proto"
)

func TestPrepare(t *testing.T) {
	s := newSet(t, Default()...)
	for _, tt := range []struct {
		name    string
		caps    proto.Caps
		from    string
		to      string
		size    int64
		need    Feature
		mail    string
		want    string // MAIL and its parameters as sent
		wantErr string // a part of the error
	}{
		{name: "B21 nothing offered", caps: ehlo(), size: 5, want: "FROM:<a@b.example>"},
		{name: "E22 no SIZE", caps: ehlo("8BITMIME"), size: 5, want: "FROM:<a@b.example>"},
		{name: "M08 size", caps: everything(), size: 5, want: "FROM:<a@b.example> SIZE=5"},
		{name: "M08 size replaced", caps: everything(), size: 5, mail: "SIZE=4", want: "FROM:<a@b.example> SIZE=5"},
		{name: "size unknown", caps: everything(), size: -1, want: "FROM:<a@b.example>"},
		{name: "size at the limit", caps: everything(), size: 10240, want: "FROM:<a@b.example> SIZE=10240"},
		{name: "M09 above the limit", caps: everything(), size: 10241, wantErr: "10241 octets, and the server accepts 10240"},
		{name: "M09 declared above", caps: everything(), size: -1, mail: "SIZE=20000", wantErr: "20000 octets"},
		{name: "M01 no limit", caps: ehlo("SIZE"), size: 1 << 40, want: "FROM:<a@b.example> SIZE=1099511627776"},
		{name: "M01 zero limit", caps: ehlo("SIZE 0"), size: 1 << 40, want: "FROM:<a@b.example> SIZE=1099511627776"},
		{name: "131 huge limit", caps: ehlo("SIZE 99999999999999999999"), size: 1, want: "FROM:<a@b.example> SIZE=1"},
		{name: "131 negative limit", caps: ehlo("SIZE -1"), size: 1, want: "FROM:<a@b.example> SIZE=1"},
		{name: "131 junk limit", caps: ehlo("SIZE 1k x"), size: 1, want: "FROM:<a@b.example> SIZE=1"},

		{name: "M13 7-bit", caps: ehlo("8BITMIME"), want: "FROM:<a@b.example>"},
		{name: "M13 8-bit", caps: ehlo("8bitmime"), need: EightBit, want: "FROM:<a@b.example> BODY=8BITMIME"},
		{name: "8-bit called 7-bit", caps: ehlo("8BITMIME"), need: EightBit, mail: "BODY=7BIT",
			want: "FROM:<a@b.example> BODY=8BITMIME"},
		{name: "M12 8-bit, not offered", caps: ehlo("SIZE"), need: EightBit, wantErr: "does not offer 8BITMIME"},
		{name: "binary", caps: everything(), size: -1, need: Binary | EightBit, want: "FROM:<a@b.example> BODY=BINARYMIME"},
		{name: "binary is 8-bit", caps: ehlo("CHUNKING", "BINARYMIME"), need: Binary | EightBit,
			want: "FROM:<a@b.example> BODY=BINARYMIME"},
		{name: "N21 binary, not offered", caps: ehlo("8BITMIME", "CHUNKING"), need: Binary, wantErr: "does not offer BINARYMIME"},
		{name: "N21 binary without chunks", caps: ehlo("8BITMIME", "BINARYMIME"), need: Binary, wantErr: "BINARYMIME"},

		{name: "S09 ASCII", caps: ehlo("8BITMIME", "SMTPUTF8"), want: "FROM:<a@b.example>"},
		{name: "S09 header", caps: ehlo("8BITMIME", "SMTPUTF8 x"), need: UTF8, want: "FROM:<a@b.example> SMTPUTF8"},
		{name: "S13 recipient alone", caps: ehlo("8BITMIME", "SMTPUTF8"), to: "jörg@c.example", want: "FROM:<a@b.example> SMTPUTF8"},
		{name: "S09 sender", caps: ehlo("8BITMIME", "SMTPUTF8"), from: "jörg@b.example", want: "FROM:<jörg@b.example> SMTPUTF8"},
		{name: "S10 domain alone", caps: ehlo("8BITMIME", "SMTPUTF8"), from: "a@münchen.example",
			want: "FROM:<a@xn--mnchen-3ya.example>"},
		{name: "S10 recipient, not offered", caps: ehlo("8BITMIME"), to: "jörg@c.example",
			wantErr: "does not offer SMTPUTF8, which the recipient jörg@c.example needs"},
		{name: "S10 header, not offered", caps: ehlo("8BITMIME"), need: UTF8, wantErr: "does not offer SMTPUTF8"},
		{name: "SMTPUTF8 without 8BITMIME", caps: ehlo("SMTPUTF8"), need: UTF8, wantErr: "does not offer SMTPUTF8"},

		{name: "E22 parameter, not offered", caps: ehlo(), mail: "BODY=7BIT", wantErr: "does not offer 8BITMIME, which the MAIL parameter BODY"},
		{name: "value, not offered", caps: ehlo("8BITMIME"), mail: "BODY=BINARYMIME", wantErr: "does not offer BINARYMIME"},
		{name: "unknown parameter", caps: everything(), size: -1, mail: "XFOO=1", wantErr: "Options.Extensions"},
		{name: "bad value", caps: everything(), size: -1, mail: "BODY=9BIT", wantErr: "BODY"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &Envelope{From: address(t, "a@b.example"), Mail: params(tt.mail), Size: tt.size, Needs: tt.need}
			if tt.from != "" {
				e.From = address(t, tt.from)
			}
			if tt.to != "" {
				e.To = []proto.Recipient{{Address: address(t, tt.to)}}
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
	notify := Extension{Keyword: "XNOTIFY", Rcpt: []Param{{Key: "XNOTIFY", MaxLength: 20, Values: []string{"NEVER"}}}}
	s := newSet(t, append(Default(), notify)...)
	e := &Envelope{Size: -1, To: []proto.Recipient{
		{Address: address(t, "a@b.example")},
		{Address: address(t, "c@d.example"), Params: params("XNOTIFY=never")},
	}}
	err := s.Prepare(s.Offered(ehlo()), ehlo(), e)
	need, ok := grammar.AsType[*UnsupportedError](err)
	if !ok || need.Keyword != "XNOTIFY" {
		t.Errorf("%v, want a NeedError for XNOTIFY", err)
	}
	if err := s.Prepare(s.Offered(ehlo("XNOTIFY")), ehlo("XNOTIFY"), e); err != nil {
		t.Errorf("refused although it is offered: %v", err)
	}
}

// A set without an extension for it says so, rather than blame the server.
func TestPrepareWithoutExtension(t *testing.T) {
	s := newSet(t, []Extension{}...)
	err := s.Prepare(0, everything(), &Envelope{Needs: EightBit})
	need, ok := grammar.AsType[*UnsupportedError](err)
	if !ok || need.Keyword != "" || !strings.Contains(err.Error(), "Options.Extensions") {
		t.Errorf("%v", err)
	}
}

// The parameters that the caller shares between messages are never written to.
func TestPrepareLeavesParamsAlone(t *testing.T) {
	s := newSet(t, Default()...)
	shared := make(proto.Params, 1, 8)
	shared[0] = proto.Param{Key: "BODY", Value: "7BIT", HasValue: true}
	e := &Envelope{Mail: shared, Size: 7, Needs: EightBit | UTF8}
	if err := s.Prepare(s.Offered(everything()), everything(), e); err != nil {
		t.Fatal(err)
	}
	if len(e.Mail) != 3 || shared[0].Value != "7BIT" || shared[:2][1].Key != "" {
		t.Errorf("%v written into %v", e.Mail, shared[:2])
	}
}

// Whose recipients they are is not for an extension to say.
func TestPrepareKeepsRecipients(t *testing.T) {
	s := newSet(t, Extension{Keyword: "XDROP", Prepare: func(_ proto.Caps, e *Envelope) error {
		e.To = e.To[1:]
		return nil
	}})
	e := &Envelope{Size: -1, To: []proto.Recipient{{Address: address(t, "a@b.example")}, {Address: address(t, "c@d.example")}}}
	if err := s.Prepare(s.Offered(ehlo("XDROP")), ehlo("XDROP"), e); err == nil || !strings.Contains(err.Error(), "XDROP changes the recipients") {
		t.Errorf("%v", err)
	}
}
