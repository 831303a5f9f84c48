package server_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// layer returns middleware that notes what it is asked, in the log of a store.
func layer(name string, st *store, refuse func(what string) error) server.Middleware {
	return func(next server.Backend) server.Backend {
		return server.BackendFunc(func(ctx context.Context, c *server.Conn) (server.Session, error) {
			st.note("%s:new", name)
			if err := refuse("new"); err != nil {
				return nil, err
			}
			s, err := next.NewSession(ctx, c)
			if err != nil {
				return nil, err
			}
			return &layerSession{server.Wrapper{Session: s}, name, st, refuse}, nil
		})
	}
}

type layerSession struct {
	server.Wrapper
	name   string
	st     *store
	refuse func(what string) error
}

func (s *layerSession) Rcpt(ctx context.Context, to proto.Address, p proto.Params) error {
	s.st.note("%s:rcpt", s.name)
	if err := s.refuse("rcpt"); err != nil {
		return err
	}
	return s.Session.Rcpt(ctx, to, p)
}

func (s *layerSession) FilterContent(_ context.Context, r io.Reader) (io.Reader, error) {
	s.st.note("%s:filter", s.name)
	if err := s.refuse("filter"); err != nil {
		return nil, err
	}
	return io.MultiReader(strings.NewReader("X-"+s.name+": 1\r\n"), r), nil
}

func nothing(string) error { return nil }

// refusing refuses at one place.
func refusing(place string) func(string) error {
	return func(what string) error {
		if what == place {
			return proto.Refuse(550, proto.Status{5, 7, 1}, "no "+what)
		}
		return nil
	}
}

// TestUse checks in which order middleware is asked, that what it refuses goes no further, and that the session inside
// has its calls of Reset and Close.
func TestUse(t *testing.T) {
	tests := []struct {
		name   string
		refuse string // what the inner layer refuses
		want   string // the calls
	}{
		{"all is well", "", "a:new, b:new, new, mail a@b.example, a:rcpt, b:rcpt, rcpt d@e.example, a:filter, b:filter, " +
			"data 37 <nil>, reset, close"},
		{"a recipient is refused", "rcpt", "a:new, b:new, new, mail a@b.example, a:rcpt, b:rcpt, reset, close"},
		{"the content is refused", "filter", "a:new, b:new, new, mail a@b.example, a:rcpt, b:rcpt, rcpt d@e.example, " +
			"a:filter, b:filter, reset, close"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := &store{}
			b := server.Use(st, layer("a", st, nothing), layer("b", st, refusing(tt.refuse)))
			p := dial(t, newServer(t, b, server.Options{}))
			p.hello()
			p.ask("MAIL FROM:<a@b.example>", "250 ")
			if tt.refuse == "rcpt" {
				p.ask("RCPT TO:<d@e.example>", "550 5.7.1 no rcpt")
			} else {
				p.ask("RCPT TO:<d@e.example>", "250 ", "DATA", "354 ")
				want := "250 "
				if tt.refuse == "filter" {
					want = "550 5.7.1 no filter"
				}
				p.ask("Subject: x\r\n\r\nhello\r\n.", want)
			}
			p.quit()
			if got := st.calls(); got != tt.want {
				t.Errorf("calls\n%s, want\n%s", got, tt.want)
			}
			for _, m := range st.messages() {
				if want := "X-b: 1\r\nX-a: 1\r\nSubject: x\r\n\r\nhello\r\n"; m != want {
					t.Errorf("the message is %q, want %q", m, want)
				}
			}
		})
	}
	t.Run("the client is refused", func(t *testing.T) {
		st := &store{}
		p := dial(t, newServer(t, server.Use(st, layer("a", st, refusing("new"))), server.Options{}))
		p.expect("550 mail.example no new")
		p.ask("EHLO client.example", "503 ")
		p.quit()
		if got := st.calls(); got != "a:new" {
			t.Errorf("calls %s", got)
		}
	})
}

// TestUseNil checks that middleware which is nil is named at once, and not by a nil dereference for the first client.
func TestUseNil(t *testing.T) {
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "middleware 2 of server.Use is nil") {
			t.Errorf("the panic is %s", text)
		}
	}()
	server.Use(server.MessageFunc(func(context.Context, *server.Message) error { return nil }),
		func(b server.Backend) server.Backend { return b }, nil)
}

