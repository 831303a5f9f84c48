package server_test

import (
	"fmt"

	"smtpkit.example/smtp/server"
)

// A server whose clients are few and known has more patience with them than the default, and less when it is full.
func ExampleDefaultStress() {
	stress := func(l server.Load) *server.Stress {
		st := server.DefaultStress(l)
		if st != nil && l.Max() < 1 {
			st.Errors = 0 // as without stress
			st.Junk = 0
		}
		return st
	}
	opt := &server.Options{Hostname: "mail.example.org", Stress: stress}

	for _, conns := range []int{800, 950, 1000} {
		fmt.Printf("%d: %+v\n", conns, opt.Stress(server.Load{Conns: conns, MaxConns: 1000}))
	}
	// Output:
	// 800: <nil>
	// 950: &{Command:10s Content:10s MinRateGrace:10s Write:10s Handshake:10s Errors:0 Junk:0}
	// 1000: &{Command:10s Content:10s MinRateGrace:10s Write:10s Handshake:10s Errors:1 Junk:10}
}
