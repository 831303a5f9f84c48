package pool

import (
	"context"
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"github.com/emersion/go-sasl"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
)

// TestDefaults compares the defaults with what the documentation of Options says.
func TestDefaults(t *testing.T) {
	want := Options{MaxConns: 100, MaxConnsPerHost: 4, MaxMessages: 1000, MaxAge: 10 * time.Minute,
		IdleTimeout: 30 * time.Second, Pause: 30 * time.Second}
	got := (*Options)(nil).withDefaults()
	got.Trace = nil
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestMistakes: what Dial would refuse without a connection is an error of New.
func TestMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		addr string
		opt  *client.Options
	}{
		"no address": {"", nil}, "no port": {"mail.example", nil}, "no host": {":25", nil},
		"a bad name": {"mail.example:25", &client.Options{Hostname: "my_pod"}},
	} {
		if p, err := New(tt.addr, tt.opt, nil); err == nil {
			t.Errorf("%s: no error", name)
			_ = p.Close(t.Context())
		}
	}
	for _, addr := range []string{"mail.example:25", "[2001:db8::1]:587", "unix:/run/lmtp"} {
		p, err := New(addr, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestK14_Key: connections are shared where the options cannot tell them apart, and never otherwise.
func TestK14_Key(t *testing.T) {
	a := &client.Options{Hostname: "a.example"}
	somebody := func(context.Context, ext.ClientConn) ([]sasl.Client, error) { return nil, nil }
	for _, tt := range []struct {
		name string
		a, b key
		want bool
	}{
		{"no options", newKey("x:25", nil), newKey("x:25", &client.Options{}), true},
		{"another server", newKey("x:25", nil), newKey("y:25", nil), false},
		{"another name", newKey("x:25", a), newKey("x:25", &client.Options{Hostname: "b.example"}), false},
		{"the same name", newKey("x:25", a), newKey("x:25", &client.Options{Hostname: "a.example"}), true},
		{"a function", newKey("x:25", (&peer{}).options()), newKey("x:25", (&peer{}).options()), false},
		{"another TLS mode", newKey("x:25", &client.Options{TLS: ext.TLSImplicit}), newKey("x:25", nil), false},
		{"another TLS configuration", newKey("x:25", &client.Options{TLSConfig: &tls.Config{}}),
			newKey("x:25", &client.Options{TLSConfig: &tls.Config{}}), false},
		{"another local address", newKey("x:25", &client.Options{LocalAddr: netip.MustParseAddr("192.0.2.1")}),
			newKey("x:25", &client.Options{LocalAddr: netip.MustParseAddr("192.0.2.2")}), false},
		{"credentials", newKey("x:25", &client.Options{Credentials: somebody}),
			newKey("x:25", &client.Options{Credentials: somebody}), false},
		{"timeouts", newKey("x:25", &client.Options{Timeouts: client.AllTimeouts(1)}), newKey("x:25", nil), false},
	} {
		if got := tt.a == tt.b; got != tt.want {
			t.Errorf("%s: shared is %v", tt.name, got)
		}
	}
}
