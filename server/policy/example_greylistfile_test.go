package policy_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"smtpkit.example/smtp/server/policy"
)

// A greylist that knows its clients when the program starts again.
func ExampleOpenGreylistFile() {
	dir, err := os.MkdirTemp("", "greylist")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	store, err := policy.OpenGreylistFile(filepath.Join(dir, "greylist"), nil)
	if err != nil {
		log.Fatal(err)
	}
	try("192.0.2.7", []string{"MAIL FROM:<ann@example.com>", "RCPT TO:<joe@example.org>"}, policy.Greylist{Store: store})
	fmt.Println(store.Close()) // when the server has been shut down
	// Output:
	// MAIL FROM:<ann@example.com>
	// 250 2.1.0 Sender OK
	// RCPT TO:<joe@example.org>
	// 451 4.7.1 Greylisted, try again in 60 seconds
	// <nil>
}
