package client

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
)

// TestSendFrom: messages of several goroutines share one connection. Each gets its own outcome.
func TestSendFrom(t *testing.T) {
	for _, keywords := range [][]string{nil, {"PIPELINING"}, {"PIPELINING", "CHUNKING"}} {
		c, srv := pipe(t, keywords...)
		queue, done := make(chan *Delivery), make(chan error, 1)
		go func() { done <- c.SendFrom(context.Background(), queue, nil) }()
		var senders sync.WaitGroup
		const each = 20
		for range 8 {
			senders.Go(func() {
				for range each {
					d := NewDelivery(context.Background(), message("hello\r\n", "c@d.example", "e@d.example"))
					queue <- d
					if res, err := d.Wait(); err != nil || codes(res) != "0 0" {
						t.Errorf("%v: %v", codes(res), err)
					}
				}
			})
		}
		senders.Wait()
		close(queue)
		if err := <-done; err != nil {
			t.Errorf("%v: SendFrom: %v", keywords, err)
		}
		if err := c.Noop(context.Background()); err != nil {
			t.Errorf("%v: Noop after SendFrom: %v", keywords, err)
		}
		c.Close()
		srv.wait()
		if n := strings.Count(srv.content.String(), "hello"); n != 8*each {
			t.Errorf("%v: the server got %d messages, want %d", keywords, n, 8*each)
		}
	}
}

// TestSendFromValues: what a Trace is told of a message comes with the values of the message's context.
func TestSendFromValues(t *testing.T) {
	type key struct{}
	var mu sync.Mutex
	seen := map[string]int{}
	note := func(ctx context.Context, what string) {
		mu.Lock()
		defer mu.Unlock()
		if v, ok := ctx.Value(key{}).(string); ok {
			seen[what+" "+v]++
		}
	}
	c := dial(t, func(o *Options) {
		o.Trace = &Trace{
			Command: func(ctx context.Context, _ *Client, verb, _ string) { note(ctx, "C: "+verb) },
			Reply:   func(ctx context.Context, _ *Client, verb string, _ proto.Reply) { note(ctx, "S: "+verb) },
			Content: func(ctx context.Context, _ *Client, _ int64, _ proto.Reply) { note(ctx, "content") },
		}
	}, hello("PIPELINING", "CHUNKING")+firstChunk+firstChunk)
	queue, done := make(chan *Delivery), make(chan error, 1)
	go func() { done <- c.SendFrom(context.Background(), queue, nil) }()
	for _, name := range []string{"one", "two"} {
		d := NewDelivery(context.WithValue(context.Background(), key{}, name), message("hello\r\n", "c@d.example"))
		queue <- d
		if _, err := d.Wait(); err != nil {
			t.Error(err)
		}
	}
	close(queue)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, what := range []string{"C: MAIL", "C: RCPT", "C: BDAT", "S: MAIL", "S: RCPT", "S: BDAT", "content"} {
		if seen[what+" one"] != 1 || seen[what+" two"] != 1 {
			t.Errorf("%s: %v", what, seen)
		}
	}
}

// TestSendFromAnswers: replies are dealt with while no message comes, as many as leave in one flight.
func TestSendFromAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := sinkClient(t, 50*time.Millisecond)
		sendFirst(t, c)
		queue, done := make(chan *Delivery), make(chan error, 1)
		welcome := 0
		go func() { done <- c.SendFrom(t.Context(), queue, func() { welcome++ }) }()
		start := time.Now()
		var list []*Delivery
		for range 10 {
			d := NewDelivery(t.Context(), sized(100, 1))
			queue <- d
			list = append(list, d)
		}
		for _, d := range list {
			if _, err := d.Wait(); err != nil {
				t.Error(err)
			}
		}
		if trips := time.Since(start) / s.delay; trips > 2 {
			t.Errorf("10 messages took %d round trips", trips)
		}
		close(queue)
		if err := <-done; err != nil || welcome != 11 {
			t.Errorf("%v; 11 messages were waited for, and more was called %d times", err, welcome)
		}
		c.Close()
	})
}

