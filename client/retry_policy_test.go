package client

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/proto"
)

// exactly returns a policy whose waits are as long as they can be.
func exactly(r Retry) Retry {
	r.random = func() float64 { return 0 }
	return r
}

const (
	toThree = "C: MAIL*\nC: RCPT TO:<a@x.example>\nC: RCPT TO:<b@x.example>\nC: RCPT TO:<c@x.example>\nC: DATA\n"
	toB     = "C: MAIL*\nC: RCPT TO:<b@x.example>\nC: DATA\n"
	content = "S: 354 go on\nC: hello\nC: .\n"
	accept  = content + "S: 250 ok\n"
	noDATA  = "S: 554 no recipients\nC: RSET\nS: 250 ok\n"
)

// TestRetryPolicy has servers fail in all sorts of ways, each connection with a script of its own.
func TestRetryPolicy(t *testing.T) {
	greet := hello("PIPELINING")
	for _, tt := range []struct {
		name    string
		scripts []string
		codes   string
		err     string // "" for success
		unknown bool
		took    time.Duration
	}{
		{"greylisted", []string{
			greet + toThree + "S: 250 ok\nS: 250 ok\nS: 451 not now\nS: 550 no\n" + accept + bye,
			greet + toB + "S: 250 ok\nS: 250 ok\n" + accept + bye,
		}, "0 0 550", "smtp: not sent to 1 of 3 recipients (c@x.example): RCPT: 550 no", false, time.Minute},
		{"greylisted three times", []string{
			greet + toThree + "S: 250 ok\nS: 250 ok\nS: 451 not now\nS: 250 ok\n" + accept + bye,
			greet + toB + "S: 250 ok\nS: 451 not now\n" + noDATA + bye,
			greet + toB + "S: 250 ok\nS: 450 not yet\n" + noDATA + bye,
			greet + toB + "S: 250 ok\nS: 250 ok\n" + accept + bye,
		}, "0 0 0", "", false, 7 * time.Minute},
		{"refused for good by the second attempt", []string{
			greet + toThree + "S: 250 ok\nS: 250 ok\nS: 451 not now\nS: 250 ok\n" + accept + bye,
			greet + toB + "S: 250 ok\nS: 550 never\n" + noDATA + bye,
		}, "0 550 0", "smtp: not sent to 1 of 3 recipients (b@x.example): RCPT: 550 never", false, time.Minute},
		{"421 in between", []string{
			greet + toThree + "S: 250 ok\nS: 250 ok\nS: 451 not now\nS: 250 ok\n" + accept + bye,
			"S: 421 too busy\nHANGUP\n",
			greet + toB + "S: 421 closing\nHANGUP\n",
			greet + toB + "S: 250 ok\nS: 250 ok\n" + accept + bye,
		}, "0 0 0", "", false, 7 * time.Minute},
		{"lost before the content", []string{
			greet + toThree + "S: 250 ok\nCLOSE\n",
			greet + toThree + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 ok\n" + accept + bye,
		}, "0 0 0", "", false, time.Minute},
		{"lost behind the content", []string{
			greet + toThree + "S: 250 ok\nS: 250 ok\nS: 451 not now\nS: 550 no\n" + content + "CLOSE\n",
			greet + toB + "S: 250 ok\nS: 250 ok\n" + accept + bye,
		}, "-1 0 550", "smtp: whether the message was accepted is unknown: connection lost while waiting for the reply to " +
			"content: EOF", true, time.Minute},
		{"lost behind the content of the second attempt", []string{
			greet + toThree + "S: 250 ok\nS: 550 no\nS: 451 not now\nS: 250 ok\n" + accept + bye,
			greet + toB + "S: 250 ok\nS: 250 ok\n" + content + "CLOSE\n",
		}, "550 -1 0", "smtp: whether the message was accepted is unknown: connection lost while waiting for the reply to " +
			"content: EOF", true, time.Minute},
		{"the content refused for now", []string{
			greet + toThree + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 ok\n" + content + "S: 451 not now\n" + bye,
			greet + toThree + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 ok\n" + accept + bye,
		}, "0 0 0", "", false, time.Minute},
		{"the content refused", []string{
			greet + toThree + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 ok\n" + content + "S: 554 spam\n" + bye,
		}, "554 554 554", "smtp: not sent to any of 3 recipients: content: 554 spam", false, 0},
		{"refused by the greeting", []string{"S: 554 go away\nC: QUIT\nS: 221 bye\nHANGUP\n"}, "554 554 554",
			"smtp: not sent to any of 3 recipients: greeting: 554 go away", false, 0},
		{"never", []string{
			"S: 421 too busy\nHANGUP\n", "S: 421 too busy\nHANGUP\n", "S: 421 too busy\nHANGUP\n",
			"S: 421 too busy\nHANGUP\n", "S: 421 still\nHANGUP\n",
		}, "421 421 421", "smtp: not sent to any of 3 recipients: the greeting: 421 still", false, 15 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := DialSender(host, inPlaintext(clienttest.New(t, tt.scripts...)))
				m := message("hello\r\n", "a@x.example", "b@x.example", "c@x.example")
				begun, waits := time.Now(), 0
				r := exactly(Retry{Waiting: func(_ context.Context, n int, err error, wait time.Duration) {
					waits++
					if e, ok := asType[*SendError](err); !ok || n != waits || wait != time.Minute<<(n-1) || e.Retry(m) == nil {
						t.Errorf("after attempt %d of %d: %v, %v", n, waits, err, wait)
					}
				}})
				res, err := r.Send(t.Context(), s, m)
				if time.Since(begun) != tt.took {
					t.Errorf("it took %v, want %v", time.Since(begun), tt.took)
				}
				checkRetry(t, m, res, err, tt.codes, tt.err, tt.unknown)
				if waits != len(tt.scripts)-1 {
					t.Errorf("%d waits", waits)
				}
			})
		})
	}
}

