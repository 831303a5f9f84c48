package ehlo

import (
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

func TestObsolete(t *testing.T) {
	s := testkit.MakeSet(t, Obsolete(), Help())
	for _, name := range []string{"SEND", "SOML", "SAML", "TURN", "VERB", "ONEX"} {
		v := s.Table().Lookup(name)
		if v == nil {
			t.Fatalf("%s is not known", name)
		}
		x := &fake.Server{Conn: fake.ServerState{Verb: v}}
		if got := x.Serve(t, Obsolete(), "x"); !strings.HasPrefix(got, "502 5.5.1 "+name) {
			t.Errorf("%s: %q", name, got)
		}
		for st := proto.Hello; st <= proto.Broken; st <<= 1 {
			if _, ok := v.After(st, 250); ok || v.In&st == 0 {
				t.Errorf("%s in %v: it can succeed, or is out of sequence", name, st)
			}
		}
	}
	if o, lines := s.Offer(&fake.Server{}); len(lines) != 1 || o.Has(0) || !o.Has(1) || o.Has(2) {
		t.Errorf("offered %q, %v", lines, o)
	}
	x := &fake.Server{Conn: fake.ServerState{Table: s.Table()}}
	if got := x.Serve(t, Help(), ""); strings.Contains(got, "TURN") || !strings.Contains(got, "HELP") || !strings.Contains(got, "DATA") {
		t.Errorf("HELP lists %q", got)
	}
	if got := x.Serve(t, Help(), "turn"); !strings.HasPrefix(got, "504 ") {
		t.Errorf("HELP TURN: %q", got)
	}
}
