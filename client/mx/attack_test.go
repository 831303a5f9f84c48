package mx

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// TestNotificationWaits checks that a notification with REQUIRETLS is not sent without it when a host that offers
// REQUIRETLS has said 4yz: that host takes it later.
func TestNotificationWaits(t *testing.T) {
	cert := theAuthority().issue(t, "mx.example")
	lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
		b.dns.Secure(".")
		b.add("192.0.2.1", &host{cert: cert, secured: []string{"REQUIRETLS"}, mail: "451 4.3.0 later"})
		h := b.add("192.0.2.2", &host{})
		m := message(t, "a@d.example")
		m.From, m.Mail = client.Message{}.From, ehlo.AddRequireTLS(m.Mail)
		res, err := b.Send(t.Context(), m)
		if got := outcomes(res); got != "451" || len(h.letters()) != 0 {
			t.Errorf("the outcome is %s, %d arrived: %v", got, len(h.letters()), err)
		}
	})
}

// TestMemoryOverflows checks that a message that waits for a connection does not lose its host when the memory is full.
func TestMemoryOverflows(t *testing.T) {
	lay(t, oneHost+"e.example A 192.0.2.3\n", func(o *Options) { o.Pool = &pool.Options{MaxConns: 1} },
		func(t *testing.T, b *bed) {
			b.add("192.0.2.1", &host{tarpit: 10 * time.Second})
			b.add("192.0.2.3", &host{})
			first := make(chan error)
			go func() {
				_, err := b.Send(t.Context(), message(t, "a@d.example"))
				first <- err
			}()
			<-time.After(time.Second) // no time in the bubble
			second := make(chan error)
			go func() {
				_, err := b.Send(t.Context(), message(t, "a@e.example"))
				second <- err
			}()
			<-time.After(time.Second) // no time in the bubble
			for i := range 2 * maxSites {
				b.memory.dialled(fmt.Sprint("h", i), addrs("192.0.2.9")[0], false)
			}
			if err := errors.Join(<-first, <-second); err != nil {
				t.Error(err)
			}
		})
}

// TestAllOrNoneLater checks that a message to all or none goes to the next host if a recipient is refused with 4yz.
func TestAllOrNoneLater(t *testing.T) {
	lay(t, twoHosts, nil, func(t *testing.T, b *bed) {
		later := func(to string) string {
			if to == "b@d.example" {
				return "450 4.2.0 later"
			}
			return ""
		}
		first := b.add("192.0.2.1", &host{rcpt: later})
		second := b.add("192.0.2.2", &host{})
		m := message(t, "a@d.example", "b@d.example")
		m.AllOrNone = true
		if _, err := b.Send(t.Context(), m); err != nil || len(first.letters()) != 0 || len(second.letters()) != 1 {
			t.Errorf("%d and %d messages: %v", len(first.letters()), len(second.letters()), err)
		}
		second.rcpt = later
		res, _ := b.Send(t.Context(), m)
		for _, o := range res.Recipients {
			if !client.Temporary(o.Err) {
				t.Errorf("%v: %v", o.Address, o.Err)
			}
		}
		if len(first.letters()) != 0 || len(second.letters()) != 1 {
			t.Error("a part has got the message")
		}
	})
}

// TestPrepareFails checks the outcome when Prepare cannot do its work, and that no recipient gets that of another.
func TestPrepareFails(t *testing.T) {
	type m = client.Message
	for _, tt := range []struct {
		name      string
		prepare   func(context.Context, *m) (*m, error)
		temporary bool
	}{
		{"the context ends", func(ctx context.Context, _ *m) (*m, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, true},
		{"for now", func(context.Context, *m) (*m, error) {
			return nil, &client.LostError{Doing: "asking for the key", Err: errors.New("no answer")}
		}, true},
		{"for good", func(context.Context, *m) (*m, error) { return nil, errors.New("no key") }, false},
		{"no message", func(context.Context, *m) (*m, error) { return nil, nil }, false},
		{"another order", func(_ context.Context, given *m) (*m, error) {
			again := *given
			again.To = []proto.Recipient{given.To[1], given.To[0]}
			return &again, nil
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, twoHosts, func(o *Options) { o.Prepare = tt.prepare }, func(t *testing.T, b *bed) {
				b.add("192.0.2.1", &host{})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				res, err := b.Send(ctx, message(t, "a@d.example", "b@d.example"))
				for _, o := range res.Recipients {
					if o.Err == nil || client.Temporary(o.Err) != tt.temporary || !client.SafeToRetry(o.Err) {
						t.Errorf("%v: %v", o.Address, o.Err)
					}
				}
				if err == nil || b.order() != "" {
					t.Errorf("the error is %v", err)
				}
			})
		})
	}
}

// TestLastingFault checks that what looks like greylisting for hours does not keep the mail from those who take it: the
// other address of a host, and the third of three hosts, where two are tried.
func TestLastingFault(t *testing.T) {
	faulty := func() *host { return &host{mail: "451 4.3.0 the disk is full"} }
	for name, text := range map[string]string{
		"addresses": "d.example A 192.0.2.1\nd.example A 192.0.2.3\n",
		"hosts": "d.example MX 1 a.example\nd.example MX 1 b.example\nd.example MX 1 c.example\n" +
			"a.example A 192.0.2.1\nb.example A 192.0.2.2\nc.example A 192.0.2.3\n",
	} {
		t.Run(name, func(t *testing.T) {
			lay(t, text, nil, func(t *testing.T, b *bed) {
				b.add("192.0.2.1", faulty())
				b.add("192.0.2.2", faulty())
				b.add("192.0.2.3", &host{})
				for range 12 {
					if _, err := b.Send(t.Context(), message(t, "a@d.example")); err == nil {
						return
					}
					<-time.After(time.Hour) // no time in the bubble
				}
				t.Errorf("not delivered within 12 hours: dialled %s", b.order())
			})
		})
	}
}

// TestNotificationWaives checks that "TLS-Required: No" is ignored in a message with REQUIRETLS, also when it is sent
// without.
func TestNotificationWaives(t *testing.T) {
	text := oneHost + "_25._tcp.mx.example TLSA " + tlsa(aStranger().issue(t, "mx.example")) + "\n"
	lay(t, text, nil, func(t *testing.T, b *bed) {
		b.dns.Secure(".")
		h := b.add("192.0.2.1", &host{})
		m := message(t, "a@d.example")
		m.Body = strings.NewReader("TLS-Required: No\r\n\r\n")
		m.From, m.Mail = client.Message{}.From, ehlo.AddRequireTLS(m.Mail)
		res, err := b.Send(t.Context(), m)
		if len(h.letters()) != 0 {
			t.Error("in clear in spite of TLSA", outcomes(res), err)
		}
	})
}
