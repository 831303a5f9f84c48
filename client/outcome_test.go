package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
)

// A lateConn is a connection whose last Write returns only once the reply to it and the end of the connection have been
// read, which is what a slow scheduler makes of any connection.
type lateConn struct {
	net.Conn
	last func(p []byte) bool
	end  chan struct{}
}

func (l *lateConn) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if err != nil {
		select {
		case <-l.end:
		default:
			close(l.end)
		}
	}
	return n, err
}

func (l *lateConn) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	if l.last(p) {
		<-l.end
	}
	return n, err
}

// TestAcceptedAtTheEnd has servers that accept a message and hang up. It was accepted, even if the client learns of
// both before it learns that its own write has come to its end; to report a failure would have it sent twice.
func TestAcceptedAtTheEnd(t *testing.T) {
	for name, s := range map[string]string{
		"content": hello("PIPELINING") + groupUpToData + "C: hello\nC: .\nS: 250 queued\nCLOSE",
		"chunk": hello("PIPELINING", "CHUNKING") + "C: MAIL*\nC: RCPT*\nC: BDAT 7 LAST\nC: hello\nS: 250 ok\nS: 250 ok\n" +
			"S: 250 queued\nCLOSE",
	} {
		t.Run(name, func(t *testing.T) {
			opt := inPlaintext(clienttest.New(t, s))
			dial := opt.DialContext
			opt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				last := func(p []byte) bool {
					return bytes.HasSuffix(p, []byte("\r\n.\r\n")) || bytes.HasSuffix(p, []byte("hello\r\n"))
				}
				return &lateConn{conn, last, make(chan struct{})}, err
			}
			c, err := Dial(context.Background(), host, opt)
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
			if err != nil || res.Sent() != 1 {
				t.Errorf("%+v, %v: want the message sent", res, err)
			}
			_ = c.Close()
		})
	}
}

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
		{"none accepted", greet + group + "C: DATA\nS: 250 ok\nS: 550 a\nS: 550 b\nS: 450 c\nS: 550 d\nS: 503 no\nC: RSET\n" +
			"S: 250 ok\n",
			"550 550 450 550", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, func(o *Options) { o.Protocol = proto.LMTP },
				strings.Replace(tt.script, "C: RSET\nS: 250 ok\n", "C: *\nS: 250 ok\n", 1))
			res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example", "e@d.example", "c@d.example",
				"f@d.example"))
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

// TestT10_OneReplyForAll: a server that answers as if it spoke SMTP keeps the client waiting for the other replies.
// What it has said stands, and the rest is as if the connection had been lost.
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

// TestT08_AsTheyCome has a server that sends each reply to the content only when the client has made use of the one
// before (RFC 2033 section 5).
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

// TestF24_EarlyReplies checks what a reply in the middle of content does: a refusal counts and ends the session, and a
// success cannot be one.
func TestF24_EarlyReplies(t *testing.T) {
	m := func() *Message {
		m := message("", "c@d.example")
		m.Body = endless{}
		return m
	}
	for _, tt := range []struct {
		reply, code string
		temporary   bool
	}{
		{"552 too large", "552", false},
		{"421 shutting down", "421", true},
		{"250 ok", "-1", true},
		{"354 more", "-1", true},
	} {
		t.Run(tt.reply, func(t *testing.T) {
			here, there := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				in := &lineReader{r: here}
				io.WriteString(here, "220 mail.example\r\n")
				in.line()
				io.WriteString(here, "250-mail.example\r\n250 PIPELINING\r\n")
				in.line()
				in.line()
				in.line()
				io.WriteString(here, "250 ok\r\n250 ok\r\n354 go on\r\n")
				in.line()
				// From here on nothing is read.
				io.WriteString(here, tt.reply+"\r\n")
			}()
			c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.Send(context.Background(), m())
			<-done
			here.Close()
			if codes(res) != tt.code || Temporary(err) != tt.temporary || !SafeToRetry(err) {
				t.Errorf("%v, recipients %s", err, codes(res))
			}
			if _, protocol := asType[*ProtocolError](err); protocol != (tt.code == "-1") {
				t.Errorf("%v", err)
			}
			if err := c.Noop(context.Background()); !errors.Is(err, ErrClosed) {
				t.Errorf("the connection: %v, want it to be closed", err)
			}
		})
	}
}

