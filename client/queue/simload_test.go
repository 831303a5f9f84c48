package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/proto"
)

// A crowd is a Sender whose answer and speed depend on the domain alone. It is for many messages.
type crowd struct {
	begin time.Time
	serve func(domain string) error // may sleep

	mu    sync.Mutex
	first map[string]time.Duration // when each recipient had the message
	tries map[string]int           // by domain
}

func newCrowd(serve func(domain string) error) *crowd {
	return &crowd{
		begin: time.Now(), serve: serve, first: make(map[string]time.Duration), tries: make(map[string]int),
	}
}

func (c *crowd) Send(_ context.Context, m *client.Message) (*client.Result, error) {
	domain := m.To[0].Address.Domain.ASCII()
	c.mu.Lock()
	c.tries[domain]++
	c.mu.Unlock()
	err := c.serve(domain)
	c.mu.Lock()
	defer c.mu.Unlock()
	res := &client.Result{}
	for _, to := range m.To {
		o := proto.Outcome{Recipient: to, Err: err}
		if err == nil {
			o.Reply = proto.Reply{Code: 250}
			c.first[to.Address.String()] = time.Since(c.begin)
		}
		res.Recipients = append(res.Recipients, o)
	}
	if err != nil {
		return res, &client.SendError{Result: res, Err: err}
	}
	return res, nil
}

// open makes a queue that the test closes in the end.
func (c *crowd) open(t *testing.T, opt queue.Options) *queue.Queue {
	t.Helper()
	opt.Hostname, opt.Logger = "relay.example", slog.New(slog.DiscardHandler)
	q, err := queue.New(queue.NewMemory(), c, &opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = q.Close(ctx) // attempts are cut off
	})
	return q
}

// put adds a message to recipients.
func put(t *testing.T, q *queue.Queue, mail string, to ...string) {
	t.Helper()
	e := &queue.Envelope{Params: params(strings.Fields(mail)...)}
	for _, a := range to {
		e.To = append(e.To, proto.Recipient{Address: address(t, a)})
	}
	if _, err := q.Add(t.Context(), e, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// TestNobodyWaitsForOthers has sites with more jobs than the queue keeps in memory, which are dead or slow. Mail for
// another site is delivered at once, also before the queue has found out.
func TestNobodyWaitsForOthers(t *testing.T) {
	for _, tt := range []struct {
		name        string
		sites, jobs int
		serve       func()
		err         error
	}{
		{"one dead site", 1, 20000, func() {}, &client.LostError{Doing: "connecting", Err: errors.New("refused")}},
		{"one that never answers", 1, 20000, func() { time.Sleep(5 * time.Minute) },
			&client.LostError{Doing: "connecting", Err: errors.New("timeout")}},
		{"many slow sites", 40, 500, func() { time.Sleep(5 * time.Minute) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(func(domain string) error {
					if domain == "good.example" || domain == "later.example" {
						return nil
					}
					tt.serve()
					return tt.err
				})
				q := c.open(t, queue.Options{MaxActive: 1000, Policy: queue.Policy{DelayReport: -1}})
				put(t, q, "", "before@good.example")
				for n := range tt.jobs {
					for i := range tt.sites {
						put(t, q, "", fmt.Sprintf("r%d@s%d.example", n, i))
					}
				}
				put(t, q, "", "while@good.example", "while@later.example")
				time.Sleep(time.Hour)
				put(t, q, "", "after@good.example", "after@later.example")
				time.Sleep(time.Minute)
				c.mu.Lock()
				defer c.mu.Unlock()
				for to, latest := range map[string]time.Duration{
					"before@good.example": 2 * time.Second, "while@good.example": 2 * time.Second,
					"while@later.example": 2 * time.Second, "after@good.example": time.Hour + 2*time.Second,
					"after@later.example": time.Hour + 2*time.Second,
				} {
					if at, ok := c.first[to]; !ok || at > latest {
						t.Errorf("%s had the message after %v (%v), want %v at most", to, at, ok, latest)
					}
				}
				if tt.err != nil && c.tries["s0.example"] > 30 {
					t.Errorf("%d attempts at a dead site in an hour", c.tries["s0.example"])
				}
			})
		})
	}
}
