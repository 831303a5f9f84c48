package servertest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto/prototest"
	"smtpkit.example/smtp/server"
	"smtpkit.example/smtp/server/servertest"
)

// A dialogue is what a client sends and what it is to get. Each text sent begins with "C: ", and has a CRLF behind it;
// "S: " has the beginning of a reply, and "END" is the end of the connection.
func dialogue(t *testing.T, p *prototest.Peer, lines string) {
	t.Helper()
	for line := range strings.Lines(strings.TrimLeft(lines, "\n")) {
		line = strings.TrimSpace(line)
		switch {
		case line == "END":
			p.ExpectEnd()
		case strings.HasPrefix(line, "C: "):
			p.Send(strings.ReplaceAll(line[3:], "|", "\r\n") + "\r\n")
		case strings.HasPrefix(line, "S: "):
			p.Expect(line[3:])
		}
	}
}

const (
	begun    = "S: 220\nC: EHLO client.example\nS: 250-mail.example\n"
	envelope = "C: MAIL FROM:<a@example.org>\nS: 250\nC: RCPT TO:<b@example.net>\nS: 250\n"
	toDot    = envelope + "C: DATA\nS: 354\nC: Subject: x||text|.\n"
	quit     = "C: QUIT\nS: 221\nEND\n"
)

