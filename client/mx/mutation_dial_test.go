package mx

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client"
)

// TestGivenUp checks which attempts to connect count as failed, if they were given up: those that had as much time as
// the next address waits. Of two addresses, the second is rated.
func TestGivenUp(t *testing.T) {
	list := addrs("192.0.2.1", "192.0.2.2")
	for _, tt := range []struct {
		name  string
		delay time.Duration
		after time.Duration // the context ends
		dead  bool
	}{
		{"too early", 2 * time.Second, time.Second, false},
		{"in time", 2 * time.Second, 2 * time.Second, true},
		{"never for another address", -1, time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lay(t, oneHost, func(o *Options) { o.Client.AttemptDelay = tt.delay }, func(t *testing.T, b *bed) {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(tt.after, cancel)
				if conn, err := b.dial("mx.example")(ctx, "tcp", "192.0.2.1:25"); err == nil || conn != nil {
					t.Error("there is a connection to nobody")
				}
				if dead := b.memory.order("mx.example", list, 2)[0] != list[0]; dead != tt.dead {
					t.Errorf("the address comes last: %v", dead)
				}
			})
		})
	}
}

// TestLoserOfRace checks that an address which had less time than the next one waits does not count as dead when
// another one was faster.
func TestLoserOfRace(t *testing.T) {
	text := "d.example A 192.0.2.1\nd.example A 192.0.2.2\nd.example A 192.0.2.3\n"
	for _, tt := range []struct {
		takes time.Duration // the first address, to connect; the second is tried after 2 s, and never connects
		then  string        // what is dialled the next time, if the first address refuses by then
	}{
		{3500 * time.Millisecond, "192.0.2.1 192.0.2.2"},
		{5500 * time.Millisecond, "192.0.2.1 192.0.2.3"}, // the third has had 1.5 s
	} {
		lay(t, text, func(o *Options) { o.Client.AttemptDelay = 2 * time.Second }, func(t *testing.T, b *bed) {
			b.add("192.0.2.1", &host{takes: tt.takes})
			b.add("192.0.2.2", &host{takes: time.Hour})
			b.add("192.0.2.3", &host{takes: time.Hour})
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
				t.Fatal(err)
			}
			b.order()
			<-time.After(9 * time.Minute) // no time in the bubble; the connection is gone by then
			b.add("192.0.2.1", &host{refuses: true})
			b.add("192.0.2.2", &host{})
			b.add("192.0.2.3", &host{})
			if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
				t.Fatal(err)
			}
			if got := b.order(); got != tt.then {
				t.Errorf("after a connection that took %v: dialled %s, want %s", tt.takes, got, tt.then)
			}
		})
	}
}

// TestCallerLeaves checks that a caller who does not wait for a connection says nothing of the host by that.
func TestCallerLeaves(t *testing.T) {
	text := "d.example A 192.0.2.1\nd.example A 192.0.2.2\n"
	lay(t, text, func(o *Options) { o.Client.AttemptDelay = time.Minute }, func(t *testing.T, b *bed) {
		b.add("192.0.2.1", &host{takes: 10 * time.Second})
		b.add("192.0.2.2", &host{})
		left := errors.New("the user has left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(left) })
		began := time.Now()
		_, err := b.Send(ctx, message(t, "a@d.example"))
		if !errors.Is(err, left) || client.Temporary(err) || time.Since(began) != time.Second {
			t.Errorf("after %v, temporary %v: %v", time.Since(began), client.Temporary(err), err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, err = b.Send(ctx, message(t, "a@d.example")); !client.Temporary(err) {
			t.Error(err)
		}
		<-time.After(5 * time.Minute) // no time in the bubble
		if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
			t.Error(err)
		}
		if at := b.order(); !strings.HasSuffix(at, "192.0.2.1") || strings.Contains(at, "192.0.2.2") {
			t.Errorf("dialled %s", at)
		}
	})
}

// TestNoStagger checks that with a negative AttemptDelay an address is tried only after the one before has failed.
func TestNoStagger(t *testing.T) {
	lay(t, "d.example A 192.0.2.1\nd.example AAAA 2001:db8::1\n", func(o *Options) {
		o.Client.AttemptDelay, o.Client.Timeouts.Connect = -1, time.Minute
		dial := o.Client.DialContext
		running := 0
		o.Client.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if running++; running > 1 {
				t.Error("two attempts at once")
			}
			defer func() { running-- }()
			limited, cancel := context.WithTimeout(ctx, 20*time.Second) // the patience of a system
			defer cancel()
			return dial(limited, network, addr)
		}
	}, func(t *testing.T, b *bed) {
		b.add("2001:db8::1", &host{blackout: true})
		b.add("192.0.2.1", &host{})
		began := time.Now()
		if _, err := b.Send(t.Context(), message(t, "a@d.example")); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 20*time.Second || b.order() != "2001:db8::1 192.0.2.1" {
			t.Errorf("it took %v", took)
		}
	})
}