// TestSendFromHangup: a server that hangs up while nothing is on its way is noticed at once.
func TestSendFromHangup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := sinkClient(t, 0)
		done := make(chan error)
		go func() { done <- c.SendFrom(t.Context(), make(chan *Delivery), nil) }()
		synctest.Wait()
		start := time.Now()
		s.mu.Lock()
		s.reply("421 bye\r\n")
		s.fly(0)
		s.mu.Unlock()
		err := <-done
		if e, ok := asType[*proto.Error](err); !ok || e.Code != 421 || time.Since(start) > 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestLeaveBody: once Wait has returned, the Body belongs to the caller, and has been put back.
func TestLeaveBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := sinkClient(t, 0)
		sendFirst(t, c)
		s.hold(true)
		queue, done := make(chan *Delivery), make(chan error, 1)
		go func() { done <- c.SendFrom(t.Context(), queue, nil) }()
		long := strings.Repeat("0123456789\r\n", blockSize) // which takes chunks whose replies are awaited
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		m := message(long, "c@d.example")
		d := NewDelivery(ctx, m)
		queue <- d
		res, err := d.Wait()
		if e, ok := asType[*SendError](err); !ok || e.Unknown || !SafeToRetry(err) || !errors.Is(err, context.DeadlineExceeded) ||
			len(res.Recipients) != 1 {
			t.Errorf("the content was not on its way, and the outcome is %v", err)
		}
		if all, err := io.ReadAll(m.Body); err != nil || string(all) != long {
			t.Errorf("the Body has %d octets; %v", len(all), err)
		}
		select {
		case <-d.Done():
			t.Error("the message has come to its end")
		default:
		}
		s.hold(false)
		<-d.Done()
		next := NewDelivery(t.Context(), message("hello\r\n", "c@d.example"))
		queue <- next
		if _, err := next.Wait(); err != nil {
			t.Errorf("the next message: %v", err)
		}
		close(queue)
		if err := <-done; err != nil || s.counts().messages != 2 {
			t.Errorf("%v, and %d messages", err, s.counts().messages)
		}
		c.Close()
	})
}

// TestLeaveInDoubt: if the end of the content is on its way, the outcome is unknown. The connection goes on.
func TestLeaveInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := sinkClient(t, 0)
		sendFirst(t, c)
		s.hold(true)
		queue, done := make(chan *Delivery), make(chan error, 1)
		go func() { done <- c.SendFrom(t.Context(), queue, nil) }()
		ctx, cancel := context.WithCancelCause(t.Context())
		d := NewDelivery(ctx, message("hello\r\n", "c@d.example", "e@d.example"))
		queue <- d
		synctest.Wait()
		why := errors.New("the user went home")
		cancel(why)
		res, err := d.Wait()
		again, errAgain := d.Wait()
		e, ok := asType[*SendError](err)
		if !ok || !e.Unknown || SafeToRetry(err) || !errors.Is(err, why) || codes(res) != "-1 -1" {
			t.Errorf("%v, %v", codes(res), err)
		}
		if again != res || errAgain != err {
			t.Errorf("Wait says something else the second time: %v", errAgain)
		}
		s.hold(false)
		<-d.Done()
		close(queue)
		if err := <-done; err != nil || s.counts().messages != 2 {
			t.Errorf("%v, and %d messages", err, s.counts().messages)
		}
		if after, _ := d.Wait(); after != res {
			t.Error("the outcome has changed")
		}
		c.Close()
	})
}

// TestLeaveForReason: that the caller has cancelled a context is no reason to try again, whatever its cause. That a
// deadline has passed is one.
func TestLeaveForReason(t *testing.T) {
	why := errors.New("the user went home")
	for _, tt := range []struct {
		end       func(context.Context) (context.Context, context.CancelFunc)
		is        error
		temporary bool
	}{
		{func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(why)
			return ctx, func() {}
		}, context.Canceled, false},
		{func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, 0, why)
		}, context.DeadlineExceeded, true},
	} {
		ctx, cancel := tt.end(t.Context())
		_, err := NewDelivery(ctx, message("hello\r\n", "c@d.example")).Wait()
		if !errors.Is(err, why) || !errors.Is(err, tt.is) || Temporary(err) != tt.temporary || !SafeToRetry(err) {
			t.Errorf("temporary %v: %v", Temporary(err), err)
		}
		cancel()
	}
}

