package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"smtpkit.example/smtp/client/clienttest"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

// TestChunks plays transactions whose content travels in chunks (RFC 3030).
func TestChunks(t *testing.T) {
	const group = "C: MAIL FROM:<a@b.example>\nC: RCPT TO:<c@d.example>\nC: RCPT TO:<e@d.example>\n"
	const small = group + "C: BDAT 7 LAST\nC: hello\n"
	const first = group + "C: BDAT 65536\nC+ \"x\" * 65536\n"
	const chunk = "C: BDAT 65536\nC+ \"x\" * 65536\n"
	reset := "C: RSET\nS: 250 ok\n"
	large := strings.Repeat("x", 4*blockSize+1)
	for _, tt := range []struct{ name, body, script, want string }{
		{"N17 one chunk", "hello\r\n", small + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 done\n", "0 0"},
		{"N19 one chunk refused", "hello\r\n", small + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 554 no\n" + reset, "554 554"},
		{"one recipient refused", "hello\r\n", small + "S: 250 ok\nS: 550 no\nS: 250 ok\nS: 250 done\n", "550 0"},
		{"N19 all recipients refused", "hello\r\n", small + "S: 250 ok\nS: 550 no\nS: 450 no\nS: 503 no\n" + reset,
			"550 450"},
		{"MAIL refused", "hello\r\n", small + "S: 550 no\nS: 503 no\nS: 503 no\nS: 503 no\n" + reset, "550 550"},
		{"many chunks", large, first + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 ok\n" +
			chunk + chunk + chunk + "C: BDAT 1 LAST\nC~ \"x\"\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 done\n", "0 0"},
		{"many chunks, recipients refused", large, first + "S: 250 ok\nS: 550 no\nS: 550 no\nS: 503 no\n" + reset, "550 550"},
		{"N18 N19 first of many refused", large, first + "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 552 no\n" + reset, "552 552"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, nil, hello("PIPELINING", "CHUNKING")+tt.script+"C: NOOP\nS: 250 ok\n")
			res, err := c.Send(context.Background(), message(tt.body, "c@d.example", "e@d.example"))
			if codes(res) != tt.want {
				t.Errorf("the recipients got %s, want %s; %v", codes(res), tt.want, err)
			}
			if err := c.Noop(context.Background()); err != nil {
				t.Errorf("the connection: %v", err)
			}
		})
	}
}

