package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestPatience checks that a verb of an extension is given the time that the extension wants for it, unless the user gives
// it more or bounds nothing.
func TestPatience(t *testing.T) {
	slow := append(ext.Default(), ext.Extension{
		Keyword: "XSLOW", Patience: 10 * time.Minute,
		Verbs: []proto.Verb{{Name: "XSLOW", In: proto.Ready, Last: true}},
	})
	for _, tt := range []struct {
		name          string
		verb          string
		command, want time.Duration
	}{
		{"default", "XSLOW", 0, 10 * time.Minute},
		{"less", "XSLOW", time.Minute, 10 * time.Minute},
		{"more", "XSLOW", time.Hour, time.Hour},
		{"none", "XSLOW", -1, 24 * time.Hour},
		{"another verb", "NOOP", 0, 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opt := inClear(clienttest.New(t, hello("XSLOW")+"C: "+tt.verb+"\nHANGUP"))
				opt.Extensions, opt.Timeouts.Command = slow, tt.command
				c, err := Dial(context.Background(), host, opt)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
				defer cancel()
				start := time.Now()
				_, err = c.Do(ctx, tt.verb, "")
				if e, ok := errors.AsType[*LostError](err); !ok || !e.Timeout() {
					t.Errorf("%v, want a timeout", err)
				}
				if got := time.Since(start); got != tt.want {
					t.Errorf("it took %v, want %v", got, tt.want)
				}
			})
		})
	}
}
