package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"

	"smtpkit.example/smtp/server"
)

// anyNewline is what counts as a line ending, the longest that fits first.
var anyNewline = regexp.MustCompile(`\r\r?\n|\r|\n`)

// normalized is the second implementation of Options.NormalizeNewlines.
func normalized(text string) string { return anyNewline.ReplaceAllString(text, "\r\n") }

// received returns the content in what follows DATA, up to the first CRLF, dot, CRLF, without the dots of
// transparency. Lines end with CRLF for it, and with nothing else.
func received(wire string) string {
	all, _, ok := strings.Cut("\r\n"+wire, "\r\n.\r\n")
	if !ok {
		return "no end"
	}
	var b strings.Builder
	for _, line := range strings.Split(all, "\r\n")[1:] {
		b.WriteString(strings.TrimPrefix(line, ".") + "\r\n")
	}
	return b.String()
}

// TestF04_Normalized: what a session gets for text with other line endings than CRLF.
func TestF04_Normalized(t *testing.T) {
	for _, c := range []struct{ wire, want string }{
		{"a\nb\n\r\n", "a\r\nb\r\n\r\n"},
		{"a\rb\r\n", "a\r\nb\r\n"},
		{"a\r\r\nb\r\r\n", "a\r\nb\r\n"},
		{"a\r\r\r\nb\r\n", "a\r\n\r\nb\r\n"},
		{"a\n\rb\r\n", "a\r\n\r\nb\r\n"},
		{"a\n.\nb\r\n", "a\r\n.\r\nb\r\n"},
		{"a\n.\r\nb\r\n", "a\r\n.\r\nb\r\n"},
		{"a\r.\rb\r\n", "a\r\n.\r\nb\r\n"},
		{"a\r\n.\nb\r\n", "a\r\n\r\nb\r\n"},
		{"a\r\n.\rb\r\n", "a\r\n\r\nb\r\n"},
		{"a\r\n.\r\r\nb\r\n", "a\r\n\r\nb\r\n"},
		{"a\n..\r\nb\r\n", "a\r\n..\r\nb\r\n"},
		{"a\r\n..\nb\r\n", "a\r\n.\r\nb\r\n"},
		{"", ""},
	} {
		for _, last := range []bool{true, false} {
			p, st := withData(t, server.Options{NormalizeNewlines: true}, nil)
			want := c.want
			if last {
				p.ask("DATA", "354 ")
				p.send(c.wire + ".\r\n")
				p.expect("250 ")
			} else {
				want = normalized(c.wire) // no dots are added in chunks
				p.chunk(fmt.Sprintf("BDAT %d LAST", len(c.wire)), c.wire, "250 ")
			}
			p.quit()
			if got := st.messages(); len(got) != 1 || got[0] != want {
				t.Errorf("%q becomes %q, want %q", c.wire, got, want)
			}
		}
	}
}

// TestN15_NormalizedChunks: line endings that chunks cut in two are one, and a CR at the very end is one too.
func TestN15_NormalizedChunks(t *testing.T) {
	const text = "a\r\nb\r\r\nc\nd\re\r\r\r\nf\r"
	for first := range len(text) {
		for second := first; second <= len(text); second++ {
			p, st := withData(t, server.Options{NormalizeNewlines: true}, nil)
			for i, part := range []string{text[:first], text[first:second], text[second:]} {
				last := ""
				if i == 2 {
					last = " LAST"
				}
				p.chunk(fmt.Sprintf("BDAT %d%s", len(part), last), part, "250 ")
			}
			p.quit()
			if got := st.messages(); len(got) != 1 || got[0] != normalized(text) {
				t.Fatalf("cut at %d and %d it becomes %q, want %q", first, second, got, normalized(text))
			}
		}
	}
	t.Run("binary content stays", func(t *testing.T) {
		st := &store{}
		p := dial(t, newServer(t, st, server.Options{NormalizeNewlines: true}))
		p.hello()
		p.ask("MAIL FROM:<a@b.example> BODY=BINARYMIME", "250 ", "RCPT TO:<c@d.example>", "250 ")
		p.chunk("BDAT 6 LAST", "a\nb\rc\r", "250 ")
		p.quit()
		if got := st.messages(); len(got) != 1 || got[0] != "a\nb\rc\r" {
			t.Errorf("the session gets %q", got)
		}
	})
}

// TestNormalizedSize: the limit of the size holds for what the session gets, whether it reads or not.
func TestNormalizedSize(t *testing.T) {
	type dataFunc = func(context.Context, io.Reader) error
	for _, data := range []dataFunc{nil, readNothing, func(_ context.Context, r io.Reader) error {
		_, err := io.ReadFull(r, make([]byte, 10_000))
		return err
	}} {
		for size, want := range map[int]string{50_000: "250 ", 50_001: "552 5.3.4"} {
			p, _ := withData(t, server.Options{NormalizeNewlines: true, Limits: server.Limits{MessageSize: 100_000}}, data)
			p.chunk(fmt.Sprintf("BDAT %d LAST", size), strings.Repeat("\n", size), want)
			p.ask("RSET", "250 ")
			p.quit()
		}
	}
}

