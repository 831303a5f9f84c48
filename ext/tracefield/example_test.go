package tracefield_test

import (
	"fmt"
	"io"
	"log"
	"net/netip"
	"strings"
	"time"

	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/proto"
)

// A gateway notes on top of a message where it came from. What the client said in EHLO is no domain here.
func Example() {
	to, err := proto.ParseAddress("joe@example.org")
	if err != nil {
		log.Fatal(err)
	}
	r := tracefield.Received{
		Hello: "my_pc",
		Addr:  netip.MustParseAddr("192.0.2.1"),
		By:    "gateway.example.org",
		With:  "ESMTPS",
		ID:    "4XyZ17",
		For:   to,
		Time:  time.Date(2026, 11, 28, 15, 4, 5, 0, time.UTC),
	}
	message := strings.NewReader("Subject: Hello\r\n\r\nHello, Joe.\r\n")
	text, err := io.ReadAll(tracefield.Prepend(message, r.String()))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(strings.ReplaceAll(string(text), "\r", ""))
	// Output:
	// Received: from [192.0.2.1] ([192.0.2.1]) (helo=my_pc) by gateway.example.org
	//  with ESMTPS id 4XyZ17 for <joe@example.org>; Sat, 28 Nov 2026 15:04:05 +0000
	// Subject: Hello
	//
	// Hello, Joe.
}

// A message that has come by too many servers is refused.
func ExampleCheckLoop() {
	const field = "Received: from a.example by b.example; Sat, 28 Nov 2026 15:04:05 +0000\r\n"
	message := strings.Repeat(field, 101) + "\r\nHello\r\n"
	_, err := io.ReadAll(tracefield.CheckLoop(strings.NewReader(message), nil))
	fmt.Println(err)
	// Output:
	// smtp: 554 5.4.6 Too many hops: the message has more than 100 Received fields
}

// A forwarder finds at the second round that a message has come back.
func ExampleLoopOptions() {
	joe, err := proto.ParseAddress("joe@example.org")
	if err != nil {
		log.Fatal(err)
	}
	opt := &tracefield.LoopOptions{DeliveredTo: []proto.Address{joe}}
	message := "Subject: Hello\r\n\r\nHello, Joe.\r\n"
	for round := range 2 {
		r := tracefield.CheckLoop(strings.NewReader(message), opt)
		forwarded, err := io.ReadAll(tracefield.Prepend(r, tracefield.DeliveredTo(joe)))
		fmt.Println(round, err)
		message = string(forwarded)
	}
	// Output:
	// 0 <nil>
	// 1 smtp: 554 5.4.6 The message has been delivered to <joe@example.org> before
}

// A message that arrives in its mailbox has one Return-Path, which is that of its envelope.
func ExampleStrip() {
	from, err := proto.ParseAddress("jane@example.com")
	if err != nil {
		log.Fatal(err)
	}
	message := strings.NewReader("Return-Path: <forged@example.net>\r\nSubject: Hello\r\n\r\nHello, Joe.\r\n")
	r := tracefield.Prepend(tracefield.Strip(message, "Return-Path"), tracefield.ReturnPath(from))
	text, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(strings.ReplaceAll(string(text), "\r", ""))
	// Output:
	// Return-Path: <jane@example.com>
	// Subject: Hello
	//
	// Hello, Joe.
}

// A program that has a message in memory counts the hops that it has made.
func ExampleCount() {
	message := "Received: from b by c; date\r\nReceived: from a by b; date\r\nSubject: x\r\n\r\nReceived: no field\r\n"
	fmt.Println(tracefield.Count([]byte(message), "Received"))
	// Output:
	// 2
}