// TestClaimedSuccess checks that a server cannot accept a message whose last octets it has not taken in.
func TestClaimedSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go func() {
			in := &lineReader{r: here}
			io.WriteString(here, "220 mail.example\r\n")
			in.line()
			io.WriteString(here, "250-mail.example\r\n250 PIPELINING\r\n")
			in.line()
			in.line()
			in.line()
			io.WriteString(here, "250 ok\r\n250 ok\r\n354 go on\r\n")
			io.ReadFull(here, make([]byte, 5)) // of the seven that are content, and its end
			io.WriteString(here, "250 ok\r\n")
		}()
		defer here.Close()
		c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
		if _, ok := asType[*ProtocolError](err); !ok || res.Sent() != 0 {
			t.Errorf("%v, %d served", err, res.Sent())
		}
		if SafeToRetry(err) || SafeToRetry(res.Recipients[0].Err) {
			t.Errorf("%v: nobody knows what the server made of it", err)
		}
	})
}

// TestLastWords checks that a reply counts even if the connection ends with it.
func TestLastWords(t *testing.T) {
	for range 100 {
		c := dial(t, nil, hello("PIPELINING")+groupUpToData+"C: hello\nC: .\nS: 250 queued\nCLOSE")
		if res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example")); err != nil || res.Sent() != 1 {
			t.Fatal(err)
		}
		c = dial(t, nil, hello("PIPELINING")+"C: NOOP\nS: 250 ok\nCLOSE")
		if err := c.Noop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnknown checks that the outcome is unknown if the connection is lost behind the end of the content (RFC 1047).
func TestUnknown(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		keywords     []string
		unknown      bool
	}{
		{"before the content", "C: MAIL*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 250 ok\nCLOSE", []string{"PIPELINING"}, false},
		{"behind the end", groupUpToData + "C: hello\nC: .\nCLOSE", []string{"PIPELINING"}, true},
		{"in the reply", groupUpToData + "C: hello\nC: .\nS: 250-o\nCLOSE", []string{"PIPELINING"}, true},
		{"behind the last chunk", "C: MAIL*\nC: RCPT*\nC: BDAT 7 LAST\nC: hello\nS: 250 ok\nCLOSE",
			[]string{"PIPELINING", "CHUNKING"}, true},
		{"behind the last chunk, refused", "C: MAIL*\nC: RCPT*\nC: BDAT 7 LAST\nC: hello\nS: 250 ok\nS: 550 no\nCLOSE",
			[]string{"PIPELINING", "CHUNKING"}, false},
		{"with a word", groupUpToData + "C: hello\nC: .\nS: 421 shutting down\nCLOSE", []string{"PIPELINING"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, nil, hello(tt.keywords...)+tt.script)
			res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
			e, ok := asType[*SendError](err)
			if !ok || e.Unknown != tt.unknown || SafeToRetry(err) == tt.unknown {
				t.Errorf("%v: unknown %v, safe to retry %v", err, e.Unknown, SafeToRetry(err))
			}
			if err := res.Recipients[0].Err; SafeToRetry(err) == tt.unknown ||
				!Temporary(err) && tt.name != "behind the last chunk, refused" {
				t.Errorf("the recipient: %v: safe to retry %v, temporary %v", err, SafeToRetry(err), Temporary(err))
			}
		})
	}
}

// asking has the client ask for an outcome for each recipient.
func asking(o *Options) {
	o.Extensions = append(ehlo.Default(), ext.Extension{
		Keyword: "XEACH",
		Mail:    []ext.Param{{Key: "XEACH", MaxLength: len(" XEACH"), Flag: true, PerRecipient: true}},
		Prepare: func(_ proto.Caps, e *ext.Envelope) error {
			e.Mail = e.Mail.SetFlag("XEACH")
			return nil
		},
	})
}

