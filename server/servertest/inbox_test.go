package servertest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/server/servertest"
)

// deliver sends a message with the given subject.
func deliver(t *testing.T, srv *servertest.Server, from, to, subject string) {
	t.Helper()
	content := "Subject: " + subject + "\r\n\r\ntext\r\n"
	if err := send(srv.Dial(), nil, from, to, content); err != nil {
		t.Error(err)
	}
}

// TestWait waits for messages by each condition, while they arrive in an order of their own.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := servertest.NewServer(t, &servertest.Options{Memory: true, NoTLS: true})
		var sending sync.WaitGroup
		defer sending.Wait()
		sending.Go(func() {
			for i, to := range []string{"a@example.net", "b@Example.NET", "c@example.net", "b@example.net"} {
				time.Sleep(time.Second)
				deliver(t, srv, "x@example.org", to, fmt.Sprintf("=?utf-8?q?n=C3=BCmber_%d?=", i))
			}
			time.Sleep(time.Second)
			deliver(t, srv, "", "a@example.net", "bounce")
		})
		start := time.Now()
		after := func(m *servertest.Message, want time.Duration, subject string) {
			t.Helper()
			if got := m.Time.Sub(start); got != want || time.Since(start) < want || m.Subject() != subject {
				t.Errorf("%q came after %v, want %q after %v", m.Subject(), got, subject, want)
			}
		}
		b := srv.Inbox.WaitN(2, servertest.To("b@example.net"))
		after(b[0], 2*time.Second, "nümber 1")
		after(b[1], 4*time.Second, "nümber 3")
		after(srv.Inbox.Wait(servertest.To("a@example.net")), time.Second, "nümber 0")
		after(srv.Inbox.Wait(servertest.Subject("mber 2"), servertest.From("x@example.org")), 3*time.Second, "nümber 2")
		after(srv.Inbox.Wait(servertest.From("")), 5*time.Second, "bounce")
		long := servertest.Where("that is long", func(m *servertest.Message) bool { return len(m.Raw) > 1000 })
		if got := srv.Inbox.All(long); len(got) > 0 {
			t.Errorf("long are %v", got)
		}
		srv.Inbox.Clear()
		if got := srv.Inbox.All(); len(got) > 0 {
			t.Errorf("after Clear there are %v", got)
		}
	})
}

// TestWaitFails reads what a test says that waits in vain.
func TestWaitFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{TB: t}
		srv := servertest.NewServer(rec, &servertest.Options{Memory: true, NoTLS: true, Keep: 2, Wait: time.Minute})
		start := time.Now()
		rec.run(func() { srv.Inbox.Wait() })
		if got := time.Since(start); got != time.Minute {
			t.Errorf("it waited for %v", got)
		}
		for i := range 3 {
			deliver(t, srv, "x@example.org", "a@example.net", fmt.Sprintf("subject %d", i))
		}
		rec.run(func() { srv.Inbox.WaitN(3, servertest.To("b@example.net"), servertest.Subject("sub")) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		found, err := srv.Inbox.WaitContext(ctx, 3, servertest.Subject("sub"))
		if !errors.Is(err, context.DeadlineExceeded) || len(found) != 2 ||
			!strings.HasPrefix(err.Error(), "smtp: 2 of 3 messages") {
			t.Errorf("WaitContext returned %v and %v", found, err)
		}
		got, logs := rec.end()
		for _, want := range []string{
			"in 1m0s: smtp: no message arrived, and no other: ",
			"in 1m0s: smtp: 0 of 3 messages to <b@example.net> and with \"sub\" in the subject arrived; there are 2:\n" +
				"\t1. from <x@example.org> to <a@example.net>, 28 octets, subject \"subject 1\"\n" +
				"\t2. from <x@example.org> to <a@example.net>, 28 octets, subject \"subject 2\"\n" +
				"\t1 older messages were forgotten: see Options.Keep: context deadline exceeded",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("the test says %q, want %q", got, want)
			}
		}
		if strings.Count(logs, "servertest: connection ") != 3 || !strings.Contains(logs, "C: RCPT TO:<a@example.net>") {
			t.Errorf("the test logs %q", logs)
		}
	})
}

// TestConcurrent has many clients and many that wait.
func TestConcurrent(t *testing.T) {
	srv := servertest.NewServer(t, &servertest.Options{Memory: true, NoTLS: true})
	const n = 40
	var all sync.WaitGroup
	for i := range n {
		to := fmt.Sprintf("user%d@example.net", i)
		all.Go(func() { deliver(t, srv, "x@example.org", to, "hello") })
		all.Go(func() {
			if _, err := srv.Inbox.WaitContext(t.Context(), 1, servertest.To(to)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := srv.Inbox.WaitN(n); len(got) != n || len(srv.Inbox.All()) != n {
		t.Errorf("there are %d messages, want %d", len(srv.Inbox.All()), n)
	}
}

// TestText decodes the text of messages.
func TestText(t *testing.T) {
	for _, tt := range []struct{ name, content, text, html string }{
		{"plain", "Subject: x\r\n\r\none\r\ntwo\r\n", "one\ntwo\n", ""},
		{"quoted-printable", "Content-Type: text/plain; charset=utf-8\r\n" +
			"Content-Transfer-Encoding: quoted-printable\r\n\r\n" +
			"caf=C3=A9 =\r\nau lait\r\n", "café au lait\n", ""},
		{"base64 and Latin-1", "Content-Type: text/html; charset=ISO-8859-1\r\nContent-Transfer-Encoding: BASE64\r\n\r\n" +
			"Y2Fm\r\n6Q==\r\n", "", "café"},
		{"parts in parts", "Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" +
			"Content-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\n\r\nplain\r\n--a\r\nContent-Type: text/html\r\n\r\n" +
			"<p>\r\n--a--\r\n--m\r\nContent-Type: application/pdf\r\n\r\nx\r\n--m--\r\n", "plain", "<p>"},
		{"no text", "Content-Type: application/pdf\r\n\r\nx\r\n", "", ""},
		{"no header", "\r\nbody\r\n", "body\n", ""},
		{"no message", "this is no header\r\n\r\nx\r\n", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := servertest.NewServer(t, &servertest.Options{Memory: true, NoTLS: true})
			if err := send(srv.Dial(), nil, "a@example.org", "b@example.net", tt.content); err != nil {
				t.Fatal(err)
			}
			m := srv.Inbox.Wait()
			if m.Text() != tt.text || m.HTML() != tt.html {
				t.Errorf("the text is %q, the HTML %q", m.Text(), m.HTML())
			}
			if (m.Err != nil) != (tt.name == "no message") {
				t.Errorf("net/mail says %v", m.Err)
			}
		})
	}
}
