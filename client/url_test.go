package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestParseURL checks what becomes of URLs: address, mode and options, and the URL that String returns.
func TestParseURL(t *testing.T) {
	const (
		required = ext.TLSRequired
		implicit = ext.TLSImplicit
		maybe    = ext.TLSOpportunistic
		none     = ext.TLSInsecureNone
	)
	for _, tt := range []struct {
		url  string
		addr string
		opt  Options
		back string // what String returns
	}{
		{"smtp://mail.example.org", "mail.example.org:587", Options{}, "smtp://mail.example.org:587"},
		{"smtp://mail.example.org:25", "mail.example.org:25", Options{}, "smtp://mail.example.org:25"},
		{"smtp://mail.example.org:0025/", "mail.example.org:25", Options{}, "smtp://mail.example.org:25"},
		{" SMTP://mail.example.org?\n", "mail.example.org:587", Options{}, "smtp://mail.example.org:587"},
		{"smtps://mail.example.org", "mail.example.org:465", Options{TLS: implicit}, "smtps://mail.example.org:465"},
		{"smtps://mail.example.org:4650", "mail.example.org:4650", Options{TLS: implicit},
			"smtps://mail.example.org:4650"},
		{"smtp://mail.example.org:465", "mail.example.org:465", Options{TLS: implicit}, "smtps://mail.example.org:465"},
		{"smtp://h?tls=implicit", "h:465", Options{TLS: implicit}, "smtps://h:465"},
		{"smtps://h:587?tls=implicit", "h:587", Options{TLS: implicit}, "smtps://h:587?tls=implicit"},
		{"smtp://h:465?tls=required", "h:465", Options{}, "smtp://h:465?tls=required"},
		{"smtp+starttls://h:465?tls=required", "h:465", Options{}, "smtp://h:465?tls=required"},
		{"smtp+starttls://h", "h:587", Options{}, "smtp://h:587"},
		{"smtp://h?tls=required", "h:587", Options{TLS: required}, "smtp://h:587"},
		{"smtp://h:25?tls=opportunistic", "h:25", Options{TLS: maybe}, "smtp://h:25?tls=opportunistic"},
		{"smtp://localhost:1025?tls=none", "localhost:1025", Options{TLS: none}, "smtp://localhost:1025?tls=none"},

		{"lmtp://h", "h:24", Options{Protocol: proto.LMTP}, "lmtp://h:24"},
		{"lmtp://h:465", "h:465", Options{Protocol: proto.LMTP}, "lmtp://h:465"},
		{"lmtp://h?tls=implicit", "h:24", Options{Protocol: proto.LMTP, TLS: implicit}, "lmtp://h:24?tls=implicit"},
		{"lmtp+unix:/run/lmtp", "unix:/run/lmtp", Options{Protocol: proto.LMTP}, "lmtp+unix:/run/lmtp"},
		{"lmtp+unix:///run/lmtp", "unix:/run/lmtp", Options{Protocol: proto.LMTP}, "lmtp+unix:/run/lmtp"},
		{"lmtp:///run/lmtp", "unix:/run/lmtp", Options{Protocol: proto.LMTP}, "lmtp+unix:/run/lmtp"},
		{"lmtp+unix:/run/a%20b%3f%23%25@c", "unix:/run/a b?#%@c", Options{Protocol: proto.LMTP},
			"lmtp+unix:/run/a%20b%3F%23%25%40c"},
		{"lmtp+unix:////run/lmtp", "unix://run/lmtp", Options{Protocol: proto.LMTP}, "lmtp+unix:////run/lmtp"},
		{"smtp+unix:/run/smtp", "unix:/run/smtp", Options{}, "smtp+unix:/run/smtp"},
		{"smtp+unix:/run/smtp?tls=implicit", "unix:/run/smtp", Options{TLS: implicit}, "smtp+unix:/run/smtp?tls=implicit"},

		{"smtp://192.0.2.1", "192.0.2.1:587", Options{}, "smtp://192.0.2.1:587"},
		{"smtp://[2001:DB8:0::1]", "[2001:db8::1]:587", Options{}, "smtp://[2001:db8::1]:587"},
		{"smtps://[fe80::1%25eth0]:2525", "[fe80::1%eth0]:2525", Options{TLS: implicit},
			"smtps://[fe80::1%25eth0]:2525"},
		{"smtp://münchen.example", "xn--mnchen-3ya.example:587", Options{}, "smtp://xn--mnchen-3ya.example:587"},
		{"smtp://m%C3%BCnchen.example", "xn--mnchen-3ya.example:587", Options{}, "smtp://xn--mnchen-3ya.example:587"},
		{"smtp://mail_relay.internal.:26", "mail_relay.internal.:26", Options{}, "smtp://mail_relay.internal.:26"},

		{"smtp://h?hostname=app.example.org", "h:587", Options{Hostname: "app.example.org"},
			"smtp://h:587?hostname=app.example.org"},
		{"smtp://h?hostname=[192.0.2.1]", "h:587", Options{Hostname: "[192.0.2.1]"},
			"smtp://h:587?hostname=%5B192.0.2.1%5D"},
		{"smtp://h?timeout=1m30s", "h:587", Options{Timeouts: AllTimeouts(90 * time.Second)},
			"smtp://h:587?timeout=1m30s"},
		{"smtp://h?timeout=none", "h:587", Options{Timeouts: AllTimeouts(-1)}, "smtp://h:587?timeout=none"},
		{"smtp://h?timeout.content=1m&timeout.quit=none", "h:587",
			Options{Timeouts: Timeouts{Content: time.Minute, Quit: -1}},
			"smtp://h:587?timeout.content=1m0s&timeout.quit=none"},
		{"smtp://h?timeout.connect=5s&timeout=30s", "h:587", Options{Timeouts: Timeouts{
			Connect: 5 * time.Second, Greeting: 30 * time.Second, Command: 30 * time.Second, Mail: 30 * time.Second,
			Rcpt: 30 * time.Second, Data: 30 * time.Second, Block: 30 * time.Second, Content: 30 * time.Second,
			Quit: 30 * time.Second,
		}}, "smtp://h:587?timeout=30s&timeout.connect=5s"},
		{"smtp://h?allow-unverified-auth=true&tls=opportunistic&hostname=a.example", "h:587",
			Options{TLS: maybe, AllowUnverifiedAuth: true, Hostname: "a.example"},
			"smtp://h:587?tls=opportunistic&hostname=a.example&allow-unverified-auth=true"},

		// The forms of others.
		{"submission://h", "h:587", Options{}, "smtp://h:587"},
		{"submissions://h", "h:465", Options{TLS: implicit}, "smtps://h:465"},
		{"smtp+tls://h:2525", "h:2525", Options{}, "smtp://h:2525"},
		{"smtp+ssl://h", "h:465", Options{TLS: implicit}, "smtps://h:465"},
		{"smtp://h/?name=a.example&requireTLS=true", "h:587", Options{Hostname: "a.example"},
			"smtp://h:587?hostname=a.example"},
		{"smtps://h?local_domain=a.example&require_tls=1&verify_peer=true", "h:465",
			Options{Hostname: "a.example", TLS: implicit}, "smtps://h:465?hostname=a.example"},
	} {
		e, err := ParseURL(tt.url)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		if e.Addr != tt.addr || !reflect.DeepEqual(e.Options, tt.opt) || e.String() != tt.back {
			t.Errorf("%s is\n%s %+v\n%s, want\n%s %+v\n%s", tt.url, e.Addr, e.Options, e, tt.addr, tt.opt, tt.back)
		}
		if again, err := ParseURL(e.String()); err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%s: read again it is %+v, %v", e, again, err)
		}
	}
}