// TestSplit has a server tell the outcome for each recipient, and then for all.
func TestSplit(t *testing.T) {
	const begin = `
C: MAIL FROM:<a@b.example> XEACH
C: RCPT TO:<c@d.example>
C: RCPT TO:<e@f.example>
C: RCPT TO:<g@h.example>
C: DATA
S: 250 ok
S: 250 ok
S: 550 no such user
S: 250 ok
S: 354 go on
C: hello
C: .
`
	const quit = "C: NOOP\nS: 250 ok\nC: QUIT\nS: 221 bye\n"
	for _, tt := range []struct {
		name, replies string
		codes         string
		unknown, lost bool
		reply         string // Result.Reply
	}{
		{"all", "S: 353 each\nS: 250 one\nS: 250 two\nS: 250 queued\n" + quit, "0 550 0", false, false, "queued"},
		{"some", "S: 353 each\nS: 554 spam\nS: 250 two\nS: 250 queued\n" + quit, "554 550 0", false, false, "queued"},
		{"none", "S: 353 each\nS: 554 spam\nS: 450 full\nS: 450 none\n" + quit, "554 550 450", false, false, "none"},
		{"refused in the end", "S: 353 each\nS: 554 spam\nS: 250 fine\nS: 452 no room after all\n" + quit, "554 550 452",
			false, false, "no room after all"},
		{"a single reply", "S: 250 queued\n" + quit, "0 550 0", false, false, "queued"},
		{"a single refusal", "S: 552 too large\n" + quit, "552 550 552", false, false, "too large"},
		{"lost before the end", "S: 353 each\nS: 554 spam\nS: 250 fine\nCLOSE", "554 550 -1", true, true, ""},
		{"lost before the first", "S: 353 each\nCLOSE", "-1 550 -1", true, true, ""},
		{"421 before the end", "S: 353 each\nS: 250 fine\nS: 421 closing\nCLOSE", "421 550 421", false, true, "closing"},
		{"353 twice", "S: 353 each\nS: 353 each\nHANGUP", "-1 550 -1", true, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, asking, hello("PIPELINING", "XEACH")+begin+tt.replies)
			res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example", "e@f.example", "g@h.example"))
			e, ok := asType[*SendError](err)
			if !ok || e.Unknown != tt.unknown {
				t.Fatalf("%v, unknown is %t", err, ok && e.Unknown)
			}
			if got := codes(res); got != tt.codes {
				t.Errorf("the outcomes are %s, want %s", got, tt.codes)
			}
			for _, r := range res.Recipients {
				if _, told := asReply(r.Err); r.Err != nil && SafeToRetry(r.Err) != told {
					t.Errorf("%v: safe to retry %v", r.Err, SafeToRetry(r.Err))
				}
			}
			if tt.reply != "" && res.Reply.Text != tt.reply {
				t.Errorf("the reply is %v, want %q", res.Reply, tt.reply)
			}
			if err := c.Noop(context.Background()); errors.Is(err, ErrClosed) != tt.lost || err != nil && !tt.lost {
				t.Errorf("the next call: %v, the connection is lost: %t", err, tt.lost)
			}
		})
	}
}

// TestSplitUnasked has a server promise outcomes to a client that has not asked for them.
func TestSplitUnasked(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING", "XEACH")+groupUpToData+"C: hello\nC: .\nS: 353 each\nHANGUP")
	_, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
	if _, ok := asType[*ProtocolError](err); !ok {
		t.Errorf("%v, want a ProtocolError", err)
	}
}

// TestReplyToNobody: a reply to content of which no recipient is left is for nobody.
func TestReplyToNobody(t *testing.T) {
	c := dial(t, nil, hello("PIPELINING")+"C: MAIL*\nC: RCPT*\nC: DATA\nS: 250 ok\nS: 550 no\nS: 354 go\nC: .\nS: 554 none\n"+bye)
	res, err := c.Send(context.Background(), message("hello\r\n", "c@d.example"))
	if err == nil || res.Reply.Code != 0 {
		t.Errorf("%v, the reply to the content is %v, and there was no recipient to have one", err, res.Reply)
	}
}
