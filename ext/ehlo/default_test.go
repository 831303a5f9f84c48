package ehlo_test

import (
	"slices"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

func keywords(list []ext.Extension) []string {
	var all []string
	for _, e := range list {
		if e.Keyword != "" {
			all = append(all, e.Keyword)
		}
	}
	return all
}

// TestReadySets compares the lists with what their standards require and forbid.
func TestReadySets(t *testing.T) {
	for _, tt := range []struct {
		name      string
		protocol  proto.Protocol
		list      []ext.Extension
		has, lack []string
	}{
		// RFC 6409 section 7.
		{"U05 submission", proto.SMTP, ehlo.Submission(ehlo.SubmissionPolicy{}),
			[]string{"AUTH", "PIPELINING", "ENHANCEDSTATUSCODES", "DSN", "8BITMIME", "STARTTLS", "FUTURERELEASE", "BURL"},
			[]string{"ETRN", "ATRN", "XCLIENT", "CHECKPOINT"}},
		{"U08 relay", proto.SMTP, ehlo.Relay(),
			[]string{"PIPELINING", "ENHANCEDSTATUSCODES", "DSN", "8BITMIME", "STARTTLS", "SIZE", "SMTPUTF8", "CHUNKING"},
			[]string{"FUTURERELEASE", "BURL", "AUTH"}},
		{"U08 default", proto.SMTP, ehlo.Default(), []string{"AUTH"}, []string{"FUTURERELEASE", "BURL", "ETRN", "ATRN"}},
		// RFC 2033 section 5.
		{"T05 LMTP", proto.LMTP, ehlo.LMTP(), []string{"PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SIZE", "DSN"},
			[]string{"FUTURERELEASE", "BURL", "ETRN", "ATRN", "PRDR", "EXPN", "DELIVERBY"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := keywords(tt.list)
			for _, keyword := range tt.has {
				if !slices.Contains(got, keyword) {
					t.Errorf("%s is missing in %v", keyword, got)
				}
			}
			for _, keyword := range tt.lack {
				if slices.Contains(got, keyword) {
					t.Errorf("%s is among %v", keyword, got)
				}
			}
			set, err := ext.NewSet(tt.protocol, tt.list)
			if err != nil {
				t.Fatal(err)
			}
			if err := set.CheckServer(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLengths compares the lengths that each extension declares with its RFC.
func TestLengths(t *testing.T) {
	for _, tt := range []struct {
		e          ext.Extension
		mail, rcpt int
		source     string
	}{
		{ehlo.Size(), 26, 0, "RFC 1870 section 3"},
		{ehlo.SMTPUTF8(), 10, 0, "RFC 6531 section 3.1"},
		{auth.Auth(), 500, 0, "RFC 4954 section 3"},
		{ehlo.DSN(), 9 + 107, 29 + 507, "RFC 3461 section 5.4 with RFC 3885 section 2"},
		{ehlo.RequireTLS(), 11, 0, "RFC 8689 section 2"},
		{ehlo.MTPriority(), 15, 0, "RFC 6710 section 3"},
		{ehlo.FutureRelease(ehlo.HoldLimits{}), 34, 0, "RFC 4865 section 3"},
		{ehlo.DeliverBy(), 17, 0, "RFC 2852 section 2"},
		{ehlo.RRVS(), 0, 33, "RFC 7293 section 3.1"},
		{ehlo.NoSoliciting(), 1007, 0, "RFC 3865 section 4.1"},
		{ehlo.Limits(), 0, 0, "RFC 9422 section 3"},
		{ehlo.Obsolete(), 0, 0, "they cannot be used"},
	} {
		t.Run(tt.e.Keyword, func(t *testing.T) {
			set, err := ext.NewSet(proto.SMTP, append([]ext.Extension{tt.e}, base(tt.e)...))
			if err != nil {
				t.Fatal(err)
			}
			if got := set.Table().Lookup("MAIL").Grow; got != tt.mail+more(tt.e) {
				t.Errorf("MAIL grows by %d octets, %s has %d", got, tt.source, tt.mail)
			}
			if got := set.Table().Lookup("RCPT").Grow; got != tt.rcpt {
				t.Errorf("RCPT grows by %d octets, %s has %d", got, tt.source, tt.rcpt)
			}
		})
	}
}

// base returns the extensions that e requires, and more the octets that they add to MAIL.
func base(e ext.Extension) []ext.Extension {
	if slices.Contains(e.Requires, "8BITMIME") {
		return []ext.Extension{ehlo.EightBitMIME()}
	}
	return nil
}

func more(e ext.Extension) int { return len(base(e)) * 16 }

// B16: HELP, VRFY and EXPN are allowed before EHLO, and no other command of an extension is.
func TestVerbStates(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.Default()...)
	for name, want := range map[string]proto.State{
		"HELP": proto.Session, "VRFY": proto.Session, "EXPN": proto.Session,
		"AUTH": proto.Ready, "STARTTLS": proto.Ready, // rows 45 and 81, P02: 503 in a transaction
	} {
		v := s.Table().Lookup(name)
		if v.In != want || !v.Last {
			t.Errorf("%s may be sent in %v, last %v", name, v.In, v.Last)
		}
	}
}
