package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// A world is a queue over memory with a Sender that a test scripts. It runs in a synctest bubble.
type world struct {
	t     *testing.T
	q     *queue.Queue
	store *queue.Memory
	begin time.Time

	mu       sync.Mutex
	attempts []tried
	answer   func(to proto.Address) error // what the Sender says; nil: everybody has the message
	without  []string                     // the keyword of an extension that no server has, and its parameters
}

// tried is an attempt for a recipient.
type tried struct {
	to   string
	at   time.Duration // since the beginning
	mail proto.Params
	rcpt proto.Params
	body string
}

func newWorld(t *testing.T, opt *queue.Options) *world {
	w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
	w.open(opt)
	t.Cleanup(func() { w.close() })
	return w
}

func (w *world) open(opt *queue.Options) {
	w.t.Helper()
	o := queue.Options{}
	if opt != nil {
		o = *opt
	}
	o.Hostname = "relay.example"
	var err error
	if w.q, err = queue.New(w.store, client.SenderFunc(w.send), &o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) close() {
	if err := w.q.Close(context.Background()); err != nil {
		w.t.Error(err)
	}
}

func (w *world) send(_ context.Context, m *client.Message) (*client.Result, error) {
	text, err := io.ReadAll(m.Body)
	if err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	answer := w.answer
	w.mu.Unlock()
	res := &client.Result{}
	var failed error
	lacks := func(p proto.Param) bool { return slices.Contains(w.without[min(1, len(w.without)):], p.Key) }
	for _, r := range m.To {
		if slices.ContainsFunc(m.Mail, lacks) || slices.ContainsFunc(r.Params, lacks) {
			answer = func(proto.Address) error {
				return &ext.UnsupportedError{Keyword: w.without[0], What: "a parameter"}
			}
		}
	}
	for _, r := range m.To {
		o := proto.Outcome{Recipient: r, Host: "mx.example", Reply: proto.Reply{Code: 250}}
		if answer != nil {
			if o.Err = answer(r.Address); o.Err != nil {
				o.Reply = proto.Reply{}
				failed = &client.SendError{Result: res, Err: o.Err}
			}
		}
		res.Recipients = append(res.Recipients, o)
		if errors.Is(o.Err, errors.ErrUnsupported) {
			continue // nothing was sent
		}
		w.mu.Lock()
		w.attempts = append(w.attempts, tried{r.Address.String(), time.Since(w.begin), m.Mail, r.Params, string(text)})
		w.mu.Unlock()
	}
	return res, failed
}

func (w *world) set(answer func(to proto.Address) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// tries returns all attempts.
func (w *world) tries() []tried {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.attempts)
}

// at returns when there were attempts for an address.
func (w *world) at(to string) (at []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.attempts {
		if a.to == to {
			at = append(at, a.at)
		}
	}
	return at
}

// last returns the last attempt for an address.
func (w *world) last(to string) *tried {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range slices.Backward(w.attempts) {
		if w.attempts[i].to == to {
			return &w.attempts[i]
		}
	}
	w.t.Fatalf("there was no attempt for %s", to)
	return nil
}

func address(t *testing.T, s string) proto.Address {
	t.Helper()
	a, err := proto.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// params makes parameters of KEY=VALUE.
func params(list ...string) (p proto.Params) {
	for _, s := range list {
		if key, value, ok := strings.Cut(s, "="); ok {
			p = p.Set(key, value)
		} else {
			p = p.SetFlag(key)
		}
	}
	return p
}

const text = "Subject: hello\r\n\r\nHow are you?\r\n"

func (w *world) add(from, mail, to, rcpt string) queue.ID {
	w.t.Helper()
	e := &queue.Envelope{Params: params(strings.Fields(mail)...)}
	if from != "" {
		e.From = address(w.t, from)
	}
	for a := range strings.SplitSeq(to, ",") {
		e.To = append(e.To, proto.Recipient{Address: address(w.t, a), Params: params(strings.Fields(rcpt)...)})
	}
	id, err := w.q.Add(w.t.Context(), e, strings.NewReader(text))
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// queued returns how many messages are left.
func (w *world) queued() int64 {
	u, err := w.q.Usage(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return u.Messages
}

// report reads the last report that was sent to an address.
func (w *world) report(to string) *report.Received {
	w.t.Helper()
	r, err := report.Parse(strings.NewReader(w.last(to).body))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// only has an answer for some addresses, and lets all others have the message.
func only(domain string, err error) func(proto.Address) error {
	return func(to proto.Address) error {
		if to.Domain.ASCII() == domain {
			return err
		}
		return nil
	}
}

// TestDelivered adds messages to several domains. Each recipient gets his once, and nothing is left.
func TestDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.add("a@x.example", "", "b@y.example,c@y.example,d@z.example", "")
		w.add("a@x.example", "", "b@y.example", "")
		time.Sleep(time.Minute)
		if n := len(w.at("b@y.example")); n != 2 {
			t.Errorf("b got %d messages, want 2", n)
		}
		if n := len(w.at("d@z.example")); n != 1 {
			t.Errorf("d got %d messages, want 1", n)
		}
		if got := w.last("c@y.example").body; got != text {
			t.Errorf("the content is %q", got)
		}
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestK08_Schedule has a recipient refused for a while. The attempts come as Policy says, and the message expires.
func TestK08_Schedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{Policy: queue.Policy{DelayReport: -1}})
		w.set(only("y.example", proto.Refuse(450, proto.Status{4, 7, 1}, "later")))
		w.add("a@x.example", "", "b@y.example", "")
		time.Sleep(6 * 24 * time.Hour)
		at := w.at("b@y.example")
		pauses := []time.Duration{5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
			4 * time.Hour}
		for i := 1; i < len(at)-1; i++ {
			want := pauses[min(i-1, len(pauses)-1)]
			if got := at[i] - at[i-1]; got < want*9/10 || got > want*11/10+time.Second {
				t.Errorf("pause %d is %v, want %v", i, got, want)
			}
		}
		if early := slices.IndexFunc(at, func(d time.Duration) bool { return d > time.Hour }); early < 2 {
			t.Errorf("%d attempts in the first hour, want 2 (RFC 5321 section 4.5.4.1)", early)
		}
		days := 5 * 24 * time.Hour
		if last := at[len(at)-1]; last < days || last > days+time.Minute {
			t.Errorf("the last attempt is after %v, want 5 days", last)
		}
		if told := w.at("a@x.example"); len(told) != 1 {
			t.Errorf("the sender was told at %v, want once: no delays", told)
		}
		r := w.report("a@x.example")
		if len(r.Recipients) != 1 || r.Recipients[0].Action != ehlo.Failed ||
			r.Recipients[0].Status != (proto.Status{4, 7, 1}) {
			t.Errorf("the report says %+v", r.Recipients)
		}
		if got := r.Recipients[0].Diagnostic.Text; !strings.Contains(got, "450 4.7.1 later") {
			t.Errorf("the diagnostic is %q", got)
		}
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestK10_Reports checks who is told what (RFC 3461 section 5.2, RFC 5321 section 4.5.4).
func TestK10_Reports(t *testing.T) {
	for _, tt := range []struct {
		name, from, mail, rcpt string
		code                   int // of the server
		want                   string
	}{
		{"failure", "a@x.example", "", "", 550, "failed 5.1.1"},
		{"never", "a@x.example", "", "NOTIFY=NEVER", 550, ""},
		{"a bounce", "", "", "", 550, ""},
		{"success by a server without DSN", "a@x.example", "", "NOTIFY=SUCCESS", 0, "relayed 2.0.0"},
		{"nobody asked for success", "a@x.example", "", "", 0, ""},
		{"delay", "a@x.example", "", "", 450, "delayed 4.7.1, failed 4.7.1"},
		{"no delay asked", "a@x.example", "", "NOTIFY=FAILURE", 450, "failed 4.7.1"},
		{"delay only", "a@x.example", "", "NOTIFY=DELAY", 450, "delayed 4.7.1"},
		{"by R", "a@x.example", "BY=3600;R", "", 450, "failed 5.4.7"},
		{"by N", "a@x.example", "BY=3600;N", "NOTIFY=DELAY", 450, "delayed 4.4.7"},
		{"by with trace", "a@x.example", "BY=3600;NT", "", 0, "relayed 2.0.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				switch tt.code {
				case 550:
					w.set(only("y.example", proto.Refuse(550, proto.Status{5, 1, 1}, "no")))
				case 450:
					w.set(only("y.example", proto.Refuse(450, proto.Status{4, 7, 1}, "later")))
				}
				w.without = []string{"DSN", "NOTIFY"}
				w.add(tt.from, tt.mail, "b@y.example", tt.rcpt)
				time.Sleep(6 * 24 * time.Hour)
				var got []string
				for _, a := range w.tries() {
					if a.to != "a@x.example" {
						continue
					}
					r, err := report.Parse(strings.NewReader(a.body))
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, fmt.Sprintf("%s %v", r.Recipients[0].Action, r.Recipients[0].Status))
				}
				if s := strings.Join(got, ", "); s != tt.want {
					t.Errorf("the sender was told %q, want %q", s, tt.want)
				}
				if n := w.queued(); n != 0 {
					t.Errorf("%d messages are left", n)
				}
			})
		})
	}
}

