package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestDataEndsSession has a session answer 421 to content that it has not read, or not to its end: the client is told,
// and that it is told about all commands before.
func TestDataEndsSession(t *testing.T) {
	away := &proto.Error{Code: 421, Status: proto.Status{4, 3, 2}, Text: "Going away"}
	some := func(_ context.Context, r io.Reader) error {
		_, _ = r.Read(make([]byte, 1))
		return away
	}
	none := func(context.Context, io.Reader) error { return away }
	const group = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
	long := strings.Repeat("0123456789abcdef\r\n", 200)
	for _, tt := range []struct {
		name, say string
		data      func(context.Context, io.Reader) error
		want      []string
	}{
		{"chunk", group + "BDAT 9\r\n012345678", none, []string{"250 ", "250 ", "421 4.3.2 Going away"}},
		{"part of a chunk", group + "BDAT 9\r\n0123", some, []string{"250 ", "250 ", "421 4.3.2 Going away"}},
		{"last chunk", group + "BDAT 9 LAST\r\n012345678", none, []string{"250 ", "250 ", "421 4.3.2 Going away"}},
		{"two chunks", group + "BDAT 1\r\n0BDAT 1 LAST\r\n1", none, []string{"250 ", "250 ", "421 4.3.2 Going away"}},
		{"content", group + "DATA\r\n" + "x\r\n.\r\n", none, []string{"250 ", "250 ", "354 ", "421 4.3.2 Going away"}},
		{"content that is too large", group + "DATA\r\n" + long + ".\r\n", none, []string{"250 ", "250 ", "354 ", "421 4.3.2 Going away"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			srv := newServer(t, &store{data: tt.data}, server.Options{Limits: server.Limits{MessageSize: 1000}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			p := dial(t, srv)
			p.hello()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = io.WriteString(p.nc, tt.say) // the server need not read all of it
			}()
			p.expect(tt.want...)
			_ = p.ended()
			<-sent
			if strings.Contains(log.String(), "internal error") {
				t.Error(log.String())
			}
		})
	}
}

// TestSmuggling sends every fake end of content with a second message behind it: no line ending but CRLF before and
// behind the dot ends the first one. There is one reply to it, a refusal if there is a bare CR or LF in it, and the
// commands behind the fake are never carried out.
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