// TestParseURL_Foreign checks that each hint is for a parameter that ParseURL refuses, and names what there is here.
func TestParseURL_Foreign(t *testing.T) {
	for name, hint := range urlHints {
		_, err := ParseURL("smtp://h?" + name + "=false")
		if err == nil || !strings.Contains(err.Error(), hint) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=false: %v", name, err)
		}
	}
	for name, ours := range urlAliases {
		_, err := ParseURL("smtp://h?" + name + "=true&" + ours + "=true")
		if err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s and %s: %v", name, ours, err)
		}
	}
}

// TestParseURL_Errors checks what is refused, and that the error says what to write.
func TestParseURL_Errors(t *testing.T) {
	for url, want := range map[string]string{
		"": "begin with smtp://", "mail.example.org:587": "begin with smtp://", "smtp:h": "begin with smtp://",
		"alice:hunter2@h:587": "begin with smtp://", "http://h": "begin with smtp://", "unix:/run/smtp": "smtp+unix:",
		`"smtp://h"`: "begin with smtp://", "smtp:///": "no host", "smtp://": "no host", "smtp://:587": "no host",
		"smtp://alice:hunter2@": "no host", "lmtp://": "no host", "lmtp:///": "no host",

		"smtp://h:0": "1 to 65535", "smtp://h:65536": "1 to 65535", "smtp://h:": "1 to 65535", "smtp://h:+25": "1 to 65535",
		"smtp://h:smtp": "1 to 65535", "smtp://alice:hunter2": "1 to 65535",

		"smtp://a b": "a space", "smtp://h\x00": "a space", "smtp://alice:hun\tter2@h": "a space", "smtp://\xff": "UTF-8",
		"smtp://h#f": "%23", "smtp://alice:hunter2#x@h": "%23", "smtp://h/inbox": "only unix sockets",
		"smtp://alice:hunter2/x@h": "percent-encoded", "smtp://alice:hunter2?x@h": "percent-encoded",
		"smtp://alice:x/hunter2@h:25": "percent-encoded",
		"smtp://alice@h?tls=hunter2@": "percent-encoded",

		"smtp://@h": "user:password", "smtp://:@h": "user:password", "smtp://:hunter2@h": "user:password",
		"smtp://alice:@h": "user:password", "smtp://alice:hunter2%@h": "%25", "smtp://al%zzice:hunter2@h": "%25",
		"smtp://alice:hunter2%00@h": "control characters", "smtp://alice:hunter2%ff@h": "UTF-8",

		"smtp://2001:db8::1": "brackets", "smtp://[2001:db8::1": "in brackets", "smtp://[192.0.2.1]": "in brackets",
		"smtp://[mail.example]": "in brackets", "smtp://[::1]x:25": "in brackets", "smtp://[fe80::1%eth0]": "%25",
		"smtp://[fe80::1%25]": "%25", "smtp://[fe80::1%25a$b]": "%25", "smtp://a%2fb": "name of a host",
		"smtp://a,b": "name of a host", "smtp://.": "name of a host", "smtp://%zz": "%25", "smtp://ü..example": "name of a",
		"failover(smtp://a smtp://b)": "a space",

		"lmtp+unix:run/lmtp": "absolute path", "lmtp+unix://run/lmtp": "absolute path", "lmtp+unix:": "absolute path",
		"lmtp+unix:/": "absolute path", "lmtp+unix:/a%00": "absolute path", "lmtp+unix:/%zz": "%25",
		"lmtp+unix:/a?tls=required": "needs no TLS", "lmtp+unix:/a?requireTLS=true": "needs no TLS",

		"smtps://h:587": "write smtp://", "smtps://h:25": "write smtp://", "smtp+starttls://h:465": "write smtps://",
		"smtps://h?tls=required": "contradict", "smtps://h?tls=none": "contradict",
		"smtp+starttls://h?tls=opportunistic": "contradict", "smtp://h?tls=none&requireTLS=true": "contradicts",
		"smtp://h?tls=opportunistic&require_tls=true": "contradicts",

		"smtp://h?tls=": "required, implicit", "smtp://h?tls": "required, implicit",
		"smtp://h?tls=true":          "required, implicit",
		"smtp://h?tls=none&tls=none": "twice", "smtp://h?hostname=a.example&name=a.example": "twice",
		"smtp://h?TLS=none": "timeout.connect", "smtp://h?colour=red": "timeout.connect", "smtp://h?a;b": "timeout.connect",
		"smtp://h?tls=%zz": "%25", "smtp://h?%zz": "%25", "smtp://h?hostname=a_b": "hostname=a_b has to be",
		"smtp://h?hostname=":  "hostname= has to be",
		"smtp://h?timeout=30": "unit", "smtp://h?timeout=-1s": "unit", "smtp://h?timeout.quit=0s": "timeout.quit=0s",
		"smtp://h?allow-unverified-auth=sure": "true or false", "smtp://h?auth=PLAIN": "user:password",
		"smtp://a:b@h?auth=": "with commas", "smtp://a:b@h?auth=PLAIN,NTLM": "with commas",
		"smtp://a:b@h?auth=xoauth2": "auth.Token", "smtp://a:b@h?auth=external": "no password",

		"smtp://h?secure=true": "smtps://", "smtp://h?pool=true": "pool",
		"smtp://h?connectionTimeout=5000": "timeout.connect",
		"smtp://h?verify_peer=0":          "RootCAs", "smtp://h?requireTLS=maybe": "tls=opportunistic",
	} {
		e, err := ParseURL(url)
		if err == nil {
			t.Errorf("%s is %+v", url, e)
			continue
		}
		if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "smtp: the URL of the server: ") {
			t.Errorf("%s: %v; want %s", url, err, want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the password: %v", url, err)
		}
	}
}

