package client

import (
	"bufio"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestLMTP plays deliveries by LMTP, where each recipient accepted has a reply to the content of its own (RFC 2033).
func TestLMTP(t *testing.T) {
	greet := strings.Replace(hello("PIPELINING"), "EHLO", "LHLO", 1)
	chunks := strings.Replace(hello("PIPELINING", "CHUNKING"), "EHLO", "LHLO", 1)
	const group = `
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>
C: RCPT TO:<e@d.example>
C: RCPT TO:<c@d.example>
C: RCPT TO:<f@d.example>
`
	const rcpts = "S: 250 ok\nS: 250 ok\nS: 550 no\nS: 250 ok\nS: 250 ok\n"
	const data = group + "C: DATA\n" + rcpts + "S: 354 go on\nC: hello\nC: .\n"
	for _, tt := range []struct {
		name, script, want string
		unknown            bool
	}{
		{"T08 a reply for each", greet + data + "S: 250 one\nS: 452 two\nS: 250 three\n", "0 550 452 0", false},
		{"T04 in chunks", chunks + group + "C: BDAT 7 LAST\nC: hello\n" + rcpts +
			"S: 250 one\nS: 554 two\nS: 250 three\nC: RSET\nS: 250 ok\n", "0 550 554 0", false},
		{"T09 lost after one", greet + data + "S: 250 one\nCLOSE", "0 550 -1 -1", true},
		{"T09 lost after two", greet + data + "S: 550 one\nS: 250 two\nCLOSE", "550 550 0 -1", true},
		{"421 after one", greet + data + "S: 250 one\nS: 421 bye\nHANGUP", "0 550 421 421", false},
		{"none accepted", greet + group + "C: DATA\nS: 250 ok\nS: 550 a\nS: 550 b\nS: 450 c\nS: 550 d\nS: 503 no\nC: RSET\nS: 250 ok\n",
			"550 550 450 550", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, func(o *Options) { o.Protocol = proto.LMTP }, strings.Replace(tt.script, "C: RSET\nS: 250 ok\n", "C: *\nS: 250 ok\n", 1))
			res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example", "e@d.example", "c@d.example", "f@d.example"))
			e, ok := asType[*SendError](err)
			if codes(res) != tt.want || !ok || e.Unknown != tt.unknown {
				t.Errorf("the recipients got %s, want %s; %v", codes(res), tt.want, err)
			}
			for _, r := range res.Recipients {
				if _, told := asReply(r.Err); r.Err != nil && !told && !Temporary(r.Err) {
					t.Errorf("%v: %v, want a temporary failure", r.Address, r.Err)
				}
			}
		})
	}
}

// TestT10_OneReplyForAll: a server that answers as if it spoke SMTP keeps the client waiting for the other replies. What it
// has said stands, and the rest is as if the connection had been lost.
func TestT10_OneReplyForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := strings.Replace(hello("PIPELINING"), "EHLO", "LHLO", 1) + `C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>
C: RCPT TO:<e@d.example>
C: RCPT TO:<f@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 250 ok
S: 250 ok
S: 354 go on
C: x
C: .
S: 250 all of them
HANGUP`
		c := dial(t, func(o *Options) { o.Protocol = proto.LMTP }, script)
		start := time.Now()
		res, err := c.Send(context.Background(), message("x\r\n", "c@d.example", "e@d.example", "f@d.example"))
		e, ok := asType[*SendError](err)
		if codes(res) != "0 -1 -1" || !ok || !e.Unknown || !Temporary(err) || SafeToRetry(err) {
			t.Errorf("the recipients got %s; %v", codes(res), err)
		}
		for _, r := range res.Recipients[1:] {
			if lost, ok := asType[*LostError](r.Err); !ok || !lost.Timeout() || !Temporary(r.Err) {
				t.Errorf("%v: %v, want a timeout", r.Address, r.Err)
			}
		}
		if took := time.Since(start); took != 10*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

// TestT08_AsTheyCome has a server that sends each reply to the content only when the client has made use of the one before
// (RFC 2033 section 5).
func TestT08_AsTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		read := make(chan string)
		go func() {
			defer here.Close()
			r := bufio.NewReader(here)
			for _, step := range []struct{ after, say string }{ // the last line of the client's, and what answers it
				{"", "220 mail.example\r\n"},
				{"LHLO client.example\r\n", "250-mail.example\r\n250 PIPELINING\r\n"},
				{"DATA\r\n", "250 ok\r\n"}, {"", "250 ok\r\n"}, {"", "250 ok\r\n"}, {"", "354 go on\r\n"},
				{".\r\n", "250 one\r\n"}, {"", "452 two\r\n"},
				{"QUIT\r\n", "221 bye\r\n"},
			} {
				for line := ""; line != step.after; {
					var err error
					if line, err = r.ReadString('\n'); err != nil {
						t.Error(err)
						return
					}
				}
				if _, err := io.WriteString(here, step.say); err != nil {
					t.Error(err)
				}
				if got := <-read; got != step.say[:3] {
					t.Errorf("the client has read %s, want %s", got, step.say)
				}
			}
		}()
		c, err := NewClient(context.Background(), there, "mail.example", &Options{
			Hostname: "client.example", Protocol: proto.LMTP, TLS: ext.TLSInsecureNone,
			Trace: &Trace{Reply: func(_ context.Context, _ *Client, _ string, r proto.Reply) { read <- strconv.Itoa(r.Code) }},
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		res, _ := c.Send(context.Background(), message("x\r\n", "c@d.example", "c@d.example"))
		if codes(res) != "0 452" || time.Since(start) != 0 {
			t.Errorf("the recipients got %s in %v", codes(res), time.Since(start))
		}
		c.Close()
	})
}

// TestRcptReply: what the server says of a recipient is kept beside what it says of the content.
func TestRcptReply(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		script := hello("PIPELINING") + `C: MAIL FROM:<a@b.example>
C: RCPT TO:<1@d.example>
C: RCPT TO:<2@d.example>
C: DATA
S: 250 ok
S: 250-fine
S: 250 likes (a=b)
S: 550 no
S: 354 go on
C: x
C: .
S: 250 queued
C: MAIL FROM:<a@b.example>
C: RCPT TO:<1@d.example>
C: DATA
S: 451 not now
S: 250 stray
S: 503 no`
		opt := func(*Options) {}
		if lmtp {
			script = strings.Replace(script, "EHLO", "LHLO", 1)
			opt = func(o *Options) { o.Protocol = proto.LMTP }
		}
		c := dial(t, opt, script)
		res, err := c.Send(t.Context(), message("x\r\n", "1@d.example", "2@d.example"))
		if err == nil {
			t.Fatal("the second recipient was refused")
		}
		one, two := res.Recipients[0], res.Recipients[1]
		if one.Rcpt.Code != 250 || one.Rcpt.Text != "fine\nlikes (a=b)" || one.Reply.Text != "queued" {
			t.Errorf("the first: %+v", one)
		}
		if two.Rcpt.Code != 550 || two.Rcpt != two.Reply {
			t.Errorf("the second: %+v", two)
		}
		res, _ = c.Send(t.Context(), message("x\r\n", "1@d.example"))
		if one := res.Recipients[0]; one.Rcpt != (proto.Reply{}) || one.Reply.Code != 451 {
			t.Errorf("where the sender was refused: %+v", one)
		}
	}
}
