package servertest_test

import (
	"fmt"
	"net/smtp"
	"testing"

	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/servertest"
)

// The server refuses a recipient twice, as one with greylisting does. A program that tries again gets through.
func ExampleServer_Fail() {
	defer t.end()
	srv := servertest.NewServer(t, &servertest.Options{NoTLS: true})
	refused := srv.Fail("RCPT", 450).For("joe@example.net").Times(2)

	// What a program does:
	for {
		to, content := []string{"joe@example.net"}, []byte("Subject: hello\r\n\r\n")
		err := smtp.SendMail(srv.Addr, nil, "alice@example.org", to, content)
		if err == nil {
			break
		}
		fmt.Println(err)
	}

	srv.Inbox.Wait(servertest.To("joe@example.net"))
	fmt.Println("refused", refused.Hits(), "times")
	// Output:
	// 450 "4.2.1 Refused by the test"
	// 450 "4.2.1 Refused by the test"
	// refused 2 times
}

// The server accepts the message, and the connection is lost before the client learns of it. A program that tries again
// has sent the message twice.
func ExampleServer_Drop() {
	defer t.end()
	srv := servertest.NewServer(t, &servertest.Options{NoTLS: true})
	srv.Drop(servertest.Content).Times(1)

	err := smtp.SendMail(srv.Addr, nil, "alice@example.org", []string{"joe@example.net"}, []byte("Subject: hello\r\n\r\n"))
	fmt.Println(err)
	fmt.Println(len(srv.Inbox.All()), "message was accepted")
	// Output:
	// EOF
	// 1 message was accepted
}

// The test of a backend that keeps messages in a Maildir, for instance. With Kept, what it keeps is compared with what
// it was sent.
func ExampleTestBackend() {
	test := func(t *testing.T) {
		backend := newBackend(t.TempDir())
		servertest.TestBackend(t, backend, &servertest.BackendOptions{
			To:   []string{"bob@example.net", "carol@example.net"},
			Kept: backend.messages,
		})
	}
	_ = test // func TestMyBackend(t *testing.T)
}

// A backend is the one that is tested.
type backend struct{ server.Backend }

func newBackend(string) *backend { return nil }

// messages returns those that the backend has kept.
func (b *backend) messages() []*servertest.Message { return nil }
