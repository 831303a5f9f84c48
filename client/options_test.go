package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
)

// TestB17B24_HelloName checks how a client introduces itself.
func TestB17B24_HelloName(t *testing.T) {
	for _, tt := range []struct{ option, want string }{
		{"client.example", "client.example"},
		{"münchen.example", "xn--mnchen-3ya.example"},
		{"[192.0.2.1]", "[192.0.2.1]"},
		{"[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"},
		{"x\r\nMAIL FROM:<e@v>", ""},
		{"x y", ""},
	} {
		if tt.want == "" {
			if _, err := Dial(context.Background(), host, &Options{Hostname: tt.option}); err == nil ||
				!strings.Contains(err.Error(), "Hostname") {
				t.Errorf("Hostname %q: %v, want an error that names the option", tt.option, err)
			}
			continue
		}
		srv := clienttest.New(t, "S: 220 mail.example\nC: EHLO "+tt.want+"\nS: 250 mail.example")
		opt := inPlaintext(srv)
		opt.Hostname = tt.option
		c, err := Dial(context.Background(), host, opt)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	cfg, err := newConfig(&Options{Hostname: "\u760d\u760aRCPT"}) // octets that end in those of CR and LF
	if err != nil || !strings.HasPrefix(cfg.Hostname, "xn--") || strings.ContainsAny(cfg.Hostname, "\r\n") ||
		has8bit([]byte(cfg.Hostname)) {
		t.Errorf("the name is %q, %v", cfg.Hostname, err)
	}
	for name, want := range map[string]bool{
		"mail.example.org": true, "box": false, "localhost": false, "localhost.localdomain": false, "box.localdomain": false,
		"box.": false, "": false, "localhost.example.org": false,
	} {
		if got := isQualified(name); got != want {
			t.Errorf("%q is a name to go by: %v, want %v", name, got, want)
		}
	}
	for _, tt := range []struct {
		addr net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.ParseIP("192.0.2.1")}, "[192.0.2.1]"},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1")}, "[192.0.2.1]"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1")}, "[IPv6:2001:db8::1]"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, "[IPv6:fe80::1]"},
		{&net.UnixAddr{Name: "@"}, "[127.0.0.1]"},
		{nil, "[127.0.0.1]"},
	} {
		if got := addrLiteral(tt.addr); got != tt.want {
			t.Errorf("at %v the client is %s, want %s", tt.addr, got, tt.want)
		}
	}
}

// TestOptions checks the conventions of options: zero is the default, negative none, and what is passed is copied.
func TestOptions(t *testing.T) {
	opt := &Options{Without: []string{"SIZE"}, Timeouts: Timeouts{Mail: -1, Rcpt: time.Second}}
	cfg, err := newConfig(opt)
	if err != nil {
		t.Fatal(err)
	}
	opt.Without[0] = "CHUNKING"
	want := Timeouts{
		Connect: time.Minute, Greeting: 5 * time.Minute, Command: 5 * time.Minute, Mail: -1, Rcpt: time.Second,
		Data: 2 * time.Minute, Block: 3 * time.Minute, Content: 10 * time.Minute, Quit: 10 * time.Second,
	}
	if cfg.Timeouts != want || !slices.Equal(cfg.Without, []string{"SIZE"}) || opt.Timeouts.Data != 0 {
		t.Errorf("the options are %+v", cfg.Options)
	}
	for _, opt := range []*Options{
		{TLS: 9},
		{Protocol: 9},
		{Extensions: []ext.Extension{{Keyword: "not one"}}},
	} {
		if _, err := Dial(context.Background(), host, opt); err == nil {
			t.Errorf("%+v is no error", opt)
		}
		near, far := net.Pipe()
		if _, err := NewClient(context.Background(), near, "mail.example", opt); err == nil {
			t.Errorf("%+v is no error", opt)
		}
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection given to NewClient is still open: %v", err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		opt := inPlaintext(clienttest.New(t, hello()+"C: NOOP\nHANGUP"))
		opt.Timeouts = AllTimeouts(7 * time.Second)
		c, err := Dial(context.Background(), host, opt)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := c.Noop(context.Background()); !errors.Is(err, os.ErrDeadlineExceeded) ||
			time.Since(start) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		opt := inPlaintext(clienttest.New(t, hello()+"C: NOOP\nHANGUP"))
		opt.Timeouts = AllTimeouts(-1)
		c, err := Dial(context.Background(), host, opt)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 1000*time.Hour)
		defer cancel()
		if err := c.Noop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
