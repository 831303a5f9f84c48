package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// follow returns a Trace that notes when a message begins, and its outcome.
func follow(log *[]string) *Trace {
	return &Trace{
		Message: func(ctx context.Context, _ *Client, m *Message) func(*Result, error) {
			name := fmt.Sprintf("%s %v", m.To[0].Address.Local, ctx.Value(callKey{}))
			*log = append(*log, "begin "+name)
			return func(res *Result, err error) {
				*log = append(*log, fmt.Sprintf("end %s: %s, %d octets, %v", name, codes(res), res.Octets, err != nil))
			}
		},
		Closed: func(context.Context, *Client, error) { *log = append(*log, "closed") },
	}
}

// TestTraceMessage: each message begins once and has one outcome, that which the caller gets.
func TestTraceMessage(t *testing.T) {
	var log []string
	ctx := context.WithValue(t.Context(), callKey{}, "call")
	c := dial(t, func(o *Options) { o.Trace = follow(&log) }, hello("PIPELINING")+firstData+
		"C: MAIL*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 550 no\nS: 503 nobody\nC: RSET\nS: 250 ok\n"+
		"C: MAIL*\nC: RCPT*\nC: DATA\nS: 421 bye\nHANGUP")
	for _, to := range []string{"one@d.example", "two@d.example", "three@d.example", "four@d.example"} {
		_, _ = c.Send(ctx, message("hello\r\n", to))
	}
	c.Close()
	const want = `begin one call
end one call: 0, 10 octets, false
begin two call
end two call: 550, 0 octets, true
begin three call
closed
end three call: 421, 0 octets, true`
	if got := strings.Join(log, "\n"); got != want {
		t.Errorf("traced\n%s\nwant\n%s", got, want)
	}
}

// TestTraceMessageOfSendAll: several messages are on their way at once, and each has its own outcome.
func TestTraceMessageOfSendAll(t *testing.T) {
	var log []string
	ctx := context.WithValue(t.Context(), callKey{}, "call")
	chunk := "C: MAIL*\nC: RCPT*\nC: BDAT * LAST\n"
	c := dial(t, func(o *Options) { o.Trace = follow(&log) }, hello("PIPELINING", "CHUNKING")+firstChunk+
		chunk+"C: hello\nC: RSET\n"+chunk+"C: hi\nS: 250 ok\nS: 550 no\nS: 503 no\nS: 250 ok\n"+
		"S: 250 ok\nS: 250 ok\nS: 250 ok\n"+bye)
	sendFirst(t, c)
	log = nil
	messages := []*Message{message("hello\r\n", "one@d.example"), message("hi\r\n", "two@d.example")}
	if err := c.SendAll(ctx, slices.Values(messages), func(*Message, *Result, error) bool { return true }); err != nil {
		t.Fatal(err)
	}
	const want = `begin one call
begin two call
end one call: 550, 7 octets, true
end two call: 0, 4 octets, false`
	if got := strings.Join(log, "\n"); got != want {
		t.Errorf("traced\n%s\nwant\n%s", got, want)
	}
	c.Close()
}

// TestTraceMessageOfDelivery: the context is that of the goroutine that waits, and not that of SendFrom.
func TestTraceMessageOfDelivery(t *testing.T) {
	var log []string
	type sendKey struct{} // a value that SendFrom's context alone has, as the span of a pool would be
	others := &Trace{Message: func(ctx context.Context, _ *Client, _ *Message) func(*Result, error) {
		if ctx.Value(sendKey{}) != nil {
			t.Error("the context has a value of SendFrom's")
		}
		return nil
	}}
	c := dial(t, func(o *Options) { o.Trace = JoinTraces(follow(&log), &Trace{}, others, follow(&log)) },
		hello("PIPELINING")+firstData+bye)
	queue := make(chan *Delivery, 1)
	queue <- NewDelivery(context.WithValue(t.Context(), callKey{}, "waits"), message("hello\r\n", "one@d.example"))
	close(queue)
	ctx := context.WithValue(context.WithValue(t.Context(), callKey{}, "sends"), sendKey{}, true)
	if err := c.SendFrom(ctx, queue, nil); err != nil {
		t.Fatal(err)
	}
	const end = "end one waits: 0, 10 octets, false"
	want := []string{"begin one waits", "begin one waits", end, end}
	if !slices.Equal(log, want) {
		t.Errorf("traced %q, want %q", log, want)
	}
	c.Close()
}

// TestOctets: the result of a message that takes two transactions counts the content of both.
func TestOctets(t *testing.T) {
	half := "C: MAIL*\nS: 250 ok\nC: RCPT*\nS: 250 ok\nC: RCPT*\nS: %s\nC: DATA\nS: 354 go on\nC: hello\nC: .\nS: 250 ok\n"
	last := "C: MAIL*\nS: 250 ok\nC: RCPT*\nS: 250 ok\nC: DATA\nS: 354 go on\nC: hello\nC: .\nS: 250 ok\n"
	var log []string
	c := dial(t, func(o *Options) { o.Trace = follow(&log) }, hello()+fmt.Sprintf(half, "452 too many")+last+bye)
	res, err := c.Send(t.Context(), message("hello\r\n", "one@d.example", "two@d.example"))
	if err != nil || res.Octets != 20 {
		t.Errorf("%d octets, %v; want 20", res.Octets, err)
	}
	if len(log) != 2 {
		t.Errorf("traced %q, want one message", log)
	}
	c.Close()
}
