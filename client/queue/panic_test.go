package queue_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext/report"
	"smtpkit.example/smtp/proto"
)

// TestRouteEtcPanic has functions of the options panic. Mail is delivered, attempted again and reported on as without
// them, and the log says which of them it was.
func TestRouteEtcPanic(t *testing.T) {
	trace := &queue.Trace{
		Added:     func(*queue.Message, []*queue.Job) { panic("a mistake") },
		Attempted: func(*queue.Message, *queue.Job, *client.Result, time.Duration) { panic("a mistake") },
		Deferred:  func(*queue.Message, *queue.Job) { panic("a mistake") },
		Done:      func(*queue.Message, queue.Recipient, *queue.Failure) { panic("a mistake") },
		Reported:  func(*queue.Message, *report.Report, queue.ID) { panic("a mistake") },
		Suspended: func(queue.Suspension) { panic("a mistake") },
		Resumed:   func(string) { panic("a mistake") },
	}
	for what, opt := range map[string]queue.Options{
		"Options.PolicyFor": {PolicyFor: func(string, queue.Policy) queue.Policy { panic("a mistake") }},
		"Options.Route": {Route: func(m *queue.Message, to proto.Address) string {
			if m.From.IsNull() { // so is that of a report
				panic("a mistake")
			}
			return ""
		}},
		"Trace.Added, Trace.Attempted, Trace.Deferred, Trace.Done, Trace.Reported, Trace.Suspended, Trace.Resumed": {
			Trace: trace,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log logText
			opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
			w := newWorld(t, &opt)
			w.set(func(to proto.Address) error {
				switch {
				case to.Local == "nobody":
					return proto.Refuse(550, proto.Status{5, 1, 1}, "No such user")
				case time.Since(w.begin) < time.Minute && to.Local != "a":
					return errors.New("connection refused")
				}
				return nil
			})
			for range 5 {
				w.add("a@x.example", "", "b@y.example", "")
			}
			w.add("a@x.example", "", "nobody@z.example", "")
			time.Sleep(3 * time.Hour)
			if n := w.queued(); n != 0 {
				t.Errorf("%s: %d messages are left", what, n)
			}
			if at := w.at("b@y.example"); len(at) < 6 {
				t.Errorf("%s: attempts for b at %v", what, at)
			}
			if r := w.report("a@x.example"); r.Recipients[0].Action != "failed" {
				t.Errorf("%s: the report is %+v", what, r)
			}
			for _, function := range strings.Split(what, ", ") {
				if !strings.Contains(log.String(), `has panicked" function=`+function+` panic="a mistake"`) {
					t.Errorf("the log says nothing of %s:\n%s", function, log.String())
				}
			}
		})
	}
}

// TestRoutePanics has Route panic for a message: it is refused for now, and nothing is kept of it.
func TestRoutePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{
			Logger: slog.New(slog.DiscardHandler),
			Route:  func(*queue.Message, proto.Address) string { panic("a mistake") },
		})
		e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}}
		var refused *proto.Error
		_, err := w.q.Add(t.Context(), e, strings.NewReader(text))
		if !errors.As(err, &refused) || refused.Code != 451 || refused.Status != (proto.Status{4, 3, 0}) {
			t.Errorf("Add: %v, want 451 4.3.0", err)
		}
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are queued", n)
		}
	})
}

// TestNoSuchRoute reroutes and fetches by a way that the queue does not have. The error says which ones it has.
func TestNoSuchRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &queue.Options{Routes: map[string]client.Sender{"east": nil, "west": nil}})
		_, err := w.q.Reroute(t.Context(), queue.Filter{}, "north", proto.Domain{})
		if !errors.Is(err, queue.ErrRoute) || !strings.Contains(err.Error(), `"north", but the routes ["east" "west"]`) {
			t.Errorf("Reroute: %v", err)
		}
		_, err = w.q.Fetch(t.Context(), []string{"east", "north"}, client.SenderFunc(w.send))
		if !errors.Is(err, queue.ErrRoute) {
			t.Errorf("Fetch: %v", err)
		}
		if _, err = w.q.Fetch(t.Context(), []string{"east"}, client.SenderFunc(w.send)); err != nil {
			t.Errorf("Fetch: %v", err)
		}
	})
	q, err := queue.New(queue.NewMemory(), nil, &queue.Options{
		Hostname: "relay.example", Route: func(*queue.Message, proto.Address) string { return "" },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close(t.Context())
	_, err = q.Reroute(t.Context(), queue.Filter{}, "", address(t, "a@x.example").Domain)
	if !errors.Is(err, queue.ErrRoute) {
		t.Errorf("Reroute to a domain without a Sender: %v", err)
	}
}