// TestParseURL_Credentials compares what is sent with the user and the password in the URL, and sees that no way of
// printing the endpoint shows the password.
func TestParseURL_Credentials(t *testing.T) {
	const script = "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
	for _, tt := range []struct{ userinfo, user, password, auth, want string }{
		{"alice:hunter2", "alice", "hunter2", "", "PLAIN"},
		{"alice@example.org:hunter2", "alice@example.org", "hunter2", "", "PLAIN"},
		{"alice%40example.org:hunter2:%2F%3f%23%25%20+@", "alice@example.org", "hunter2:/?#% +@", "", "PLAIN"},
		{"a%3Ab:hunter2ü", "a:b", "hunter2ü", "?auth=plain,login", "PLAIN"},
		{"alice:hunter2", "alice", "hunter2", "?authMethod=LOGIN", "LOGIN"},
	} {
		dialogue := "C: AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+tt.user+"\x00"+tt.password)) + "\n"
		if tt.want == "LOGIN" {
			dialogue = "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: " + base64.StdEncoding.EncodeToString([]byte(tt.user)) +
				"\nS: 334 UGFzc3dvcmQ6\nC: " + base64.StdEncoding.EncodeToString([]byte(tt.password)) + "\n"
		}
		srv := clienttest.New(t, "TLS\n"+script+"S: 250 AUTH LOGIN PLAIN\n"+dialogue+"S: 235 fine\nC: NOOP\nS: 250 ok\n")
		e, err := ParseURL("smtps://" + tt.userinfo + "@mail.example" + tt.auth)
		if err != nil {
			t.Fatal(err)
		}
		e.Options.DialContext, e.Options.TLSConfig = srv.Dial, clienttest.TLSConfig()
		e.Options.Hostname = "client.example"
		if err := e.Verify(t.Context()); err != nil {
			t.Errorf("%s: %v", tt.userinfo, err)
		}
		if e.User != tt.user {
			t.Errorf("%s: the user is %q", tt.userinfo, e.User)
		}
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			for _, v := range []any{e, *e} {
				if s := fmt.Sprintf(format, v); strings.Contains(s, "hunter2") {
					t.Errorf("%s shows the password: %s", format, s)
				}
			}
		}
		again, err := ParseURL(e.String())
		if err != nil || again.User != tt.user || !reflect.DeepEqual(again.Mechanisms, e.Mechanisms) {
			t.Errorf("%s, read again: %+v, %v", e, again, err)
		}
	}
}

