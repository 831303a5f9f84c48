package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// TestSize checks the size of messages that clients may send, declared and not, in one piece and in chunks.
func TestSize(t *testing.T) {
	size := Size{Anonymous: 100, Authenticated: 200, Max: func(_ context.Context, c *server.Conn,
		from proto.Address) (int64, error) {
		switch from.Local {
		case "big":
			return 1000, nil
		case "small":
			return 50, nil
		case "down":
			return 1000, errors.New("the database is down")
		case "panic":
			panic("a mistake")
		}
		return 0, nil
	}}
	tests := []struct {
		name  string
		size  Size
		from  string
		auth  bool
		most  int // 0 is no limit
		found string
	}{
		{"anonymous", size, "a", false, 100, ""},
		{"authenticated", size, "a", true, 200, ""},
		{"one's own", size, "big", true, 1000, ""},
		{"one's own is less", size, "small", true, 50, ""},
		{"no database", size, "down", false, 100, "size=temperror"},
		{"panic", size, "panic", true, 200, "size=temperror"},
		{"anonymous alone", Size{Anonymous: 100}, "a", true, 0, ""},
		{"authenticated alone", Size{Authenticated: 100}, "a", false, 0, ""},
		{"left out", Size{Anonymous: 100, Skip: Trusted()}, "a", true, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &inner{}
			w := newWorld(t, b, &server.Options{AllowInsecureAuth: true}, tt.size)
			p := w.dial("192.0.2.7")
			p.ask("EHLO client.example", "250")
			if tt.auth {
				p.ask(authPlain, "235")
			}
			mail, rcpt := "MAIL FROM:<"+tt.from+"@b.example>", "RCPT TO:<c@d.example>"
			for _, n := range []int{max(tt.most, 20), max(tt.most, 20) + 1} {
				accepted := tt.most == 0 || n <= tt.most
				want := "250"
				if !accepted {
					want = fmt.Sprintf("552 5.3.4 Messages of yours may have %d", tt.most)
				}
				p.ask(fmt.Sprintf("%s SIZE=%d", mail, n), want, "RSET", "250")
				if got := w.found(); accepted && got != tt.found || !accepted && !strings.Contains(got, "size=fail") {
					t.Errorf("verdicts %s", got)
				}
				text := strings.Repeat("x", n-2)
				p.ask(mail, "250", rcpt, "250", "DATA", "354", text+"\r\n.", want)
				p.ask(mail, "250", rcpt, "250", fmt.Sprintf("BDAT 7\r\n%s", text[:5]), "250")
				p.ask(fmt.Sprintf("BDAT %d LAST\r\n%s", n-7, text[7:]), want)
				w.found()
			}
			p.ask("QUIT", "221")
			p.closed()
		})
	}
	for _, z := range []Size{{}, {Anonymous: -1}, {Authenticated: -1, Anonymous: 1}} {
		if _, err := z.Middleware(); err == nil || !strings.HasPrefix(err.Error(), "smtp: policy.Size.") {
			t.Errorf("the error is %v", err)
		}
	}
}

// TestSizeReader checks that a reader of the content has all octets up to the limit, and then an error that stays.
func TestSizeReader(t *testing.T) {
	for _, one := range []bool{false, true} {
		for left := range 12 {
			var in io.Reader = strings.NewReader("0123456789")
			if one {
				in = iotest.OneByteReader(in)
			}
			r := &sizeReader{r: in, left: int64(left), record: func() error { return errTest }}
			b, err := io.ReadAll(r)
			want := error(nil)
			if left < 10 {
				want = errTest
			}
			if string(b) != "0123456789"[:min(left, 10)] || err != want {
				t.Errorf("%d: %q, %v", left, b, err)
			}
			if _, again := r.Read(make([]byte, 1)); want != nil && again != want || want == nil && again != io.EOF {
				t.Errorf("%d: then %v", left, again)
			}
		}
	}
	lost := &sizeReader{r: iotest.ErrReader(io.ErrUnexpectedEOF), left: 10}
	if _, err := io.ReadAll(lost); err != io.ErrUnexpectedEOF {
		t.Errorf("the error is %v", err)
	}
}

var errTest = errors.New("too large")
