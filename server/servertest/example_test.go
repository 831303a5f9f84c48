package servertest_test

import (
	"fmt"
	"net/smtp"
	"os"
	"testing"

	"smtpkit.example/smtp/server/servertest"
)

// t is the *testing.T of a test.
var t = &exampleT{}

// The test of a program that sends with smtp.SendMail. NoTLS is for that function: it would begin TLS on its own, and
// trusts the certificates of the system alone.
func Example() {
	defer t.end()
	srv := servertest.NewServer(t, &servertest.Options{NoTLS: true, Users: map[string]string{"app": "secret"}})
	app := &application{addr: srv.Addr, auth: smtp.PlainAuth("", "app", "secret", "127.0.0.1")}

	if err := app.signUp("joe@example.net"); err != nil {
		t.Fatal(err)
	}
	m := srv.Inbox.Wait(servertest.To("joe@example.net"), servertest.Subject("Welcome"))
	fmt.Print(m.Text())

	srv.Fail("RCPT", 550).Text("No such mailbox")
	fmt.Println(app.signUp("nobody@example.net"))
	// Output:
	// Hello Joe
	// 550 "5.0.0 No such mailbox"
}

// An application is a program under test.
type application struct {
	addr string
	auth smtp.Auth
}

func (a *application) signUp(user string) error {
	content := "From: app@example.org\r\nTo: " + user + "\r\nSubject: Welcome\r\n\r\nHello Joe\r\n"
	return smtp.SendMail(a.addr, a.auth, "app@example.org", []string{user}, []byte(content))
}

// The program under test sends a message with net/smtp, by STARTTLS and with a password. The test waits for it.
func ExampleNewServer() {
	defer t.end()
	srv := servertest.NewServer(t, &servertest.Options{Users: map[string]string{"alice": "secret"}})

	// What a program does:
	c, err := smtp.Dial(srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	c.StartTLS(srv.ClientTLS())
	c.Auth(smtp.PlainAuth("", "alice", "secret", "127.0.0.1"))
	c.Mail("alice@example.org")
	c.Rcpt("joe@example.net")
	w, _ := c.Data()
	fmt.Fprint(w, "Subject: Welcome\r\n\r\nHello Joe\r\n")
	w.Close()
	c.Quit()

	m := srv.Inbox.Wait(servertest.To("joe@example.net"), servertest.Subject("Welcome"))
	fmt.Println(m.From, m.With, m.Identity)
	fmt.Print(m.Text())
	// Output:
	// alice@example.org ESMTPSA alice
	// Hello Joe
}

// An exampleT is a testing.T for an example.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (t *exampleT) Helper()          {}
func (t *exampleT) Failed() bool     { return false }
func (t *exampleT) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

func (t *exampleT) Fatal(args ...any) {
	fmt.Println(args...)
	os.Exit(1)
}

func (t *exampleT) Fatalf(format string, args ...any) { t.Fatal(fmt.Sprintf(format, args...)) }
func (t *exampleT) Error(args ...any)                 { fmt.Println(args...) }

func (t *exampleT) end() {
	for _, f := range t.cleanups {
		f()
	}
	t.cleanups = nil
}
