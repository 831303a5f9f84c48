package server_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/server"
)

func TestNegativeTimeoutsAreNone(t *testing.T) {
	inBubble(t, 100*time.Hour, func(t *testing.T) {
		none := server.Options{Timeouts: server.Timeouts{Command: -1, Content: -1, Write: -1, Age: -1}, Limits: server.Limits{MinRate: -1}}
		p, _ := withData(t, none, nil)
		<-time.After(50 * time.Hour)
		p.ask("DATA", "354 ")
		<-time.After(50 * time.Hour)
		p.ask(".", "250 ")
		p.quit()
	})
}

func TestNew(t *testing.T) {
	b := &store{}
	for _, c := range []struct {
		name string
		b    server.Backend
		opt  server.Options
		want string
	}{
		{"no backend", nil, server.Options{}, "Backend"},
		{"no function", server.MessageFunc(nil), server.Options{}, "the MessageFunc is nil"},
		{"no function of sessions", server.BackendFunc(nil), server.Options{}, "the BackendFunc is nil"},
		{"RequireTLS", b, server.Options{RequireTLS: true}, "set TLSConfig"},
		{"contradiction", b, server.Options{RequireTLS: true, AllowInsecureAuth: true, TLSConfig: &tls.Config{}},
			"contradict"},
		{"name", b, server.Options{Hostname: "two words"}, "Hostname"},
		{"protocol", b, server.Options{Protocol: 7}, "Protocol"},
		{"recipients", b, server.Options{Limits: server.Limits{Rcpts: -1}}, "Limits.Rcpts is negative"},
	} {
		_, err := server.New(c.b, &c.opt)
		if err == nil || !strings.HasPrefix(err.Error(), "smtp: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v, want one about %s", c.name, err, c.want)
		}
	}
	if _, err := server.New(b, nil); err != nil {
		t.Errorf("without options: %v", err)
	}
}

// TestHostname: the name is what a client may believe, and the error says what to write in its place.
func TestHostname(t *testing.T) {
	for name, want := range map[string]string{
		"localhost:25":              "leave the port out",
		"mail.example.org:25":       "leave the port out",
		"[192.0.2.1]:25":            "leave the port out",
		"mail.example.org.":         "leave the dot at the end out",
		"mail..example":             "use a domain name such as mail.example.org",
		"-x.example":                "use a domain name",
		"x-.example":                "use a domain name",
		"my_pod.example":            "use a domain name",
		"two words":                 "use a domain name",
		"1.2.3.4":                   "write the address as a literal, such as [192.0.2.1]",
		"2001:db8::1":               "write the address as a literal",
		"[1.2.3]":                   "use a domain name",
		".":                         "leave the dot",
		strings.Repeat("x", 64):     "use a domain name",
		"a\r\n250 mail.example.org": "use a domain name",
	} {
		_, err := server.New(&store{}, &server.Options{Hostname: name})
		if err == nil || !strings.HasPrefix(err.Error(), "smtp: Options.Hostname is ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one that says %q", name, err, want)
		}
	}
	for name, want := range map[string]string{
		"mail.example.org": "mail.example.org", "MAIL.example": "MAIL.example", "localhost": "localhost", "[192.0.2.1]": "[192.0.2.1]",
		"[IPv6:2001:db8::1]": "[IPv6:2001:db8::1]", "münchen.example": "xn--mnchen-3ya.example",
	} {
		p := dial(t, newServer(t, &store{}, server.Options{Hostname: name}))
		p.expect("220 " + want + " ESMTP ready\r\n")
		p.ask("EHLO x", "250-"+want+" at your service\r\n")
		p.quit()
	}
	// The default is what the machine has, and it can be sent in any case.
	byDefault, err := server.New(&store{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := dial(t, byDefault)
	if got := p.reply(); !strings.HasPrefix(got, "220 ") || !strings.HasSuffix(got, " ESMTP ready\r\n") || len(got) < len("220 x ESMTP ready\r\n") {
		t.Errorf("the server says %q", got)
	}
	p.quit()
}
