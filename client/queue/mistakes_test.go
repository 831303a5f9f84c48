package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A hook is a store that calls functions in place of those of Memory, if they are set, and counts the calls of those
// that the scheduler makes by itself.
type hook struct {
	*queue.Memory
	calls   atomic.Int64 // of Claim, ClaimOne, Take, Release
	claim   func(ctx context.Context, now time.Time, max int) ([]queue.Lease, time.Time, error)
	take    func(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error)
	add     func(ctx context.Context, e *queue.Entry) error
	update  func(ctx context.Context, l queue.Lease, c []queue.Change) error
	release func(ctx context.Context, l queue.Lease, notBefore time.Time) error
	message func(ctx context.Context, id queue.ID) (*queue.Message, error)
	content func(ctx context.Context, id queue.ID) (queue.Content, error)
}

func (h *hook) Claim(ctx context.Context, now time.Time, max int) ([]queue.Lease, time.Time, error) {
	h.calls.Add(1)
	if h.claim != nil {
		return h.claim(ctx, now, max)
	}
	return h.Memory.Claim(ctx, now, max)
}

func (h *hook) ClaimOne(ctx context.Context, destination string) (queue.Lease, bool, error) {
	h.calls.Add(1)
	return h.Memory.ClaimOne(ctx, destination)
}

func (h *hook) Take(ctx context.Context, l queue.Lease, q queue.Query) ([]*queue.Job, error) {
	h.calls.Add(1)
	if h.take != nil {
		return h.take(ctx, l, q)
	}
	return h.Memory.Take(ctx, l, q)
}

func (h *hook) Release(ctx context.Context, l queue.Lease, notBefore time.Time) error {
	h.calls.Add(1)
	if h.release != nil {
		return h.release(ctx, l, notBefore)
	}
	return h.Memory.Release(ctx, l, notBefore)
}

func (h *hook) Add(ctx context.Context, e *queue.Entry) error {
	if h.add != nil {
		return h.add(ctx, e)
	}
	return h.Memory.Add(ctx, e)
}

func (h *hook) Update(ctx context.Context, l queue.Lease, c []queue.Change) error {
	if h.update != nil {
		return h.update(ctx, l, c)
	}
	return h.Memory.Update(ctx, l, c)
}

func (h *hook) Message(ctx context.Context, id queue.ID) (*queue.Message, error) {
	if h.message != nil {
		return h.message(ctx, id)
	}
	return h.Memory.Message(ctx, id)
}

func (h *hook) Open(ctx context.Context, id queue.ID) (queue.Content, error) {
	if h.content != nil {
		return h.content(ctx, id)
	}
	return h.Memory.Open(ctx, id)
}

// openOver opens the queue of w over a store, with a Sender.
func (w *world) openOver(store queue.Store, s client.Sender, opt *queue.Options) {
	w.t.Helper()
	o := queue.Options{}
	if opt != nil {
		o = *opt
	}
	o.Hostname = "relay.example"
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if w.q, err = queue.New(store, s, &o); err != nil {
		w.t.Fatal(err)
	}
}