// checkRetry checks the outcome of m.
func checkRetry(t *testing.T, m *Message, res *Result, err error, wantCodes, wantErr string, unknown bool) {
	t.Helper()
	if codes(res) != wantCodes {
		t.Errorf("the outcomes are %s, want %s", codes(res), wantCodes)
	}
	for i := range res.Recipients {
		if res.Recipients[i].Address != m.To[i].Address {
			t.Errorf("outcome %d is for %v", i, res.Recipients[i].Address)
		}
	}
	failed, ok := asType[*SendError](err)
	switch {
	case wantErr == "":
		if err != nil {
			t.Error(err)
		}
	case !ok || err.Error() != wantErr || failed.Result != res || failed.Unknown != unknown:
		t.Errorf("the error is %v, want %s", err, wantErr)
	case SafeToRetry(err) && (unknown || res.Sent() > 0):
		t.Errorf("safe to retry: %v", SafeToRetry(err))
	}
}

// TestRetryContext has the context end before and during a wait: the outcomes are those of the attempt before.
func TestRetryContext(t *testing.T) {
	once := hello("PIPELINING") + toThree + "S: 250 ok\nS: 250 ok\nS: 451 not now\nS: 250 ok\n" + accept + bye
	const told = "smtp: not sent to 1 of 3 recipients (b@x.example): RCPT: 451 not now; no further attempt: "
	for _, tt := range []struct {
		name          string
		cancel, after time.Duration // when the context is cancelled, and when its deadline is; 0 is never
		took          time.Duration
		reason        error
		text          string
	}{
		{"cancelled", 30 * time.Second, 0, 30 * time.Second, context.Canceled, "context canceled"},
		{"cancelled, with a deadline", 30 * time.Second, time.Hour, 30 * time.Second, context.Canceled, "context canceled"},
		{"deadline before the next attempt", 0, 59 * time.Second, 0, context.DeadlineExceeded,
			"the next one would come too late: context deadline exceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.after > 0 {
					ctx, cancel = context.WithTimeout(ctx, tt.after)
					defer cancel()
				}
				if tt.cancel > 0 {
					defer time.AfterFunc(tt.cancel, cancel).Stop()
				}
				m := message("hello\r\n", "a@x.example", "b@x.example", "c@x.example")
				begun := time.Now()
				res, err := exactly(Retry{}).Send(ctx, DialSender(host, inPlaintext(clienttest.New(t, once))), m)
				if time.Since(begun) != tt.took {
					t.Errorf("it took %v, want %v", time.Since(begun), tt.took)
				}
				checkRetry(t, m, res, err, "0 451 0", told+tt.text, false)
				if refused, ok := asType[*proto.Error](err); !errors.Is(err, tt.reason) || !ok || refused.Code != 451 {
					t.Errorf("the error does not wrap both: %v", err)
				}
			})
		})
	}
}

