package mtasts

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext/dns/dnstest"
)

// TestDial: the addresses of a policy host are tried by turns, and one that does not answer delays little.
func TestDial(t *testing.T) {
	tests := []struct {
		name, zone string
		dead       map[string]error // nil: no answer
		want       string           // addresses in the order they are tried
		took       time.Duration
		fails      string
	}{
		{"the first answers", "a.example A 192.0.2.1\na.example AAAA 2001:db8::1", nil, "[2001:db8::1]:443", 0, ""},
		{"the first refuses", "a.example A 192.0.2.1\na.example AAAA 2001:db8::1", map[string]error{"[2001:db8::1]:443": errors.New("no")},
			"[2001:db8::1]:443 192.0.2.1:443", 0, ""},
		{"the first is silent", "a.example A 192.0.2.1\na.example AAAA 2001:db8::1\na.example AAAA 2001:db8::2",
			map[string]error{"[2001:db8::1]:443": nil}, "[2001:db8::1]:443 192.0.2.1:443", 250 * time.Millisecond, ""},
		{"an alias", "a.example CNAME b.example\nb.example A 192.0.2.7", nil, "192.0.2.7:443", 0, ""},
		{"one family cannot be looked up", "a.example A 192.0.2.1\na.example AAAA SERVFAIL", nil, "192.0.2.1:443", 0, ""},
		{"all refuse", "a.example A 192.0.2.1", map[string]error{"192.0.2.1:443": errors.New("refused")}, "192.0.2.1:443", 0, "refused"},
		{"no address", "a.example TXT \"x\"", nil, "", 0, "the host a.example has no address"},
		{"no DNS", "a.example ANY SERVFAIL", nil, "", 0, "looking up A of a.example"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var tried []string
				d := &dialer{dnstest.New(test.zone), func(ctx context.Context, _, addr string) (net.Conn, error) {
					mu.Lock()
					tried = append(tried, addr)
					mu.Unlock()
					if err, dead := test.dead[addr]; dead && err == nil {
						<-ctx.Done()
						return nil, ctx.Err()
					} else if dead {
						return nil, err
					}
					here, there := net.Pipe()
					there.Close()
					return here, nil
				}}
				start := time.Now()
				conn, err := d.DialContext(t.Context(), "tcp", "a.example:443")
				if got := strings.Join(tried, " "); got != test.want || time.Since(start) != test.took {
					t.Errorf("tried %q in %v; want %q in %v", got, time.Since(start), test.want, test.took)
				}
				if test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)) || test.fails == "" && err != nil {
					t.Errorf("error %v, want %q", err, test.fails)
				}
				if conn != nil {
					conn.Close()
				}
			})
		})
	}
}

// TestDialLate: a connection that comes too late is closed.
func TestDialLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		d := &dialer{dnstest.New("a.example A 192.0.2.1\na.example A 192.0.2.2"), func(_ context.Context, _, addr string) (net.Conn, error) {
			if addr == "192.0.2.1:443" {
				time.Sleep(400 * time.Millisecond)
				return here, nil
			}
			time.Sleep(100 * time.Millisecond)
			return nil, nil
		}}
		start := time.Now()
		if conn, err := d.DialContext(t.Context(), "tcp", "a.example:443"); conn != nil || err != nil {
			t.Errorf("%v, %v; want that of the second address", conn, err)
		}
		if took := time.Since(start); took != 350*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		time.Sleep(time.Second)
		if _, err := there.Write([]byte("x")); err == nil {
			t.Error("the connection to the first address is open")
		}
	})
}