// TestFaults plays a dialogue for each kind of fault. Accepted is how many messages are in the Inbox at the end.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name     string
		declare  func(*servertest.Server)
		dialogue string
		accepted int
	}{
		{"none", func(*servertest.Server) {}, begun + toDot + "S: 250\n" + quit, 1},
		{"a verb twice", func(s *servertest.Server) { s.Fail("RCPT", 450).Times(2) },
			begun + "C: MAIL FROM:<>\nS: 250\nC: RCPT TO:<b@example.net>\nS: 450 4.2.1 Refused by the test\n" +
				"C: RCPT TO:<b@example.net>\nS: 450\nC: RCPT TO:<b@example.net>\nS: 250\n" + quit, 0},
		{"an argument", func(s *servertest.Server) { s.Fail("RCPT", 550).For("C@EXAMPLE.net>").Text("No C") },
			begun + envelope + "C: RCPT TO:<c@example.net>\nS: 550 5.0.0 No C\nC: RCPT TO:<c@example.net.org>\nS: 250\n" +
				"C: RCPT TO:<c@example.net>\nS: 550\n" + quit, 0},
		{"the third", func(s *servertest.Server) { s.Fail("RCPT", 450).Skip(2).Times(1) },
			begun + envelope + "C: RCPT TO:<c@example.net>\nS: 250\nC: RCPT TO:<d@example.net>\nS: 450\n" +
				"C: RCPT TO:<e@example.net>\nS: 250\n" + quit, 0},
		{"two in order", func(s *servertest.Server) {
			s.Fail("MAIL", 450).Times(1)
			s.Fail("MAIL", 451).Skip(1).Times(1)
		}, begun + "C: MAIL FROM:<>\nS: 450\nC: MAIL FROM:<>\nS: 250\nC: RSET\nS: 250\nC: MAIL FROM:<>\nS: 451\n" +
			"C: MAIL FROM:<>\nS: 250\n" + quit, 0},
		{"the greeting", func(s *servertest.Server) { s.Fail(servertest.Greeting, 554) },
			"S: 554\nC: EHLO x.example\nS: 503\n" + quit, 0},
		{"421 for a greeting", func(s *servertest.Server) { s.Fail(servertest.Greeting, 421) }, "S: 421\nEND\n", 0},
		{"421 anywhere", func(s *servertest.Server) { s.Fail(servertest.Any, 421).Skip(4) },
			begun + envelope + "C: DATA\nS: 421\nEND\n", 0},
		{"EHLO", func(s *servertest.Server) { s.Fail("EHLO", 502) },
			"S: 220\nC: EHLO x.example\nS: 502\nC: HELO x.example\nS: 250\n" + quit, 0},
		{"STARTTLS", func(s *servertest.Server) { s.Fail("STARTTLS", 454) },
			begun + "C: STARTTLS\nS: 454\n" + toDot + "S: 250\n", 1},
		{"content", func(s *servertest.Server) { s.Fail(servertest.Content, 452).Times(1) },
			begun + toDot + "S: 452\n" + toDot + "S: 250\n" + quit, 1},
		{"content for a recipient", func(s *servertest.Server) { s.Fail(servertest.Content, 554).For("<c@") },
			begun + toDot + "S: 250\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<c@example.net>\nS: 250\nC: DATA\nS: 354\nC: x|.\n" +
				"S: 554\n" + toDot + "S: 250\n" + quit, 2},
		{"content in chunks", func(s *servertest.Server) { s.Fail(servertest.Content, 452).Times(1) },
			begun + envelope + "C: BDAT 3 LAST|x\nS: 452\n" + envelope + "C: BDAT 3 LAST|x\nS: 250\n" + quit, 1},

		{"drop a greeting", func(s *servertest.Server) { s.Drop(servertest.Greeting) }, "END\n", 0},
		{"drop RCPT", func(s *servertest.Server) { s.Drop("RCPT").Skip(1) },
			begun + envelope + "C: RCPT TO:<c@example.net>\nEND\n", 0},
		{"drop RCPT in a group", func(s *servertest.Server) { s.Drop("RCPT").For("c@") },
			begun + "C: MAIL FROM:<>|RCPT TO:<b@example.net>|RCPT TO:<c@example.net>|DATA\nS: 250\nS: 250\nEND\n", 0},
		{"drop behind RCPT in a group", func(s *servertest.Server) { s.DropAfter("RCPT") },
			begun + "C: MAIL FROM:<>|RCPT TO:<b@example.net>|RCPT TO:<c@example.net>|DATA\nS: 250\nS: 250\nEND\n", 0},
		{"drop in place of the reply to content", func(s *servertest.Server) { s.Drop(servertest.Content) },
			begun + toDot + "END\n", 1},
		{"drop behind the reply to content", func(s *servertest.Server) { s.DropAfter(servertest.Content) },
			begun + toDot + "S: 250\nEND\n", 1},
		{"drop the last chunk", func(s *servertest.Server) { s.Drop(servertest.Content) },
			begun + envelope + "C: BDAT 3|x\nS: 250\nC: BDAT 3 LAST|x\nEND\n", 1},
		{"drop the first chunk", func(s *servertest.Server) { s.Drop("BDAT") }, begun + envelope + "C: BDAT 3|x\nEND\n", 0},
		{"drop QUIT", func(s *servertest.Server) { s.Drop("QUIT") }, begun + "C: QUIT\nEND\n", 0},

		{"garble", func(s *servertest.Server) {
			s.Garble("MAIL", func(reply []byte) []byte { return bytes.ReplaceAll(reply, []byte("250"), []byte("25O")) }).Times(1)
		}, begun + "C: MAIL FROM:<>\nS: 25O 2.1.0\nC: RSET\nS: 250\n" + toDot + "S: 250\n" + quit, 1},
		{"garble a long reply", func(s *servertest.Server) {
			s.Garble("EHLO", func(reply []byte) []byte {
				return fmt.Appendf(nil, "250 %d\r\n", bytes.Count(reply, []byte("\r\n")))
			})
		}, "S: 220\nC: EHLO x.example\nS: 250 12\n" + quit, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := servertest.NewServer(t, &servertest.Options{Memory: true})
				tt.declare(srv)
				p := prototest.NewPeer(t, srv.Dial())
				dialogue(t, p, tt.dialogue)
				p.Close()
				synctest.Wait()
				if got := len(srv.Inbox.All()); got != tt.accepted {
					t.Errorf("%d messages in the Inbox, want %d", got, tt.accepted)
				}
			})
		})
	}
}