// TestRetryContextInAttempt has the context end while the server is silent, before and behind the content.
func TestRetryContextInAttempt(t *testing.T) {
	greet := hello("PIPELINING")
	for _, tt := range []struct {
		name, script string
		unknown      bool
	}{
		{"before the content", greet + "C: MAIL*\nC: RCPT*\nC: DATA\nHANGUP\n", false},
		{"behind the content", greet + "C: MAIL*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 250 ok\n" + content + "HANGUP\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				s := DialSender(host, inPlaintext(clienttest.New(t, tt.script)))
				res, err := Retry{}.Send(ctx, s, message("hello\r\n", "a@x.example"))
				failed, ok := asType[*SendError](err)
				if !ok || failed.Unknown != tt.unknown || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
				if lost, ok := asType[*LostError](res.Recipients[0].Err); !ok || lost.InDoubt != tt.unknown {
					t.Errorf("the outcome is %v", res.Recipients[0].Err)
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := DialSender(host, inPlaintext(clienttest.New(t)))
	_, err := Retry{}.Send(ctx, s, message("", "a@x.example"))
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "no further") {
		t.Errorf("cancelled before: %v", err)
	}
}

// TestRetryClient has a client with one connection, which lasts, ends, or is replaced.
func TestRetryClient(t *testing.T) {
	again := toB + "S: 250 ok\nS: 250 ok\n" + accept
	// After a long silence the content waits for a sign of life.
	alive := "C: MAIL*\nC: RCPT TO:<b@x.example>\nS: 250 ok\nS: 250 ok\nC: DATA\n" + accept
	later := "S: 250 ok\nS: 250 ok\nS: 451 not now\nS: 250 ok\n" + accept
	const told = "smtp: not sent to 1 of 3 recipients (b@x.example): RCPT: 451 not now; no further attempt: "
	for _, tt := range []struct {
		name    string
		scripts []string
		lasts   time.Duration // a connection
		codes   string
		err     string
		took    time.Duration
	}{
		{"open", []string{hello("PIPELINING") + toThree + later + alive}, time.Hour, "0 0 0", "", time.Minute},
		{"MAILMAX", []string{
			limited("MAILMAX=1") + toThree + later + bye, limited("MAILMAX=1") + again,
		}, time.Hour, "0 0 0", "", time.Minute},
		{"closed during the wait", []string{hello("PIPELINING") + toThree + later}, 30 * time.Second, "0 451 0",
			told + "the connection is closed: connection lost while idle: " + io.ErrClosedPipe.Error(), time.Minute},
		{"closed by 421", []string{hello("PIPELINING") + toThree + "S: 421 bye\nHANGUP\n"}, time.Hour, "421 421 421",
			"smtp: not sent to any of 3 recipients: MAIL: 421 bye; no further attempt: the connection is closed: MAIL: " +
				"421 bye", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := dial(t, func(o *Options) {
					dial := o.DialContext
					o.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
						conn, err := dial(ctx, network, addr)
						time.AfterFunc(tt.lasts, func() { conn.Close() })
						return conn, err
					}
				}, tt.scripts...)
				m := message("hello\r\n", "a@x.example", "b@x.example", "c@x.example")
				begun := time.Now()
				res, err := exactly(Retry{Attempts: -1}).Send(t.Context(), c, m)
				if took := time.Since(begun); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				checkRetry(t, m, res, err, tt.codes, tt.err, false)
				if closed := tt.err != ""; errors.Is(err, ErrClosed) != closed {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// TestRetryNotBegun: an attempt that is not begun leaves the outcomes as they were.
func TestRetryNotBegun(t *testing.T) {
	later := &proto.Error{Code: 451, Verb: "RCPT", Text: "not now"}
	wrapped := &closedError{io.EOF}
	for _, tt := range []struct {
		name  string
		errs  []error // of each attempt
		codes string
		want  string
	}{
		{"closed", []error{later, ErrClosed}, "451", "smtp: RCPT: 451 not now; no further attempt: the connection is closed"},
		{"closed at once", []error{ErrClosed}, "-1", "smtp: the connection is closed"},
		{"closed, and open again", []error{later, wrapped, nil}, "0", ""},
		{"closed at last", []error{later, wrapped, wrapped}, "451",
			"smtp: RCPT: 451 not now; no further attempt: the connection is closed: EOF"},
		{"busy", []error{later, ErrBusy, nil}, "0", ""},
		{"busy at first", []error{ErrBusy, later, later}, "451", "smtp: RCPT: 451 not now"},
		{"busy all the time", []error{ErrBusy, ErrBusy, ErrBusy}, "-1", ErrBusy.Error()},
		{"busy, then refused", []error{later, ErrBusy, &proto.Error{Code: 550, Text: "no"}}, "550", "smtp: 550 no"},
		{"an error of somebody else", []error{errors.New("out of luck")}, "-1", "smtp: out of luck"},
		{"cancelled by itself", []error{context.Canceled}, "-1", "smtp: context canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				s := SenderFunc(func(_ context.Context, m *Message) (*Result, error) {
					n++
					if err := tt.errs[n-1]; err != nil {
						return unsent(m, err)
					}
					return newResult(m), nil
				})
				m := message("", "a@x.example")
				res, err := Retry{Attempts: 3}.Send(t.Context(), s, m)
				checkRetry(t, m, res, err, tt.codes, tt.want, false)
				if n != len(tt.errs) {
					t.Errorf("%d attempts", n)
				}
			})
		})
	}
}

