package mx

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/mx/mtasts"
	"smtpkit.example/smtp/client/mx/tlsrpt"
)

// TestClosed checks what is said after Close, and that nobody tries again then.
func TestClosed(t *testing.T) {
	for _, without := range []bool{false, true} {
		lay(t, oneHost, func(o *Options) { o.DisableSTS = without }, func(t *testing.T, b *bed) {
			b.add("192.0.2.1", &host{})
			if err := b.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			attempts := 0
			_, err := client.Retry{}.Send(t.Context(), client.SenderFunc(
				func(ctx context.Context, m *client.Message) (*client.Result, error) {
					attempts++
					return b.Send(ctx, m)
				}), message(t, "a@d.example"))
			if !errors.Is(err, ErrClosed) || attempts != 1 || b.order() != "" {
				t.Errorf("without MTA-STS %v: %d attempts, %v", without, attempts, err)
			}
		})
	}
}

// closing sends a message to two recipients at d.example, and calls Close after a second, with a context that ends
// after patience. It returns what Send has returned, how long that took, and what Close has returned.
func (b *bed) closing(t *testing.T, patience time.Duration) (res *client.Result, took time.Duration, closed error) {
	t.Helper()
	began := time.Now()
	done := make(chan error, 1)
	time.AfterFunc(time.Second, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- b.Close(ctx)
	})
	res, _ = b.Send(t.Context(), message(t, "a@d.example", "b@d.example"))
	took = time.Since(began)
	return res, took, <-done
}

// allClosed checks that all recipients have the outcome that the Deliverer was closed.
func allClosed(t *testing.T, res *client.Result) {
	t.Helper()
	if len(res.Recipients) != 2 {
		t.Errorf("%d outcomes", len(res.Recipients))
	}
	for _, o := range res.Recipients {
		if !errors.Is(o.Err, ErrClosed) || !client.Temporary(o.Err) || !client.SafeToRetry(o.Err) {
			t.Errorf("%v: %v, want ErrClosed", o.Address, o.Err)
		}
	}
}

// TestCloseDuringLookup calls Close while the policy of the domain is being fetched: nothing is sent, and Send says
// why. The cache of the Deliverer's own is closed, so Send ends at once. That of the caller goes on.
func TestCloseDuringLookup(t *testing.T) {
	const sts = "_mta-sts.d.example TXT \"v=STSv1; id=1;\"\nmta-sts.d.example A 192.0.2.80\n"
	t.Run("own cache", func(t *testing.T) {
		lay(t, twoHosts+sts, func(o *Options) { o.DisableSTS = false }, func(t *testing.T, b *bed) {
			b.add("192.0.2.1", &host{})
			b.add("192.0.2.2", &host{}) // there is nobody at 192.0.2.80
			res, took, closed := b.closing(t, time.Hour)
			if closed != nil || took != time.Second {
				t.Errorf("Close has returned %v, and Send took %v", closed, took)
			}
			allClosed(t, res)
			if got := b.order(); got != "192.0.2.80" {
				t.Errorf("dialled %s", got)
			}
		})
	})
	t.Run("cache of the caller", func(t *testing.T) {
		var cache *mtasts.Cache
		lay(t, twoHosts+sts, func(o *Options) {
			var served http.RoundTripper = slow{policies{"d.example": enforced}, 10 * time.Second}
			var err error
			if cache, err = mtasts.New(&mtasts.Options{Resolver: o.Resolver, RoundTripper: served}); err != nil {
				t.Fatal(err)
			}
			o.STS, o.DisableSTS = cache, false
		}, func(t *testing.T, b *bed) {
			defer cache.Close()
			b.add("192.0.2.1", &host{cert: theAuthority().issue(t, "mx.example")})
			res, took, closed := b.closing(t, time.Hour)
			if closed != nil || took != 10*time.Second {
				t.Errorf("Close has returned %v, and Send took %v", closed, took)
			}
			allClosed(t, res)
			if got := b.order(); got != "" {
				t.Errorf("dialled %s", got)
			}
		})
	})
}

