package mx

import (
	"context"
	"errors"
	"testing"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/pool"
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
			if !errors.Is(err, pool.ErrClosed) || attempts != 1 || b.order() != "" {
				t.Errorf("without MTA-STS %v: %d attempts, %v", without, attempts, err)
			}
		})
	}
}