// TestSenderMistakes has a Sender do for one recipient what it must not. His message waits, and is delivered when the
// Sender is mended. Others at the same site do not wait.
func TestSenderMistakes(t *testing.T) {
	for name, mistake := range map[string]func(m *client.Message) (*client.Result, error){
		"a panic":    func(*client.Message) (*client.Result, error) { panic("a mistake in the Sender") },
		"nothing":    func(*client.Message) (*client.Result, error) { return nil, nil },
		"no outcome": func(*client.Message) (*client.Result, error) { return &client.Result{}, nil },
		"too many": func(*client.Message) (*client.Result, error) {
			return &client.Result{Recipients: make([]proto.Outcome, 3)}, nil
		},
		"an unknown error": func(*client.Message) (*client.Result, error) { return nil, errors.New("what is this?") },
	} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
			mended := false
			w.openOver(w.store, client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
				w.mu.Lock()
				bad := m.To[0].Address.Local == "bad" && !mended
				w.mu.Unlock()
				if bad {
					return mistake(m)
				}
				return w.send(ctx, m)
			}), &queue.Options{
				Policy: queue.Policy{Window: 1, MaxWindow: 1}, // so that it takes one to suspend the site
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			defer w.close()
			w.add("a@x.example", "", "bad@y.example", "NOTIFY=FAILURE")
			for i := range 10 {
				w.add("a@x.example", "", fmt.Sprintf("b%d@y.example", i), "")
			}
			time.Sleep(time.Minute)
			delivered := 0
			for i := range 10 {
				delivered += len(w.at(fmt.Sprintf("b%d@y.example", i)))
			}
			if delivered != 10 && name != "an unknown error" {
				t.Errorf("%s: %d of 10 others were delivered", name, delivered)
			}
			w.mu.Lock()
			mended = true
			w.mu.Unlock()
			time.Sleep(time.Hour)
			if at := w.at("bad@y.example"); len(at) != 1 || w.queued() != 0 {
				t.Errorf("%s: the message was delivered at %v, %d are left", name, at, w.queued())
			}
			if got := log.String(); name == "a panic" && (!strings.Contains(got, "a mistake in the Sender") ||
				!strings.Contains(got, "mistakes_test.go")) {
				t.Errorf("%s: the log has %q", name, got)
			}
		})
	}
}

// TestSitePanics has Options.Site panic. The domain is a site of its own.
func TestSitePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{
			Site:   func(context.Context, proto.Domain) (string, error) { panic("no site") },
			Logger: slog.New(slog.DiscardHandler),
		})
		w.add("a@x.example", "", "b@y.example", "")
		time.Sleep(time.Second)
		if at := w.at("b@y.example"); len(at) != 1 {
			t.Errorf("tried at %v", at)
		}
	})
}

// TestUnreadable has one message that the store cannot read, from its first attempt to its end. Others at the same
// destination are not delayed, it costs little, and it goes when it can be read.
func TestUnreadable(t *testing.T) {
	for _, which := range []string{"message", "content"} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
			h := &hook{Memory: w.store}
			var bad atomic.Value
			h.message = func(ctx context.Context, id queue.ID) (*queue.Message, error) {
				if which == "message" && id == bad.Load() {
					return nil, errDisk
				}
				return h.Memory.Message(ctx, id)
			}
			h.content = func(ctx context.Context, id queue.ID) (queue.Content, error) {
				if which == "content" && id == bad.Load() {
					return nil, errDisk
				}
				return h.Memory.Open(ctx, id)
			}
			w.openOver(h, client.SenderFunc(w.send), nil)
			defer w.close()
			w.set(func(proto.Address) error { return later })
			id := w.add("a@x.example", "", "bad@y.example", "")
			time.Sleep(time.Minute)
			bad.Store(id)
			tried := len(w.at("bad@y.example"))
			w.set(nil)
			calls := h.calls.Load()
			for i := range 24 * 6 { // over its alarm of a delay, and its end
				w.add("a@x.example", "", fmt.Sprintf("b%d@y.example", i), "")
				time.Sleep(time.Second)
				if at := w.at(fmt.Sprintf("b%d@y.example", i)); len(at) != 1 {
					t.Fatalf("%s: b%d was tried at %v", which, i, at)
				}
				time.Sleep(time.Hour)
			}
			if n := h.calls.Load() - calls; n > 24*6*40 {
				t.Errorf("%s: %d calls of the store", which, n)
			}
			if n := len(w.at("bad@y.example")); n != tried {
				t.Errorf("%s: a message that cannot be read was sent", which)
			}
			if n := w.queued(); n != 1 {
				t.Errorf("%s: %d messages are left", which, n)
			}
			bad.Store(queue.ID(""))
			time.Sleep(5 * time.Hour)
			if n := len(w.at("bad@y.example")); n != tried+1 || w.queued() != 0 {
				t.Errorf("%s: tried %d times, %d messages are left", which, n, w.queued())
			}
		})
	}
}

