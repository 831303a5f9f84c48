package client

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLookupNetIP checks that the addresses of Options.LookupNetIP are tried in its order and at the pace of
// Options.AttemptDelay, over connections of Options.DialContext.
func TestLookupNetIP(t *testing.T) {
	mute := func(list ...string) (out []machine) {
		for _, at := range list {
			out = append(out, machine{at: at, takes: never})
		}
		return append(out, machine{at: iv, script: greets})
	}
	for _, tt := range []struct {
		name     string
		machines []machine
		delay    time.Duration
		dialled  string
	}{
		{"the order stays", mute(six, vi, four), 2 * time.Second,
			"[2001:db8::1]@0 [2001:db8::2]@2000 192.0.2.1@4000 192.0.2.2@6000"},
		{"the default pace", mute(six, vi), 0, "[2001:db8::1]@0 [2001:db8::2]@250 192.0.2.2@500"},
		{"one at a time", []machine{{at: six, takes: 7 * time.Second, err: errRefused}, {at: iv, script: greets}}, -1,
			"[2001:db8::1]@0 192.0.2.2@7000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &hostNet{t: &recorder{TB: t}, machines: tt.machines}
				cfg := n.config(func(o *Options) {
					o.AttemptDelay = tt.delay
					o.LookupNetIP = n.lookup
					o.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
						return n.dial(ctx, network, addr)
					}
				})
				cfg.lookup, cfg.dial = cfg.LookupNetIP, cfg.DialContext
				c, err := newClient("mail.example", cfg, cfg.route("tcp", host)).dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				if got := strings.Join(n.dialled, " "); got != tt.dialled {
					t.Errorf("dialled %s, want %s", got, tt.dialled)
				}
				<-time.After(time.Second) // no time in the bubble
				if left := n.open(); left != 0 {
					t.Errorf("%d connections are left open", left)
				}
			})
		})
	}
}

// TestLookupNetIPByDial checks that Dial uses the function, and not for an address.
func TestLookupNetIPByDial(t *testing.T) {
	asked, dialled := "", ""
	opt := &Options{
		LookupNetIP: func(_ context.Context, network, host string) ([]netip.Addr, error) {
			asked += network + " " + host + ";"
			return []netip.Addr{netip.MustParseAddr(four)}, nil
		},
		DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			dialled += addr + ";"
			return nil, errRefused
		},
	}
	for _, addr := range []string{"mail.example:25", "192.0.2.9:25"} {
		if _, err := Dial(t.Context(), addr, opt); err == nil {
			t.Error("Dial has no error")
		}
	}
	if want := "ip mail.example;"; asked != want {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	if want := "192.0.2.1:25;192.0.2.9:25;"; dialled != want {
		t.Errorf("dialled %q, want %q", dialled, want)
	}
}
