package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"smtpkit.example/smtp/ext/auth"
	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server"
)

// A spy is a part that notes what it is asked, and fails at one stage.
type spy struct {
	fails  string // the stage at which it fails
	with   func() error
	closed bool
	atOnce bool
	skip   func(context.Context, *server.Conn) bool

	mu    *sync.Mutex
	calls *[]string
}

func (p spy) note(format string, args ...any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	*p.calls = append(*p.calls, text)
	if stage, _, _ := strings.Cut(text, " "); stage == p.fails {
		return p.with()
	}
	return nil
}

type spied struct{ n int }

func (p spy) Middleware() (server.Middleware, error) {
	type visit = session[spied, spied]
	st := &stages[spied, spied]{method: "spy", skip: p.skip, closed: p.closed, atOnce: p.atOnce}
	st.connect = func(_ context.Context, s *visit) error {
		s.client.known.n++
		return p.note("connect %d", s.client.known.n)
	}
	st.hello = func(_ context.Context, s *visit) error { return p.note("hello %s", s.conn.Hello()) }
	st.mail = func(_ context.Context, s *visit, from proto.Address, _ proto.Params) error {
		s.transaction.known.n++
		return p.note("mail %s %d", from, s.transaction.known.n)
	}
	st.rcpt = func(_ context.Context, s *visit, to proto.Address, _ proto.Params) error {
		s.transaction.known.n++
		return p.note("rcpt %s %d", to, s.transaction.known.n)
	}
	st.answered = func(_ context.Context, s *visit, to proto.Address, err error) error {
		if failed := p.note("answered %s %v", to.Local, err != nil); failed != nil {
			return failed
		}
		return err
	}
	st.content = func(_ context.Context, s *visit, r io.Reader) (io.Reader, error) {
		if err := p.note("content %d", s.transaction.known.n); err != nil {
			return nil, err
		}
		return io.MultiReader(strings.NewReader("X: 1\r\n"), r), nil
	}
	return st.middleware(), nil
}

// An inner is the backend inside, which knows alice's password and refuses mail for nobody.
type inner struct {
	mu    sync.Mutex
	calls []string
}

func (b *inner) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, fmt.Sprintf(format, args...))
}

func (b *inner) all() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.calls, ", ")
}

func (b *inner) NewSession(context.Context, *server.Conn) (server.Session, error) {
	return innerSession{b}, nil
}

type innerSession struct{ *inner }

func (s innerSession) Mail(_ context.Context, from proto.Address, _ proto.Params) error {
	if from.Local == "bad" {
		return proto.Refuse(550, proto.Status{5, 7, 1}, "bad")
	}
	return nil
}

func (s innerSession) Rcpt(_ context.Context, to proto.Address, _ proto.Params) error {
	if to.Local == "nobody" {
		return proto.Refuse(550, proto.Status{5, 1, 1}, "nobody")
	}
	s.note("rcpt %s", to.Local)
	return nil
}

func (s innerSession) Data(_ context.Context, r io.Reader) error {
	b, err := io.ReadAll(r)
	s.note("data %q", b)
	return err
}

func (s innerSession) Reset(context.Context) { s.note("reset") }
func (s innerSession) Close() error          { s.note("close"); return nil }

func (s innerSession) Authenticate(_ context.Context, user, password string) error {
	if user != "alice" || password != "secret" {
		return auth.ErrCredentials
	}
	return nil
}

// authPlain has alice authenticate.
const authPlain = "AUTH PLAIN AGFsaWNlAHNlY3JldA=="