// TestReportWritten has the store fail after it has read the report on a message. The report is whole all the same,
// and there is one.
func TestReportWritten(t *testing.T) {
	for _, size := range []int{10, 300 << 10} { // what is small is in memory
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
			h := &hook{Memory: w.store}
			w.set(only("y.example", proto.Refuse(550, proto.Status{5, 1, 1}, "no")))
			fails := 3
			h.update = func(ctx context.Context, l queue.Lease, c []queue.Change) error {
				for _, change := range c {
					for _, e := range change.Reports {
						if fails--; fails >= 0 {
							if _, err := new(bytes.Buffer).ReadFrom(e.Content); err != nil {
								t.Error(err)
							}
							return errDisk
						}
					}
				}
				return h.Memory.Update(ctx, l, c)
			}
			w.openOver(h, client.SenderFunc(w.send), nil)
			defer w.close()
			line := strings.Repeat("x", 70) + "\r\n"
			e := &queue.Envelope{From: address(t, "a@x.example"), To: []proto.Recipient{{Address: address(t, "b@y.example")}}}
			body := text + strings.Repeat(line, size/len(line)) + "the end\r\n"
			if _, err := w.q.Add(t.Context(), e, strings.NewReader(body)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			if at := w.at("a@x.example"); len(at) != 1 || w.queued() != 0 {
				t.Fatalf("reported at %v, %d messages are left", at, w.queued())
			}
			if got := w.last("a@x.example").body; !strings.Contains(got, "the end\r\n") || len(got) < size {
				t.Errorf("the report on %d octets has %d", size, len(got))
			}
		})
	}
}

// A brittle content cannot be read after some octets.
type brittle struct{ queue.Content }

func (b brittle) ReadAt(p []byte, off int64) (int, error) { return 0, errDisk }

// TestReportWithoutContent has a message fail whose content cannot be read any more. Its sender is told all the same.
func TestReportWithoutContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
		h := &hook{Memory: w.store}
		var bad queue.ID
		h.content = func(ctx context.Context, id queue.ID) (queue.Content, error) {
			c, err := h.Memory.Open(ctx, id)
			if id == bad {
				c = brittle{c}
			}
			return c, err
		}
		w.openOver(h, client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
			if m.To[0].Address.Local == "b" {
				return nil, proto.Refuse(550, proto.Status{5, 1, 1}, "no")
			}
			return w.send(ctx, m)
		}), nil)
		defer w.close()
		bad = queue.NewID(time.Now())
		e := &queue.Envelope{ID: bad, From: address(t, "a@x.example"),
			To: []proto.Recipient{{Address: address(t, "b@y.example")}}}
		if _, err := w.q.Add(t.Context(), e, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if r := w.report("a@x.example"); len(r.Recipients) != 1 || r.Recipients[0].Action != ehlo.Failed {
			t.Errorf("the report says %+v", r)
		}
	})
}

// TestSameAddress has a recipient twice in a message. Each has an outcome, and is told apart.
func TestSameAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var done []string
		calls := 0
		w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
		w.openOver(w.store, client.SenderFunc(func(_ context.Context, m *client.Message) (*client.Result, error) {
			r := &client.Result{}
			for range m.To {
				o := proto.Outcome{Reply: proto.Reply{Code: 250}}
				if calls++; calls == 2 {
					o.Err = later
				}
				r.Recipients = append(r.Recipients, o)
			}
			return r, nil
		}), &queue.Options{Trace: &queue.Trace{Done: func(_ *queue.Message, r queue.Recipient, f *queue.Failure) {
			mu.Lock()
			defer mu.Unlock()
			done = append(done, fmt.Sprint(r.Address, f == nil))
		}}})
		defer w.close()
		w.add("a@x.example", "", "b@y.example,b@y.example", "")
		time.Sleep(time.Second)
		mu.Lock()
		first := len(done)
		mu.Unlock()
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if first != 1 || len(done) != 2 {
			t.Errorf("%d of %v were done at first, want 1 of 2", first, done)
		}
	})
}

