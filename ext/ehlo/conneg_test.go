package ehlo

import (
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

func TestContent(t *testing.T) {
	for _, filter := range []string{
		"(image-file-structure=TIFF)",
		"(& (image-file-structure=TIFF) (dpi=300))",
		"(| " + strings.TrimSuffix(strings.Repeat("(dpi=300) (paper-size=A4) ", 60), " ") + ")",
		"",
	} {
		e := ContentReply(filter)
		if e.Code != 250 {
			t.Fatalf("%v is no acceptance", e)
		}
		lines := strings.Split(e.Text, "\n")
		for i, line := range lines {
			if strings.HasPrefix(line, "CONNEG") != (i > 0) || len(line) > 500 {
				t.Errorf("line %d is %q", i, line)
			}
		}
		got, ok := ReadContent(proto.Reply{Code: 250, Text: e.Text})
		if got != filter || ok != (filter != "") {
			t.Errorf("%.60q comes out as %.60q, %v", filter, got, ok)
		}
	}
	for _, r := range []proto.Reply{{Code: 250, Text: "OK"}, {Code: 550, Text: "no\nCONNEG (a=b)"}, {}} {
		if got, ok := ReadContent(r); ok {
			t.Errorf("%v has %q", r, got)
		}
	}
	if got, ok := ReadContent(proto.Reply{Code: 250, Text: "OK\nconneg (a=1)\nCONNEGO\nCONNEG"}); got != "(a=1) " || !ok {
		t.Errorf("read as %q, %v", got, ok)
	}
}

func TestConNegFlag(t *testing.T) {
	if p := AddConNeg(nil); !slices.Equal(p, testkit.Params("CONNEG")) || !ReadConNeg(p) || ReadConNeg(nil) {
		t.Errorf("CONNEG is written as %v", p)
	}
	s := testkit.MakeSet(t, ConPerm(), ConNeg())
	if e := s.CheckRcpt(testkit.All(s), testkit.Params("CONNEG=1")); e == nil || e.Code != 501 {
		t.Errorf("CONNEG=1: %v, want 501", e)
	}
}

func FuzzContent(f *testing.F) {
	f.Add("(& (image-file-structure=TIFF) (dpi=300))")
	f.Add("a\nCONNEG b")
	f.Fuzz(func(t *testing.T, filter string) {
		if !grammar.Printable(filter) {
			return // is not one of RFC 2533
		}
		got, ok := ReadContent(ContentReply(filter))
		spaceless := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if spaceless(got) != spaceless(filter) || ok != (spaceless(filter) != "") {
			t.Fatalf("%q comes out as %q, %v", filter, got, ok)
		}
	})
}
