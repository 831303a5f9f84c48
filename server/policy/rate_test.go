package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/internal/bucket"
)

// TestRate checks what is counted together, when it is too much, and that it comes back evenly.
func TestRate(t *testing.T) {
	const (
		a, b       = "MAIL FROM:<a@b.example>", "MAIL FROM:<b@b.example>"
		null       = "MAIL FROM:<>"
		x, y, z    = "RCPT TO:<x@d.example>", "RCPT TO:<y@D.example>", "RCPT TO:<z@e.example>"
		rset, tooM = "RSET", "450 4.7.1 Too many messages"
		tooR       = "450 4.7.1 Too many recipients"
	)
	type step struct {
		from     string        // a client's address; "" is the same connection
		after    time.Duration // how much later
		dialogue []string
	}
	begin := []string{a, "250", rset, "250"}
	full := []string{a, tooM}
	auth := []string{authPlain, "235"}
	tests := []struct {
		name  string
		rate  Rate
		steps []step
		found string
	}{
		{"messages by network", Rate{Messages: 3}, []step{
			{"192.0.2.7", 0, begin}, {"", 0, begin}, {"192.0.2.7", 0, begin}, {"192.0.2.7", 0, full}, {"192.0.2.8", 0, begin},
			{"192.0.2.7", 19 * time.Second, full}, {"", time.Second, begin}, {"", 0, full}, {"127.0.0.1", 0, begin},
			{"", 0, begin}, {"", 0, begin}, {"", 0, begin}, {"192.0.2.7", time.Hour, begin}, {"", 0, begin}, {"", 0, begin},
			{"", 0, full}}, "rate=fail (more than 3 messages in 1m0s: 192.0.2.7/32)"},
		{"IPv6", Rate{Messages: 1}, []step{
			{"2001:db8::1", 0, begin}, {"2001:db8::ffff:0:0:2", 0, full}, {"2001:db8:0:1::1", 0, begin}},
			"rate=fail (more than 1 messages in 1m0s: 2001:db8::/64)"},
		{"prefixes", Rate{Messages: 1, IPv4Prefix: 24, IPv6Prefix: 48}, []step{
			{"192.0.2.7", 0, begin}, {"192.0.2.8", 0, full}, {"::ffff:192.0.2.9", 0, full}, {"192.0.3.7", 0, begin},
			{"2001:db8:1::1", 0, begin}, {"2001:db8:1:ffff::1", 0, full}, {"2001:db8:2::1", 0, begin}}, ""},
		{"recipients by network", Rate{Recipients: 2}, []step{
			{"192.0.2.7", 0, []string{a, "250", x, "250", z, "250", y, tooR, rset, "250", a, "250", x, tooR}},
			{"192.0.2.7", 30 * time.Second, []string{a, "250", x, "250", y, tooR}}}, ""},
		{"authenticated, by network", Rate{Messages: 1}, []step{
			{"192.0.2.7", 0, begin}, {"", 0, full}, {"", 0, append(auth, begin...)}, {"", 0, begin}}, ""},
		{"authenticated, by network, without Skip", Rate{Messages: 1, Skip: Nobody}, []step{
			{"192.0.2.7", 0, append(auth, begin...)}, {"", 0, full}}, ""},
		{"by user", Rate{By: ByUser, Messages: 2, Window: 4 * time.Minute}, []step{
			{"192.0.2.7", 0, begin}, {"", 0, begin}, {"", 0, begin}, {"", 0, append(auth, begin...)}, {"", 0, begin},
			{"", 0, full}, {"2001:db8::1", 0, append(auth, full...)}, {"", 2 * time.Minute, begin}, {"", 0, full}},
			"rate=fail (more than 2 messages in 4m0s: alice)"},
		{"by sender", Rate{By: BySender, Messages: 1, Recipients: 1}, []step{
			{"192.0.2.7", 0, begin}, {"192.0.2.8", 0, []string{"MAIL FROM:<A@B.Example>", tooM, b, "250", x, "250", y, tooR}},
			{"", 0, []string{rset, "250", null, "250", x, "250", y, "250", z, "250", rset, "250", null, "250"}}}, ""},
		{"by recipient domain", Rate{By: ByRecipientDomain, Messages: 2, Recipients: 4}, []step{
			{"192.0.2.7", 0, []string{a, "250", x, "250", y, "250", x, "250", rset, "250", b, "250", x, "250",
				y, tooR, z, "250"}},
			{"192.0.2.8", 0, []string{a, "250", z, "250", x, tooM}}}, "rate=fail (more than 4 recipients in 1m0s: d.example), " +
			"rate=fail (more than 2 messages in 1m0s: d.example)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &inner{}, &server.Options{AllowInsecureAuth: true}, tt.rate)
				var p *peer
				for _, s := range tt.steps {
					time.Sleep(s.after) // in a bubble
					if s.from != "" {
						if p != nil {
							p.Close()
						}
						p = w.dial(s.from)
						p.ask("EHLO client.example", "250")
					}
					p.ask(s.dialogue...)
				}
				if got := w.found(); tt.found != "" && !strings.HasPrefix(got, tt.found) {
					t.Errorf("verdicts %s, want %s", got, tt.found)
				}
			})
		})
	}
	for _, tt := range []struct {
		rate Rate
		want string
	}{
		{Rate{}, "Rate.Messages: 0 messages and 0 recipients are no limit; set one of the two"},
		{Rate{Messages: -1, Recipients: 1}, "Rate.Messages: "}, {Rate{Messages: 1, Recipients: -1}, "Rate.Messages: "},
		{Rate{Messages: 1, By: 4}, "Rate.By: "}, {Rate{Messages: 1, Window: -1}, "Rate.Window: "},
		{Rate{Messages: 1, Window: 1000 * time.Hour}, "Rate.Window: "},
		{Rate{Messages: 1, IPv4Prefix: 33}, "Rate.IPv4Prefix: "},
		{Rate{Messages: 1, IPv6Prefix: -1}, "Rate.IPv6Prefix: "}, {Rate{Messages: 1, Keys: -1}, "Rate.Keys: "},
	} {
		if _, err := tt.rate.Middleware(); err == nil || !strings.HasPrefix(err.Error(), "smtp: policy."+tt.want) {
			t.Errorf("the error is %v, want %q", err, tt.want)
		}
	}
}