// TestLeaveUsed: a Body that cannot be put back is used up when Wait returns early.
func TestLeaveUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := sinkClient(t, 0)
		sendFirst(t, c)
		s.hold(true)
		queue, done := make(chan *Delivery), make(chan error, 1)
		go func() { done <- c.SendFrom(t.Context(), queue, nil) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		m := message("", "c@d.example")
		m.Body = iotest.OneByteReader(strings.NewReader("hello\r\n"))
		d := NewDelivery(ctx, m)
		queue <- d
		_, _ = d.Wait()
		s.hold(false)
		close(queue)
		<-done
		if _, err := c.Send(t.Context(), m); !errors.Is(err, errUsed) {
			t.Errorf("%v, want that the Body was used up", err)
		}
		c.Close()
	})
}

// TestSilence: after a silence, content waits for a sign of life. A connection that turns out to be dead leaves no
// doubt.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, silence := range []time.Duration{maxSilence / 2, 2 * maxSilence} {
			c, s := sinkClient(t, 0)
			sendFirst(t, c)
			time.Sleep(silence)
			s.hold(true)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := c.Send(ctx, message("hello\r\n", "c@d.example"))
			cancel()
			if got, want := SafeToRetry(err), silence > maxSilence; err == nil || got != want {
				t.Errorf("after %v: SafeToRetry is %v, want %v; %v", silence, got, want, err)
			}
			c.Close()
		}
	})
}

// TestFarewell: what a server says to an idle client is no reply to a command that has not been sent yet.
func TestFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := sinkClient(t, 0)
		sendFirst(t, c)
		m := message("", "c@d.example")
		m.Body = readerFunc(func([]byte) (int, error) {
			s.mu.Lock()
			s.reply("421 bye\r\n")
			s.fly(0)
			s.mu.Unlock()
			time.Sleep(time.Second) // meanwhile it comes in
			return 0, io.EOF
		})
		_, err := c.Send(t.Context(), m)
		if e, ok := asType[*proto.Error](err); !ok || e.Code != 421 || e.Verb != "" || !SafeToRetry(err) {
			t.Errorf("%v", err)
		}
	})
}

// TestBodyPanicsInSendFrom: a panic of a Body reaches the caller of Wait, also one of Seek once the message was sent.
func TestBodyPanicsInSendFrom(t *testing.T) {
	c, _ := pipe(t, "PIPELINING", "CHUNKING")
	queue, done := make(chan *Delivery), make(chan error, 1)
	go func() { done <- c.SendFrom(context.Background(), queue, nil) }()
	for _, body := range []io.Reader{
		readerFunc(func([]byte) (int, error) { panic("no content") }),
		&fragileSeeker{Reader: strings.NewReader("hello\r\n")},
	} {
		m := message("", "c@d.example")
		m.Body = body
		d := NewDelivery(context.Background(), m)
		queue <- d
		func() {
			defer func() {
				if r := recover(); r != "no content" {
					t.Errorf("recovered %v", r)
				}
			}()
			_, err := d.Wait()
			t.Errorf("Wait: %v", err)
		}()
	}
	d := NewDelivery(context.Background(), message("hello\r\n", "c@d.example"))
	queue <- d
	if _, err := d.Wait(); err != nil {
		t.Error(err)
	}
	close(queue)
	if err := <-done; err != nil {
		t.Errorf("SendFrom: %v", err)
	}
}

// A fragileSeeker panics when it is put back.
type fragileSeeker struct{ *strings.Reader }

func (f *fragileSeeker) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		panic("no content")
	}
	return f.Reader.Seek(offset, whence)
}

// TestSilenceInSendFrom: messages that come in do not prolong the wait for a reply.
func TestSilenceInSendFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := sinkClient(t, 0)
		c.cfg.Timeouts = AllTimeouts(time.Minute)
		sendFirst(t, c)
		queue, done := make(chan *Delivery), make(chan error, 1)
		go func() { done <- c.SendFrom(t.Context(), queue, nil) }()
		time.Sleep(time.Hour) // in which nothing is owed
		for range 2 {
			d := NewDelivery(t.Context(), message("hello\r\n", "c@d.example"))
			queue <- d
			if _, err := d.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		s.hold(true)
		start := time.Now()
		for range 10 {
			select {
			case queue <- NewDelivery(t.Context(), message("hello\r\n", "c@d.example")):
				time.Sleep(40 * time.Second)
			case err := <-done:
				if waited := time.Since(start); err == nil || waited > 100*time.Second {
					t.Errorf("%v after %v", err, waited)
				}
				return
			}
		}
		t.Error("there was no end")
	})
}
