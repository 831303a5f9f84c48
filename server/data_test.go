package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// withData dials a server whose sessions take messages with data, and opens a transaction.
func withData(t *testing.T, opt server.Options, data func(context.Context, io.Reader) error) (*peer, *store) {
	t.Helper()
	st := &store{data: data}
	p := dial(t, newServer(t, st, opt))
	p.hello()
	p.begin()
	return p, st
}

func readNothing(context.Context, io.Reader) error { return nil }

func TestF05F07_ContentIsExact(t *testing.T) {
	const text = "Subject: x\r\n\r\n.dot\r\n..two\r\n\r\nno\x00 \xff end\r\n"
	for name, read := range map[string]func(io.Reader) (string, error){
		"ReadAll": func(r io.Reader) (string, error) {
			b, err := io.ReadAll(r)
			return string(b), err
		},
		"octets": func(r io.Reader) (string, error) {
			b, err := io.ReadAll(iotest.OneByteReader(r))
			return string(b), err
		},
		"WriteTo": func(r io.Reader) (string, error) {
			var b strings.Builder
			n, err := io.Copy(&b, r)
			if n != int64(b.Len()) {
				t.Errorf("WriteTo returned %d after %d octets", n, b.Len())
			}
			return b.String(), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) (err error) {
				got, err = read(r)
				for range 2 {
					if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
						t.Errorf("Read after the end returned %d, %v", n, err)
					}
				}
				return err
			})
			stuffed := strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")[2:]
			p.ask("DATA", "354 ", stuffed+".", "250 ")
			if got != text {
				t.Errorf("got %q, want %q", got, text)
			}
			p.quit()
		})
	}
}

// TestF15_UnreadContent: what Data leaves is passed over, and counts.
func TestF15_UnreadContent(t *testing.T) {
	refuse := func(context.Context, io.Reader) error { return &proto.Error{Code: 550, Text: "spam"} }
	opt := server.Options{Limits: server.Limits{MessageSize: 2 << 20}}
	for _, c := range []struct {
		name    string
		data    func(context.Context, io.Reader) error
		content string
		want    string
	}{
		{"accepted unread", readNothing, strings.Repeat("MAIL FROM:<x@y>\r\n", 10000), "250 "},
		{"refused unread", refuse, strings.Repeat("QUIT\r\n", 10000), "550 5.0.0 spam"},
		{"bare LF after an acceptance", readNothing, "a\nb\r\n", "554 5.6.0"},
		{"bare CR after an acceptance", readNothing, "a\rb\r\n", "554 5.6.0"},
		{"too large after an acceptance", readNothing, strings.Repeat("12345678\r\n", 300_000), "552 5.3.4"},
		{"too large and refused", refuse, strings.Repeat("12345678\r\n", 300_000), "550 5.0.0 spam"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := withData(t, opt, c.data)
			p.ask("DATA", "354 ", c.content+".", c.want, "NOOP", "250 ")
			p.begin()
			p.quit()
		})
	}
}

func TestReaderRefusesContent(t *testing.T) {
	for _, c := range []struct {
		name, content, want string
	}{
		{"too large", strings.Repeat("12345678\r\n", 1000), "552 5.3.4"},
		{"one long line", strings.Repeat("x", 10000) + "\r\n", "552 5.3.4"},
		{"bare LF", "a\n.\nb\r\n", "554 5.6.0"},
		{"bare CR", "a\r.\rb\r\n", "554 5.6.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got error
			p, st := withData(t, server.Options{Limits: server.Limits{MessageSize: 5000}}, func(_ context.Context, r io.Reader) error {
				_, got = io.Copy(io.Discard, r)
				return errors.New("something else") // must not become 451
			})
			p.ask("DATA", "354 ", c.content+".", c.want, "RCPT TO:<c@d.example>", "503 ")
			var e *proto.Error
			if !errors.As(got, &e) || !strings.HasPrefix(c.want, strconv.Itoa(e.Code)) {
				t.Errorf("the reader returned %v, want a *proto.Error", got)
			}
			if len(st.messages()) > 0 {
				t.Error("a message was kept")
			}
			p.quit()
		})
	}
}

// TestF16_EndlessContent: a client that goes on sending what was refused is given up.
func TestF16_EndlessContent(t *testing.T) {
	p, _ := withData(t, server.Options{Limits: server.Limits{MessageSize: 1 << 20}}, func(_ context.Context, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	p.ask("DATA", "354 ")
	block := strings.Repeat("12345678\r\n", 1000)
	sent := 0
	for ; sent < 10<<20; sent += len(block) {
		if _, err := io.WriteString(p.nc, block); err != nil {
			break
		}
	}
	if sent > 3<<20 {
		t.Errorf("the server read %d octets of a message that must not have more than %d", sent, 1<<20)
	}
	p.expect("552 5.3.4")
	if err := p.ended(); err == nil {
		t.Error("ServeConn returned nil")
	}
}

func TestNoLimitOfSize(t *testing.T) {
	p, _ := withData(t, server.Options{Limits: server.Limits{MessageSize: -1}}, nil)
	p.ask("DATA", "354 ", strings.Repeat("12345678\r\n", 1000)+".", "250 ")
	p.quit()
}

func TestReaderAfterData(t *testing.T) {
	var kept io.Reader
	p, _ := withData(t, server.Options{}, func(_ context.Context, r io.Reader) error {
		kept = r
		return nil
	})
	p.ask("DATA", "354 ", "hello\r\n.", "250 ")
	p.quit()
	if n, err := kept.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("Read after Data returned %d, %v", n, err)
	}
}

// TestDataEndsSession has a session answer 421 to content that it has not read, or not to its end: the client is told, and that
// it is told about all commands before.
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