// TestSomeUnreachable has a route whose Sender finds a server for some domains, and none for others. That does not
// suspend the route.
func TestSomeUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.q.Close(t.Context())
		s := client.SenderFunc(func(_ context.Context, m *client.Message) (*client.Result, error) {
			r := &client.Result{}
			for _, to := range m.To {
				o := proto.Outcome{Reply: proto.Reply{Code: 250}}
				if to.Address.Domain.ASCII() == "dead.example" {
					o = proto.Outcome{Err: errors.New("connection refused")}
				}
				r.Recipients = append(r.Recipients, o)
			}
			return r, nil
		})
		w.openOver(w.store, nil, &queue.Options{
			Policy: queue.Policy{Window: 1, MaxWindow: 1}, Routes: map[string]client.Sender{"all": s},
			Route: func(*queue.Message, proto.Address) string { return "all" },
		})
		w.add("", "", "b@dead.example,c@alive.example", "")
		time.Sleep(time.Second)
		if sites := w.q.Sites(); len(sites) != 1 || sites[0].Suspension != nil {
			t.Errorf("the sites are %+v", sites)
		}
	})
}

func unsupported(keyword string) error {
	return &ext.UnsupportedError{Keyword: keyword, What: "a parameter"}
}

// TestSeveralLacking has the servers of two recipients of a route lack different extensions. Both get the message.
func TestSeveralLacking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
		w.openOver(w.store, client.SenderFunc(func(_ context.Context, m *client.Message) (*client.Result, error) {
			r := &client.Result{}
			for _, to := range m.To {
				o := proto.Outcome{Reply: proto.Reply{Code: 250}}
				switch {
				case to.Address.Local == "b" && m.Mail.Has("RET"):
					o = proto.Outcome{Err: unsupported("DSN")}
				case to.Address.Local == "c" && m.Mail.Has("MT-PRIORITY"):
					o = proto.Outcome{Err: unsupported("MT-PRIORITY")}
				default:
					w.mu.Lock()
					w.attempts = append(w.attempts, tried{to: to.Address.String()})
					w.mu.Unlock()
				}
				r.Recipients = append(r.Recipients, o)
			}
			return r, nil
		}), nil)
		defer w.close()
		w.add("a@x.example", "RET=HDRS MT-PRIORITY=3", "b@y.example,c@y.example", "")
		time.Sleep(time.Minute)
		if len(w.at("b@y.example")) != 1 || len(w.at("c@y.example")) != 1 || len(w.tries()) != 2 {
			t.Errorf("tried %+v", w.tries())
		}
	})
}

// TestBounceWithoutTLS has the report on a message with REQUIRETLS go to a server that does not offer that. It is not
// lost (RFC 8689 section 5), while the message itself is returned, and only its header.
func TestBounceWithoutTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.without = []string{"REQUIRETLS", "REQUIRETLS"}
		w.add("a@x.example", "REQUIRETLS RET=FULL", "b@y.example", "")
		time.Sleep(time.Minute)
		if at := w.at("b@y.example"); len(at) != 0 {
			t.Errorf("the message was sent at %v", at)
		}
		if at := w.at("a@x.example"); len(at) != 1 || strings.Contains(w.last("a@x.example").body, "How are you?") {
			t.Fatalf("the report was sent at %v", at)
		}
		if r := w.report("a@x.example"); r.Recipients[0].Action != ehlo.Failed || r.Recipients[0].Status.Class() != 5 {
			t.Errorf("the report says %+v", r.Recipients)
		}
	})
}
