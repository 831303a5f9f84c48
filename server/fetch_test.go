package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/ehlo"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A shelf is where the content of XFETCH comes from: "XFETCH name [LAST]".
type shelf struct {
	goods map[string]string
	open  atomic.Int32 // readers not closed
	ctx   context.Context
}

// A parcel is the reader of one content. It gives away a few octets at a time.
type parcel struct {
	s    *shelf
	r    *strings.Reader
	err  error
	once atomic.Bool
}

func (p *parcel) Read(b []byte) (int, error) {
	n, err := p.r.Read(b[:min(len(b), 5)])
	if err == io.EOF && p.err != nil {
		err = p.err
	}
	return n, err
}

func (p *parcel) Close() error {
	if p.once.Swap(true) {
		return errors.New("closed twice")
	}
	p.s.open.Add(-1)
	return nil
}

func (s *shelf) fetch(ctx context.Context, _ ext.ServerConn, args string) (io.ReadCloser, error) {
	name, _, _ := strings.Cut(args, " ")
	p := &parcel{s: s, r: strings.NewReader(s.goods[name])}
	switch name {
	case "none":
		return nil, &proto.Error{Code: 554, Status: proto.Status{5, 6, 6}, Text: "none such"}
	case "accepted":
		return nil, &proto.Error{Code: 250, Text: "what?"}
	case "nil":
		return nil, nil
	case "fails":
		p.err = errors.New("secret")
	case "lost":
		p.err = &proto.Error{Code: 554, Text: "lost it"}
	case "wait":
		s.ctx = ctx
		<-ctx.Done()
		return nil, ctx.Err()
	case "tediously":
		p.err = nil
		s.open.Add(1)
		return struct {
			io.Reader
			io.Closer
		}{tedious{ctx}, p}, nil
	}
	s.open.Add(1)
	return p, nil
}

// tedious is a reader that waits for the end.
type tedious struct{ ctx context.Context }

func (t tedious) Read([]byte) (int, error) {
	<-t.ctx.Done()
	return 0, context.Cause(t.ctx)
}

func (s *shelf) extension() ext.Extension {
	const states = proto.Rcpt | proto.Chunks
	last := &proto.Verb{Name: "XFETCH", In: states, OK: proto.Ready, Fail: proto.Ready, PerRcpt: true}
	return ext.Extension{
		Keyword: "XFETCH",
		Verbs: []proto.Verb{{
			Name: "XFETCH", In: states, OK: proto.Chunks, Fail: proto.Broken,
			Variant: func(args []byte) *proto.Verb {
				if bytes.HasSuffix(args, []byte(" LAST")) {
					return last
				}
				return nil
			},
		}},
		Advertise: func(x ext.ServerConn) (string, bool) { return "", x.Hello() != "stranger" },
		Fetch:     s.fetch,
	}
}

func newShelf() *shelf {
	return &shelf{goods: map[string]string{
		"head": "Subject: x\r\n\r\n", "body": "hello\r\n.\r\n..world\r\n", "cr": "a\r", "lf": "\nb\r\n", "bare": "a\nb\r\n",
		"fails": "half a mess", "lost": "half", "empty": "", "long": strings.Repeat("0123456\r\n", 200),
	}}
}

func fetchServer(t *testing.T, s *shelf, st server.Backend, opt server.Options) *peer {
	t.Helper()
	opt.Extensions = append(ehlo.Default(), s.extension())
	return dial(t, newServer(t, st, opt))
}

