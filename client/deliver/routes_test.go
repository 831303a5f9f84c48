package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// fake is a Sender that keeps what it gets.
type fake struct {
	mu       sync.Mutex
	got      []string // recipients and content of each message
	send     func(ctx context.Context, m *client.Message) error
	original *client.Message // what it got last
}

func (f *fake) Send(ctx context.Context, m *client.Message) (*client.Result, error) {
	content := []byte(nil)
	if m.Body != nil {
		content, _ = io.ReadAll(m.Body)
	}
	var to []string
	for _, r := range m.To {
		to = append(to, r.Address.String())
	}
	f.mu.Lock()
	f.got, f.original = append(f.got, strings.Join(to, ",")+": "+string(content)), m
	f.mu.Unlock()
	if f.send == nil {
		return all(m, nil)
	}
	return all(m, f.send(ctx, m))
}

func table(t *testing.T, table map[string]client.Sender, opt *RoutesOptions) *Routes {
	t.Helper()
	r, err := NewRoutes(table, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRoutesFind: the longest key that fits counts.
func TestRoutesFind(t *testing.T) {
	named := make(map[string]client.Sender)
	for _, key := range []string{"Example.org", ".example.ORG", ".b.example.org", "münchen.example", "[192.0.2.1]", "*"} {
		named[key] = new(fake)
	}
	all := table(t, named, nil)
	delete(named, "*")
	some := table(t, named, nil)
	for _, c := range []struct{ domain, want string }{
		{"example.org", "Example.org"}, {"EXAMPLE.org", "Example.org"}, {"a.example.org", ".example.ORG"},
		{"x.y.example.org", ".example.ORG"}, {"b.example.org", ".example.ORG"}, {"a.b.example.org", ".b.example.org"},
		{"badexample.org", ""}, {"org", ""}, {"example.org.x", ""}, {"xn--mnchen-3ya.example", "münchen.example"},
		{"MÜNCHEN.example", "münchen.example"}, {"[192.0.2.1]", "[192.0.2.1]"}, {"[192.0.2.2]", ""},
		{"[IPv6:2001:db8::1]", ""},
	} {
		d, err := proto.ParseDomain(c.domain)
		if err != nil {
			t.Fatal(err)
		}
		if got := some.Route(d); got != named[c.want] {
			t.Errorf("%s: another route than %q", c.domain, c.want)
		}
		if got := all.Route(d); c.want != "" && got != named[c.want] || got == nil {
			t.Errorf("%s: another route than %q, or *", c.domain, c.want)
		}
	}
	if some.Route(proto.Domain{}) != nil || all.Route(proto.Domain{}) == nil {
		t.Error("the domainless postmaster has the route of *")
	}
}

// TestNewRoutes: mistakes in a table are found when it is made.
func TestNewRoutes(t *testing.T) {
	s := new(fake)
	for _, c := range []struct {
		table map[string]client.Sender
		want  string
	}{
		{map[string]client.Sender{"a b": s}, `"a b"`}, {map[string]client.Sender{"": s}, `""`},
		{map[string]client.Sender{".": s}, `"."`}, {map[string]client.Sender{"..x": s}, `"..x"`},
		{map[string]client.Sender{".[192.0.2.1]": s}, "subdomains"}, {map[string]client.Sender{"x.example": nil}, "nil"},
		{map[string]client.Sender{"x.example": s, "X.example": s}, "twice"},
		{map[string]client.Sender{"*.x.example": s},
			`"*.x.example": write ".x.example" for the subdomains of x.example, and "x.example" for itself`},
		{map[string]client.Sender{"": s}, `"": write "*" for all that has no route of its own`},
		{map[string]client.Sender{"a@x.example": s},
			`"a@x.example": an address has no route, its domain has one: write "x.example"`},
		{map[string]client.Sender{"*.": s}, `"*."`}, {map[string]client.Sender{"a@": s}, `"a@"`},
		{map[string]client.Sender{"x.example": (*fake)(nil)}, "x.example\": its Sender is a nil *deliver.fake"},
		{map[string]client.Sender{"x.example": client.SenderFunc(nil)}, "its Sender is a nil client.SenderFunc"},
		{map[string]client.Sender{"x.example": checked{errors.New("smtp: not set up")}}, `"x.example": not set up`},
		{map[string]client.Sender{"x.example": Pipe{}}, "Pipe.Args: there is no program: set"},
		{map[string]client.Sender{"x.example": &Pipe{}}, "Pipe.Args: there is no program: set"},
		{map[string]client.Sender{"x.example": Maildir{}}, "Maildir.Path: it is nil: set"},
		{map[string]client.Sender{"x.example": Mbox{}}, "Mbox.Path: it is nil: set"},
		{map[string]client.Sender{"x.example": Refuse(nil)}, "Refuse: its reply is nil"},
		{map[string]client.Sender{"x.example": Refuse(proto.Refuse(250, proto.Status{}, "yes"))}, "Refuse: the code 250"},
	} {
		_, err := NewRoutes(c.table, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "smtp: the route ") {
			t.Errorf("%v: %v, want %s", c.table, err, c.want)
		}
	}
	if r, err := NewRoutes(nil, nil); err != nil || codes2(r.Send(t.Context(), message(t, "", "a@x.example"))) != "5.4.4" {
		t.Error(err)
	}
}

// checked is a Sender of somebody else's that can tell what is wrong with it.
type checked struct{ err error }

func (c checked) Check() error { return c.err }

func (c checked) Send(_ context.Context, m *client.Message) (*client.Result, error) {
	return all(m, nil)
}

// TestNewRoutesChecked: what nothing is wrong with can have a route.
func TestNewRoutesChecked(t *testing.T) {
	where := Under(t.TempDir())
	table(t, map[string]client.Sender{
		"a.example": Maildir{Path: where}, "b.example": Mbox{Path: where}, "c.example": checked{},
		"d.example": Refuse(proto.Refuse(550, proto.Status{}, "no")), "e.example": table(t, nil, nil),
	}, nil)
	if got := sendTo(t, Refuse(nil), message(t, "", "a@x.example")); got != "4.3.5" {
		t.Errorf("a refusal without a reply: %s, want 4.3.5", got)
	}
}

func codes2(res *client.Result, _ error) string { return codes(res) }

// TestRoutes sends a message by several routes.
func TestRoutes(t *testing.T) {
	later := proto.Refuse(451, proto.Status{4, 7, 1}, "later")
	a, b, c := new(fake), new(fake), &fake{send: func(context.Context, *client.Message) error { return later }}
	panics := client.SenderFunc(func(context.Context, *client.Message) (*client.Result, error) { panic("at the disco") })
	r := table(t, map[string]client.Sender{
		"a.example": a, ".a.example": a, "b.example": b, "c.example": c, "p.example": panics,
		"refused.example": Refuse(proto.Refuse(550, proto.Status{5, 1, 2}, "no")),
	}, nil)
	m := message(t, "hello\r\n", "1@b.example", "2@a.example", "3@c.example", "4@none.example", "5@x.a.example",
		"6@refused.example", "7@p.example", "8@b.example")
	m.Mail = proto.Params{}.SetFlag("X")
	if got := sendTo(t, r, m); got != "ok ok 4.7.1 5.4.4 ok 5.1.2 4.3.0? ok" {
		t.Error(got)
	}
	for name, c := range map[string]struct {
		f    *fake
		want string
	}{
		"a": {a, "2@a.example,5@x.a.example: hello\r\n"}, "b": {b, "1@b.example,8@b.example: hello\r\n"},
		"c": {c, "3@c.example: hello\r\n"},
	} {
		if len(c.f.got) != 1 || c.f.got[0] != c.want || !c.f.original.Mail.Has("X") {
			t.Errorf("%s: %q, want %q", name, c.f.got, c.want)
		}
	}
	_, err := r.Send(t.Context(), m)
	failed, ok := err.(*client.SendError)
	if !ok || !failed.Unknown {
		t.Fatalf("%v, want that it is unknown", err)
	}
	if again := failed.Retry(m); again == nil || len(again.To) != 1 || again.To[0].Address.Local != "3" {
		t.Errorf("%v: to be tried again is the recipient 3", again)
	}
}

// TestRoutesOne: a message with one route goes as it is, and a panic there is the caller's.
func TestRoutesOne(t *testing.T) {
	a := new(fake)
	r := table(t, map[string]client.Sender{"a.example": a, ".a.example": a}, nil)
	m := message(t, "hello\r\n", "1@a.example", "2@b.a.example")
	m.AllOrNone = true
	if got := sendTo(t, r, m); got != "ok ok" || a.original != m {
		t.Errorf("%s", got)
	}
	for _, m := range []*client.Message{nil, {}} {
		var fault *client.MessageError
		if _, err := r.Send(t.Context(), m); !errors.As(err, &fault) {
			t.Errorf("without recipients: %v", err)
		}
	}
}

// TestRoutesAllOrNone: over several routes, or without one, nobody gets the message.
func TestRoutesAllOrNone(t *testing.T) {
	a, b := new(fake), new(fake)
	r := table(t, map[string]client.Sender{"a.example": a, "b.example": b}, nil)
	for _, to := range [][]string{{"1@a.example", "2@b.example"}, {"1@a.example", "2@none.example"}} {
		m := message(t, "hello\r\n", to...)
		m.AllOrNone = true
		if got := sendTo(t, r, m); got != "5.6.0 5.6.0" || len(a.got)+len(b.got) > 0 {
			t.Errorf("%s: %q, %q", got, a.got, b.got)
		}
	}
}

// TestRoutesAtOnce: parts are sent at the same time, no more than so many.
func TestRoutesAtOnce(t *testing.T) {
	for _, c := range []struct {
		opt  *RoutesOptions
		want time.Duration
	}{
		{nil, 3 * time.Hour}, {&RoutesOptions{MaxConcurrent: -1}, time.Hour},
		{&RoutesOptions{MaxConcurrent: 1}, 25 * time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			senders := make(map[string]client.Sender)
			var to []string
			for i := range 25 {
				senders[fmt.Sprintf("d%d.example", i)] = &fake{send: func(context.Context, *client.Message) error {
					<-time.After(time.Hour)
					return nil
				}}
				to = append(to, fmt.Sprintf("x@d%d.example", i))
			}
			start := time.Now()
			got := sendTo(t, table(t, senders, c.opt), message(t, "hello\r\n", to...))
			if took := time.Since(start); took != c.want || strings.Count(got, "ok") != 25 {
				t.Errorf("%s after %v, want %v", got, took, c.want)
			}
		})
	}
}

// TestRoutesContext: parts whose turn has not come when the context ends are not begun. The caller has cancelled it,
// whatever the cause is.
func TestRoutesContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	a := &fake{send: func(ctx context.Context, _ *client.Message) error { cancel(errors.New("enough")); return ctx.Err() }}
	b := &fake{send: a.send}
	r := table(t, map[string]client.Sender{"a.example": a, "b.example": b}, &RoutesOptions{MaxConcurrent: 1})
	res, err := r.Send(ctx, message(t, "hello\r\n", "1@a.example", "2@b.example"))
	if len(a.got)+len(b.got) != 1 || client.Temporary(err) || res.Sent() != 0 {
		t.Errorf("%q, %q, %v", a.got, b.got, err)
	}
}

// TestRoutesBody: a Body that cannot be shared is a fault of the message.
func TestRoutesBody(t *testing.T) {
	a, b := new(fake), new(fake)
	r := table(t, map[string]client.Sender{"a.example": a, "b.example": b}, nil)
	m := message(t, "", "1@a.example", "2@b.example")
	m.Body = readFunc(func([]byte) (int, error) { return 0, errors.New("broken") })
	if got := sendTo(t, r, m); got != "5.6.0 5.6.0" || len(a.got)+len(b.got) > 0 {
		t.Error(got)
	}
}
