package ehlo

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/fake"
	"smtpkit.example/smtp/ext/internal/testkit"
	"smtpkit.example/smtp/proto"
)

// willing is a session that holds messages if true.
type willing bool

func (w willing) HoldsMail() bool { return bool(w) }

func TestHoldParams(t *testing.T) {
	hold := FutureRelease(HoldLimits{}).Mail
	testParam(t, hold, "HOLDFOR", []paramCase{
		{"1", true}, {"999999999", true}, {"86400", true},
		{"0", false}, {"01", false}, {"1000000000", false}, {"-1", false}, {"+1", false}, {"1.5", false}, {"1s", false},
	})
	testParam(t, hold, "HOLDUNTIL", []paramCase{
		{"2030-01-01T00:00:00Z", true}, {"2030-01-01t00:00:00.25z", true},
		{"2030-01-01T00:00:00+00:00", false}, // it has to be normalized to UTC
		{"2030-01-01T00:00:00.250Z", false},  // more than 34 octets with the key
		{"2030-01-01T00:00:00", false}, {"2030-13-01T00:00:00Z", false}, {"Z", false}, {"86400", false},
	})
	if h, ok := ReadHold(testkit.Params("HOLDFOR=60 HOLDUNTIL=2030-01-01T00:00:00Z")); ok {
		t.Errorf("both are read as %+v", h)
	}
	if _, ok := ReadHold(testkit.Params("SIZE=1")); ok {
		t.Error("none is read")
	}
	moment := time.Date(2030, 1, 1, 1, 0, 0, 5e8, time.FixedZone("", 3600))
	for _, tt := range []struct {
		h    Hold
		want string
		due  time.Time
	}{
		{Hold{For: time.Hour}, "HOLDFOR=3600", time.Unix(4600, 0)},
		{Hold{Until: moment}, "HOLDUNTIL=2030-01-01T00:00:00Z", time.Unix(1893456000, 0)},
	} {
		p := tt.h.AddTo(nil)
		if !slices.Equal(p, testkit.Params(tt.want)) {
			t.Errorf("%+v is written as %v, want %s", tt.h, p, tt.want)
		}
		if back, ok := ReadHold(p); !ok || !back.Release(time.Unix(1000, 0)).Equal(tt.due) {
			t.Errorf("%s is read as %+v", tt.want, back)
		}
	}
}

// A synctest bubble begins in the year 2000.
func TestW01W03_HoldCheckMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			most   HoldLimits
			params string
			want   string
		}{
			{HoldLimits{Interval: time.Hour}, "HOLDFOR=3600", ""},
			{HoldLimits{Interval: time.Hour}, "HOLDFOR=3601", "501 5.5.4 "},
			{HoldLimits{Interval: time.Hour}, "HOLDUNTIL=2000-01-01T01:00:00Z", ""},
			{HoldLimits{Interval: time.Hour}, "HOLDUNTIL=2000-01-01T01:00:01Z", "501 5.5.4 "},
			{HoldLimits{Interval: time.Hour}, "HOLDUNTIL=1999-12-31T23:59:59Z", ""}, // it is released at once
			{HoldLimits{Interval: time.Hour}, "", ""},
			{HoldLimits{time.Hour, time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)}, "HOLDUNTIL=2001-01-01T00:00:00Z", ""},
			{HoldLimits{time.Hour, time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)}, "HOLDUNTIL=2001-01-01T00:00:01Z", "501 5.5.4 "},
			{HoldLimits{time.Hour, time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)}, "HOLDFOR=3601", "501 5.5.4 "},
			// W03: RFC 4865 section 5.2.2
			{HoldLimits{Interval: time.Hour}, "HOLDFOR=61 BY=60;R", "501 5.5.4 "},
			{HoldLimits{Interval: time.Hour}, "HOLDFOR=61 BY=60;N", "501 5.5.4 "},
			{HoldLimits{Interval: time.Hour}, "HOLDFOR=60 BY=60;R", ""},
			{HoldLimits{Interval: time.Hour}, "HOLDUNTIL=2000-01-01T00:02:00Z BY=100;R", "501 5.5.4 "},
			{HoldLimits{Interval: time.Hour}, "HOLDUNTIL=2000-01-01T00:01:00Z BY=100;R", ""},
		} {
			e := FutureRelease(tt.most)
			got := fake.Refusal(e.CheckMail(t.Context(), fake.NewServer(willing(true)), proto.Address{}, testkit.Params(tt.params)))
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s: %q, want %q", tt.params, got, tt.want)
			}
		}
	})
}