// TestFilterInFrontOfDataEach checks that a filter sees the content where the session takes it for each recipient.
func TestFilterInFrontOfDataEach(t *testing.T) {
	st := &store{}
	var got string
	inner := eachStore{st, func(_ context.Context, r io.Reader, result func(int, proto.Reply, error)) error {
		b, err := io.ReadAll(r)
		got = string(b)
		result(1, proto.Reply{}, proto.Refuse(550, proto.Status{}, "not two"))
		return err
	}}
	p := dial(t, newServer(t, server.Use(inner, layer("a", st, nothing)), server.Options{Protocol: proto.LMTP}))
	p.expect("220 ")
	p.ask("LHLO client.example", "250-")
	openThree(p)
	p.ask("DATA", "354 ", "hello\r\n.", "250 ")
	p.expect("550 5.0.0 not two", "250 ")
	p.quit()
	if got != "X-a: 1\r\nhello\r\n" {
		t.Errorf("the content is %q", got)
	}
}

// TestWrapperKeepsInterfaces checks that AUTH is on offer for a session inside of two wrappers.
func TestWrapperKeepsInterfaces(t *testing.T) {
	st := &store{}
	b := server.Use(authStore{st}, layer("a", st, nothing), layer("b", st, nothing))
	p := dial(t, newServer(t, b, server.Options{AllowInsecureAuth: true}))
	p.hello()
	p.ask(plain("alice", "secret"), "235 ")
	p.quit()
	var s any = &layerSession{Wrapper: server.Wrapper{Session: discard{}}}
	if _, ok := ext.As[auth.PasswordSession](s); ok {
		t.Error("a session without passwords has them")
	}
	if err := s.(io.Closer).Close(); err != nil {
		t.Error(err)
	}
}

// TestVerdicts checks for how long a verdict is known, that the Trace has each, and that they are bounded.
func TestVerdicts(t *testing.T) {
	var traced []string
	var known []string
	st := &store{}
	var conn *server.Conn
	record := func(method string) {
		conn.Record(server.Verdict{Method: method, Result: "pass"})
		var all []string
		for _, v := range conn.Verdicts() {
			all = append(all, v.Method)
		}
		known = append(known, strings.Join(all, "+"))
	}
	st.newSession = func(_ context.Context, c *server.Conn) error {
		conn = c
		record("iprev")
		return nil
	}
	st.mail = func(_ context.Context, from proto.Address, _ proto.Params) error {
		record("spf")
		if from.Local == "bad" {
			return proto.Refuse(550, proto.Status{}, "no")
		}
		return nil
	}
	st.rcpt = func(context.Context, proto.Address, proto.Params) error { record("rcpt"); return nil }
	st.data = func(context.Context, io.Reader) error {
		for i := range 100 {
			record(fmt.Sprint(i))
		}
		return nil
	}
	trace := &server.Trace{Verdict: func(_ context.Context, c *server.Conn, v server.Verdict) {
		if c != conn {
			t.Error("another connection")
		}
		traced = append(traced, v.Method)
	}}
	p := dial(t, newServer(t, st, server.Options{Trace: trace}))
	p.hello()
	p.ask("MAIL FROM:<bad@b.example>", "550 ", "MAIL FROM:<a@b.example>", "250 ", "RSET", "250 ",
		"MAIL FROM:<a@b.example>", "250 ", "RCPT TO:<d@e.example>", "250 ", "DATA", "354 ", ".", "250 ",
		"MAIL FROM:<a@b.example>", "250 ")
	p.quit()
	for i, want := range []string{"iprev", "iprev+spf", "iprev+spf", "iprev+spf", "iprev+spf+rcpt"} {
		if known[i] != want {
			t.Errorf("known are %s, want %s", known[i], want)
		}
	}
	if last := known[len(known)-1]; last != "iprev+spf" {
		t.Errorf("after the message known are %s", last)
	}
	if n := len(strings.Split(known[len(known)-2], "+")); n != 65 {
		t.Errorf("%d verdicts are kept, want 1+64", n)
	}
	if len(traced) != 106 {
		t.Errorf("%d verdicts are traced", len(traced))
	}
}
