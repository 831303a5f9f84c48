package ehlo

import (
	"slices"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// ranked is a session with a policy and a highest priority.
type ranked struct {
	highest Priority
	policy  string
}

func (r ranked) PriorityPolicy() string    { return r.policy }
func (r ranked) HighestPriority() Priority { return r.highest }

func TestW09_Priority(t *testing.T) {
	s := testkit.MakeSet(t, MTPriority())
	for n := -9; n <= 9; n++ {
		p := Priority(n).AddTo(testkit.Params("SIZE=1"))
		if got, ok := ReadPriority(p); !ok || got != Priority(n) || len(p) != 2 {
			t.Errorf("%d is written as %v and read as %d", n, p, got)
		}
		if e := s.CheckMail(testkit.All(s), p[1:]); e != nil {
			t.Errorf("%v: %v", p, e)
		}
	}
	for _, text := range []string{"10", "-10", "+3", "03", "-0", "00", "", "-", "--1", "1.5", "a", " 1", "١", "2147483649"} {
		// W08: with the status code of RFC 6710 section 4.1
		if got := fake.Refusal(s.CheckMail(testkit.All(s), testkit.One("MT-PRIORITY", text))); !strings.HasPrefix(got, "501 5.5.2 ") {
			t.Errorf("%q: %q", text, got)
		}
		if n, ok := ReadPriority(testkit.One("MT-PRIORITY", text)); ok || n != 0 {
			t.Errorf("%q is read as %d", text, n)
		}
	}
	if _, ok := ReadPriority(nil); ok {
		t.Error("none is read")
	}
}

func TestW08_PriorityOfStrangers(t *testing.T) {
	for _, tt := range []struct {
		highest Priority
		params  string
		want    string
	}{
		{0, "MT-PRIORITY=1", "550 5.7.1 "},
		{0, "MT-PRIORITY=0", ""},
		{0, "MT-PRIORITY=-9", ""},
		{0, "", ""},
		{4, "MT-PRIORITY=4", ""},
		{4, "MT-PRIORITY=5", "550 5.7.1 "},
		{-5, "MT-PRIORITY=-1", ""}, // to lower it is permitted to anybody
		{-5, "MT-PRIORITY=1", "550 5.7.1 "},
		{9, "MT-PRIORITY=9", ""},
	} {
		x := fake.NewServer(testkit.Wrap(ranked{highest: tt.highest}))
		got := fake.Refusal(MTPriority().CheckMail(t.Context(), x, proto.Address{}, testkit.Params(tt.params)))
		if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s for one trusted with %d: %q, want %q", tt.params, tt.highest, got, tt.want)
		}
	}
	if got := fake.Reply(Priority(-3).Reply(), nil); got != "250 2.3.6 -3 is the priority that the message has got" {
		t.Errorf("a change is told as %q", got)
	}
}

func TestPriorityAdvertise(t *testing.T) {
	for policy, want := range map[string]string{
		"": "MT-PRIORITY", "MIXER": "MT-PRIORITY MIXER", "a.b-c_1": "MT-PRIORITY a.b-c_1",
		strings.Repeat("x", 20): "MT-PRIORITY " + strings.Repeat("x", 20),
		strings.Repeat("x", 21): "MT-PRIORITY", "a b": "MT-PRIORITY", "a\r\nb": "MT-PRIORITY",
	} {
		_, lines := testkit.MakeSet(t, MTPriority()).Offer(fake.NewServer(ranked{policy: policy}))
		if !slices.Equal(lines, []string{want}) {
			t.Errorf("the policy %q is offered as %q", policy, lines)
		}
	}
}

func FuzzPriorityParam(f *testing.F) {
	for _, s := range []string{"0", "-9", "9", "-0", "+1", "10", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := ReadPriority(testkit.One("MT-PRIORITY", s))
		if ok != (checkPriority(s) == nil) {
			t.Fatalf("%q is read: %v, and checked otherwise", s, ok)
		}
		if got, _ := n.AddTo(nil).Get("MT-PRIORITY"); ok && got != s || n < -9 || n > 9 {
			t.Fatalf("%q is read as %d", s, n)
		}
	})
}
