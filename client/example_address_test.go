package client_test

import (
	"fmt"
	"net/mail"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
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
	opt := &client.Options{Hostname: "mail.example.org", TLS: 99}
	fmt.Println(opt.Check())
	opt.TLS = ext.TLSImplicit
	fmt.Println(opt.Check())
	// Output:
	// smtp: Options.TLS is 99, which is none of the modes of package ext
	// <nil>
}
