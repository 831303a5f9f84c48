package servertest_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server/servertest"
)

// TestRefusedFaults declares what can never act, or means nothing. The test fails, and says what to write.
func TestRefusedFaults(t *testing.T) {
	for want, declare := range map[string]func(*servertest.Server){
		`Fail("rcpt to", 450): a verb is one word in upper case: write "RCPT"`: func(s *servertest.Server) {
			s.Fail("rcpt to", 450)
		},
		`Drop("mail"): a verb is one word in upper case: write "MAIL"`: func(s *servertest.Server) { s.Drop("mail") },
		`Stall("MAIL FROM:<x>"): a verb is one word in upper case: write "MAIL"`: func(s *servertest.Server) {
			s.Stall("MAIL FROM:<x>")
		},
		`Drop(""): a verb is one word in upper case, such as "RCPT"`: func(s *servertest.Server) { s.Drop("") },
		`Fail("Handshake", 450): write servertest.Handshake`:         func(s *servertest.Server) { s.Fail("Handshake", 450) },
		`Delay("CONTENT", 1s): write servertest.Content`: func(s *servertest.Server) {
			s.Delay("CONTENT", time.Second)
		},
		`Delay("MAIL", -1ns): a delay is not negative`: func(s *servertest.Server) { s.Delay("MAIL", -1) },
		`Truncate("MAIL", -3): the number of octets`:   func(s *servertest.Server) { s.Truncate("MAIL", -3) },
		`DropContent(-1): the number of octets`:        func(s *servertest.Server) { s.DropContent(-1) },
		`Garble("MAIL", …): give it a function`:        func(s *servertest.Server) { s.Garble("MAIL", nil) },
		`Fail("MAIL", 450).Times(0): a fault acts once or more`: func(s *servertest.Server) {
			s.Fail("MAIL", 450).Times(0)
		},
		`Drop(servertest.Any).Skip(-1)`: func(s *servertest.Server) {
			s.Drop(servertest.Any).Skip(-1)
		},
		`Chaos(0, 5): the rate is a probability, from 0 to 1`: func(s *servertest.Server) { s.Chaos(0, 5) },
		`Chaos(7, -0.1): `:                     func(s *servertest.Server) { s.Chaos(7, -0.1) },
		`Chaos(7, NaN): `:                      func(s *servertest.Server) { s.Chaos(7, math.NaN()) },
		`WaitN(0): wait for 1 message or more`: func(s *servertest.Server) { s.Inbox.WaitN(0) },
	} {
		rec := &recorder{TB: t}
		srv := servertest.NewServer(rec, &servertest.Options{Memory: true})
		rec.run(func() { declare(srv) })
		if errs, _ := rec.end(); !strings.HasPrefix(errs, "smtp: "+want) {
			t.Errorf("the test fails with %q, want %q", errs, want)
		}
	}
	srv := servertest.NewServer(t, &servertest.Options{Memory: true})
	found, err := srv.Inbox.WaitContext(t.Context(), 0)
	if found != nil || err == nil || !strings.HasPrefix(err.Error(), "smtp: WaitContext for 0 messages: ") {
		t.Errorf("WaitContext for 0 messages returns %v and %v", found, err)
	}
}

// TestIdleFaults has a test fail, and reads of the faults that have not acted.
func TestIdleFaults(t *testing.T) {
	rec := &recorder{TB: t}
	srv := servertest.NewServer(rec, &servertest.Options{Memory: true})
	srv.Drop("HELO")
	srv.Reset()
	srv.Fail("DATA", 451)
	srv.Fail("RCTP", 450)
	srv.Fail("X-CHECK", 450).Times(1) // an extension's, for all that is known
	srv.Delay("RCPT", time.Minute).For("Joe@")
	srv.Delay(servertest.Handshake, 3)
	acted := srv.Fail("MAIL", 450).Times(1)
	srv.DropContent(1000).For("joe@")
	p := prototest.NewPeer(t, srv.Dial())
	dialogue(t, p, begun+"C: MAIL FROM:<>\nS: 450\n"+envelope+"C: BDAT 3 LAST|x\nS: 250\n"+quit)
	if acted.Hits() != 1 {
		t.Errorf("the fault for MAIL has acted %d times", acted.Hits())
	}
	rec.Error("failed")
	_, logs := rec.end()
	const want = "servertest: these faults were declared and have not acted:" +
		"\n\tDrop(\"HELO\"): no client has sent HELO" +
		"\n\tFail(\"DATA\", 451): the client has sent BDAT in place of DATA: use servertest.Content" +
		"\n\tFail(\"RCTP\", 450): no client has sent RCTP" +
		"\n\tFail(\"X-CHECK\", 450): no client has sent X-CHECK" +
		"\n\tDelay(\"RCPT\", 1m0s).For(\"Joe@\"): RCPT has come 1 times" +
		"\n\tDelay(servertest.Handshake, 3ns)" +
		"\n\tDropContent(1000).For(\"joe@\")\nservertest: connection 1:"
	if !strings.HasPrefix(logs, want) {
		t.Errorf("the test logs %q, want %q", logs, want)
	}
	// A test that passes, and one whose faults have all acted, log no list.
	for _, fails := range []bool{false, true} {
		rec := &recorder{TB: t}
		srv := servertest.NewServer(rec, &servertest.Options{Memory: true})
		if !fails {
			srv.Fail("RCTP", 450)
		} else {
			rec.Error("failed")
		}
		if _, logs := rec.end(); strings.Contains(logs, "have not acted") {
			t.Errorf("the test logs %q", logs)
		}
	}
}