// TestHits counts what faults do, ends them, and refuses what is no fault.
func TestHits(t *testing.T) {
	srv := servertest.NewServer(t, &servertest.Options{Memory: true})
	f := srv.Fail("RCPT", 450)
	d := srv.Delay("RCPT", time.Nanosecond).Times(2)
	g := srv.Fail("RCPT", 451) // f is always first
	p := prototest.NewPeer(t, srv.Dial())
	dialogue(t, p, begun+"C: RCPT TO:<b@example.net>\nS: 503\nC: MAIL FROM:<>\nS: 250\n"+
		strings.Repeat("C: RCPT TO:<b@example.net>\nS: 450\n", 3))
	if f.Hits() != 3 || d.Hits() != 2 || g.Hits() != 0 {
		t.Errorf("there were %d refusals, %d delays and %d others", f.Hits(), d.Hits(), g.Hits())
	}
	f.Times(1) // more
	dialogue(t, p, "C: RCPT TO:<b@example.net>\nS: 450\nC: RCPT TO:<b@example.net>\nS: 451\n")
	srv.Hide("SIZE")
	srv.Reset()
	dialogue(t, p, "C: RCPT TO:<b@example.net>\nS: 250\nC: RSET\nS: 250\nC: MAIL FROM:<> SIZE=1\nS: 250\n")
	if f.Hits() != 4 || g.Hits() != 1 {
		t.Errorf("there were %d refusals and %d others", f.Hits(), g.Hits())
	}
	for name, declare := range map[string]func(*servertest.Server){
		"from 400 to 599": func(s *servertest.Server) { s.Fail("RCPT", 250) },
		"QUIT":            func(s *servertest.Server) { s.Fail("quit", 450) },
		"handshake":       func(s *servertest.Server) { s.Fail(servertest.Handshake, 450) },
	} {
		rec := &recorder{TB: t}
		srv := servertest.NewServer(rec, &servertest.Options{Memory: true})
		rec.run(func() { declare(srv) })
		if errs, _ := rec.end(); !strings.Contains(errs, name) {
			t.Errorf("the test fails with %q, want %q", errs, name)
		}
	}
}

// TestDelay waits for replies on the clock of a bubble, by the hour where the server itself would wait five minutes.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := servertest.NewServer(t, &servertest.Options{Memory: true})
		srv.Delay(servertest.Greeting, time.Hour)
		srv.Delay("RCPT", time.Minute).Skip(1).Times(1)
		p := prototest.NewPeer(t, srv.Dial())
		p.Timeout = -1
		start := time.Now()
		after := func(want time.Duration) {
			t.Helper()
			if got := time.Since(start); got != want {
				t.Errorf("it took %v, want %v", got, want)
			}
		}
		p.Expect("220")
		after(time.Hour)
		p.Ask("EHLO client.example", "250")
		p.Send("MAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nRCPT TO:<d@example.net>\r\n")
		p.Expect("250", "250")
		after(time.Hour)
		p.Expect("250", "250")
		after(time.Hour + time.Minute)

		// The end of the server ends a delay.
		srv.Delay("RSET", time.Hour)
		p.Say("RSET")
		synctest.Wait()
		srv.Close()
		after(time.Hour + time.Minute)
	})
}

// TestTruncate gets the first octets of replies.
func TestTruncate(t *testing.T) {
	for _, name := range []string{servertest.Greeting, "EHLO"} {
		for n := range 12 {
			srv := servertest.NewServer(t, &servertest.Options{Memory: true})
			srv.Truncate(name, n)
			nc := srv.Dial()
			io.WriteString(nc, "EHLO client.example\r\n")
			got, err := io.ReadAll(nc)
			whole := "220 mail.example"
			if name == "EHLO" {
				_, rest, _ := strings.Cut(string(got), "\r\n")
				got, whole = []byte(rest), "250-mail.example"
			}
			if err != nil || string(got) != whole[:n] {
				t.Errorf("%s: the client reads %q, then %v", name, got, err)
			}
			nc.Close()
		}
	}
}

// TestStall never gets a reply. When the client hangs up, the session ends.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := servertest.NewServer(t, &servertest.Options{Memory: true})
		srv.Stall("MAIL")
		nc := srv.Dial()
		p := prototest.NewPeer(t, nc)
		p.Timeout = -1
		p.Expect("220")
		p.Ask("EHLO client.example", "250")
		p.Say("MAIL FROM:<>")
		time.Sleep(24 * time.Hour)
		if srv.Server.Stats().Open != 1 {
			t.Error("the connection is not open any more")
		}
		io.WriteString(nc, strings.Repeat("x", 1<<20)) // is read
		p.Close()
		synctest.Wait()
		if srv.Server.Stats().Open != 0 {
			t.Error("the connection is open after the client has closed it")
		}
	})
}

