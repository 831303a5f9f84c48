package server_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestZ60_ChunkWithoutRecipient has the octets of a chunk that nobody wants look like commands.
func TestZ60_ChunkWithoutRecipient(t *testing.T) {
	const hidden = "MAIL FROM:<evil@b.example>\r\nRCPT TO:<v@y.example>\r\n"
	for _, c := range []struct{ name, before, want string }{
		{"Z60 no transaction", "", ""},
		{"Z60 no recipient", "MAIL FROM:<a@b.example>\r\n", "250 "},
		{"Z61 recipient refused", "MAIL FROM:<a@b.example>\r\nRCPT TO:<reject@d.example>\r\n", "250 550 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := &store{rcpt: func(context.Context, proto.Address, proto.Params) error {
				return proto.Refuse(550, proto.Status{5, 1, 1}, "no")
			}}
			p := dial(t, newServer(t, st, server.Options{}))
			p.hello()
			p.send(c.before + "BDAT 51 LAST\r\n" + hidden)
			if len(hidden) != 51 {
				t.Fatalf("%d octets", len(hidden))
			}
			p.expect(strings.Fields(c.want + "503")...)
			p.ask("NOOP", "250 ")
			p.quit()
			if strings.Contains(st.calls(), "evil") {
				t.Error("a command in a chunk was carried out")
			}
		})
	}
}

// TestChunkAttacks sends chunks with odd lines. What is behind each is a command, unless the server closes.
func TestChunkAttacks(t *testing.T) {
	for _, c := range []struct {
		name, say, want string
		closes          bool
	}{
		{"Z62 beyond 64 bits", "BDAT 18446744073709551616\r\n", "501 ", true},
		{"Z62 beyond 63 bits", "BDAT 9223372036854775808\r\n", "501 ", true},
		{"Z62 beyond 32 bits", "BDAT 4294967296\r\n", "552 ", true},
		{"Z62 plus", "BDAT +5\r\n", "501 ", true},
		{"Z62 minus", "BDAT -1\r\n", "501 ", true},
		{"Z62 letter", "BDAT 5a\r\n", "501 ", true},
		{"Z62 two spaces", "BDAT  5\r\nhello", "501 ", true},
		{"Z62 hexadecimal", "BDAT 0x5\r\n", "501 ", true},
		{"Z62 exponent", "BDAT 1e3\r\n", "501 ", true},
		{"Z62 leading zero", "BDAT 05 LAST\r\nhello", "250 ", false},
		{"Z63 text behind LAST", "BDAT 5 LAST junk\r\nhello", "501 ", false},
		{"Z63 lower case", "BDAT 5 last\r\nhello", "250 ", false},
		{"Z66 dot between bare LFs", "BDAT 10 LAST\r\nabc\n.\nRSET", "554 5.6.0", false},
		{"Z66 NUL", "BDAT 5 LAST\r\na\x00b\r\n", "250 ", false},
		{"Z69 dot on a line of its own", "BDAT 10 LAST\r\nab\r\n.\r\nc\r\n", "250 ", false},
		{"Z69 dot in two chunks", "BDAT 2\r\n\r\nBDAT 3 LAST\r\n.\r\n", "250 2.0.0 2 octets", false},
		{"Z70 a chunk inside of another", "BDAT 17 LAST\r\nBDAT 3 LAST\r\nab\r\n", "250 ", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := withData(t, server.Options{}, nil)
			p.send(c.say)
			p.expect(c.want)
			if strings.Count(c.say, "BDAT") == 2 && !strings.Contains(c.name, "inside") {
				p.expect("250 ")
			}
			if c.closes {
				if p.ended() == nil {
					t.Error("ServeConn returned nil")
				}
				return
			}
			p.ask("NOOP", "250 ")
			p.quit()
		})
	}
}

// TestZ67_TooLargeChunk: a chunk that is too large for a message is read and has 552, and the session goes on. For one
// of more than twice that size nobody waits.
func TestZ67_TooLargeChunk(t *testing.T) {
	p, _ := withData(t, server.Options{Limits: server.Limits{MessageSize: 2 << 20}}, nil)
	p.chunk("BDAT 3145728 LAST", strings.Repeat("x", 3<<20), "552 5.3.4")
	p.ask("RSET", "250 ")
	p.begin()
	p.ask("BDAT 5000000 LAST", "552 5.3.4")
	if p.ended() == nil {
		t.Error("ServeConn returned nil")
	}
}