// TestCloseDuringWalk calls Close while a host has the message. What the host says counts, and there is no next host.
func TestCloseDuringWalk(t *testing.T) {
	const more = "d.example MX 30 mx3.example\nmx3.example A 192.0.2.3\n"
	for _, tt := range []struct {
		name     string
		first    *host
		patience time.Duration // of Close
		want     string        // the outcomes; "closed" if both are that the Deliverer was closed
		took     time.Duration // of Send
	}{
		{"the message is accepted", &host{tarpit: 2 * time.Second}, time.Hour, "ok ok", 14 * time.Second},
		{"refused for good", &host{tarpit: 2 * time.Second, mail: "550 5.7.1 no"}, time.Hour, "550 550", 6 * time.Second},
		{"one is refused for now", &host{tarpit: 2 * time.Second, rcpt: replies(map[string]string{"b": "450 4.2.0 later"})},
			time.Hour, "ok closed", 14 * time.Second},
		{"refused for now", &host{tarpit: 2 * time.Second, mail: "451 4.3.0 later"}, time.Hour,
			"closed closed", 6 * time.Second},
		{"nothing is said, Close waits for some time", &host{greeting: "-"}, 4 * time.Second,
			"closed closed", 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, twoHosts+more, func(o *Options) { o.MaxSessions = 10 }, func(t *testing.T, b *bed) {
				b.add("192.0.2.1", tt.first)
				b.add("192.0.2.2", &host{})
				b.add("192.0.2.3", &host{})
				res, took, closed := b.closing(t, tt.patience)
				got := ""
				var all []error
				for _, o := range res.Recipients {
					word := told(o.Err)
					if errors.Is(o.Err, ErrClosed) {
						word = "closed"
					}
					got += " " + word
					all = append(all, o.Err)
				}
				if got[1:] != tt.want || took != tt.took {
					t.Errorf("the outcomes are%s after %v, want %s after %v: %v", got, took, tt.want, tt.took, all)
				}
				late := tt.patience < time.Hour
				if late != errors.Is(closed, context.DeadlineExceeded) || !late && closed != nil {
					t.Errorf("Close has returned %v", closed)
				}
				if at := b.order(); at != "192.0.2.1" || len(b.attempts) > 2 {
					t.Errorf("dialled %s in %d attempts", at, len(b.attempts))
				}
			})
		})
	}
}

// A lateRecorder takes a while for an event.
type lateRecorder struct {
	takes time.Duration
	done  atomic.Int32
}

func (r *lateRecorder) Record(tlsrpt.Event) {
	time.Sleep(r.takes)
	r.done.Add(1)
}

// TestCloseWaitsForReports checks that Close returns when the last event is recorded: a program saves its reports then.
// A context that ends earlier ends the wait.
func TestCloseWaitsForReports(t *testing.T) {
	for _, tt := range []struct {
		name     string
		patience time.Duration
		recorded int32
		err      error
	}{
		{"to the end", time.Hour, 1, nil},
		{"not for long", 3 * time.Second, 0, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &lateRecorder{takes: 20 * time.Second}
			lay(t, twoHosts, func(o *Options) { o.Reports = r }, func(t *testing.T, b *bed) {
				b.add("192.0.2.1", &host{})
				sent := make(chan error)
				go func() {
					_, err := b.Send(t.Context(), message(t, "a@d.example"))
					sent <- err
				}()
				synctest.Wait() // the event is being recorded
				ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
				defer cancel()
				if err := b.Close(ctx); !errors.Is(err, tt.err) || r.done.Load() != tt.recorded {
					t.Errorf("Close has returned %v after %d events, want %v after %d", err, r.done.Load(), tt.err, tt.recorded)
				}
				if err := <-sent; err != nil {
					t.Errorf("the message: %v", err)
				}
			})
		})
	}
}