// TestDead has a site that does not answer. It is suspended, costs few attempts, delays nobody, and recovers.
func TestDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var suspended, resumed int
		w := newWorld(t, &queue.Options{Trace: &queue.Trace{
			Suspended: func(queue.Suspension) { mu.Lock(); suspended++; mu.Unlock() },
			Resumed:   func(string) { mu.Lock(); resumed++; mu.Unlock() },
		}})
		w.set(only("dead.example", &net.OpError{Op: "dial", Err: errors.New("connection refused")}))
		for i := range 2000 {
			w.add("a@x.example", "", fmt.Sprintf("b%d@dead.example", i), "NOTIFY=NEVER")
		}
		w.add("a@x.example", "", "c@alive.example", "")
		time.Sleep(time.Hour)
		if at := w.at("c@alive.example"); len(at) != 1 || at[0] > time.Second {
			t.Errorf("the other site was delayed: %v", at)
		}
		if n := len(w.tries()); n > 20 {
			t.Errorf("%d attempts in an hour", n)
		}
		mu.Lock()
		if suspended < 2 {
			t.Errorf("the site was suspended %d times", suspended)
		}
		mu.Unlock()
		w.set(nil)
		time.Sleep(10 * time.Hour)
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
		mu.Lock()
		defer mu.Unlock()
		if resumed != 1 {
			t.Errorf("the site was resumed %d times", resumed)
		}
	})
}

// TestK09_RefusedSender has a server refuse MAIL for one sender for good. It is asked again for the next message.
func TestK09_RefusedSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.set(only("y.example", &proto.Error{Code: 550, Status: proto.Status{5, 7, 1}, Verb: "MAIL", Text: "not you"}))
		for range 3 {
			w.add("a@x.example", "", "b@y.example", "NOTIFY=NEVER")
			time.Sleep(time.Second)
		}
		if n := len(w.at("b@y.example")); n != 3 {
			t.Errorf("%d attempts for 3 messages", n)
		}
	})
}