// TestZ68_MillionChunks sends chunks of one octet. The server takes a thousand, and then says 421 and closes.
func TestZ68_MillionChunks(t *testing.T) {
	p, st := withData(t, server.Options{}, nil)
	sent := make(chan error)
	go func() {
		block := strings.Repeat("BDAT 1\r\nx", 1000)
		var err error
		for range 1000 {
			if _, err = io.WriteString(p.nc, block); err != nil {
				break
			}
		}
		sent <- err
	}()
	for range 1000 {
		p.expect("250 2.0.0 1 octet")
	}
	p.expect("421 4.7.0")
	if p.ended() == nil || <-sent == nil {
		t.Error("the server took a million chunks")
	}
	if m := st.messages(); len(m) != 0 {
		t.Errorf("%d messages were kept", len(m))
	}
}

// TestZ70_CommandsInContent: in the content of DATA, BDAT is text.
func TestZ70_CommandsInContent(t *testing.T) {
	const text = "BDAT 3 LAST\r\nabc\r\nRSET\r\nDATA\r\n"
	p, st := withData(t, server.Options{}, nil)
	p.ask("DATA", "354 ", text+".", "250 ", "NOOP", "250 ")
	p.quit()
	if m := st.messages(); len(m) != 1 || m[0] != text {
		t.Errorf("kept are %q", m)
	}
}

// TestZ184_SlowContent: at an octet a second, the content of a message has ten minutes. Then the server says 421 and
// closes, and nothing is kept.
func TestZ184_SlowContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, st := withData(t, server.Options{}, nil)
		p.ask("DATA", "354 ")
		start := time.Now()
		for open := true; open; {
			select {
			case line := <-p.lines:
				open = false
				d := time.Since(start) - 10*time.Minute
				if !strings.HasPrefix(line, "421 4.4.2") || d < 0 || d > 2*time.Second {
					t.Errorf("%v after ten minutes the server says %q, want 421", d, line)
				}
			case <-time.After(time.Second):
				p.send("x")
			}
		}
		if p.ended() == nil {
			t.Error("ServeConn returned nil")
		}
		if m := st.messages(); len(m) != 0 {
			t.Errorf("kept are %q", m)
		}
	})
}

// TestZ185_OneLineOfContent: a message that is one line is refused when it is larger than a message may be, and the
// server does not read it to its end.
func TestZ185_OneLineOfContent(t *testing.T) {
	var most, all int
	srv := newServer(t, &store{data: func(_ context.Context, r io.Reader) error {
		b := make([]byte, 1<<20)
		for {
			n, err := r.Read(b)
			most, all = max(most, n), all+n
			if err != nil {
				return err
			}
		}
	}}, server.Options{Limits: server.Limits{MessageSize: 1 << 20}})
	p := dial(t, srv)
	p.hello()
	p.ask("MAIL FROM:<a@b.example> SIZE=9223372036854775807", "552 5.3.4")
	p.begin()
	p.ask("DATA", "354 ")
	before := srv.Stats().Memory
	block, sent := strings.Repeat("x", 1<<16), 0
	for ; sent < 64<<20; sent += len(block) {
		if _, err := io.WriteString(p.nc, block); err != nil {
			break
		}
		if m := srv.Stats().Memory; m > before {
			t.Fatalf("the connection holds %d octets, want %d", m, before)
		}
	}
	p.expect("552 5.3.4")
	if p.ended() == nil || sent > 4<<20 || all > 1<<20 || most > 128<<10 {
		t.Errorf("the server read %d octets, and handed on %d, %d at a time", sent, all, most)
	}
}

// TestZ168_TwoSenders: a header with two From fields, or with an encoded one, reaches the session as it came. What that
// means is for the session to say.
func TestZ168_TwoSenders(t *testing.T) {
	const text = "From: a@b.example\r\nFrom: evil@x.example\r\n" +
		"From: =?utf-8?q?a=40b.example?= <evil@x.example>\r\n\r\nhello\r\n"
	p, st := withData(t, server.Options{}, nil)
	p.ask("DATA", "354 ", text+".", "250 ")
	p.quit()
	if m := st.messages(); len(m) != 1 || m[0] != text {
		t.Errorf("kept are %q", m)
	}
}
