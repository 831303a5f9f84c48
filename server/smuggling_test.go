package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"

	"smtpkit.example/smtp/server"
)

// TestSmuggling sends every fake end of content with a second message behind it: no line ending but CRLF before and behind
// the dot ends the first one. There is one reply to it, a refusal if there is a bare CR or LF in it, and the commands behind
// the fake are never carried out.
func TestSmuggling(t *testing.T) {
	ends := []string{"\r\n", "\n", "\r", "\r\r\n", "\r\n\r", "\n\r", "\r\x00\n", "\x00\r\n", "\r\n\x00", "\x85", "\x0b", "\r\n ", "\r\n\t"}
	codes := regexp.MustCompile(`(?m)^(\d{3}) `)
	for _, before := range ends {
		for _, after := range ends {
			fake := "body" + before + "." + after
			if strings.Contains(fake, "\r\n.\r\n") {
				continue // this one is true
			}
			st := &store{}
			srv := newServer(t, st, server.Options{})
			content := fake + "MAIL FROM:<evil@x.example>\r\nRCPT TO:<v@y.example>\r\nDATA\r\nsmuggled\r\n"
			near, far := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = srv.ServeConn(context.Background(), far)
			}()
			go func() {
				_, _ = fmt.Fprintf(near, "EHLO x.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n%s.\r\nQUIT\r\n", content)
			}()
			out, err := io.ReadAll(near)
			near.Close()
			<-done
			if err != nil {
				t.Fatal(err)
			}
			want, messages := "[220 250 250 250 354 250 221]", 1
			if strings.ContainsAny(strings.ReplaceAll(content, "\r\n", ""), "\r\n") {
				want, messages = "[220 250 250 250 354 554 221]", 0
			}
			var got []string
			for _, m := range codes.FindAllStringSubmatch(string(out), -1) {
				got = append(got, m[1])
			}
			if fmt.Sprint(got) != want || len(st.messages()) != messages {
				t.Errorf("%q: replies %v, want %s, and %d messages", fake, got, want, len(st.messages()))
			}
		}
	}
}
