package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/server"
)

// What stands behind the end that is none: the commands of a message that is hidden in another one.
const hiddenMessage = "MAIL FROM:<evil@x.example>\r\nRCPT TO:<v@y.example>\r\nDATA\r\nsmuggled\r\n.\r\n"

// fakeEnds are what others have taken for the end of a message. Strict has the code of the reply to the whole message.
var fakeEnds = []struct {
	name   string
	octets string
	strict string
}{
	{"Z01 LF dot LF", "\n.\n", "554"},
	{"Z02 LF dot CRLF", "\n.\r\n", "554"},
	{"Z03 CRLF dot LF", "\r\n.\n", "554"},
	{"Z04 CR dot CR", "\r.\r", "554"},
	{"Z05 CR dot CRLF", "\r.\r\n", "554"},
	{"Z06 CR dot LF", "\r.\n", "554"},
	{"Z07 LF dot CR", "\n.\r", "554"},
	{"Z08 CRLF dot CR", "\r\n.\r", "554"},
	{"Z09 CRLF dot CR CRLF", "\r\n.\r\r\n", "554"},
	{"Z10 CR CRLF dot CR CRLF", "\r\r\n.\r\r\n", "554"},
	{"Z11 NUL before the dot", "\r\n\x00.\r\n", "250"},
	{"Z12 NUL behind the dot", "\r\n.\x00\r\n", "250"},
	{"Z12 NUL in the CRLF behind", "\r\n.\r\x00\n", "554"},
	{"Z12 NUL in the CRLF before", "\r\x00\n.\r\n", "554"},
	{"Z13 LF CR dot CRLF", "\n\r.\r\n", "554"},
	{"Z13 LF CR dot LF CR", "\n\r.\n\r", "554"},
	{"Z14 space behind the dot", "\r\n. \r\n", "250"},
	{"Z14 tab behind the dot", "\r\n.\t\r\n", "250"},
	{"Z15 NEL", "\x85.\x85", "250"},
	{"Z15 NEL in UTF-8", "\u0085.\u0085", "250"},
	{"Z15 line separator", "\u2028.\u2028", "250"},
	{"Z15 vertical tab", "\x0b.\x0b", "250"},
	{"Z15 form feed", "\x0c.\x0c", "250"},
	{"Z17 a chunk behind LF dot LF", "\n.\nBDAT 10 LAST\r\n0123456789", "554"},
}

// TestFakeEnds plays the smuggling of messages (SEC Consult, 2023). Each fake end stands at the beginning of the
// content, behind text, and behind an empty line. It comes in one segment, and octet by octet. There is one reply to
// the message, at its true end: 554 if a CR or LF stands alone, unless the server normalises it. No command of the
// hidden message is carried out.
func TestFakeEnds(t *testing.T) {
	for _, fake := range fakeEnds {
		t.Run(fake.name, func(t *testing.T) {
			for _, before := range []string{"", "Subject: t\r\n\r\nbody", "Subject: t\r\n\r\n"} {
				wire := before + fake.octets + hiddenMessage
				for _, cut := range []func(io.Reader) io.Reader{nil, iotest.OneByteReader} {
					for _, normalize := range []bool{false, true} {
						want, kept := fake.strict, received(wire)
						if normalize {
							want, kept = "250", normalized(kept)
						}
						st := &store{}
						opt := server.Options{NormalizeNewlines: normalize}
						got := replyCodes(t, newServer(t, st, opt), wire, cut)
						if want = "220 250 250 250 354 " + want + " 221"; got != want {
							t.Errorf("%q behind %q: replies %s, want %s", fake.octets, before, got, want)
						}
						if m := st.messages(); strings.Contains(want, "554") != (len(m) == 0) || len(m) > 0 && m[0] != kept {
							t.Errorf("%q behind %q: kept are %q, want %q", fake.octets, before, m, kept)
						}
						if calls := st.calls(); strings.Contains(calls, "evil") || strings.Count(calls, "mail") != 1 {
							t.Errorf("%q behind %q: called %s", fake.octets, before, calls)
						}
					}
				}
			}
		})
	}
}

// replyCodes sends a message, and QUIT, and returns the codes of all replies. What is sent is cut by cut.
func replyCodes(t *testing.T, srv *server.Server, wire string, cut func(io.Reader) io.Reader) string {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeConn(context.Background(), far)
	}()
	go func() {
		const envelope = "EHLO x.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
		var r io.Reader = strings.NewReader(envelope + "DATA\r\n" + wire + "QUIT\r\n")
		if cut != nil {
			r = cut(struct{ io.Reader }{r}) // without the WriterTo
		}
		_, _ = io.Copy(near, r)
	}()
	said, err := io.ReadAll(near)
	near.Close()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	return codesOf(string(said))
}

// codesOf returns the codes of all replies.
func codesOf(said string) string {
	var codes []string
	for line := range strings.Lines(said) {
		if len(line) > 3 && line[3] == ' ' {
			codes = append(codes, line[:3])
		}
	}
	return strings.Join(codes, " ")
}

// TestZ16_EndInPieces has the true end of a message arrive in two pieces, cut at each octet, and octet by octet. It is
// one end, and a command behind it in the same segment is the next one.
func TestZ16_EndInPieces(t *testing.T) {
	const end = "\r\n.\r\nNOOP\r\n"
	cuts := [][]string{strings.Split(end, "")}
	for i := 1; i < len(end); i++ {
		cuts = append(cuts, []string{end[:i], end[i:]})
	}
	for _, pieces := range cuts {
		t.Run(fmt.Sprintf("%q", pieces), func(t *testing.T) {
			p, st := withData(t, server.Options{}, nil)
			p.ask("DATA", "354 ")
			p.send("body")
			for _, piece := range pieces {
				p.send(piece) // a pipe hands over what was sent at a time, and no more
			}
			p.expect("250 2.0.0", "250 2.0.0")
			p.quit()
			if m := st.messages(); len(m) != 1 || m[0] != "body\r\n" {
				t.Errorf("kept are %q", m)
			}
		})
	}
}