// TestStages checks when the functions of a part are called, that what it knows of a transaction is forgotten with it,
// and what becomes of its refusals and failures at each stage.
func TestStages(t *testing.T) {
	refuse := func() error { return proto.Refuse(554, proto.Status{5, 7, 1}, "no") }
	fail := func() error { return errors.New("no answer") }
	panics := func() error { panic("a mistake") }
	const mail, rcpt, pm, to2 = "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "RCPT TO:<PostMaster>",
		"RCPT TO:<nobody@d.example>"
	const content = "Subject: x\r\n\r\nhello\r\n."
	all := []string{mail, "250", rcpt, "250", to2, "550", "DATA", "354", content, "250"}
	whole := "rcpt c, data \"X: 1\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n\", reset"
	asked := "connect 1, hello client.example, mail a@b.example 1, rcpt c@d.example 2, answered c false, " +
		"rcpt nobody@d.example 3, answered nobody true, content 3"
	tests := []struct {
		name     string
		part     spy
		dialogue []string
		inner    string
		verdicts string
		asked    string // "" is not compared
	}{
		{"all is well", spy{}, all, whole, "", asked},
		{"MAIL refused inside, RSET, another transaction", spy{}, append([]string{"MAIL FROM:<bad@b.example>", "550", mail,
			"250", rcpt, "250", "RSET", "250"}, all...), "rcpt c, reset, " + whole, "", "connect 1, hello client.example, " +
			"mail bad@b.example 1, hello client.example, mail a@b.example 1, rcpt c@d.example 2, answered c false, " +
			strings.TrimPrefix(asked, "connect 1, ")},
		{"connect refuses", spy{fails: "connect", with: refuse}, []string{mail, "250", rcpt, "554 5.7.1 no", pm, "250",
			rcpt, "554"}, "rcpt PostMaster, reset", "", ""},
		{"hello refuses", spy{fails: "hello", with: refuse}, []string{mail, "250", rcpt, "554", pm, "250"},
			"rcpt PostMaster, reset", "", ""},
		{"mail refuses", spy{fails: "mail", with: refuse}, []string{mail, "554", mail, "554"}, "", "", ""},
		{"rcpt refuses", spy{fails: "rcpt", with: refuse}, []string{mail, "250", rcpt, "554"}, "reset", "", ""},
		{"answered refuses", spy{fails: "answered", with: refuse}, []string{mail, "250", rcpt, "554"},
			"rcpt c, reset", "", ""},
		{"content refuses", spy{fails: "content", with: refuse}, []string{mail, "250", rcpt, "250", "DATA", "354", content,
			"554"}, "rcpt c, reset", "", ""},

		{"connect fails", spy{fails: "connect", with: fail}, all, whole, "spy=temperror", asked},
		{"hello fails", spy{fails: "hello", with: fail}, all, whole, "spy=temperror", asked},
		{"mail fails", spy{fails: "mail", with: fail}, all, whole, "spy=temperror", asked},
		{"rcpt fails", spy{fails: "rcpt", with: fail}, all, whole, "spy=temperror, spy=temperror", asked},
		{"content fails", spy{fails: "content", with: fail}, []string{mail, "250", rcpt, "250", "DATA", "354", content,
			"451"}, "rcpt c, reset", "", ""},
		{"connect panics", spy{fails: "connect", with: panics}, all, whole, "spy=temperror", asked},
		{"rcpt panics", spy{fails: "rcpt", with: panics}, all, whole, "spy=temperror, spy=temperror", asked},
		{"answered panics", spy{fails: "answered", with: panics}, all, whole, "spy=temperror, spy=temperror", asked},
		{"skip panics", spy{skip: func(context.Context, *server.Conn) bool { panic("a mistake") }}, all, whole,
			"spy=temperror, spy=temperror", asked},

		{"connect fails, closed", spy{fails: "connect", with: fail, closed: true}, []string{mail, "250", rcpt,
			"451 4.3.0", pm, "250"}, "rcpt PostMaster, reset", "spy=temperror", ""},
		{"rcpt panics, closed", spy{fails: "rcpt", with: panics, closed: true}, []string{mail, "250", rcpt, "451 4.3.0"},
			"reset", "spy=temperror", ""},

		{"authenticated meanwhile", spy{fails: "connect", with: refuse, skip: Trusted()}, []string{mail, "250", rcpt,
			"554", "RSET", "250", authPlain, "235", mail, "250", rcpt, "250", to2, "550", "DATA", "354", content, "250"},
			"reset, " + strings.Replace(whole, "X: 1\\r\\n", "", 1), "", ""},
		{"in a network left out", spy{fails: "connect", with: refuse, skip: Trusted(netip.MustParsePrefix("192.0.2.0/24"))},
			all, strings.Replace(whole, "X: 1\\r\\n", "", 1), "", "-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &inner{}
			tt.part.mu, tt.part.calls = &sync.Mutex{}, new([]string)
			w := newWorld(t, b, &server.Options{AllowInsecureAuth: true}, tt.part)
			p := w.dial("192.0.2.7")
			p.ask("EHLO client.example", "250")
			p.ask(tt.dialogue...)
			p.ask("QUIT", "221")
			p.closed()
			if want := strings.TrimPrefix(tt.inner+", close", ", "); b.all() != want {
				t.Errorf("inside:\n%s, want\n%s", b.all(), want)
			}
			if got := w.found(); got != tt.verdicts {
				t.Errorf("verdicts %s, want %s", got, tt.verdicts)
			}
			tt.part.mu.Lock()
			defer tt.part.mu.Unlock()
			if got := strings.Join(*tt.part.calls, ", "); tt.asked != "" && got != strings.TrimPrefix(tt.asked, "-") {
				t.Errorf("asked:\n%s, want\n%s", got, tt.asked)
			}
		})
	}
	t.Run("connect refuses at once", func(t *testing.T) {
		part := spy{fails: "connect", with: refuse, atOnce: true, mu: &sync.Mutex{}, calls: new([]string)}
		newWorld(t, nil, nil, part).connect("192.0.2.7").expect("554 mail.example no")
	})
}

// TestChain checks the order of parts, and that each mistake in the options is told.
func TestChain(t *testing.T) {
	var mu sync.Mutex
	var calls []string
	refuse := func() error { return proto.Refuse(550, proto.Status{}, "") }
	first := spy{mu: &mu, calls: &calls, fails: "rcpt", with: refuse}
	second := spy{mu: &mu, calls: &calls}
	p := newWorld(t, nil, nil, first, second).dial("192.0.2.7")
	p.ask("HELO client.example", "250", "MAIL FROM:<a@b.example>", "250", "RCPT TO:<c@d.example>", "550", "QUIT", "221")
	p.closed()
	want := "connect 1, connect 1, hello client.example, mail a@b.example 1, hello client.example, mail a@b.example 1, " +
		"rcpt c@d.example 2"
	if got := strings.Join(calls, ", "); got != want {
		t.Errorf("calls %s, want %s", got, want)
	}

	_, err := Chain(first, nil, wrong{}, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"part 2 of the policy.Chain is nil", "part 4", "smtp: policy.Wrong.Field: 7 is"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %q, want %q in it", err, want)
		}
	}
	mw, err := Chain(second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.New(server.Use(nil, mw), nil); err == nil {
		t.Error("New accepts parts around nil")
	}
}

type wrong struct{}

func (wrong) Middleware() (server.Middleware, error) {
	return nil, optionError("Wrong", "Field", "%d is odd", 7)
}
