package netsmtp

import (
	"context"
	"errors"
	"net"
	"net/smtp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
)

// by returns options with which a script is played.
func by(srv *clienttest.Server) client.Options {
	return client.Options{Hostname: "client.example", TLSConfig: clienttest.TLSConfig(), DialContext: srv.Dial}
}

// subject is a message, and taken what a server says that takes it.
const (
	subject = "Subject: x\n\ny\n"
	taken   = "C: MAIL FROM:<a@b.example>\nS: 250 ok\nC: RCPT TO:<c@d.example>\nS: 250 ok\nC: DATA\nS: 354 go\n" +
		"C: Subject: x\nC:\nC: y\nC: .\nS: 250 ok\n"
)

// TestCredentialsNeedTLS sends to hosts that are not localhost. The Auth is asked only under TLS.
func TestCredentialsNeedTLS(t *testing.T) {
	const (
		greeting = "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
		offer    = "S: 250 AUTH PLAIN CRAM-MD5\n"
		plain    = "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 ok\n"
	)
	password := smtp.PlainAuth("", "alice", "secret", "mail.example")
	for _, tt := range []struct {
		name, addr, script string
		auth               smtp.Auth
		ok                 bool
	}{
		{"STARTTLS", "mail.example:587", greeting + "S: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nTLS\nC: EHLO client.example\n" +
			"S: 250-mail.example\n" + offer + plain + taken, password, true},
		{"port 465", "mail.example:465", "TLS\n" + greeting + offer + plain + taken, password, true},
		{"port 465 without credentials", "mail.example:465", "TLS\n" + greeting + offer + taken, nil, true},
		{"no STARTTLS", "mail.example:587", greeting + offer, password, false},
		{"no STARTTLS, and an Auth that would not mind", "mail.example:587", greeting + offer, smtp.CRAMMD5Auth("tim", "x"), false},
		{"no STARTTLS and no credentials", "mail.example:587", greeting + offer + taken, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := clienttest.New(t, tt.script)
			err := send(t.Context(), by(srv), tt.addr, tt.auth, "a@b.example", []string{"c@d.example"}, []byte(subject))
			if tt.ok && err != nil || !tt.ok && !errors.As(err, new(*ext.TLSError)) {
				t.Error(err)
			}
		})
	}
}

// TestAddr checks what is dialled for an address, and with which name an Auth is asked.
func TestAddr(t *testing.T) {
	for _, tt := range []struct{ addr, dialled, name string }{
		{"localhost:25", "localhost:25", "localhost"},
		{":25", "localhost:25", "localhost"}, // net.Dial takes it for the local system
		{"[::1]:25", "[::1]:25", "::1"},
		{"127.0.0.1:25", "127.0.0.1:25", "127.0.0.1"},
	} {
		srv := clienttest.New(t, "S: 220 x\nC: EHLO client.example\nS: 250-x\nS: 250 AUTH PLAIN\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 ok\n"+taken)
		opt, dialled := by(srv), ""
		opt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled = addr
			return srv.Dial(ctx, network, addr)
		}
		auth := smtp.PlainAuth("", "alice", "secret", tt.name)
		err := send(t.Context(), opt, tt.addr, auth, "a@b.example", []string{"c@d.example"}, []byte(subject))
		if err != nil || dialled != tt.dialled {
			t.Errorf("%s: dialled %s; %v", tt.addr, dialled, err)
		}
	}
	for _, addr := range []string{"", "mail.example", "mail.example:", "[::1", "a b:25"} {
		opt := client.Options{DialContext: func(context.Context, string, string) (net.Conn, error) {
			t.Errorf("%q was dialled", addr)
			return nil, net.ErrClosed
		}}
		err := send(t.Context(), opt, addr, nil, "a@b.example", []string{"c@d.example"}, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "smtp: ") {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

// TestTheAddressAsWritten gives an Auth the host that its user wrote, which PlainAuth compares.
func TestTheAddressAsWritten(t *testing.T) {
	script := "TLS\nS: 220 x\nC: EHLO client.example\nS: 250-x\nS: 250 AUTH PLAIN\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 ok\n" + taken
	auth := smtp.PlainAuth("", "alice", "secret", "mail.example.")
	err := send(t.Context(), by(clienttest.New(t, script)), "mail.example.:465", auth, "a@b.example", []string{"c@d.example"}, []byte(subject))
	if err != nil {
		t.Error(err)
	}
}

// TestNoInjection puts ends of lines into everything that becomes part of a command. No connection is made.
func TestNoInjection(t *testing.T) {
	const evil = "c@d.example>\r\nRCPT TO:<e@f.example"
	for _, tt := range []struct{ from, to string }{
		{"a@b.example", evil}, {evil, "c@d.example"}, {"a@b.example", "c@d.example\n"}, {"a@b.example", "c@d.example\r"},
		{"a@b.example> BODY=8BITMIME", "c@d.example"}, {"a@b.example", "\"x\r\n\"@d.example"},
	} {
		opt := client.Options{DialContext: func(context.Context, string, string) (net.Conn, error) {
			t.Errorf("%q: dialled", tt)
			return nil, net.ErrClosed
		}}
		err := send(t.Context(), opt, "localhost:25", nil, tt.from, []string{tt.to}, nil)
		if !errors.As(err, new(*client.MessageError)) {
			t.Errorf("%q: %v", tt, err)
		}
	}
}

// TestDeadline lets a server be silent at each step. SendMailContext ends in time, and says whether the message may be
// sent again.
func TestDeadline(t *testing.T) {
	const hello = "S: 220 x\nC: EHLO client.example\nS: 250 x\n"
	untilContent := hello + strings.TrimSuffix(taken, "S: 250 ok\n")
	for _, tt := range []struct {
		name, script string
		ok, again    bool
	}{
		{"the greeting", "HANGUP", false, true},
		{"EHLO", "S: 220 x\nC: EHLO client.example\nHANGUP", false, true},
		{"MAIL", hello + "C: MAIL FROM:<a@b.example>\nHANGUP", false, true},
		{"the content", untilContent + "HANGUP", false, false},
		{"QUIT", hello + taken + "C: QUIT\nHANGUP", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				err := send(ctx, by(clienttest.New(t, tt.script)), "localhost:25", nil, "a@b.example", []string{"c@d.example"}, []byte(subject))
				if took := time.Since(begun); took != time.Second {
					t.Errorf("it took %v", took)
				}
				switch {
				case tt.ok:
					if err != nil {
						t.Error(err)
					}
				case !errors.Is(err, context.DeadlineExceeded) || client.SafeToRetry(err) != tt.again:
					t.Errorf("%v, safe to send again: %t", err, client.SafeToRetry(err))
				}
			})
		})
	}
}

// TestUTF8Header checks which headers need SMTPUTF8.
func TestUTF8Header(t *testing.T) {
	for msg, want := range map[string]bool{
		"Subject: x\r\n\r\nü\r\n":           false,
		"Subject: x\n\nü\n":                 false,
		"Subject: ü\r\n\r\nx\r\n":           true,
		"A: b\nSubject: ü":                  true,
		"Subject: \xfc\r\n\r\nx\r\n":        false, // ISO-8859-1
		"A: ü\r\nSubject: \xfc\r\n\r\nx":    false,
		"":                                  false,
		"\r\nü":                             false,
		"Subject: \xf0\x9f\x93\xa7\n\ntext": true,
	} {
		if got := hasUTF8Header([]byte(msg)); got != want {
			t.Errorf("%q: %t", msg, got)
		}
	}
}