// TestRetrySender has Senders that do not keep to what Send says.
func TestRetrySender(t *testing.T) {
	m := message("", "a@x.example", "b@x.example")
	lost := &LostError{Doing: "thinking", Err: io.EOF}
	for _, tt := range []struct {
		name  string
		s     SenderFunc
		codes string
		want  string
		n     int
	}{
		{"an error alone", func(context.Context, *Message) (*Result, error) { return nil, lost }, "-1 -1",
			"smtp: not sent to any of 2 recipients: connection lost while thinking: EOF", 2},
		{"a mark of doubt alone", func(_ context.Context, m *Message) (*Result, error) { return unsent(m, inDoubt(lost)) },
			"-1 -1", "smtp: whether the message was accepted is unknown: connection lost while thinking: EOF", 1},
		{"nothing", func(context.Context, *Message) (*Result, error) { return nil, nil }, "0 0", "", 1},
		{"the result in the error", func(_ context.Context, m *Message) (*Result, error) {
			_, err := unsent(m, lost)
			return nil, err
		}, "-1 -1", "smtp: not sent to any of 2 recipients: connection lost while thinking: EOF", 2},
		{"the result of another message", func(context.Context, *Message) (*Result, error) {
			return unsent(message("", "c@x.example"), lost)
		}, "-1 -1", "smtp: not sent to any of 2 recipients: connection lost while thinking: EOF", 2},
		{"an error beside success", func(_ context.Context, m *Message) (*Result, error) { return newResult(m), lost }, "0 0",
			"smtp: connection lost while thinking: EOF", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			res, err := Retry{First: -1, Attempts: 2}.Send(t.Context(), SenderFunc(
				func(ctx context.Context, m *Message) (*Result, error) { n++; return tt.s(ctx, m) }), m)
			failed, _ := asType[*SendError](err)
			if codes(res) != tt.codes || n != tt.n || (err == nil) != (tt.want == "") ||
				err != nil && (failed == nil || err.Error() != tt.want || failed.Result != res) {
				t.Errorf("%s, %v, %d attempts", codes(res), err, n)
			}
		})
	}
	var none *Message
	c := dial(t, nil, hello())
	if res, err := (Retry{}).Send(t.Context(), c, none); res == nil || !errors.Is(err, errNoRecipients) {
		t.Errorf("no message: %v, %v", res, err)
	}
}

