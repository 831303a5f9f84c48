package ehlo

import (
	"slices"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/grammar"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// hasty is a session with this shortest time.
type hasty time.Duration

func (h hasty) MinDeliverBy() time.Duration { return time.Duration(h) }

func TestW05_By(t *testing.T) {
	s := testkit.MakeSet(t, DeliverBy())
	for text, want := range map[string]By{
		"120;R":         {In: 2 * time.Minute, Return: true},
		"+120;rt":       {In: 2 * time.Minute, Return: true, Trace: true},
		"1;R":           {In: time.Second, Return: true},
		"0;N":           {},
		"-1;n":          {In: -time.Second},
		"-999999999;NT": {In: -999_999_999 * time.Second, Trace: true},
		"999999999;RT":  {In: 999_999_999 * time.Second, Return: true, Trace: true},
		"000000007;N":   {In: 7 * time.Second},
	} {
		b, ok := ReadBy(testkit.One("BY", text))
		if !ok || b != want {
			t.Errorf("%s: %+v, %v, want %+v", text, b, ok, want)
		}
		if e := s.CheckMail(testkit.All(s), testkit.One("BY", text)); e != nil {
			t.Errorf("%s: %v", text, e)
		}
		if again, ok := ReadBy(b.AddTo(nil)); !ok || again != b {
			t.Errorf("%s is written as %v", text, b.AddTo(nil))
		}
	}
	for _, text := range []string{"0;R", "-1;R", "+0;RT", "1", "1;", ";R", "1;RN", "1;TR", "1;R;T", "1000000000;N", "+-1;N", "--1;N", "1.5;N",
		"1 ;N", "0x1;N", "", "99999999999999999999;N"} {
		if e := s.CheckMail(testkit.All(s), testkit.One("BY", text)); e == nil || e.Code != 501 || e.Status != (proto.Status{5, 5, 4}) {
			t.Errorf("%q: %v, want 501 5.5.4", text, e)
		}
		if b, ok := ReadBy(testkit.One("BY", text)); ok {
			t.Errorf("%q is read as %+v", text, b)
		}
	}
	if _, ok := ReadBy(nil); ok {
		t.Error("none is read")
	}
}

func TestW06_ByTooShort(t *testing.T) {
	for _, tt := range []struct {
		least  time.Duration
		params string
		want   string
	}{
		{time.Minute, "BY=59;R", "555 5.5.4 "}, // RFC 2852 sections 3 and 4
		{time.Minute, "BY=60;R", ""},
		{time.Minute, "BY=59;N", ""},
		{time.Minute, "BY=-5;N", ""},
		{time.Minute, "", ""},
		{0, "BY=1;R", ""},
		{-time.Hour, "BY=1;R", ""},
	} {
		got := fake.Refusal(DeliverBy().CheckMail(t.Context(), fake.NewServer(testkit.Wrap(hasty(tt.least))), proto.Address{}, testkit.Params(tt.params)))
		if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s within %v: %q, want %q", tt.params, tt.least, got, tt.want)
		}
	}
	for least, want := range map[time.Duration]string{
		0: "DELIVERBY", -1: "DELIVERBY", time.Minute: "DELIVERBY 60", 1500 * time.Millisecond: "DELIVERBY 1",
		1 << 62: "DELIVERBY 999999999",
	} {
		if _, lines := testkit.MakeSet(t, DeliverBy()).Offer(fake.NewServer(hasty(least))); !slices.Equal(lines, []string{want}) {
			t.Errorf("%v is offered as %q", least, lines)
		}
	}
}

func TestW07_ByAfter(t *testing.T) {
	for _, tt := range []struct {
		b       By
		elapsed time.Duration
		want    time.Duration
		ok      bool
	}{
		{By{In: time.Minute, Return: true}, 20 * time.Second, 40 * time.Second, true},
		{By{In: time.Minute, Return: true}, 59*time.Second + time.Millisecond, 0, false}, // less than a second is none
		{By{In: time.Minute, Return: true}, 2 * time.Minute, -time.Minute, false},
		{By{In: time.Minute}, 2 * time.Minute, -time.Minute, true},
		{By{In: -999_999_999 * time.Second}, time.Hour, -999_999_999 * time.Second, true},
	} {
		if left, ok := tt.b.After(tt.elapsed); left.In != tt.want || ok != tt.ok {
			t.Errorf("%+v after %v: %v, %v, want %v, %v", tt.b, tt.elapsed, left.In, ok, tt.want, tt.ok)
		}
	}
}

func TestW07_ByPrepare(t *testing.T) {
	for _, tt := range []struct {
		offer, params string
		refused       bool
	}{
		{"DELIVERBY 60", "BY=59;R", true}, // RFC 2852 section 4.1.4.1
		{"DELIVERBY 60", "BY=60;R", false},
		{"DELIVERBY 60", "BY=1;N", false},
		{"DELIVERBY 60,later", "BY=59;R", true},
		{"DELIVERBY ,later", "BY=1;R", false},
		{"DELIVERBY", "BY=1;R", false},
		{"DELIVERBY x", "BY=1;R", false},
		{"DELIVERBY 9999999999", "BY=1;R", false},
		{"SIZE", "BY=1;N", true},
		{"DELIVERBY", "", false},
	} {
		s := testkit.MakeSet(t, DeliverBy())
		c := fake.Caps(tt.offer)
		err := s.Prepare(s.Offered(c), c, &ext.Envelope{Mail: testkit.Params(tt.params)})
		e, isNeed := grammar.AsType[*ext.UnsupportedError](err)
		if (err != nil) != tt.refused || err != nil && (!isNeed || e.Keyword != "DELIVERBY" || !strings.HasPrefix(err.Error(), "smtp: ")) {
			t.Errorf("%s to one that offers %q: %v", tt.params, tt.offer, err)
		}
	}
}

func FuzzByParam(f *testing.F) {
	for _, s := range []string{"120;R", "-1;NT", "+999999999;rt", "0;R", "1;", ";N", "1000000000;N"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, ok := ReadBy(testkit.One("BY", s))
		if ok != (checkBy(s) == nil) {
			t.Fatalf("%q is read: %v, and checked otherwise", s, ok)
		}
		if !ok {
			return
		}
		if n := b.In / time.Second; b.In%time.Second != 0 || n > 999_999_999 || n < -999_999_999 || b.Return && n <= 0 {
			t.Fatalf("%q is read as %+v", s, b)
		}
		if again, ok := ReadBy(b.AddTo(nil)); !ok || again != b {
			t.Fatalf("%q is written as %v", s, b.AddTo(nil))
		}
	})
}