// TestStopReading writes content until the buffers are full.
func TestStopReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := servertest.NewServer(t, &servertest.Options{Memory: true})
		srv.StopReading("DATA")
		nc := srv.Dial()
		p := prototest.NewPeer(t, nc)
		p.Timeout = -1
		dialogue(t, p, begun+envelope+"C: DATA\nS: 354\n")
		start := time.Now()
		nc.SetWriteDeadline(start.Add(time.Minute))
		n, err := nc.Write(make([]byte, 1<<20))
		if n > 64<<10 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d octets were written, then %v", n, err)
		}
		p.Expect("421") // Timeouts.Content
		if got := time.Since(start); got != 5*time.Minute {
			t.Errorf("the server gave up after %v", got)
		}
	})
}

// TestDropContent hangs up at each octet of a message, by DATA and in chunks. The message is never accepted, and the
// session reads no octet more.
func TestDropContent(t *testing.T) {
	content := "Subject: x\r\n\r\ntext\r\n"
	chunks := fmt.Sprintf("BDAT 5\r\n%sBDAT %d LAST\r\n%s", content[:5], len(content)-5, content[5:])
	for how, sent := range map[string]string{"DATA": content + ".\r\n", "BDAT": chunks} {
		for n := range len(content) {
			var read []byte
			backend := server.MessageFunc(func(_ context.Context, m *server.Message) error {
				var err error
				read, err = io.ReadAll(m.Body)
				return err
			})
			srv := servertest.NewServer(t, &servertest.Options{Memory: true, Backend: backend})
			f := srv.DropContent(int64(n)).For("b@example.net").Times(1)
			other := srv.DropContent(0).For("someone else")
			p := prototest.NewPeer(t, srv.Dial())
			dialogue(t, p, begun+envelope)
			if how == "DATA" {
				p.Ask("DATA", "354")
			}
			p.Send(sent)
			if how == "BDAT" && n >= 5 {
				p.Expect("250")
			}
			p.ExpectEnd()
			srv.Close()
			if len(srv.Inbox.All()) > 0 || !strings.HasPrefix(content[:n], string(read)) || n-len(read) > 6 || f.Hits() != 1 {
				t.Errorf("%s dropped after %d octets: the session has read %q, and there are %d messages", how, n, read,
					len(srv.Inbox.All()))
			}
			if other.Hits() > 0 {
				t.Error("a fault for another recipient has acted")
			}
		}
	}
	// Another message passes.
	srv := servertest.NewServer(t, &servertest.Options{Memory: true})
	srv.DropContent(1).For("someone else")
	p := prototest.NewPeer(t, srv.Dial())
	dialogue(t, p, begun+toDot+"S: 250\n"+envelope)
	p.Send(chunks)
	p.Expect("250", "250")
}

// TestHide leaves keywords out, and what they bring.
func TestHide(t *testing.T) {
	srv := servertest.NewServer(t, &servertest.Options{Memory: true})
	srv.Hide("size", "CHUNKING", "STARTTLS", "SMTPUTF8")
	p := prototest.NewPeer(t, srv.Dial())
	p.Expect("220")
	p.Say("EHLO client.example")
	got := p.Reply()
	for _, keyword := range []string{"SIZE", "CHUNKING", "STARTTLS", "SMTPUTF8"} {
		if strings.Contains(got, keyword) {
			t.Errorf("%s is advertised: %s", keyword, got)
		}
	}
	if !strings.Contains(got, "PIPELINING") {
		t.Errorf("PIPELINING is not advertised: %s", got)
	}
	dialogue(t, p, "C: MAIL FROM:<> SIZE=10\nS: 555\n"+envelope+"C: BDAT 2 LAST|\nS: 50\n")
}