// TestN18N22_ChunkRefused checks that no chunk follows one that was refused, where each is awaited.
func TestN18N22_ChunkRefused(t *testing.T) {
	c := dial(t, nil, hello("CHUNKING")+`
C: MAIL FROM:<a@b.example>
S: 250 ok
C: RCPT TO:<c@d.example>
S: 250 ok
C: BDAT 65536
C+ "x" * 65536
S: 250 ok
C: BDAT 65536
C+ "x" * 65536
S: 552 too large
C: RSET
S: 250 ok
C: NOOP
S: 250 ok`)
	res, err := c.Send(context.Background(), message(strings.Repeat("x", 5*blockSize), "c@d.example"))
	if codes(res) != "552" || !SafeToRetry(err) {
		t.Errorf("%s, %v", codes(res), err)
	}
	if err := c.Noop(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestN22_ChunksAhead checks that chunks follow each other without waiting where groups are on offer, and stop soon
// when one is refused.
func TestN22_ChunksAhead(t *testing.T) {
	here, there := net.Pipe()
	chunks, resets := 0, 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer here.Close()
		in := &lineReader{r: here}
		io.WriteString(here, "220 mail.example\r\n")
		refused := false
		var held []string
		for {
			line, err := in.line()
			if err != nil {
				return
			}
			verb, args, _ := strings.Cut(line, " ")
			reply := "250 ok"
			switch verb {
			case "EHLO":
				reply = "250-mail.example\r\n250-PIPELINING\r\n250 CHUNKING"
			case "BDAT":
				var n int64
				fmt.Sscan(args, &n)
				in.copy(io.Discard, n)
				chunks++
				if chunks > 1 && chunks < 4 {
					held = append(held, "250 ok") // three are sent before any of them is answered
					continue
				}
				refused = refused || chunks == 4
				if refused {
					reply = "552 no"
				}
			case "RSET":
				resets++
			}
			for _, h := range held {
				io.WriteString(here, h+"\r\n")
			}
			held = nil
			io.WriteString(here, reply+"\r\n")
		}
	}()
	c, err := NewClient(context.Background(), there, "mail.example", &Options{TLS: ext.TLSInsecureNone})
	if err != nil {
		t.Fatal(err)
	}
	m := message("", "c@d.example")
	m.Body = endless{}
	res, err := c.Send(context.Background(), m)
	if codes(res) != "552" {
		t.Errorf("%s, %v", codes(res), err)
	}
	c.Close()
	<-done
	if chunks > 4+maxChunksAhead || resets != 1 {
		t.Errorf("%d chunks and %d RSET", chunks, resets)
	}
}

// TestN21_Binary checks that binary content is sent as it is, and to no server that does not take it.
func TestN21_Binary(t *testing.T) {
	binary := func() *Message {
		m := message("a\nb\r\x00\xff.\n", "c@d.example")
		m.Needs = ext.Binary
		return m
	}
	c := dial(t, nil, hello("PIPELINING", "CHUNKING", "BINARYMIME", "SIZE")+`
C: MAIL FROM:<a@b.example> SIZE=8 BODY=BINARYMIME
C: RCPT TO:<c@d.example>
C: BDAT 8 LAST
C~ "a\nb\r\x00\xff.\n"
S: 250 ok
S: 250 ok
S: 250 ok`)
	if _, err := c.Send(context.Background(), binary()); err != nil {
		t.Error(err)
	}
	for _, keywords := range [][]string{{"SIZE"}, {"CHUNKING", "8BITMIME"}, {"BINARYMIME"}} {
		c := dial(t, nil, hello(keywords...))
		_, err := c.Send(context.Background(), binary())
		if e, ok := asType[*ext.UnsupportedError](err); !ok || e.Keyword != "BINARYMIME" {
			t.Errorf("to a server that offers %v: %v, want an UnsupportedError", keywords, err)
		}
	}
}

// TestN20_NoChunks checks that no chunk is sent to a server which does not offer to take them, nor to one whose offer
// the caller does without.
func TestN20_NoChunks(t *testing.T) {
	const send = "C: MAIL FROM:<a@b.example>\nS: 250 ok\nC: RCPT TO:<c@d.example>\nS: 250 ok\nC: DATA\nS: 354 go on\n" +
		"C: x\nC: .\nS: 250 ok\n"
	for name, c := range map[string]*Client{
		"not offered": dial(t, nil, hello()+send),
		"without":     dial(t, func(o *Options) { o.Without = []string{"chunking"} }, hello("CHUNKING")+send),
	} {
		if _, err := c.Send(context.Background(), message("x", "c@d.example")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "without" {
			continue
		}
		if r, err := c.Do(context.Background(), "BDAT", "0 LAST"); err == nil {
			t.Errorf("%s: BDAT was sent and answered %v", name, r)
		}
	}
}

// TestL12_LockStep checks that nothing is sent ahead to a server that does not take groups of commands, and that a
// refusal ends the transaction at once.
func TestL12_LockStep(t *testing.T) {
	c := dial(t, nil, hello()+`
C: MAIL FROM:<a@b.example>
S: 550 no
C: MAIL FROM:<a@b.example>
S: 250 ok
C: RCPT TO:<x@d.example>
S: 550 no
C: RCPT TO:<y@d.example>
S: 450 later
C: RSET
S: 250 ok
C: MAIL FROM:<>
S: 250 ok
C: RCPT TO:<x@d.example>
S: 250 ok
C: DATA
S: 354 go on
C: hello
C: .
S: 250 queued as 123
C: QUIT
S: 221 bye`)
	ctx := context.Background()
	res, err := c.Send(ctx, message("hello", "x@d.example", "y@d.example"))
	if codes(res) != "550 550" || Temporary(err) {
		t.Errorf("MAIL refused: %s, %v", codes(res), err)
	}
	res, err = c.Send(ctx, message("hello", "x@d.example", "y@d.example"))
	if codes(res) != "550 450" || !Temporary(err) {
		t.Errorf("all recipients refused: %s, %v", codes(res), err)
	}
	m := message("hello", "x@d.example")
	m.From = proto.Address{}
	res, err = c.Send(ctx, m)
	if err != nil || res.Reply.Text != "queued as 123" || res.Recipients[0].Reply.Code != 250 {
		t.Errorf("the reply is %+v, %v", res, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestWrites checks what leaves in one write: the envelope with DATA, and a message of 1000 lines with its end.
func TestWrites(t *testing.T) {
	srv := clienttest.New(t, hello("PIPELINING")+`
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>
C: RCPT TO:<e@d.example>
C: DATA
S: 250 ok
S: 250 ok
S: 250 ok
S: 354 go on
C+ "line\r\n" * 1000
C: .
S: 250 ok`)
	var conn *countingConn
	opt := inPlaintext(srv)
	opt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := srv.Dial(ctx, network, addr)
		conn = &countingConn{Conn: c}
		return conn, err
	}
	c, err := Dial(context.Background(), host, opt)
	if err != nil {
		t.Fatal(err)
	}
	m := message(strings.Repeat("line\n", 1000), "c@d.example", "e@d.example")
	if _, err := c.Send(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if len(conn.writes) != 4 { // EHLO, the envelope, the content, QUIT
		t.Errorf("%d writes, want 4: %.60q", len(conn.writes), conn.writes)
	}
	if want := "DATA\r\n"; !strings.HasSuffix(conn.writes[1], want) || !strings.HasPrefix(conn.writes[1], "MAIL") {
		t.Errorf("the envelope is %q", conn.writes[1])
	}
}

// TestL16_ManyRecipients sends 5000 RCPT to a server that does not read on before each reply was taken, over a pipe
// that holds nothing (RFC 2920 section 3.1).
func TestL16_ManyRecipients(t *testing.T) {
	c, srv := pipe(t, "PIPELINING")
	var to []string
	for i := range 5000 {
		to = append(to, fmt.Sprintf("recipient%d@d.example", i))
	}
	m := message("hello", to...)
	m.Body = io.MultiReader(m.Body) // which cannot be read again for another transaction
	res, err := c.Send(context.Background(), m)
	if err != nil || res.Sent() != 5000 {
		t.Errorf("%d served, %v", res.Sent(), err)
	}
	if got := srv.content.String(); got != "hello\r\n" {
		t.Errorf("sent %q", got)
	}
}
