package ehlo

import (
	"slices"
	"testing"

	"smtpkit.example/smtp/ext/internal/testkit"
)

func TestConPermFlag(t *testing.T) {
	p := AddConPerm(testkit.Params("SIZE=1"))
	if !slices.Equal(p, testkit.Params("SIZE=1 CONPERM")) || !ReadConPerm(p) || ReadConPerm(nil) {
		t.Errorf("CONPERM is written as %v", p)
	}
	s := testkit.MakeSet(t, ConPerm(), ConNeg())
	for _, text := range []string{"CONPERM=1", "CONPERM="} {
		if e := s.CheckMail(testkit.All(s), testkit.Params(text)); e == nil || e.Code != 501 {
			t.Errorf("%s: %v, want 501", text, e)
		}
	}
}