// TestParseURL_NoPassword checks that a user without a password does not go unnoticed.
func TestParseURL_NoPassword(t *testing.T) {
	const script = "TLS\nS: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\nS: 250 AUTH PLAIN\n"
	srv := clienttest.New(t, script)
	e, err := ParseURL("smtps://alice@mail.example?hostname=client.example")
	if err != nil {
		t.Fatal(err)
	}
	e.Options.DialContext, e.Options.TLSConfig = srv.Dial, clienttest.TLSConfig()
	c, err := e.Dial(t.Context())
	if c != nil || !errors.Is(err, errURLPassword) {
		t.Errorf("without a password: %v", err)
	}
}

var _ Sender = (*Endpoint)(nil)

// TestEndpoint_Send sends a message, and to nobody if there is no connection.
func TestEndpoint_Send(t *testing.T) {
	srv := clienttest.New(t, hello("PIPELINING")+taken("c@d.example"))
	e, err := ParseURL("smtp://mail.example?tls=none&hostname=client.example")
	if err != nil {
		t.Fatal(err)
	}
	e.Options.DialContext = srv.Dial
	r, err := e.Send(t.Context(), message("hello\r\n", "c@d.example"))
	if err != nil || r.Sent() != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	srv.Wait()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e, err = ParseURL("smtp+unix:" + t.TempDir() + "/nobody")
	if err != nil {
		t.Fatal(err)
	}
	r, err = e.Send(ctx, message("hello\r\n", "c@d.example", "e@d.example"))
	if err == nil || !SafeToRetry(err) || len(r.Recipients) != 2 || r.Recipients[1].Err == nil {
		t.Errorf("nobody is there: %+v, %v", r, err)
	}
	if r, err = e.Send(ctx, nil); err == nil || r == nil {
		t.Errorf("no message: %+v, %v", r, err)
	}
}

