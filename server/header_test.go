package server_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"smtpkit.example/smtp/ext/tracefield"
	"smtpkit.example/smtp/server"
)

// TestHeaderLimits sends messages that are just within a limit, and just beyond it.
func TestHeaderLimits(t *testing.T) {
	received := func(n int) string {
		return strings.Repeat("Received: from a by b;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n", n)
	}
	for _, c := range []struct {
		name, message, want string
		limits              server.Limits
	}{
		{"fields", strings.Repeat("X: y\r\n", 1000) + "\r\nbody", "250", server.Limits{}},
		{"I15, Z186 a field more", strings.Repeat("X: y\r\n", 1001) + "\r\nbody", "554 5.6.0 Header has more fields", server.Limits{}},
		{"fields without limit", strings.Repeat("X: y\r\n", 1001) + "\r\nbody", "250", server.Limits{HeaderFields: -1}},
		{"no fields in the body", "X: y\r\n\r\n" + strings.Repeat("X: y\r\n", 2000), "250", server.Limits{}},
		{"lines without a header", strings.Repeat("body\r\n", 2000), "250", server.Limits{HeaderSize: 100}},
		{"continuations", "X: y\r\n" + strings.Repeat(" z\r\n\tz\r\n", 2000) + "\r\n", "250", server.Limits{}},
		{"size", "X: " + strings.Repeat("y", 93) + "\r\n\r\n" + strings.Repeat("z", 500), "250", server.Limits{HeaderSize: 98}},
		{"I15 an octet more", "X: " + strings.Repeat("y", 94) + "\r\n\r\n", "552 5.3.4 Header is larger", server.Limits{HeaderSize: 98}},
		{"no header but a long line", strings.Repeat("y", 1<<20) + "\r\n", "250", server.Limits{HeaderSize: 99}},
		{"a long name", strings.Repeat("y", 99) + ": z\r\n", "552 5.3.4 Header is larger", server.Limits{HeaderSize: 99}},
		{"Z186 1 MiB", "X: " + strings.Repeat("y", 1<<20) + "\r\n\r\n", "552 5.3.4 Header is larger", server.Limits{}},
		{"I16 loop of 100", received(100) + "\r\nbody", "250", server.Limits{}},
		{"I16, Z186 loop of 101", received(101) + "\r\nbody", "554 5.4.6 Too many Received fields", server.Limits{}},
		{"loop without limit", received(101), "250", server.Limits{Received: -1}},
		{"other case, and a gap", "rEcEIVED \t: x\r\nReceived:\r\nX: y\r\n", "554 5.4.6", server.Limits{Received: 1}},
		{"line of mbox", "From joe Mon Jan 1\r\nReceived: x\r\nReceived: x\r\n", "554 5.4.6", server.Limits{Received: 1}},
		{"names like it", "Received: x\r\nXReceived: x\r\nReceivedx: x\r\nReceive: x\r\n received: x\r\n", "250",
			server.Limits{Received: 1}},
		{"line of 1000", "X: y\r\n\r\n" + strings.Repeat("z", 998) + "\r\nz", "250", server.Limits{LineLength: 1000}},
		{"I15 line of 1001", "X: y\r\n\r\nz\r\n" + strings.Repeat("z", 999), "554 5.6.0 A line of the message is too long",
			server.Limits{LineLength: 1000}},
		{"line of the header", "X: " + strings.Repeat("z", 999), "554 5.6.0 A line", server.Limits{LineLength: 1000}},
		{"long line by default", "X: y\r\n\r\n" + strings.Repeat("z", 100_000), "250", server.Limits{}},
	} {
		for _, reads := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, read %v", c.name, reads), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var got error
					p, st := withData(t, server.Options{Limits: c.limits}, func(_ context.Context, r io.Reader) error {
						if reads {
							_, got = io.Copy(io.Discard, iotest.HalfReader(r))
						}
						return nil
					})
					p.ask("DATA", "354 ", c.message+"\r\n.", c.want)
					if refused := !strings.HasPrefix(c.want, "250"); reads && refused != (got != nil) {
						t.Errorf("the reader of Data returned %v", got)
					}
					st.data = readNothing
					p.begin()
					p.ask("DATA", "354 ", "x\r\n.", "250 ") // the session goes on
					p.begin()
					p.chunk(fmt.Sprintf("BDAT %d LAST", len(c.message)+2), c.message+"\r\n", c.want)
					p.quit()
				})
			})
		}
	}
}

// TestBinaryHasNoLines: content that is declared as binary has no lines to be too long.
func TestBinaryHasNoLines(t *testing.T) {
	p := dial(t, newServer(t, &store{}, server.Options{Limits: server.Limits{LineLength: 10}}))
	p.hello()
	p.ask("MAIL FROM:<a@b.example> BODY=BINARYMIME", "250 ", "RCPT TO:<c@d.example>", "250 ")
	p.chunk("BDAT 20 LAST", strings.Repeat("x", 20), "250 ")
	p.begin()
	p.chunk("BDAT 20 LAST", strings.Repeat("x", 20), "554 5.6.0")
	p.quit()
}

// FuzzReceived compares the Received fields that a server counts with those that package tracefield does.
func FuzzReceived(f *testing.F) {
	for _, s := range []string{"Received: x\r\n", "Received: x\r\nreceived :y\r\n\r\nReceived: z", "From x\r\nReceived:", " x:\r\nReceived:",
		"X\r\nReceived:", "Received x:\r\nReceived:", "Subject: x\r\n Received: y\r\nRECEIVED\t: z\r\n", "From : x\r\nReceived:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.NewReplacer("\r\n", "\r\n", "\r", "", "\n", "").Replace(s)
		if s == "" || len(s) > 2000 {
			return
		}
		n := tracefield.Count([]byte(s), "Received")
		for _, limit := range []int{n, n - 1} {
			if limit < 1 {
				continue
			}
			p := dial(t, newServer(t, &store{}, server.Options{Limits: server.Limits{Received: limit}}))
			p.hello()
			p.begin()
			want := "250 "
			if limit < n {
				want = "554 5.4.6"
			}
			p.chunk(fmt.Sprintf("BDAT %d LAST", len(s)), s, want)
			p.quit()
		}
	})
}
