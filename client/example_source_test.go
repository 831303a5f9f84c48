package client_test

import (
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"testing/fstest"
	"text/template"

	"smtpkit.example/smtp/client"
)

// A template is executed each time the message is sent. The same call takes a message of a MIME builder that has
// WriteTo, such as a *mail.Msg of go-mail.
func ExampleWriterBody() {
	text := template.Must(template.New("").Parse("From: alice@example.org\nTo: {{.}}\nSubject: Hello\n\n" +
		"How are you?\n"))
	to := "bob@example.net"
	body := client.WriterBody(client.WriterFunc(func(w io.Writer) error { return text.Execute(w, to) }))
	m, err := client.NewMessage("alice@example.org", []string{to}, body)
	if err != nil {
		log.Fatal(err)
	}
	// Here it is printed. Send does the same for a server, as often as the message is sent.
	for range 2 {
		body := m.Body.(io.ReadCloser)
		if _, err := io.Copy(os.Stdout, body); err != nil {
			log.Fatal(err)
		}
		body.Close()
	}
	// Output:
	// From: alice@example.org
	// To: bob@example.net
	// Subject: Hello
	//
	// How are you?
	// From: alice@example.org
	// To: bob@example.net
	// Subject: Hello
	//
	// How are you?
}

// A message in a store, which is opened when the message is sent, and not before.
func ExampleOpenBody() {
	var store fs.FS = fstest.MapFS{"outbox/1.eml": {Data: []byte("Subject: Hello\n\nHow are you?\n")}}
	body := client.OpenBody(func() (io.ReadCloser, error) {
		fmt.Println("(it is opened)")
		return store.Open("outbox/1.eml")
	})
	m, err := client.NewMessage("alice@example.org", []string{"bob@example.net"}, body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("(the message is made)")
	if _, err := io.Copy(os.Stdout, m.Body); err != nil { // Send does the same for a server
		log.Fatal(err)
	}
	// Output:
	// (the message is made)
	// (it is opened)
	// Subject: Hello
	//
	// How are you?
}
