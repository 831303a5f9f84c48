package client_test

import (
	"fmt"
	"net/mail"
	"strings"

	"smtpkit.example/smtp/client"
)

// The addresses of a header become recipients.
func ExampleAddresses() {
	to, err := mail.ParseAddressList("Bob <bob@example.net>, carol@example.net")
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := client.NewMessage("alice@example.org", client.Addresses(to...), strings.NewReader("…"))
	fmt.Println(m.To[0].Address, m.To[1].Address, err)
	// Output: bob@example.net carol@example.net <nil>
}

// A mistake in the configuration is found when the program starts.
func ExampleOptions_Check() {
	opt := &client.Options{Hostname: "my host"}
	if err := opt.Check(); err != nil {
		fmt.Println("wrong options")
	}
	// Output: wrong options
}
