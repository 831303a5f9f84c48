package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/queue"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestLimits fills the queue up to each of its limits.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits queue.Limits
		want   int // how many of ten messages of one tag are taken
	}{
		{"none", queue.Limits{}, 10},
		{"messages", queue.Limits{Messages: 4}, 4},
		{"octets", queue.Limits{Octets: 2*int64(len(text)) + 1}, 2},
		{"share", queue.Limits{Messages: 8, Share: 0.25}, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &queue.Options{Limits: tt.limits})
			w.set(func(proto.Address) error { return later })
			taken := 0
			for range 10 {
				e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}, Tag: "mallory"}
				_, err := w.q.Add(t.Context(), e, strings.NewReader(text))
				if err == nil {
					taken++
					continue
				}
				var refused *proto.Error
				if !errors.As(err, &refused) || refused.Code != 452 || refused.Status != (proto.Status{4, 3, 1}) {
					t.Errorf("%s: %v", tt.name, err)
				}
			}
			if taken != tt.want {
				t.Errorf("%s: %d messages were taken, want %d", tt.name, taken, tt.want)
			}
			if tt.limits.Share > 0 {
				e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "b@y.example")}}, Tag: "alice"}
				if _, err := w.q.Add(t.Context(), e, strings.NewReader(text)); err != nil {
					t.Errorf("%s: another sender: %v", tt.name, err)
				}
			}
		})
	}
}

// A flaky is a store that fails on demand.
type flaky struct {
	*queue.Memory
	add, update atomic.Bool
}

var errDisk = errors.New("input/output error")

func (f *flaky) Add(ctx context.Context, e *queue.Entry) error {
	if f.add.Load() {
		return errDisk
	}
	return f.Memory.Add(ctx, e)
}

func (f *flaky) Update(ctx context.Context, l queue.Lease, c []queue.Change) error {
	if f.update.Load() {
		return errDisk
	}
	return f.Memory.Update(ctx, l, c)
}

// TestBroken has the store fail. Mail is refused with 452, outcomes are not forgotten, and nobody gets a message twice.
func TestBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Memory: queue.NewMemory()}
		w := &world{t: t, begin: time.Now()}
		var err error
		if w.q, err = queue.New(store, client.SenderFunc(w.send), &queue.Options{
			Hostname: "relay.example", MaxActive: 10, Logger: slog.New(slog.DiscardHandler),
		}); err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.add("", "", "b@y.example", "")
		time.Sleep(time.Second)
		store.update.Store(true)
		taken := make(chan bool)
		w.set(func(proto.Address) error {
			<-taken
			return nil
		})
		for i := range 50 {
			w.add("", "", fmt.Sprintf("c%d@y.example", i), "")
		}
		close(taken)
		time.Sleep(time.Hour)
		tried := len(w.tries())
		if tried > 1+10 { // one was written
			t.Errorf("%d attempts were made whose outcome cannot be written", tried)
		}
		store.add.Store(true)
		e := &queue.Envelope{To: []proto.Recipient{{Address: address(t, "d@y.example")}}}
		for range 3 {
			var refused *proto.Error
			if _, err := w.q.Add(t.Context(), e, nil); !errors.As(err, &refused) || refused.Code != 452 {
				t.Errorf("Add: %v", err)
			}
		}
		store.add.Store(false)
		store.update.Store(false)
		time.Sleep(time.Hour)
		for i := range 50 {
			if at := w.at(fmt.Sprintf("c%d@y.example", i)); len(at) != 1 {
				t.Errorf("c%d was tried at %v", i, at)
			}
		}
		if n := w.queued(); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestAddErrors has Add fail for what the caller gives it. Nothing is kept.
func TestAddErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		to := []proto.Recipient{{Address: address(t, "b@y.example")}}
		cut := errors.New("the client hung up")
		long := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), iotest.ErrReader(cut))
		for _, tt := range []struct {
			e    *queue.Envelope
			body io.Reader
			want string
		}{
			{&queue.Envelope{}, nil, "554 5.5.1"},
			{&queue.Envelope{To: []proto.Recipient{{}}}, nil, "501 5.1.3"},
			{&queue.Envelope{To: to, ID: "../../etc/passwd"}, nil, "no ID"},
			{&queue.Envelope{To: []proto.Recipient{{Address: proto.Address{Local: "postmaster"}}}}, nil, "no domain"},
			{&queue.Envelope{To: to}, iotest.ErrReader(cut), cut.Error()},
			{&queue.Envelope{To: to}, long, cut.Error()},
		} {
			if _, err := w.q.Add(t.Context(), tt.e, tt.body); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Add returned %v, want %q", err, tt.want)
			}
		}
		w.add("", "", "b@y.example", "") // the queue is not broken
		time.Sleep(time.Second)
		if n := w.queued(); n != 0 || len(w.tries()) != 1 {
			t.Errorf("%d messages are left, %d were tried", n, len(w.tries()))
		}
	})
}

