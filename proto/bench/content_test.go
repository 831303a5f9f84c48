package main

import (
	"bufio"
	"bytes"
	"io"
	"net/textproto"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

// texts are contents of about 1 MiB in canonical form.
var texts = []struct{ name, line string }{
	{"76-column", strings.Repeat("a", 76) + "\r\n"},
	{"dots", ".\r\n"},
	{"dotted", "." + strings.Repeat("a", 75) + "\r\n"},
}

const textSize = 1 << 20

func text(line string) []byte { return []byte(strings.Repeat(line, textSize/len(line))) }

// wire returns text as it stands on the wire after 354.
func wire(text []byte) []byte {
	e := proto.Encoder{Dots: true}
	return e.Close(e.Append(nil, text))
}

// receiver returns a Receiver that has just answered DATA with 354.
func receiver(b *testing.B, table *proto.Table) *proto.Receiver {
	rx := proto.NewReceiver(table, proto.Limits{})
	rx.Lend(make([]byte, 64<<10))
	reply := func(code int) {
		if _, err := rx.AppendReply(nil, proto.Reply{Code: code}); err != nil {
			b.Fatal(err)
		}
	}
	reply(220)
	for _, line := range []string{"EHLO x", "MAIL FROM:<>", "RCPT TO:<a@b>", "DATA"} {
		rx.Filled(copy(rx.Space(), line+"\r\n"))
		if ev := rx.Next(); ev.Kind != proto.Command || ev.Err != nil {
			b.Fatal(line, ev.Err)
		}
		if line == "DATA" {
			reply(354)
		} else {
			reply(250)
		}
	}
	return rx
}

// BenchmarkDecode reads content off the wire and throws it away.
func BenchmarkDecode(b *testing.B) {
	table, err := proto.NewTable(proto.SMTP)
	if err != nil {
		b.Fatal(err)
	}
	for _, text := range texts {
		want := len(text.line) * (textSize / len(text.line))
		stuffed := wire([]byte(strings.Repeat(text.line, textSize/len(text.line))))
		b.Run("text="+text.name+"/by=smtpkit", func(b *testing.B) {
			b.SetBytes(int64(want))
			for b.Loop() {
				b.StopTimer()
				rx := receiver(b, table)
				b.StartTimer()
				in, got := stuffed, 0
				for done := false; !done; {
					switch ev := rx.Next(); ev.Kind {
					case proto.NeedInput:
						n := copy(rx.Space(), in)
						rx.Filled(n)
						in = in[n:]
					case proto.Body:
						got += len(ev.Data)
					case proto.EndOfBody:
						done = true
					}
				}
				if got != want {
					b.Fatalf("%d octets, want %d", got, want)
				}
			}
		})
		b.Run("text="+text.name+"/by=textproto", func(b *testing.B) {
			b.SetBytes(int64(want))
			for b.Loop() {
				r := textproto.NewReader(bufio.NewReaderSize(bytes.NewReader(stuffed), 64<<10))
				if _, err := io.Copy(io.Discard, r.DotReader()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncode writes content to a wire that throws it away.
func BenchmarkEncode(b *testing.B) {
	for _, t := range texts {
		content := text(t.line)
		b.Run("text="+t.name+"/by=smtpkit", func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			buf := make([]byte, 0, 64<<10)
			for b.Loop() {
				e := proto.Encoder{Dots: true}
				for in := content; len(in) > 0; {
					n := min(len(in), 32<<10)
					buf = e.Append(buf[:0], in[:n])
					in = in[n:]
					if _, err := io.Discard.Write(buf); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := io.Discard.Write(e.Close(buf[:0])); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("text="+t.name+"/by=textproto", func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				w := textproto.NewWriter(bufio.NewWriterSize(io.Discard, 64<<10)).DotWriter()
				for in := content; len(in) > 0; {
					n := min(len(in), 32<<10)
					if _, err := w.Write(in[:n]); err != nil {
						b.Fatal(err)
					}
					in = in[n:]
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