// TestNormalizedFetch: content that an extension fetches is treated as that of chunks.
func TestNormalizedFetch(t *testing.T) {
	readSome := func(_ context.Context, r io.Reader) error {
		_, err := io.ReadFull(r, make([]byte, 10_000))
		return err
	}
	for _, c := range []struct {
		name, say string
		data      func(context.Context, io.Reader) error
		reply     string
		want      string
	}{
		{"bare LF", "XFETCH bare LAST\r\n", nil, "250 ", "a\r\nb\r\n"},
		{"CR at the end", "XFETCH cr LAST\r\n", nil, "250 ", "a\r\n"},
		{"CR at the end, unread", "XFETCH cr LAST\r\n", readNothing, "250 ", ""},
		{"CR and a chunk", "XFETCH cr\r\nBDAT 1 LAST\r\nb", nil, "250 ", "a\r\nb"},
		{"as large as may be", "XFETCH feeds\r\nBDAT 0 LAST\r\n", readSome, "250 ", ""},
		{"too large", "XFETCH feeds\r\nBDAT 1 LAST\r\nx", readSome, "552 ", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			shelf, st := newShelf(), &store{data: c.data}
			shelf.goods["feeds"] = strings.Repeat("\n", 50_000)
			p := fetchServer(t, shelf, st, server.Options{NormalizeNewlines: true, Limits: server.Limits{MessageSize: 100_000}})
			p.hello()
			p.begin()
			p.send(c.say)
			if !strings.Contains(c.say[:12], "LAST") && strings.Contains(c.say, "BDAT") {
				p.expect("250 2.0.0")
			}
			p.expect(c.reply)
			p.quit()
			if got := strings.Join(st.messages(), ""); got != c.want {
				t.Errorf("the session gets %q, want %q", got, c.want)
			}
		})
	}
}

// TestBareNewlineRefused: the refusal says what to do.
func TestBareNewlineRefused(t *testing.T) {
	p, _ := withData(t, server.Options{}, nil)
	p.ask("DATA", "354 ",
		"a\nb\r\n.", "554 5.6.0 A line of the message ends with LF or CR alone: send CRLF at the end of each line")
	p.quit()
}

// FuzzNormalize compares what sessions get with the second implementation, and then what a relay behind them would see
// that takes any line ending for one: the end of the message, and no other.
func FuzzNormalize(f *testing.F) {
	for _, text := range []string{
		"", "a", "\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\r\n.\r\n", ".", "..", "\r\n.\r", "\r\n..\r\r",
		"a\r\n.\r\nNOOP\r\n", strings.Repeat("\r", 9000), strings.Repeat("a\n", 9000),
	} {
		f.Add(text, uint16(1), uint16(3))
	}
	f.Fuzz(func(t *testing.T, text string, cut, chunk uint16) {
		got := sendText(t, text+"\r\n.\r\n", "DATA\r\n", int(cut))
		if want := normalized(received(text + "\r\n.\r\n")); got != want {
			t.Fatalf("%q becomes %q, want %q", text, got, want)
		}
		for _, line := range anyNewline.Split(strings.ReplaceAll("\r\n"+got, "\r\n.", "\r\n.."), -1) {
			if line == "." {
				t.Fatalf("%q becomes %q, which ends early for a relay behind", text, got)
			}
		}
		var chunks strings.Builder
		n := min(int(chunk), len(text))
		fmt.Fprintf(&chunks, "BDAT %d\r\n%sBDAT %d LAST\r\n%s", n, text[:n], len(text)-n, text[n:])
		if got := sendText(t, chunks.String(), "", int(cut)); got != normalized(text) {
			t.Fatalf("%q in chunks becomes %q, want %q", text, got, normalized(text))
		}
	})
}

// sendText sends wire behind a transaction's beginning, cut in two, and returns the message that the session got.
func sendText(t *testing.T, wire, before string, cut int) string {
	st := &store{}
	s := newServer(t, st, server.Options{NormalizeNewlines: true, Limits: server.Limits{Errors: -1, Junk: -1}})
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		_ = s.ServeConn(context.Background(), there)
		close(done)
	}()
	go func() { _, _ = io.Copy(io.Discard, here) }()
	wire = "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n" + before + wire + "QUIT\r\n"
	cut = min(cut+60, len(wire))
	for _, part := range []string{wire[:cut], wire[cut:]} {
		if _, err := io.WriteString(here, part); err != nil {
			break // the server has closed behind a QUIT in the text
		}
	}
	<-done
	here.Close()
	if got := st.messages(); len(got) > 0 {
		return got[0]
	}
	return "no message"
}

// BenchmarkNormalize measures text that is as it should be, and text that is not.
func BenchmarkNormalize(b *testing.B) {
	for name, newline := range map[string]string{"crlf": "\r\n", "lf": "\n"} {
		b.Run(name, func(b *testing.B) {
			s := newServer(b, discardBackend, server.Options{NormalizeNewlines: true})
			p := dial(b, s)
			p.hello()
			text := bytes.Repeat([]byte(strings.Repeat("x", 76)+newline), 10_000)
			group := []byte(fmt.Sprintf("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT %d LAST\r\n", len(text)))
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				_, _ = p.nc.Write(group)
				_, _ = p.nc.Write(text)
				p.expect("250 ", "250 ", "250 ")
			}
		})
	}
}
