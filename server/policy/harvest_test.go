package policy

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/server"
)

// TestHarvest checks how long the reply to each recipient takes, and when the client is sent away.
func TestHarvest(t *testing.T) {
	const yes, no, later = "RCPT TO:<joe@example.org>", "RCPT TO:<x@example.org>", "RCPT TO:<down@example.org>"
	s := func(seconds ...int) []int { return seconds }
	type step struct {
		from  string        // a client's address; "" is the same connection
		after time.Duration // how much later
		say   string
		times []int // how many seconds each takes; -1 is 421 at once
	}
	fresh := step{"192.0.2.9", 0, no, s(0, 0, 0, 1)}
	tests := []struct {
		name  string
		part  Harvest
		steps []step
		found string
	}{
		{"Y35, Z150 defaults", Harvest{}, []step{
			{"192.0.2.7", 0, no, s(0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10, 10, 10, 10, 10, -1)},
			{"192.0.2.7", 0, no, s(10, 10)}, {"192.0.2.7", 0, yes, s(0, 0)}, fresh}, ""}, // 20 are 197 seconds
		{"others are not slowed down", Harvest{}, []step{
			{"192.0.2.7", 0, no, s(0, 0, 0, 1, 2)}, {"", 0, yes, s(0, 0, 0, 0)}, {"", 0, later, s(0, 0, 0)},
			{"", 0, no, s(3)}, fresh}, "harvest=fail (4 recipients were refused, of this client or others of its network)"},
		{"the network remembers, and forgets", Harvest{}, []step{
			{"2001:db8::1", 0, no, s(0, 0, 0, 1)}, {"2001:db8::2", 0, no, s(2)}, {"2001:db8:0:1::2", 0, no, s(0)},
			{"2001:db8::3", time.Hour, no, s(0, 0, 0, 1)}, fresh}, ""},
		{"options", Harvest{Free: -1, Delay: 20 * time.Second, MaxDelay: 30 * time.Second, Limit: 4}, []step{
			{"192.0.2.7", 0, no, s(20, 30, 30, 30, -1)}, {"192.0.2.7", 0, no, s(30, 30, 30, 30, -1)}},
			"harvest=fail (1 recipients were refused, of this client or others of its network), " +
				"harvest=fail (5 recipients were refused), "},
		{"no wait", Harvest{Delay: -1, Limit: 5}, []step{{"192.0.2.7", 0, no, s(0, 0, 0, 0, 0, -1)}}, ""},
		{"no limit", Harvest{Limit: -1, MaxDelay: 1}, []step{{"192.0.2.7", 0, no, make([]int, 99)}}, ""},
		{"left out", Harvest{}, []step{{"127.0.0.1", 0, no, make([]int, 50)}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, nil, tt.part, Recipients{Lookup: lookup})
				var p *peer
				for i, s := range tt.steps {
					time.Sleep(s.after) // in a bubble
					if s.from != "" {
						if p != nil {
							p.Close()
						}
						p = w.dial(s.from)
						p.ask("EHLO client.example", "250", "MAIL FROM:<a@b.example>", "250")
					}
					want := map[string]string{yes: "250", no: "550 5.1.1", later: "451"}[s.say]
					for j, seconds := range s.times {
						if seconds < 0 {
							want, seconds = "421 4.7.0", 0
						}
						begun := time.Now()
						p.ask(s.say, want)
						if d := time.Since(begun).Truncate(time.Millisecond); d != time.Duration(seconds)*time.Second {
							t.Errorf("step %d: %d takes %v, want %d s", i, j, d, seconds)
						}
					}
					if want == "421 4.7.0" {
						p.closed()
					}
				}
				got := strings.ReplaceAll(w.found(), "recipient=fail (x@example.org is unknown), ", "")
				got = strings.ReplaceAll(got, "recipient=temperror, ", "")
				if tt.found != "" && !strings.HasPrefix(got, tt.found) {
					t.Errorf("verdicts %s, want %s", got, tt.found)
				}
			})
		})
	}
	for _, d := range []time.Duration{-1, time.Hour} {
		_, err := Harvest{MaxDelay: d}.Middleware()
		if err == nil || !strings.HasPrefix(err.Error(), "smtp: policy.Harvest.MaxDelay: ") {
			t.Errorf("the error is %v", err)
		}
	}
}

// TestHarvestEnds checks that a wait ends when the server is closed.
func TestHarvestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{})
		w := newWorld(t, nil, &server.Options{}, Harvest{Free: -1, Delay: time.Minute, MaxDelay: time.Minute},
			Recipients{Lookup: lookup})
		p := w.dial("192.0.2.7")
		p.ask("EHLO client.example", "250", "MAIL FROM:<a@b.example>", "250")
		begun := time.Now()
		time.AfterFunc(time.Second, func() { w.srv.Close(); close(closed) })
		if _, err := p.Write([]byte("RCPT TO:<x@example.org>\r\n")); err != nil {
			t.Fatal(err)
		}
		p.closed()
		<-closed
		synctest.Wait()
		if d := time.Since(begun); d != time.Second {
			t.Errorf("it took %v", d)
		}
	})
}