// TestRateOfUnixSocket checks that a client without an IP address is not counted.
func TestRateOfUnixSocket(t *testing.T) {
	if p := networkOf(addrOf(nil), 32, 64); p.IsValid() {
		t.Errorf("the network is %v", p)
	}
	st := &session[struct{}, rated]{}
	a := &rate{Rate: Rate{Messages: 1}, messages: newBuckets(1, time.Minute, 1)}
	for range 3 {
		if err := a.take(st, a.messages, "", 1, "messages"); err != nil {
			t.Error(err)
		}
	}
}

// A model has the times at which each key has spent something, and knows no bounds.
type model struct {
	n      int
	window time.Duration
	level  map[string]float64
	at     map[string]time.Time
}

// take takes a token, from a bucket that has as many as a number that grows with time.
func (m *model) take(key string) bool {
	now := time.Now()
	back := float64(now.Sub(m.at[key])) / float64(m.window) * float64(m.n)
	m.level[key], m.at[key] = max(0, m.level[key]-back), now
	if m.level[key]+1 > float64(m.n)+1e-6 {
		return false
	}
	m.level[key]++
	return true
}

// TestBuckets compares the buckets with a model in which each key has a bucket for ever.
func TestBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		b := newBuckets(10, time.Minute, 100)
		m := &model{10, time.Minute, map[string]float64{}, map[string]time.Time{}}
		for range 20000 {
			key := fmt.Sprint(rng.IntN(20))
			if rng.IntN(2) == 0 {
				key = fmt.Sprint("n", rng.IntN(10000)) // seldom, so that it has to be forgotten
			}
			if got, want := b.take(key), m.take(key); got != want {
				t.Fatalf("%s: %v, want %v", key, got, want)
			}
			time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond) // in a bubble
			if b.table.Len() > 100 {
				t.Fatalf("%d keys have a place", b.table.Len())
			}
		}
	})
}

// TestBucketsAreBounded checks that keys made up by somebody neither take memory nor make others forgotten.
func TestBucketsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuckets(2, time.Minute, 50)
		old := func(want bool) {
			t.Helper()
			if b.take("old") != want {
				t.Errorf("the old key has a token: %v", !want)
			}
		}
		old(true)
		old(true)
		accepted := 0
		for i := range 1000 {
			if b.take(fmt.Sprint(i)) {
				accepted++
			}
		}
		old(false)
		if b.table.Len() != 50 || accepted != 49+2*bucket.CrowdShare {
			t.Errorf("%d keys have a place, %d were accepted", b.table.Len(), accepted)
		}
		time.Sleep(time.Minute) // in a bubble
		for i := range 10 {
			b.take(fmt.Sprint("new", i))
		}
		if b.table.Len() != 10 {
			t.Errorf("%d keys after all others were forgotten, want 10", b.table.Len())
		}
		for i, want := range []int{1, 2, 2, 2} {
			if got := b.count("counted"); got != want {
				t.Errorf("count %d is %d, want %d", i, got, want)
			}
		}
		time.Sleep(30 * time.Second)
		if got := b.count("counted"); got != 2 {
			t.Errorf("%d after one has come back", got)
		}
		b.count("slow")
		time.Sleep(10 * time.Second)
		if got := b.count("slow"); got != 2 {
			t.Errorf("%d after a third of one has come back, want 2: a part of one is spent", got)
		}
		time.Sleep(time.Minute)
		if got := b.count("counted"); got != 1 {
			t.Errorf("%d after all have come back", got)
		}
	})
}