// TestPassing looks at the parameters that are sent on.
func TestPassing(t *testing.T) {
	for _, tt := range []struct {
		mail, rcpt, without string
		wantMail, wantRcpt  string
	}{
		{"BODY=8BITMIME SIZE=33 AUTH=<>", "", "", "", ""},
		{"RET=HDRS ENVID=x", "NOTIFY=FAILURE ORCPT=rfc822;b@c", "", "RET=HDRS ENVID=x", "NOTIFY=FAILURE ORCPT=rfc822;b@c"},
		{"RET=HDRS ENVID=x MT-PRIORITY=3", "NOTIFY=FAILURE ORCPT=rfc822;b@c", "DSN RET ENVID NOTIFY ORCPT", "MT-PRIORITY=3",
			""},
		{"MT-PRIORITY=3 REQUIRETLS", "", "MT-PRIORITY MT-PRIORITY", "REQUIRETLS", ""},
		{"BY=100;N", "", "", "BY=90;N", ""},
		{"BY=100;N", "NOTIFY=FAILURE", "DELIVERBY BY", "", "NOTIFY=FAILURE,DELAY"},
		{"BY=5;N", "", "", "BY=-5;N", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.without = strings.Fields(tt.without)
			if err := w.q.Suspend(t.Context(), "y.example", time.Now().Add(10*time.Second), ""); err != nil {
				t.Fatal(err)
			}
			w.add("", tt.mail, "b@y.example", tt.rcpt)
			time.Sleep(10 * time.Second)
			if err := w.q.Suspend(t.Context(), "y.example", time.Time{}, ""); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			a := w.last("b@y.example")
			if got := words(a.mail); got != tt.wantMail {
				t.Errorf("%s: MAIL has %q, want %q", tt.mail, got, tt.wantMail)
			}
			if got := words(a.rcpt); got != tt.wantRcpt {
				t.Errorf("%s: RCPT has %q, want %q", tt.mail, got, tt.wantRcpt)
			}
		})
	}
}

func words(p proto.Params) string {
	var list []string
	for _, param := range p {
		if param.HasValue {
			list = append(list, param.Key+"="+param.Value)
		} else {
			list = append(list, param.Key)
		}
	}
	return strings.Join(list, " ")
}

// TestFutureRelease holds a message until its time (RFC 4865).
func TestFutureRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.add("a@x.example", "HOLDFOR=86400", "b@y.example", "")
		time.Sleep(48 * time.Hour)
		if at := w.at("b@y.example"); len(at) != 1 || at[0] < 24*time.Hour || at[0] > 24*time.Hour+time.Second {
			t.Errorf("tried at %v", at)
		}
	})
}

// TestSessionRefused has a smarthost refuse the session for good: the password has expired, or TLS does not work. That
// is no reason to give mail back.
func TestSessionRefused(t *testing.T) {
	for _, err := range []error{
		&ext.AuthError{Err: proto.Refuse(535, proto.Status{5, 7, 8}, "Authentication failed")},
		&ext.TLSError{Err: errors.New("x509: certificate has expired")},
		&proto.Error{Code: 554, Verb: "greeting", Text: "go away"},
		&proto.Error{Code: 550, Verb: "EHLO", Text: "who are you?"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
			w.set(only("y.example", err))
			for range 20 {
				w.add("a@x.example", "", "b@y.example", "")
			}
			time.Sleep(3 * time.Hour)
			if n := w.queued(); n != 20 {
				t.Errorf("%v: %d of 20 messages are left", err, n)
			}
			if n := len(w.at("b@y.example")); n > 40 {
				t.Errorf("%v: %d attempts in 3 hours", err, n)
			}
			w.set(nil)
			time.Sleep(5 * time.Hour)
			if n := w.queued(); n != 0 {
				t.Errorf("%v: %d messages are left", err, n)
			}
		})
	}
}