// FuzzParseURL checks that String returns a URL for the same endpoint, and that no error shows a password.
func FuzzParseURL(f *testing.F) {
	const password = "hunter2Tr0ub4dor"
	for _, s := range [][2]string{
		{"smtp://alice", "@mail.example.org:587/?tls=none&timeout=30s&timeout.quit=none"},
		{"smtps://a%40b", "x:/?#@[fe80::1%25eth0]?auth=PLAIN,login&hostname=%5B192.0.2.1%5D"},
		{"lmtp+unix://alice", "@/run/a%20b%40c?allow-unverified-auth=true&tls=none"},
		{"lmtp:///run/lmtp", "?tls=opportunistic"}, {"smtp+unix:////a", "b"},
		{"smtp+starttls://münchen.example:465?tls=required&timeout=1s&timeout.mail=2s&name=", "@"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		s := before + ":" + password + after
		if strings.Contains(before+after, password[:7]) {
			t.Skip()
		}
		e, err := ParseURL(s)
		if err != nil {
			if strings.Contains(after, "@") && strings.Contains(err.Error(), password) {
				t.Fatalf("%q: the error shows the password: %v", s, err)
			}
			checkRoundTrip(t, before+after)
			return
		}
		if e.User != "" && strings.Contains(e.String(), password) {
			t.Fatalf("%q shows the password: %s", s, e)
		}
		checkRoundTrip(t, s)
	})
}

// checkRoundTrip checks that String returns a URL for the same endpoint.
func checkRoundTrip(t *testing.T, s string) {
	e, err := ParseURL(s)
	if err != nil {
		return
	}
	again, err := ParseURL(e.String())
	if err != nil {
		t.Fatalf("%q is %q, which is none: %v", s, e, err)
	}
	if again.String() != e.String() || (e.Options.Credentials == nil) != (again.Options.Credentials == nil) {
		t.Fatalf("%q is %q, which is %q", s, e, again)
	}
	e.Options.Credentials, again.Options.Credentials = nil, nil
	if !reflect.DeepEqual(e, again) {
		t.Fatalf("%q is %+v, and read again %+v", s, *e, *again)
	}
}
