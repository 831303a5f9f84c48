package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext/auth"
)

// The server, the password and the options are in an environment variable.
func ExampleParseURL() {
	os.Setenv("MAIL_URL", "smtps://alice:secret@mail.example.org?hostname=app.example.org&timeout.connect=5s")
	server, err := client.ParseURL(os.Getenv("MAIL_URL"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("sending through", server) // the password is not shown
	fmt.Println(server.Addr, server.Options.Hostname, server.Options.Timeouts.Connect)
	// Output:
	// sending through smtps://alice@mail.example.org:465?hostname=app.example.org&timeout.connect=5s
	// mail.example.org:465 app.example.org 5s
}

// One message over a connection of its own. For more messages, Dial once.
func ExampleEndpoint_Send() {
	ctx := context.Background()
	var m *client.Message // made as in the example of Send
	server, err := client.ParseURL(os.Getenv("MAIL_URL"))
	if err != nil {
		log.Fatal(err)
	}
	result, err := server.Send(ctx, m)
	if err != nil {
		log.Print(err)
	}
	fmt.Println(result.Sent(), "recipients, and the server says", result.Reply.Text)
}

// The password is not in the URL: it comes from a file with secrets.
func ExampleParseURL_passwordElsewhere() {
	server, err := client.ParseURL("smtp://alice@mail.example.org")
	if err != nil {
		log.Fatal(err)
	}
	secret := "hunter2" // as a rule from os.ReadFile
	server.Options.Credentials = auth.Password(server.User, secret, server.Mechanisms...)
	fmt.Println(server)
	// Output: smtp://alice@mail.example.org:587
}

// A mistake is told, with what to write.
func ExampleParseURL_mistake() {
	_, err := client.ParseURL("smtps://mail.example.org:587")
	fmt.Println(err)
	// Output:
	// smtp: the URL of the server: on port 587 TLS is started later: write smtp://, or add tls=implicit if TLS comes first
}

// A health page, or the page of an installer: which step fails, and may it pass?
func ExampleVerify() {
	server, err := client.ParseURL("smtp://alice:secret@mail.example.org")
	if err != nil {
		log.Fatal(err)
	}
	server.Options.DialContext = underMaintenance // so that the example needs no server: leave it out

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = server.Verify(ctx)
	var failed *client.VerifyError
	switch {
	case err == nil:
		fmt.Println("mail can be sent")
	case errors.As(err, &failed) && failed.Step == client.StepAuth:
		fmt.Println("look at the user and the password:", err)
	case client.Temporary(err):
		fmt.Println("try again later:", err)
	default:
		fmt.Println("look at the configuration:", err)
	}
	// Output:
	// try again later: smtp: the server failed the check at the step greeting: the greeting: 421 4.3.2 back at noon
}

// underMaintenance connects to a server that turns everybody away.
func underMaintenance(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		io.WriteString(far, "421 4.3.2 back at noon\r\n")
	}()
	return near, nil
}
