package queue_test

import (
	"context"
	"fmt"
	"slices"
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

// TestRequested reads in reports what the sender has asked for (RFC 2852 section 5, RFC 4865 section 5.1.2).
func TestRequested(t *testing.T) {
	for mail, want := range map[string][]report.Field{
		"ENVID=x":                        nil,
		"BY=600;R":                       {{Name: "Deliver-By-Date", Value: "Sat, 01 Jan 2000 00:10:00 +0000"}},
		"HOLDFOR=60":                     {{Name: "Future-Release-Request", Value: "for;60"}},
		"HOLDUNTIL=2000-01-01T00:02:00Z": {{Name: "Future-Release-Request", Value: "until;2000-01-01T00:02:00Z"}},
		"HOLDFOR=60 BY=600;N": {
			{Name: "Deliver-By-Date", Value: "Sat, 01 Jan 2000 00:10:00 +0000"},
			{Name: "Future-Release-Request", Value: "for;60"},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.set(only("y.example", proto.Refuse(550, proto.Status{5, 1, 1}, "no")))
			w.add("a@x.example", mail, "b@y.example", "")
			time.Sleep(5 * time.Minute)
			r := w.report("a@x.example")
			for i := range r.Fields { // dates may be in any zone
				if at, err := time.Parse(time.RFC1123Z, r.Fields[i].Value); err == nil {
					r.Fields[i].Value = at.UTC().Format(time.RFC1123Z)
				}
			}
			if !slices.Equal(r.Fields, want) {
				t.Errorf("%s: the report has %v, want %v", mail, r.Fields, want)
			}
		})
	}
}

// TestLateWhileTrying has the time of BY end during an attempt that fails for now: the report says that it was too late
// (RFC 2852 section 4.1.3), and what the server said.
func TestLateWhileTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.set(func(to proto.Address) error {
			if to.Domain.ASCII() != "y.example" {
				return nil
			}
			time.Sleep(2 * time.Minute)
			return later
		})
		w.add("a@x.example", "BY=60;R", "b@y.example", "")
		time.Sleep(time.Hour)
		r := w.report("a@x.example").Recipients[0]
		if r.Action != ehlo.Failed || r.Status != (proto.Status{5, 4, 7}) || r.Diagnostic.Text != "450 4.7.1 later" {
			t.Errorf("the sender was told %+v", r)
		}
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestDeliveredWithoutReply has a Sender that is no server take a message: it is delivered, and not relayed.
func TestDeliveredWithoutReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
		w.openOver(w.store, client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
			result, err := w.send(ctx, m)
			for i := range result.Recipients {
				result.Recipients[i].Reply = proto.Reply{}
			}
			return result, err
		}), nil)
		w.add("a@x.example", "", "b@y.example", "NOTIFY=SUCCESS")
		time.Sleep(time.Minute)
		r := w.report("a@x.example").Recipients[0]
		if r.Action != ehlo.Delivered || r.Status != (proto.Status{2, 0, 0}) {
			t.Errorf("the sender was told %+v", r)
		}
		w.close()
	})
}

// TestClasses has a message of each class of priority at its bounds, and looks at its lane (RFC 6710).
func TestClasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for priority, want := range map[int]queue.Lane{9: 0, 4: 0, 3: 2, 1: 2, 0: 4, -1: 6, -9: 6} {
			id := w.add("", fmt.Sprintf("HOLDFOR=60 MT-PRIORITY=%d", priority), "b@y.example", "")
			jobs, _, err := w.q.List(t.Context(), queue.Filter{IDs: []queue.ID{id}}, queue.JobID{}, 1)
			if err != nil || len(jobs) != 1 || jobs[0].Job.Lane != want {
				t.Errorf("priority %d: %v, %v, want lane %d", priority, jobs, err, want)
			}
		}
	})
}

// TestLaterAndLacking has a server lack an extension for one recipient, and put off the other. Neither is lost.
func TestLaterAndLacking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, store: queue.NewMemory(), begin: time.Now()}
		w.openOver(w.store, client.SenderFunc(func(ctx context.Context, m *client.Message) (*client.Result, error) {
			result, err := w.send(ctx, m)
			for i, r := range m.To {
				switch {
				case r.Params.Has("NOTIFY"):
					result.Recipients[i] = proto.Outcome{Recipient: r, Err: &ext.UnsupportedError{Keyword: "DSN", What: "x"}}
				case r.Address.Local == "later" && time.Since(w.begin) < time.Minute:
					result.Recipients[i] = proto.Outcome{Recipient: r, Err: later}
				}
			}
			return result, err
		}), nil)
		e := &queue.Envelope{To: []proto.Recipient{
			{Address: address(t, "later@y.example")},
			{Address: address(t, "lacks@y.example"), Params: proto.Params{{Key: "NOTIFY", Value: "NEVER", HasValue: true}}},
		}}
		if _, err := w.q.Add(t.Context(), e, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if at := w.at("later@y.example"); len(at) != 2 || w.queued() != 0 {
			t.Errorf("tried at %v, want twice; %d are left", at, w.queued())
		}
		w.close()
	})
}