// TestRetryBody has a Body that cannot be read again: that matters once an attempt has read it, and another is due.
func TestRetryBody(t *testing.T) {
	greet := hello("PIPELINING")
	for _, tt := range []struct {
		name    string
		scripts []string
		codes   string
		want    string
	}{
		{"not read", []string{
			"S: 421 too busy\nHANGUP\n", greet + toB + "S: 250 ok\nS: 250 ok\n" + accept + bye,
		}, "0", ""},
		{"read", []string{greet + toB + "S: 250 ok\nS: 451 not now\n" + noDATA + bye}, "451",
			"smtp: RCPT: 451 not now; no further attempt: " + cause(errUsed)},
		{"read by the second attempt", []string{
			"S: 421 too busy\nHANGUP\n", greet + toB + "S: 250 ok\nS: 451 not now\n" + noDATA + bye,
		}, "451", "smtp: RCPT: 451 not now; no further attempt: " + cause(errUsed)},
		{"read, and no other attempt is due", []string{greet + toB + "S: 250 ok\nS: 550 no\n" + noDATA + bye}, "550",
			"smtp: RCPT: 550 no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := message("", "b@x.example")
				m.Body = oddPieces{strings.NewReader("hello\r\n")}
				res, err := Retry{}.Send(t.Context(), DialSender(host, inPlaintext(clienttest.New(t, tt.scripts...))), m)
				checkRetry(t, m, res, err, tt.codes, tt.want, false)
				_, used := asType[*MessageError](err)
				if used != strings.Contains(tt.want, "read again") {
					t.Errorf("%v", err)
				}
				if codes(res) == "451" && !Temporary(err) {
					t.Error("the recipient may not be tried with another Body")
				}
			})
		})
	}
}

// TestRetryBackoff checks how long each wait may be.
func TestRetryBackoff(t *testing.T) {
	const m = time.Minute
	for _, tt := range []struct {
		retry Retry
		want  []time.Duration // the longest wait after each attempt
	}{
		{Retry{}, []time.Duration{m, 2 * m, 4 * m, 8 * m, 16 * m, 30 * m, 30 * m}},
		{Retry{First: 10 * time.Second, Max: 25 * time.Second}, []time.Duration{10e9, 20e9, 25e9, 25e9}},
		{Retry{First: 2 * m, Max: m}, []time.Duration{m, m}},
		{Retry{First: -1}, []time.Duration{0, 0, 0}},
		{Retry{Max: -1}, []time.Duration{0, 0}},
		{Retry{First: 1 << 62, Max: 1<<63 - 1}, []time.Duration{1 << 62, 1<<63 - 1, 1<<63 - 1}},
	} {
		for i, longest := range tt.want {
			for random, want := range map[float64]time.Duration{0: longest, 0.5: longest - longest/4, 1: longest - longest/2} {
				r := tt.retry
				r.random = func() float64 { return random }
				if got := r.backoff(i + 1); (got-want).Abs() > want/1e6+1 || got > longest {
					t.Errorf("%v and %v after %d attempts, with %v: %v, want %v", r.First, r.Max, i+1, random, got, want)
				}
			}
			lengths := map[time.Duration]bool{}
			for range 100 {
				got := tt.retry.backoff(i + 1)
				lengths[got] = true
				if got < longest/2 || got > longest {
					t.Errorf("a wait of %v, which is not from %v to %v", got, longest/2, longest)
				}
			}
			if longest > 0 && len(lengths) < 50 {
				t.Errorf("of 100 waits of %v, %d have lengths of their own", longest, len(lengths))
			}
		}
	}
	if n := (Retry{}).backoff(1 << 30); n < 15*m {
		t.Errorf("in the end a wait is %v", n)
	}
}