func TestFetch(t *testing.T) {
	const part, accepted, no = "250 2.0.0 ", "250 2.0.0 Message accepted", "503 5.5.1"
	for _, tt := range []struct {
		name, say string
		replies   []string
		want      string // the message, "" for none
	}{
		{"whole", "XFETCH body LAST\r\n", []string{accepted}, "hello\r\n.\r\n..world\r\n"},
		{"two", "XFETCH head\r\nXFETCH body LAST\r\n", []string{"250 2.0.0 14 octets received", accepted},
			"Subject: x\r\n\r\nhello\r\n.\r\n..world\r\n"},
		{"and chunks", "BDAT 3\r\nX: XFETCH head\r\nBDAT 0\r\nXFETCH body\r\nBDAT 2 LAST\r\n\r\n", []string{part, part, part, part, accepted},
			"X: Subject: x\r\n\r\nhello\r\n.\r\n..world\r\n\r\n"},
		{"empty", "XFETCH empty\r\nXFETCH empty\r\nBDAT 3 LAST\r\nxyz", []string{part, part, accepted}, "xyz"},
		{"CRLF between them", "XFETCH cr\r\nXFETCH lf LAST\r\n", []string{part, accepted}, "a\r\nb\r\n"},
		{"CRLF between chunk and it", "BDAT 2\r\na\rXFETCH lf LAST\r\n", []string{part, accepted}, "a\r\nb\r\n"},
		{"CRLF between it and chunk", "XFETCH cr\r\nBDAT 1 LAST\r\n\n", []string{part, accepted}, "a\r\n"},
		{"bare LF", "XFETCH bare LAST\r\n", []string{"554 5.6.0"}, ""},
		{"bare LF, not last", "XFETCH bare\r\nBDAT 0 LAST\r\n", []string{part, "554 5.6.0"}, ""},
		{"bare CR at the end", "XFETCH cr LAST\r\n", []string{"554 5.6.0"}, ""},
		{"bare LF at the beginning", "XFETCH lf LAST\r\n", []string{"554 5.6.0"}, ""},
		{"refused", "XFETCH none LAST\r\n", []string{"554 5.6.6 none such"}, ""},
		{"refused, not last", "XFETCH none\r\nBDAT 5 LAST\r\nhelloXFETCH body LAST\r\nRSET\r\n",
			[]string{"554 5.6.6 none such", no, no, "250 "}, ""},
		{"refused in the middle", "BDAT 5\r\nhelloXFETCH none\r\nBDAT 5 LAST\r\nhelloRSET\r\n", []string{part, "554 5.6.6", no, "250 "}, ""},
		{"refused at the end", "BDAT 5\r\nhelloXFETCH none LAST\r\n", []string{part, "554 5.6.6"}, ""},
		{"fails", "XFETCH fails LAST\r\n", []string{"451 4.3.0"}, ""},
		{"fails in the middle", "XFETCH head\r\nXFETCH fails\r\nBDAT 0 LAST\r\nRSET\r\n", []string{part, "451 4.3.0", no, "250 "}, ""},
		{"fails with a reply", "XFETCH lost LAST\r\n", []string{"554 5.0.0 lost it"}, ""},
		{"too large", "XFETCH long LAST\r\n", []string{"552 5.3.4"}, ""},
		{"too large together", "BDAT 5\r\nhelloXFETCH long\r\nBDAT 0 LAST\r\nRSET\r\n", []string{part, "552 5.3.4", no, "250 "}, ""},
		{"positive error", "XFETCH accepted LAST\r\n", []string{"451 4.3.0"}, ""},
		{"nothing", "XFETCH nil LAST\r\n", []string{"451 4.3.0"}, ""},
		{"given up", "XFETCH head\r\nRSET\r\n", []string{part, "250 "}, ""},
	} {
		for session, data := range map[string]func(context.Context, io.Reader) error{
			"":               nil,
			"copies":         func(_ context.Context, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err },
			"reads nothing":  func(context.Context, io.Reader) error { return nil },
			"reads a little": func(_ context.Context, r io.Reader) error { _, err := io.ReadFull(r, make([]byte, 3)); return err },
		} {
			t.Run(tt.name+" "+session, func(t *testing.T) {
				s, st := newShelf(), &store{data: data}
				p := fetchServer(t, s, st, server.Options{Limits: server.Limits{MessageSize: 1000}})
				p.hello()
				p.begin()
				p.send(tt.say)
				p.expect(tt.replies...)
				// What was wrong with one message is not held against the next.
				p.begin()
				p.send("XFETCH body LAST\r\n")
				p.expect(accepted)
				p.quit()
				if n := s.open.Load(); n != 0 {
					t.Errorf("%d readers are open", n)
				}
				if data != nil {
					return
				}
				want := []string{tt.want, s.goods["body"]}
				if tt.want == "" {
					want = want[1:]
				}
				if got := st.messages(); strings.Join(got, "|") != strings.Join(want, "|") {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
}

func TestFetchNotOffered(t *testing.T) {
	s := newShelf()
	p := fetchServer(t, s, &store{}, server.Options{})
	p.expect("220 ")
	p.ask("EHLO stranger", "250-")
	p.begin()
	p.ask("XFETCH body LAST", "503 5.5.1")
	p.begin()
	p.chunk("BDAT 1", "x", "250 ")
	p.ask("XFETCH body", "503 5.5.1", "BDAT 0 LAST", "503 5.5.1", "RSET", "250 ", "XFETCH body", "503 5.5.1")
	p.quit()
}

func TestFetchRefusedBySession(t *testing.T) {
	for name, data := range map[string]func(context.Context, io.Reader) error{
		"at once": func(context.Context, io.Reader) error { return &proto.Error{Code: 550, Text: "no"} },
		"in the middle": func(_ context.Context, r io.Reader) error {
			_, _ = r.Read(make([]byte, 1))
			return &proto.Error{Code: 550, Text: "no"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			p := fetchServer(t, s, &store{data: data}, server.Options{})
			p.hello()
			p.begin()
			p.ask("XFETCH body LAST", "550 5.0.0 no")
			p.begin()
			p.ask("XFETCH body", "550 5.0.0 no", "RSET", "250 ")
			p.quit()
			if n := s.open.Load(); n != 0 {
				t.Errorf("%d readers are open", n)
			}
		})
	}
}

func TestFetchPanic(t *testing.T) {
	s := newShelf()
	p := fetchServer(t, s, &store{data: func(_ context.Context, r io.Reader) error {
		_, _ = r.Read(make([]byte, 1))
		panic("ours")
	}}, server.Options{})
	p.hello()
	p.begin()
	p.ask("XFETCH body LAST", "421 4.3.0")
	<-p.done
	if n := s.open.Load(); n != 0 {
		t.Errorf("%d readers are open", n)
	}
}

// TestFetchHangUp: the context of Fetch, and of its reader, ends when the client hangs up.
func TestFetchHangUp(t *testing.T) {
	for _, name := range []string{"wait", "tediously"} {
		synctest.Test(t, func(t *testing.T) {
			s := newShelf()
			p := fetchServer(t, s, &store{}, server.Options{})
			p.hello()
			p.begin()
			p.send("XFETCH " + name + "\r\n")
			<-time.After(time.Second)
			p.nc.Close()
			<-p.done
			if n := s.open.Load(); n != 0 {
				t.Errorf("%d readers are open", n)
			}
			if name == "wait" && context.Cause(s.ctx) != io.ErrUnexpectedEOF {
				t.Errorf("the context ended for %v", context.Cause(s.ctx))
			}
		})
	}
}

func TestFetchLMTP(t *testing.T) {
	s, st := newShelf(), &store{}
	p := fetchServer(t, s, st, server.Options{Protocol: proto.LMTP})
	p.expect("220 ")
	p.ask("LHLO client.example", "250-")
	p.begin()
	p.ask("RCPT TO:<e@f.example>", "250 ")
	p.send("XFETCH head\r\nXFETCH body LAST\r\n")
	p.expect("250 2.0.0 14 octets", "250 2.0.0 Message accepted", "250 2.0.0 Message accepted")
	p.begin()
	p.ask("RCPT TO:<e@f.example>", "250 ")
	p.send("XFETCH none LAST\r\n")
	p.expect("554 5.6.6", "554 5.6.6")
	p.quit()
}

// flood is content without end, which takes no notice of anything.
type flood struct{ closed chan struct{} }

func (f flood) Read(p []byte) (int, error) { return copy(p, "0123456789abcd\r\n"), nil }

func (f flood) Close() error { close(f.closed); return nil }

// TestFetchWithoutEnd has content without end fetched: when the client is gone, or when the session wants no more of
// it, that is the end of it all the same.
func TestFetchWithoutEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		data func(context.Context, io.Reader) error
		gone bool
	}{
		{"client is gone", func(_ context.Context, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }, true},
		{"refused", func(context.Context, io.Reader) error { return errors.New("no") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := flood{make(chan struct{})}
			fetching := ext.Extension{Keyword: "XFLOOD", Verbs: []proto.Verb{{Name: "XFLOOD", In: proto.Rcpt | proto.Chunks, OK: proto.Ready, Fail: proto.Ready}},
				Fetch: func(context.Context, ext.ServerConn, string) (io.ReadCloser, error) { return f, nil }}
			p := dial(t, newServer(t, &store{data: tt.data}, server.Options{Limits: server.Limits{MessageSize: -1}, Extensions: append(ehlo.Default(), fetching)}))
			p.hello()
			p.begin()
			p.send("XFLOOD\r\n")
			if tt.gone {
				p.nc.Close()
				<-f.closed
				return
			}
			p.expect("451 ")
			<-f.closed
			p.quit()
		})
	}
}

// TestChoiceOfFetch: what is chosen while content is fetched is not the reply to the message.
func TestChoiceOfFetch(t *testing.T) {
	p := dialChoosy(t, server.Options{
		Extensions:        ehlo.Submission(ehlo.SubmissionPolicy{URLs: []string{"imap"}}),
		AllowInsecureAuth: true,
	})
	p.ask(plain("alice", "secret"), "235")
	p.begin()
	p.chunk("BDAT 3", "a\r\n", "250 2.0.0 3 octets")
	p.ask("BURL imap://alice@x/box/;uid=1;urlauth=submit+alice:internal:91354a473744909de610943775f92038 LAST", "250 2.0.0 kept")
	p.quit()
}
