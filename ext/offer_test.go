package ext_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
)

func TestOffer(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.Default()...)
	x := &fake.Server{Conn: fake.ServerState{MaxSize: 10240}}
	o, lines := s.Offer(x)
	want := []string{"PIPELINING", "SIZE 10240", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8", "CHUNKING", "BINARYMIME",
		"HELP", "VRFY", "LIMITS RCPTMAX=100"}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("offered %q, want %q", lines, want)
	}
	if !s.StatusCodes(o) || !s.Pipelining(o) || s.Chunk(o) == nil || s.Chunk(o).Name != "BDAT" {
		t.Error("the offer lost what it consists of")
	}
	none := ext.Offer{}
	if s.StatusCodes(none) || s.Pipelining(none) || s.Chunk(none) != nil {
		t.Error("nothing is advertised, and yet something is")
	}
}

func TestOfferLine(t *testing.T) {
	args, ok := "", true
	s := testkit.MakeSet(t, ext.Extension{Keyword: "XA", Advertise: func(ext.ServerConn) (string, bool) { return args, ok }})
	words := strings.Repeat("WORD ", 200)
	for _, tt := range []struct {
		args string
		ok   bool
		want []string
	}{
		{"", true, []string{"XA"}},
		{"a b", true, []string{"XA a b"}},
		{"a", false, []string{}},
		{"a\r\n250 x", true, []string{}},
		{"é", true, []string{}},
		{" a", true, []string{}},
		{words[:len(words)-1], true, []string{"XA " + strings.Repeat("WORD ", 99)[:494]}}, // 3+99*5-1 = 497 ≤ 500
		{strings.Repeat("x", 497), true, []string{"XA " + strings.Repeat("x", 497)}},
		{strings.Repeat("x", 498), true, []string{"XA"}},
	} {
		args, ok = tt.args, tt.ok
		o, lines := s.Offer(&fake.Server{})
		if fmt.Sprint(lines) != fmt.Sprint(tt.want) || o.Has(0) != (len(tt.want) > 0) {
			t.Errorf("%.20q, %v: %q, %v", tt.args, tt.ok, lines, o)
		}
	}
}

// TestOfferRequiresAll checks that an extension that requires two others needs both.
func TestOfferRequiresAll(t *testing.T) {
	s := testkit.MakeSet(t, ehlo.EightBitMIME(), ehlo.Chunking(), ext.Extension{Keyword: "XBOTH", Requires: []string{"8BITMIME", "CHUNKING"}})
	for caps, want := range map[string]bool{"8BITMIME": false, "CHUNKING": false, "8BITMIME CHUNKING": true} {
		if o := s.Offered(fake.Caps(append(strings.Fields(caps), "XBOTH")...)); o.Has(2) != want {
			t.Errorf("with %s: offered %v", caps, o.Has(2))
		}
	}
}

// TestOfferRequires checks that an extension is not advertised where one that it requires is not.
func TestOfferRequires(t *testing.T) {
	base := ehlo.Chunking()
	base.Advertise = func(ext.ServerConn) (string, bool) { return "", false }
	s := testkit.MakeSet(t, ehlo.BinaryMIME(), base, ext.Extension{Keyword: "XTOP", Requires: []string{"BINARYMIME"}})
	if o, lines := s.Offer(&fake.Server{}); o != (ext.Offer{}) || len(lines) != 0 {
		t.Errorf("offered %q without CHUNKING", lines)
	}
	if o := s.Offered(fake.Caps("BINARYMIME", "XTOP")); o != (ext.Offer{}) {
		t.Errorf("taken as advertised without CHUNKING: %v", o)
	}
	if o := s.Offered(fake.Caps("binarymime", "chunking", "xtop")); !o.Has(0) || !o.Has(1) || !o.Has(2) || o.Has(3) {
		t.Errorf("B07: taken as advertised: %v", o)
	}
}