func TestU08_HoldAdvertise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC)
		for _, tt := range []struct {
			name     string
			most     HoldLimits
			session  any
			port     int
			protocol proto.Protocol
			want     string
		}{
			{"offered", HoldLimits{Interval: time.Hour}, willing(true), 587, proto.SMTP, "FUTURERELEASE 3600 2000-01-01T01:00:00Z"},
			{"date", HoldLimits{time.Hour, late}, willing(true), 465, proto.SMTP, "FUTURERELEASE 3600 2000-02-01T00:00:00Z"},
			{"port 25", HoldLimits{Interval: time.Hour}, willing(true), 25, proto.SMTP, ""},
			{"LMTP", HoldLimits{Interval: time.Hour}, willing(true), 24, proto.LMTP, ""},
			{"not willing", HoldLimits{Interval: time.Hour}, willing(false), 587, proto.SMTP, ""},
			{"not able", HoldLimits{Interval: time.Hour}, nil, 587, proto.SMTP, ""},
			{"no limits", HoldLimits{}, willing(true), 587, proto.SMTP, ""},
		} {
			x := &fake.Server{Conn: fake.ServerState{
				Session: tt.session, Protocol: tt.protocol, LocalAddr: &net.TCPAddr{Port: tt.port},
			}}
			if _, lines := testkit.MakeSet(t, FutureRelease(tt.most)).Offer(x); strings.Join(lines, "|") != tt.want {
				t.Errorf("%s: offered %q, want %q", tt.name, lines, tt.want)
			}
		}
	})
	for _, interval := range []time.Duration{-time.Second, 1_000_000_000 * time.Second, time.Millisecond} {
		if _, err := ext.NewSet(proto.SMTP, []ext.Extension{FutureRelease(HoldLimits{Interval: interval})}); err == nil {
			t.Errorf("an interval of %v is accepted", interval)
		}
	}
}

func TestW02_HoldPrepare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const offer = "FUTURERELEASE 3600 2000-01-01T01:00:00Z"
		for _, tt := range []struct {
			offer, from, params string
			want                string // a part of the error
		}{
			{offer, "a@b.example", "HOLDFOR=3600", ""},
			{offer, "a@b.example", "HOLDFOR=3601", "3600 seconds"},
			{offer, "a@b.example", "HOLDUNTIL=2000-01-01T01:00:00Z", ""},
			{offer, "a@b.example", "HOLDUNTIL=2000-01-01T01:00:01Z", "2000-01-01T01:00:00Z"},
			{offer, "a@b.example", "HOLDFOR=1 HOLDUNTIL=2000-01-01T01:00:00Z", "together"},
			{offer, "", "HOLDFOR=60", "notifications"},
			{offer, "a@b.example", "HOLDFOR=60 BY=59;R", "after the time of BY"},
			{"FUTURERELEASE 3600 2000-01-01T02:00:00+01:00", "a@b.example", "HOLDUNTIL=2000-01-01T01:00:00Z", ""},
			{"FUTURERELEASE", "a@b.example", "HOLDFOR=1", "does not say for how long"},
			{"FUTURERELEASE 3600", "a@b.example", "HOLDFOR=1", "does not say for how long"},
			{"SIZE", "a@b.example", "HOLDFOR=1", "does not offer FUTURERELEASE"},
			{offer, "", "", ""},
		} {
			s := testkit.MakeSet(t, FutureRelease(HoldLimits{}), DeliverBy())
			c := fake.Caps(tt.offer, "DELIVERBY")
			e := &ext.Envelope{Mail: testkit.Params(tt.params)}
			if tt.from != "" {
				e.From = testkit.Address(t, tt.from)
			}
			err := s.Prepare(s.Offered(c), c, e)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%s to one that offers %q: %v, want %q", tt.params, tt.offer, err, tt.want)
			}
		}
	})
	err := &ext.UnsupportedError{Keyword: "FUTURERELEASE", What: "a message", Err: net.ErrClosed}
	if !errors.Is(err, net.ErrClosed) {
		t.Error("the reason is not wrapped")
	}
}

func FuzzHoldParam(f *testing.F) {
	for _, s := range []string{"1", "999999999", "0", "2030-01-01T00:00:00Z", "2030-01-01T00:00:00.25z", "2030-01-01T00:00:00+01:00"} {
		f.Add("HOLDFOR", s)
		f.Add("HOLDUNTIL", s)
	}
	f.Fuzz(func(t *testing.T, key, s string) {
		if key != "HOLDFOR" {
			key = "HOLDUNTIL"
		}
		h, ok := ReadHold(testkit.One(key, s))
		if ok != (checkHold(key)(s) == nil) {
			t.Fatalf("%s=%q is read: %v, and checked otherwise", key, s, ok)
		}
		if !ok {
			return
		}
		if h.For < 0 || h.For > 999_999_999*time.Second || (h.For == 0) != (key == "HOLDUNTIL") {
			t.Fatalf("%s=%q is read as %+v", key, s, h)
		}
		now := time.Unix(0, 0)
		again, ok := ReadHold(h.AddTo(nil))
		if !ok || !again.Release(now).Equal(h.Release(now).Truncate(time.Second)) {
			t.Fatalf("%s=%q is written as %v and read as %+v", key, s, h.AddTo(nil), again)
		}
	})
}