// TestHandshake breaks handshakes of STARTTLS and of implicit TLS.
func TestHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, implicit := range []bool{false, true} {
			srv := servertest.NewServer(t, &servertest.Options{Memory: true, ImplicitTLS: implicit})
			handshake := func() (took time.Duration, err error) {
				nc := srv.Dial()
				defer nc.Close()
				if !implicit {
					io.WriteString(nc, "EHLO client.example\r\nSTARTTLS\r\n")
					for got := ""; !strings.Contains(got, "220 2.0.0"); {
						buf := make([]byte, 1000)
						n, err := nc.Read(buf)
						if err != nil {
							t.Fatal(err)
						}
						got += string(buf[:n])
					}
				}
				start := time.Now()
				nc.SetDeadline(start.Add(30 * time.Second))
				err = tls.Client(nc, srv.ClientTLS()).Handshake()
				return time.Since(start), err
			}
			srv.Drop(servertest.Handshake).Times(1)
			srv.Garble(servertest.Handshake, func([]byte) []byte { return []byte("220 I am no TLS\r\n") }).Times(1)
			srv.Stall(servertest.Handshake).Times(1)
			if _, err := handshake(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("Drop: %v", err)
			}
			var header tls.RecordHeaderError
			if _, err := handshake(); !errors.As(err, &header) {
				t.Errorf("Garble: %v", err)
			}
			if after, err := handshake(); !errors.Is(err, os.ErrDeadlineExceeded) || after != 30*time.Second {
				t.Errorf("Stall: after %v: %v", after, err)
			}
			srv.Delay(servertest.Handshake, 20*time.Second)
			if after, err := handshake(); err != nil || after != 20*time.Second {
				t.Errorf("Delay: after %v: %v", after, err)
			}
			srv.Close()
		}
	})
}

// TestFaultsOnLoopback gets a reply over TCP although the connection is closed behind it while the client still sends.
func TestFaultsOnLoopback(t *testing.T) {
	for range 20 {
		srv := servertest.NewServer(t, nil)
		srv.DropAfter("MAIL")
		nc := srv.Dial()
		io.WriteString(nc, "EHLO client.example\r\nMAIL FROM:<>\r\n"+strings.Repeat("NOOP\r\n", 100))
		got, err := io.ReadAll(nc)
		if err != nil || !bytes.HasSuffix(got, []byte("Sender OK\r\n")) {
			t.Errorf("the client reads %q, then %v", got, err)
		}
		nc.Close()
	}
}

// chaosRun sends messages to a server in chaos, one on each connection, and returns what was said, and how it ended.
func chaosRun(t *testing.T, seed uint64, rate float64) (transcripts string, accepted, kept int) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{TB: t}
		srv := servertest.NewServer(rec, &servertest.Options{Memory: true, NoTLS: true})
		srv.Chaos(seed, rate)
		for i := range 30 {
			to := fmt.Sprintf("user%d@example.net", i)
			err := send(srv.Dial(), nil, "a@example.org", to, hello)
			got := len(srv.Inbox.All(servertest.To(to)))
			if err == nil {
				accepted++
			}
			if kept += got; got > 1 || err == nil && got == 0 {
				t.Errorf("the message to %s was kept %d times; the client got %v", to, got, err)
			}
			synctest.Wait()
			time.Sleep(time.Minute) // what lingers is gone
		}
		srv.Close()
		transcripts = strings.Join(srv.Transcripts(), "\n")
		errs, logs := rec.end()
		if want := fmt.Sprintf("seed %d", seed); errs != "" || seed != 0 && !strings.Contains(logs, want) {
			t.Errorf("the test says %q and %q, want %q", errs, logs, want)
		}
	})
	return transcripts, accepted, kept
}

// TestChaos has the same faults with the same seed.
func TestChaos(t *testing.T) {
	first, accepted, kept := chaosRun(t, 1, 0.1)
	if accepted < 5 || accepted > 28 || kept < accepted {
		t.Errorf("%d messages of 30 were accepted, %d kept", accepted, kept)
	}
	again, _, _ := chaosRun(t, 1, 0.1)
	if first != again {
		t.Error("the same seed has other faults the second time")
	}
	if other, _, _ := chaosRun(t, 2, 0.1); other == first {
		t.Error("another seed has the same faults")
	}
	for _, want := range []string{"S: 421", "S: 45", "S: 55", "dropped"} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in the transcripts", want)
		}
	}
	if _, accepted, _ := chaosRun(t, 3, 0); accepted != 30 {
		t.Errorf("without chaos, %d messages of 30 were accepted", accepted)
	}
	if _, accepted, _ := chaosRun(t, 4, 1); accepted != 0 {
		t.Errorf("with nothing but chaos, %d messages were accepted", accepted)
	}
	a, _, _ := chaosRun(t, 0, 0.2)
	if b, _, _ := chaosRun(t, 0, 0.2); a == b {
		t.Error("two random seeds have the same faults")
	}
}
